/* A backup being made: its plan, and its life from the call to the end. */
#include "vdi-hostd/disk/backup.h"

#include <stdio.h>
#include <string.h>
#include <utlist.h>

#include "base/log.h"
#include "vdi-hostd/disk/backup_private.h"

#define FREEZE_DEADLINE_MS 20000

static void open_disks(struct plan *plan, void *ctx);
static void stop(struct plan *plan, void *ctx);
static void close_disks(struct plan *plan, void *ctx);

static const struct plan_step backup_plan[] = {
	{"open", open_disks, stop, BACKUP_LONG_MS},
	{"sweep", backup_sweep, backup_drop_live},
	{"look", backup_look, backup_drop_live},
	{"row", backup_add_row, backup_drop_row},
	{"files", backup_make_files, backup_drop_files},
	{"nodes", backup_add_nodes, backup_drop_live},
	{"quiesce", backup_quiesce, backup_unquiesce, FREEZE_DEADLINE_MS},
	{"begin", backup_begin_jobs, backup_drop_live},
	{"thaw", backup_thaw, backup_unquiesce},
	{"copy", backup_await_jobs, backup_drop_live, BACKUP_LONG_MS},
	{"detach", backup_detach, backup_drop_live},
	{"close", close_disks, stop, BACKUP_LONG_MS},
	{"sum", backup_sum_files, stop, BACKUP_LONG_MS},
	{"sync", backup_sync_files, stop, BACKUP_LONG_MS},
	{"commit", backup_commit_row, NULL},
};

bool backup_has(const struct backup *backup, unsigned int disk)
{
	return backup->row.disks[disk].file[0];
}

void backup_proceed(struct backup *backup, const struct err *err)
{
	if (backup->waiting)
		backup->waiting(backup->plan, backup);
	else
		plan_end_step(backup->plan, err ? -1 : 0, err);
}

bool backup_is_busy(struct backup *backup, void (*undo)(struct plan *plan, void *ctx))
{
	if (backup->bulk)
		bulk_cancel(backup->bulk);
	bool busy = backup->bulk || backup->busy;
	backup->waiting = busy ? undo : NULL;
	return busy;
}

static void stop(struct plan *plan, void *ctx)
{
	if (!backup_is_busy(ctx, stop))
		plan_undone(plan);
}

/* ---- open, close: a QEMU that has the disks ---- */

static void on_opened(void *data, const struct err *err)
{
	struct backup *backup = data;

	/* at the end of the daemon disks_free() is next */
	if (backup->stopping || (err && err->code == ERR_CANCELLED))
		return;
	backup->opened = !err;
	if (!plan_is_undoing(backup->plan))
		plan_end_step(backup->plan, err ? -1 : 0, err);
}

static void open_disks(struct plan *plan, void *ctx)
{
	struct backup *backup = ctx;

	desktop_work_open(backup->desktop, on_opened);
}

static void on_closed(void *data)
{
	struct backup *backup = data;

	if (!plan_is_undoing(backup->plan))
		plan_next(backup->plan);
}

/* a QEMU that was parked for this writes the bitmaps down as it ends */
static void close_disks(struct plan *plan, void *ctx)
{
	struct backup *backup = ctx;

	backup->opened = false;
	desktop_work_close(backup->desktop, on_closed);
}

/* ---- the whole ---- */

static void on_timer_closed(uv_handle_t *handle)
{
	free(handle);
}

void backup_free(struct backup *backup)
{
	for (unsigned int i = 0; i < DB_DISKS; i++)
		mem_closep(&backup->fds[i]);
	quiesce_drop(backup->quiesce);
	json_decref(backup->answer);
	uv_close((uv_handle_t *)backup->timer, on_timer_closed);
	free(backup);
}

static json_t *result(const struct backup *backup)
{
	const struct db_backup *row = &backup->row;

	return json_pack("{s:s, s:b, s:s?, s:s?, s:b, s:I}", "backup", row->id, "full",
			 backup->full, "parent", row->parent_id[0] ? row->parent_id : NULL,
			 "reason", backup->reason[0] ? backup->reason : NULL, "quiesced",
			 backup->quiesced, "stored_bytes", (json_int_t)row->stored_bytes);
}

