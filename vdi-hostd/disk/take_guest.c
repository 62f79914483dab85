/* What is done to the guest itself while a moment is kept: its file systems, its CPUs, its memory.
 */
#include "base/log.h"
#include "vdi-hostd/disk/take_private.h"

static void on_quiesced(void *data, const struct err *err)
{
	struct take *take = data;

	if (!err)
		take->row.kind = DB_SNAPSHOT_QUIESCED;
	else
		take->unquiesced = *err;
	if (err && take->want == DISKS_QUIESCE_REQUIRE) {
		struct err refused;
		err_set(&refused, ERR_UNAVAILABLE,
			"the guest's file systems cannot be brought to rest: %.120s; is the guest "
			"agent installed and running? quiesce 'no' does without",
			err->msg);
		plan_fail(take->plan, &refused);
		return;
	}
	plan_next(take->plan);
}

void take_quiesce(struct plan *plan, void *ctx)
{
	struct take *take = ctx;

	/* memory has what the file systems have not written yet */
	if (take->live && take->want != DISKS_QUIESCE_NO && take->row.kind != DB_SNAPSHOT_MEMORY &&
	    desktop_state(take->desktop) == DESKTOP_RUNNING)
		take->quiesce = quiesce_begin(take->desktop, on_quiesced, take);
	else
		plan_next(plan);
}

static void on_unquiesced(void *data, const struct err *err)
{
	struct take *take = data;

	take->quiesce = NULL;
	if (!take_is_lost(take))
		plan_undone(take->plan);
}

void take_unquiesce(struct plan *plan, void *ctx)
{
	struct take *take = ctx;

	if (take->quiesce)
		quiesce_end(take->quiesce, on_unquiesced, take);
	else
		plan_undone(plan);
}

/* The snapshot stands whatever the agent says now; one that lost its way is thawed by the guest's
 * own reset at the latest. */
static void on_thawed(void *data, const struct err *err)
{
	struct take *take = data;

	take->quiesce = NULL;
	if (take_is_lost(take))
		return;
	if (err && !take->unquiesced.code)
		log_warn("desktop %s: its guest was not told to thaw: %s",
			 desktop_row(take->desktop)->name, err->msg);
	plan_next(take->plan);
}

void take_thaw(struct plan *plan, void *ctx)
{
	struct take *take = ctx;

	if (take->quiesce)
		quiesce_end(take->quiesce, on_thawed, take);
	else
		plan_next(plan);
}

static void on_step(void *data, json_t *result, const struct err *err)
{
	take_step_done(data, err);
}

/* Memory and disks of one moment: nothing runs in between. */
void take_halt(struct plan *plan, void *ctx)
{
	struct take *take = ctx;
	struct err err;

	take->halted = take->row.kind == DB_SNAPSHOT_MEMORY &&
		       desktop_state(take->desktop) == DESKTOP_RUNNING;
	if (!take->halted) {
		plan_next(plan);
	} else if (!take_qmp(take)) {
		take_no_qemu(take, &err);
		plan_fail(plan, &err);
	} else {
		qmp_execute(take_qmp(take), "stop", NULL, 0, on_step, take);
	}
}

/* Both a step and the undo of the one above. */
void take_let_run(struct plan *plan, void *ctx)
{
	struct take *take = ctx;

	if (take->halted && take_qmp(take)) {
		take->halted = false;
		qmp_execute(take_qmp(take), "cont", NULL, 0, on_step, take);
	} else if (plan_is_undoing(plan)) {
		plan_undone(plan);
	} else {
		plan_next(plan);
	}
}

static void on_saved(void *data, const struct err *err)
{
	struct take *take = data;
	struct err failed;

	if (take_is_lost(take) || plan_is_undoing(take->plan))
		return;
	memory_drop(TAKE_PTR(take->memory));
	if (err) {
		plan_fail(take->plan, err);
		return;
	}
	int result = images_state_keep(take->disks->env.images, take->row.memory_file, &failed);
	take->saved = result == 0;
	plan_end_step(take->plan, result, &failed);
}

void take_save_memory(struct plan *plan, void *ctx)
{
	struct take *take = ctx;
	struct err err;
	int fd;

	if (take->row.kind != DB_SNAPSHOT_MEMORY) {
		plan_next(plan);
	} else if (!take_qmp(take)) {
		take_no_qemu(take, &err);
		plan_fail(plan, &err);
	} else if (images_state_create(take->disks->env.images, take->row.memory_file, &fd, &err) <
		   0) {
		plan_fail(plan, &err);
	} else {
		take->memory = memory_save(take->desktop, fd, on_saved, take);
	}
}

void take_stop_saving(struct plan *plan, void *ctx)
{
	struct take *take = ctx;

	memory_drop(TAKE_PTR(take->memory));
	if (take->row.kind == DB_SNAPSHOT_MEMORY && take_qmp(take))
		qmp_execute(take_qmp(take), "migrate_cancel", NULL, 0, NULL, NULL);
	plan_undone(plan);
}
