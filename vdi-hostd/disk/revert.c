/*
 * Back to a snapshot: new files on those that it keeps take the place of what was written since.
 * The snapshot's row holds the names of what a crash leaves over: the new files up to the switch,
 * the old ones from there on.
 */
#include <stdio.h>
#include <string.h>
#include <utlist.h>

#include "base/log.h"
#include "vdi-hostd/disk/private.h"

static void write_intent(struct plan *plan, void *ctx);
static void erase_intent(struct plan *plan, void *ctx);
static void create_files(struct plan *plan, void *ctx);
static void delete_files(struct plan *plan, void *ctx);
static void switch_over(struct plan *plan, void *ctx);
static void drop_old(struct plan *plan, void *ctx);

static const struct plan_step revert_plan[] = {
	{"intent", write_intent, erase_intent},
	{"files", create_files, delete_files},
	{"switch", switch_over, NULL},
	{"drop", drop_old, NULL},
};

struct revert {
	struct disks *disks;
	char desktop_id[STR_UUID_LEN + 1];
	struct desktop *desktop; /* while it is claimed */
	struct db_snapshot row;
	char what[128];
	bool restart, ends;
	struct plan *plan;
	disks_done_cb cb;
	void *data;
	struct revert *prev, *next;
};

static void write_intent(struct plan *plan, void *ctx)
{
	struct revert *revert = ctx;
	struct err err;

	for (unsigned int i = 0; i < DB_DISKS; i++)
		if (revert->row.disks[i].file[0])
			images_layer_file(revert->desktop_id, revert->row.next[i]);
	plan_end_step(plan, db_snapshot_update(revert->disks->env.db, &revert->row, &err), &err);
}

static void erase_intent(struct plan *plan, void *ctx)
{
	struct revert *revert = ctx;
	struct err err;

	memset(revert->row.next, 0, sizeof(revert->row.next));
	if (db_snapshot_update(revert->disks->env.db, &revert->row, &err) < 0)
		log_err("snapshot %s: %s", revert->row.name, err.msg);
	plan_undone(plan);
}

static int make_files(struct revert *revert, struct err *err)
{
	const struct db_snapshot *row = &revert->row;

	for (unsigned int i = 0; i < DB_DISKS; i++)
		if (row->next[i][0] && images_layer_create(revert->disks->env.images, row->next[i],
							   row->disks[i].file, 0, err) < 0)
			return -1;
	return 0;
}

static void create_files(struct plan *plan, void *ctx)
{
	struct err err;

	plan_end_step(plan, make_files(ctx, &err), &err);
}

static void delete_files(struct plan *plan, void *ctx)
{
	struct revert *revert = ctx;
	struct err err;

	for (unsigned int i = 0; i < DB_DISKS; i++)
		if (revert->row.next[i][0] &&
		    images_overlay_delete(revert->disks->env.images, revert->row.next[i], &err) < 0)
			log_err("snapshot %s: %s", revert->row.name, err.msg);
	plan_undone(plan);
}

/* What the desktop writes to and what is to be dropped change places. */
static void exchange(struct db_desktop *to, struct db_snapshot *row)
{
	for (unsigned int i = 0; i < DB_DISKS; i++) {
		char old[96];
		if (!row->next[i][0])
			continue;
		memcpy(old, to->disks[i].file, sizeof(old));
		memcpy(to->disks[i].file, row->next[i], sizeof(old));
		memcpy(row->next[i], old, sizeof(old));
		to->disks[i].bytes = row->disks[i].bytes;
	}
	memcpy(to->snapshot_id, row->id, sizeof(row->id));
	memcpy(to->image_id, row->image_id, sizeof(row->image_id));
	if (row->kind == DB_SNAPSHOT_MEMORY) {
		to->memory_mib = row->memory_mib;
		to->vcpus = row->vcpus;
	}
}

static int save_both(struct revert *revert, struct err *err)
{
	struct db *db = revert->disks->env.db;

	if (db_begin(db, __func__, err) < 0)
		return -1;
	if (desktop_save(revert->desktop, err) < 0 ||
	    db_snapshot_update(db, &revert->row, err) < 0) {
		db_rollback(db);
		return -1;
	}
	return db_commit(db, err);
}

static void switch_over(struct plan *plan, void *ctx)
{
	struct revert *revert = ctx;
	struct db_desktop *row = desktop_edit(revert->desktop), old = *row;
	struct db_snapshot snapshot = revert->row;
	struct err err;

	exchange(row, &revert->row);
	int result = save_both(revert, &err);
	if (result < 0) {
		*row = old;
		revert->row = snapshot;
	}
	plan_end_step(plan, result, &err);
}

/* Nothing that fails here brings back what was thrown away. */
static void drop_old(struct plan *plan, void *ctx)
{
	struct revert *revert = ctx;
	struct err err;

	if (settle_stopped(revert->disks, revert->desktop, &err) < 0) {
		log_err("desktop %s: what was reverted stays in the store for now: %s",
			desktop_row(revert->desktop)->name, err.msg);
		settle_later(revert->disks, revert->desktop);
	}
	plan_next(plan);
}

static void revert_free(struct revert *revert)
{
	if (!revert->disks->closing)
		DL_DELETE(revert->disks->reverts, revert);
	if (!revert->disks->closing)
		free(revert);
}