static void on_done(void *ctx, const struct err *err)
{
	struct backup *backup = ctx;
	struct disks *disks = backup->disks;
	struct desktop *desktop = backup->desktop;
	struct job *job = TAKE_PTR(backup->job);
	json_t *json = err || !job ? NULL : result(backup);
	struct err why;

	char name[STR_NAME_MAX + 1];
	memcpy(name, backup->row.desktop_name, sizeof(name));
	DL_DELETE(disks->backups, backup);
	desktop_work_end(desktop);
	if (job && !err)
		backup_tell(disks, &backup->row, backup->full ? "full" : "incremental");
	backup_free(backup);
	if (job && err) {
		why = *err;
		if (why.code != ERR_CANCELLED)
			err_prefix(&why, "desktop '%s' was not backed up", name);
		job_fail(job, &why);
	} else if (job) {
		job_done(job, json);
	}
}

static void on_event(void *data, const char *name, json_t *event)
{
	struct backup *backup = data;

	if (strcmp(name, "JOB_STATUS_CHANGE") == 0)
		backup_poke(backup);
}

static void on_gone(void *data, const struct err *err)
{
	struct backup *backup = data;
	struct err why;

	if (err->code == ERR_CANCELLED) /* the daemon stops; disks_free() is next */
		return;
	backup->opened = backup->busy = false;
	uv_timer_stop(backup->timer);
	err_set(&why, ERR_UNAVAILABLE,
		"desktop '%s' was stopped or its QEMU ended while it was backed up; back it up "
		"again",
		desktop_row(backup->desktop)->name);
	if (backup->waiting)
		backup_proceed(backup, &why);
	else
		plan_cancel(backup->plan, &why);
}

static void cancel(void *data)
{
	struct backup *backup = data;
	struct err err;

	err_set(&err, ERR_CANCELLED, "the backup of desktop '%s' was cancelled",
		desktop_row(backup->desktop)->name);
	plan_cancel(backup->plan, &err);
}

static struct backup *backup_new(struct disks *disks, struct desktop *desktop)
{
	struct backup *backup = mem_new(struct backup);

	backup->disks = disks;
	backup->desktop = desktop;
	for (unsigned int i = 0; i < DB_DISKS; i++)
		backup->fds[i] = -1;
	backup->timer = mem_new(uv_timer_t);
	uv_timer_init(disks->env.loop, backup->timer);
	backup->timer->data = backup;
	snprintf(backup->what, sizeof(backup->what), "it is being backed up");
	return backup;
}

static int begin_work(struct backup *backup, struct err *err)
{
	const struct desktop_work work = {backup->what, on_event, on_gone, backup};

	return desktop_work_begin(backup->desktop, &work, err);
}

static void fill_row(struct backup *backup)
{
	static const char *const suffixes[] = {"system", "data"};
	const struct db_desktop *desktop = desktop_row(backup->desktop);
	struct db_backup *row = &backup->row;

	str_uuid_new(row->id);
	memcpy(row->desktop_id, desktop->id, sizeof(row->desktop_id));
	memcpy(row->desktop_name, desktop->name, sizeof(row->desktop_name));
	memcpy(row->image_id, desktop->image_id, sizeof(row->image_id));
	memcpy(row->owner, desktop->owner, sizeof(row->owner));
	row->memory_mib = desktop->memory_mib;
	row->vcpus = desktop->vcpus;
	row->created_at = str_now_ms();
	for (unsigned int i = 0; i < DB_DISKS; i++)
		if (desktop->disks[i].file[0])
			snprintf(row->disks[i].file, sizeof(row->disks[i].file), "%s-%s.qcow2",
				 row->id, suffixes[i]);
	if (db_backup_latest(backup->disks->env.db, desktop->id, &backup->parent, NULL) < 0) {
		backup->parent.id[0] = '\0';
		if (!backup->full)
			snprintf(backup->reason, sizeof(backup->reason),
				 "it is the first of this desktop");
		backup->full = true;
	}
}

static int check_state(const struct desktop *desktop, enum disks_quiesce quiesce, struct err *err)
{
	const struct db_desktop *row = desktop_row(desktop);

	switch (desktop_state(desktop)) {
	case DESKTOP_STOPPED:
	case DESKTOP_FAILED:
	case DESKTOP_RUNNING:
	case DESKTOP_STARTING:
	case DESKTOP_STOPPING:
		return 0;
	case DESKTOP_PAUSED:
		if (quiesce != DISKS_QUIESCE_REQUIRE)
			return 0;
		return err_set(err, ERR_UNAVAILABLE,
			       "the guest of desktop '%s' is paused and cannot bring its file "
			       "systems to rest; resume it first",
			       row->name);
	case DESKTOP_SUSPENDED:
		break;
	}
	return err_set(err, ERR_CONFLICT, "desktop '%s' is %s; start it, or stop it", row->name,
		       desktop_state_names[desktop_state(desktop)]);
}

