/* The guest's file systems are at rest for the moment in which a backup begins. */
#include "base/log.h"
#include "vdi-hostd/disk/backup_private.h"

static void on_quiesced(void *data, const struct err *err)
{
	struct backup *backup = data;
	struct err refused;

	backup->quiesced = !err;
	if (err && backup->want == DISKS_QUIESCE_REQUIRE) {
		err_set(&refused, ERR_UNAVAILABLE,
			"the guest's file systems cannot be brought to rest: %.120s; is the guest "
			"agent installed and running? quiesce 'no' does without",
			err->msg);
		plan_fail(backup->plan, &refused);
	} else {
		plan_next(backup->plan);
	}
}

void backup_quiesce(struct plan *plan, void *ctx)
{
	struct backup *backup = ctx;
	enum desktop_state state = desktop_state(backup->desktop);

	if (state == DESKTOP_RUNNING && backup->want != DISKS_QUIESCE_NO) {
		backup->quiesce = quiesce_begin(backup->desktop, on_quiesced, backup);
		return;
	}
	backup->quiesced = state == DESKTOP_STOPPED || state == DESKTOP_FAILED;
	plan_next(plan);
}

static void on_unquiesced(void *data, const struct err *err)
{
	struct backup *backup = data;

	backup->quiesce = NULL;
	if (!backup->stopping)
		plan_undone(backup->plan);
}

void backup_unquiesce(struct plan *plan, void *ctx)
{
	struct backup *backup = ctx;

	if (backup->quiesce)
		quiesce_end(backup->quiesce, on_unquiesced, backup);
	else
		plan_undone(plan);
}

static void on_thawed(void *data, const struct err *err)
{
	struct backup *backup = data;

	backup->quiesce = NULL;
	if (backup->stopping)
		return;
	if (err && backup->quiesced)
		log_warn("desktop %s: its guest was not told to thaw: %s",
			 desktop_row(backup->desktop)->name, err->msg);
	if (plan_is_undoing(backup->plan))
		plan_undone(backup->plan);
	else
		plan_next(backup->plan);
}

void backup_thaw(struct plan *plan, void *ctx)
{
	struct backup *backup = ctx;

	if (backup->quiesce)
		quiesce_end(backup->quiesce, on_thawed, backup);
	else
		plan_next(plan);
}