static void finish(struct revert *revert, const struct err *err)
{
	struct desktop *desktop =
		desktops_find(revert->disks->env.desktops, revert->desktop_id, NULL);

	if (err)
		revert->cb(revert->data, NULL, err);
	else
		revert->cb(revert->data, snapshot_json(revert->disks, desktop, revert->row.id),
			   NULL);
	revert_free(revert);
}

static void on_started(void *data, struct desktop *desktop, const struct err *err)
{
	struct revert *revert = data;
	struct err prefixed;

	if (!err || revert->disks->closing) {
		finish(revert, err);
		return;
	}
	prefixed = *err;
	err_prefix(&prefixed, "it was reverted, and does not start");
	finish(revert, &prefixed);
}

/* One with memory goes on where it was, others are switched on where they were on. */
static void start(struct revert *revert, struct desktop *desktop)
{
	struct err err;
	int fd;

	if (revert->row.kind != DB_SNAPSHOT_MEMORY) {
		if (revert->restart)
			desktop_start(desktop, 0, on_started, revert);
		else
			finish(revert, NULL);
		return;
	}
	if (images_state_open(revert->disks->env.images, revert->row.memory_file, &fd, &err) < 0)
		on_started(revert, NULL, &err);
	else
		desktop_start_from(desktop, fd, on_started, revert);
}

static void on_reverted(void *ctx, const struct err *err)
{
	struct revert *revert = ctx;
	struct desktop *desktop = TAKE_PTR(revert->desktop);

	revert->plan = NULL;
	revert->ends = true;
	desktop_end(desktop, err);
	desktop_work_end(desktop);
	if (!err)
		snapshot_tell(revert->disks, &revert->row, "reverted to");
	if (!err)
		settle_later(revert->disks, desktop);
	if (err)
		finish(revert, err);
	else
		start(revert, desktop);
}

static void on_claim_ended(void *data, struct desktop *desktop, const struct err *err)
{
	struct revert *revert = data;

	if (revert->ends)
		return;
	/* the daemon stops; no QEMU is there that could have died */
	revert->disks->closing = true;
	plan_drop(TAKE_PTR(revert->plan));
	revert->cb(revert->data, NULL, err);
}

static void begin(struct revert *revert, struct desktop *desktop)
{
	struct err err;

	if (desktop_begin(desktop, on_claim_ended, revert, &err) < 0) {
		desktop_work_end(desktop);
		finish(revert, &err);
		return;
	}
	revert->desktop = desktop;
	revert->plan = plan_start(revert->disks->env.loop, "snapshot-revert", revert_plan,
				  ARRAY_LEN(revert_plan), revert, on_reverted);
}

static void on_stopped(void *data, struct desktop *desktop, const struct err *err)
{
	struct revert *revert = data;

	if (err && err->code == ERR_CANCELLED) {
		revert->disks->closing = true;
		revert->cb(revert->data, NULL, err);
		return;
	}
	if (!err) {
		begin(revert, desktop);
		return;
	}
	desktop = desktops_find(revert->disks->env.desktops, revert->desktop_id, NULL);
	if (desktop)
		desktop_work_end(desktop);
	finish(revert, err);
}

static void on_work_event(void *data, const char *name, json_t *event)
{
}

static void on_work_gone(void *data, const struct err *err)
{
}

static int check(const struct desktop *desktop, const struct db_snapshot *row, struct err *err)
{
	enum desktop_state state = desktop_state(desktop);

	if (row->state != DB_SNAPSHOT_READY)
		return err_set(err, ERR_CONFLICT,
			       "snapshot '%s' is being %s; it cannot be reverted to", row->name,
			       row->state == DB_SNAPSHOT_DELETING ? "deleted" : "taken");
	if (state == DESKTOP_SUSPENDED || state == DESKTOP_STARTING || state == DESKTOP_STOPPING)
		return err_set(err, ERR_CONFLICT, "desktop '%s' is %s; try again when it is not",
			       desktop_row(desktop)->name, desktop_state_names[state]);
	return 0;
}

void disks_snapshot_revert(struct disks *disks, struct desktop *desktop, const char *ref,
			   disks_done_cb cb, void *data)
{
	struct revert *revert = mem_new(struct revert);
	struct err err;

	revert->disks = disks;
	revert->cb = cb;
	revert->data = data;
	memcpy(revert->desktop_id, desktop_row(desktop)->id, sizeof(revert->desktop_id));
	snprintf(revert->what, sizeof(revert->what), "it is being reverted to snapshot '%.63s'",
		 ref);
	const struct desktop_work work = {revert->what, on_work_event, on_work_gone, NULL};
	if (settle_refuse(disks, desktop, &err) < 0 ||
	    db_snapshot_get(disks->env.db, revert->desktop_id, ref, &revert->row, &err) < 0 ||
	    check(desktop, &revert->row, &err) < 0 ||
	    desktop_work_begin(desktop, &work, &err) < 0) {
		free(revert);
		cb(data, NULL, &err);
		return;
	}
	DL_APPEND(disks->reverts, revert);
	revert->restart = desktop_state(desktop) == DESKTOP_RUNNING ||
			  desktop_state(desktop) == DESKTOP_PAUSED;
	if (revert->restart)
		desktop_stop(desktop, true, 0, on_stopped, revert);
	else
		begin(revert, desktop);
}

void reverts_free(struct disks *disks)
{
	struct revert *revert, *next;

	DL_FOREACH_SAFE(disks->reverts, revert, next)
	{
		DL_DELETE(disks->reverts, revert);
		free(revert);
	}
}