int disks_backup(struct disks *disks, struct desktop *desktop, bool full,
		 enum disks_quiesce quiesce, const char **ret_job_id, struct err *err)
{
	if (check_state(desktop, quiesce, err) < 0)
		return -1;
	struct backup *backup = backup_new(disks, desktop);
	backup->full = full;
	backup->want = quiesce;
	fill_row(backup);
	if (begin_work(backup, err) < 0) {
		backup_free(backup);
		return -1;
	}
	if (job_start(disks->env.jobs, "desktop.backup", desktop_row(desktop)->id, "bytes", cancel,
		      backup, &backup->job, err) < 0) {
		desktop_work_end(desktop);
		backup_free(backup);
		return -1;
	}
	DL_APPEND(disks->backups, backup);
	backup->plan = plan_start(disks->env.loop, "desktop-backup", backup_plan,
				  ARRAY_LEN(backup_plan), backup, on_done);
	*ret_job_id = job_id(backup->job);
	return 0;
}

/* ---- the end of the daemon, and its start ---- */

/* nobody waits for what is under way any more; its files are cleaned up by the next start */
static void leave(struct backup *backup)
{
	struct err err;

	backup->stopping = true;
	plan_drop(TAKE_PTR(backup->plan));
	err_set(&err, ERR_CANCELLED, "the daemon was stopped; back the desktop up again");
	if (backup->job)
		job_fail(TAKE_PTR(backup->job), &err);
}

void backups_free(struct disks *disks)
{
	struct backup *backup, *next;

	DL_FOREACH_SAFE(disks->backups, backup, next)
	{
		DL_DELETE(disks->backups, backup);
		leave(backup);
		if (backup->bulk)
			bulk_cancel(backup->bulk);
		else
			backup_free(backup);
	}
}

static void on_reopened(void *data, const struct err *err)
{
	struct backup *backup = data;

	backup->opened = !err;
	if (err && err->code == ERR_CANCELLED)
		return;
	backup->plan = plan_undo(backup->disks->env.loop, "desktop-backup", backup_plan,
				 ARRAY_LEN(backup_plan), backup, on_done);
}

/* its desktop may be gone, or have been stopped: then there are only files */
static void undo_files(struct disks *disks, const struct db_backup *row)
{
	struct err err;

	if (backup_delete_files(disks, row, &err) < 0 ||
	    db_backup_delete(disks->env.db, row->id, &err) < 0)
		log_err("a backup of desktop %s was interrupted and stays: %s", row->desktop_name,
			err.msg);
	else
		log_info("a backup of desktop %s was interrupted and is undone", row->desktop_name);
}

static void undo_one(struct disks *disks, const struct db_backup *row)
{
	struct desktop *desktop = desktops_find(disks->env.desktops, row->desktop_id, NULL);

	if (!desktop || !desktop_qmp(desktop)) {
		undo_files(disks, row);
		return;
	}
	struct backup *backup = backup_new(disks, desktop);
	backup->row = *row;
	backup->in_qemu = true;
	if (begin_work(backup, NULL) < 0) {
		backup_free(backup);
		undo_files(disks, row);
		return;
	}
	DL_APPEND(disks->backups, backup);
	desktop_work_open(desktop, on_reopened);
}

struct rows {
	struct db_backup *list;
	size_t n;
};

static int add_interrupted(void *data, const struct db_backup *row)
{
	struct rows *rows = data;

	if (row->state != DB_BACKUP_MAKING)
		return 0;
	rows->list = mem_realloc(rows->list, rows->n + 1, sizeof(*row));
	rows->list[rows->n++] = *row;
	return 0;
}

void backups_reconcile(struct disks *disks)
{
	struct rows rows = {0};
	struct err err;

	if (db_backup_each(disks->env.db, NULL, add_interrupted, &rows, &err) < 0)
		log_err("interrupted backups: %s", err.msg);
	for (size_t i = 0; i < rows.n; i++)
		undo_one(disks, &rows.list[i]);
	free(rows.list);
}
