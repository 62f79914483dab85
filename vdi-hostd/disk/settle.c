/*
 * What a crash of the daemon or the loss of a QEMU left half done. A snapshot that was being taken
 * goes forward where its new files may have been written to: on top of what was written before
 * they read the same. While a QEMU has the disks it is asked which files are on top; without one
 * everything is settled at once, and so always before the next start.
 */
#include <stdio.h>
#include <string.h>
#include <utlist.h>

#include "base/log.h"
#include "vdi-hostd/disk/private.h"

#define RETRY_MS 1000

struct unsettled {
	struct disks *disks;
	char desktop_id[STR_UUID_LEN + 1];
	struct desktop *claimed; /* while QEMU is asked */
	struct qmp_batch batch;
	struct quiesce *quiesce;
	struct db_snapshot back; /* to be undone once its nodes are gone */
	bool fresh;  /* its QEMU is still to be asked what an earlier daemon began in it */
	bool asking; /* that is under way */
	bool stale;  /* there is something */
	bool halted; /* its guest was stopped for its memory to be saved */
	bool ends;
	struct unsettled *prev, *next;
};

static void set_disks(struct disks *disks, struct desktop *desktop, const struct db_snapshot *row)
{
	struct db_desktop *to = desktop_edit(desktop);

	for (unsigned int i = 0; i < DB_DISKS; i++)
		if (row->next[i][0])
			memcpy(to->disks[i].file, row->next[i], sizeof(row->next[i]));
	memcpy(to->snapshot_id, row->id, sizeof(row->id));
}

int settle_forward(struct disks *disks, struct desktop *desktop, struct db_snapshot *row,
		   bool complete, struct err *err)
{
	struct db *db = disks->env.db;
	struct db_snapshot settled = *row;

	settled.state = complete ? DB_SNAPSHOT_READY : DB_SNAPSHOT_DELETING;
	memset(settled.next, 0, sizeof(settled.next));
	/*
	 * The desktop writes to its new files from now on, whether that can be written down or not:
	 * who saves it later shall save that.
	 */
	set_disks(disks, desktop, row);
	if (db_begin(db, __func__, err) < 0)
		return -1;
	if (desktop_save(desktop, err) < 0 || db_snapshot_update(db, &settled, err) < 0) {
		db_rollback(db);
		return -1;
	}
	if (db_commit(db, err) < 0)
		return -1;
	*row = settled;
	return 0;
}

int settle_back(struct disks *disks, struct desktop *desktop, const struct db_snapshot *row,
		struct err *err)
{
	for (unsigned int i = 0; i < DB_DISKS; i++)
		if (row->next[i][0] &&
		    images_overlay_delete(disks->env.images, row->next[i], err) < 0)
			return -1;
	if (row->memory_file[0] &&
	    images_state_delete(disks->env.images, row->memory_file, err) < 0)
		return -1;
	return db_snapshot_delete(disks->env.db, row, err);
}

/* ---- a desktop's rows ---- */

struct rows {
	struct db_snapshot *list;
	size_t n;
};

static int add_half_done(void *data, const struct db_snapshot *row)
{
	struct rows *rows = data;
	bool half = row->state == DB_SNAPSHOT_CREATING ||
		    (row->state == DB_SNAPSHOT_READY && row->next[DB_DISK_SYSTEM][0]);

	if (!half)
		return 0;
	rows->list = mem_realloc(rows->list, rows->n + 1, sizeof(*row));
	rows->list[rows->n++] = *row;
	return 0;
}

static int half_done(struct disks *disks, const char *desktop_id, struct rows *ret, struct err *err)
{
	*ret = (struct rows){0};
	return db_snapshot_each(disks->env.db, desktop_id, add_half_done, ret, err);
}

static bool has_files(struct disks *disks, const struct db_snapshot *row)
{
	int64_t allocated;

	for (unsigned int i = 0; i < DB_DISKS; i++)
		if (row->next[i][0] &&
		    images_overlay_allocated(disks->env.images, row->next[i], &allocated, NULL) < 0)
			return false;
	return true;
}

/* a revert's leftovers: whichever side of its switch they are on, nobody needs them */
static int drop_leftovers(struct disks *disks, struct desktop *desktop, struct db_snapshot *row,
			  struct err *err)
{
	for (unsigned int i = 0; i < DB_DISKS; i++)
		if (row->next[i][0] && layers_drop(disks, desktop, row->next[i], err) < 0)
			return -1;
	memset(row->next, 0, sizeof(row->next));
	return db_snapshot_update(disks->env.db, row, err);
}

static int settle_row(struct disks *disks, struct desktop *desktop, struct db_snapshot *row,
		      struct err *err)
{
	if (row->state == DB_SNAPSHOT_READY)
		return drop_leftovers(disks, desktop, row, err);
	bool forward = has_files(disks, row);
	log_info("desktop %s: snapshot %s was interrupted and is %s", desktop_row(desktop)->name,
		 row->name, forward ? "gone on with" : "undone");
	return forward ? settle_forward(disks, desktop, row, row->kind != DB_SNAPSHOT_MEMORY, err)
		       : settle_back(disks, desktop, row, err);
}

int settle_stopped(struct disks *disks, struct desktop *desktop, struct err *err)
{
	struct rows rows;
	int result = half_done(disks, desktop_row(desktop)->id, &rows, err);

	for (size_t i = 0; i < rows.n && result == 0; i++)
		result = settle_row(disks, desktop, &rows.list[i], err);
	free(rows.list);
	return result;
}

/* ---- while a QEMU has the disks ---- */

static void on_timer_closed(uv_handle_t *handle)
{
	free(handle);
}

static void forget(struct unsettled *item)
{
	struct disks *disks = item->disks;

	DL_DELETE(disks->unsettled, item);
	free(item);
	if (!disks->unsettled && disks->retry)
		uv_close((uv_handle_t *)TAKE_PTR(disks->retry), on_timer_closed);
}

static void nobody_asked(void *data, struct desktop *desktop, const struct err *err)
{
}

static void release(struct unsettled *item)
{
	struct desktop *desktop = TAKE_PTR(item->claimed);

	item->ends = true;
	desktop_end(desktop, NULL);
	if (!item->halted)
		return;
	item->halted = false;
	if (desktop_qmp(desktop))
		qmp_execute(desktop_qmp(desktop), "migrate_cancel", NULL, 0, NULL, NULL);
	desktop_resume(desktop, nobody_asked, NULL);
}

static void on_claim_ended(void *data, struct desktop *desktop, const struct err *err)
{
	struct unsettled *item = data;

	if (item->ends)
		return;
	item->claimed = NULL; /* tried again, unless the daemon stops */
	quiesce_drop(TAKE_PTR(item->quiesce));
	if (err && err->code == ERR_CANCELLED)
		item->disks->closing = true;
}

/* One that is there no more is fine. */
static void on_deleted_nodes(void *data, const struct err *ignored)
{
	struct unsettled *item = data;
	struct err err;
	int result = 0;

	if (!item->claimed || item->disks->closing)
		return;
	if (item->back.id[0])
		result = settle_back(item->disks, item->claimed, &item->back, &err);
	if (result < 0)
		log_err("desktop %s: %s", desktop_row(item->claimed)->name, err.msg);
	release(item);
}

/* at most one is being taken at any time */
static void begin_back(struct unsettled *item, const struct db_snapshot *row)
{
	item->back = *row;
	for (unsigned int i = 0; i < DB_DISKS && desktop_qmp(item->claimed); i++)
		if (row->next[i][0])
			nodes_delete(&item->batch, desktop_qmp(item->claimed), row->next[i]);
}

static int settle_by_blocks(struct unsettled *item, json_t *blocks, struct err *err)
{
	struct disks *disks = item->disks;
	struct rows rows;
	int result = half_done(disks, item->desktop_id, &rows, err);

	for (size_t i = 0; i < rows.n && result == 0; i++) {
		struct db_snapshot *row = &rows.list[i];
		if (row->state == DB_SNAPSHOT_CREATING && row->kind == DB_SNAPSHOT_MEMORY)
			item->halted = true;
		if (row->state == DB_SNAPSHOT_READY)
			result = drop_leftovers(disks, item->claimed, row, err);
		else if (nodes_on_top(blocks, row->next[DB_DISK_SYSTEM]))
			result = settle_forward(disks, item->claimed, row,
						row->kind != DB_SNAPSHOT_MEMORY, err);
		else
			begin_back(item, row);
	}
	free(rows.list);
	return result;
}

static void on_blocks(void *data, json_t *result, const struct err *err)
{
	struct unsettled *item = data;
	struct err failed;

	if (!item->claimed || item->disks->closing)
		return;
	if (err) {
		release(item);
		return;
	}
	item->back.id[0] = '\0';
	batch_init(&item->batch, on_deleted_nodes, item);
	if (settle_by_blocks(item, result, &failed) < 0) {
		log_err("desktop %s: %s", desktop_row(item->claimed)->name, failed.msg);
		release(item);
		return;
	}
	batch_end(&item->batch);
}

static void on_thawed(void *data, const struct err *err)
{
	struct unsettled *item = data;

	item->quiesce = NULL;
	if (!item->claimed || item->disks->closing)
		return;
	if (desktop_qmp(item->claimed))
		qmp_execute(desktop_qmp(item->claimed), "query-block", NULL, 0, on_blocks, item);
	else
		release(item);
}

static void settle_running(struct unsettled *item, struct desktop *desktop)
{
	struct err err;

	item->ends = false;
	if (desktop_begin(desktop, on_claim_ended, item, &err) < 0)
		return; /* busy: later */
	item->claimed = desktop;
	item->quiesce = quiesce_thaw(desktop, on_thawed, item);
}

static bool has_half_done(struct disks *disks, const char *desktop_id)
{
	struct rows rows;
	struct err err;
	int result = half_done(disks, desktop_id, &rows, &err);

	if (result < 0)
		log_err("snapshots are not settled: %s", err.msg);
	free(rows.list);
	return result < 0 || rows.n > 0;
}

static void settle_try(struct unsettled *item);

static void on_jobs(void *data, json_t *jobs, const struct err *err)
{
	struct unsettled *item = data;
	json_t *job;
	size_t i;

	item->asking = false;
	item->fresh = err && err->code != ERR_CANCELLED;
	json_array_foreach(jobs, i, job)
	{
		const char *id = json_string_value(json_object_get(job, "id"));
		if (id && strncmp(id, MERGE_JOB_PREFIX, strlen(MERGE_JOB_PREFIX)) == 0)
			item->stale = true;
	}
	if (!err)
		settle_try(item);
}

/* What is half done comes first, then what is to be merged. */
static void go_on(struct unsettled *item, struct desktop *desktop)
{
	if (item->fresh && desktop_qmp(desktop)) {
		item->asking = true;
		qmp_execute(desktop_qmp(desktop), "query-jobs", NULL, 0, on_jobs, item);
	} else if (merge_look(item->disks, desktop, item->stale)) {
		forget(item);
	}
}

static void settle_try(struct unsettled *item)
{
	struct desktop *desktop = desktops_find(item->disks->env.desktops, item->desktop_id, NULL);
	struct err err;

	if (!desktop) {
		forget(item);
		return;
	}
	if (item->claimed || item->asking)
		return;
	if (!has_half_done(item->disks, item->desktop_id)) {
		go_on(item, desktop);
		return;
	}
	if (desktop_is_claimed(desktop))
		return;
	if (desktop_qmp(desktop)) {
		settle_running(item, desktop);
		return;
	}
	if (desktop_state(desktop) == DESKTOP_RUNNING || desktop_state(desktop) == DESKTOP_PAUSED)
		return; /* its monitor comes back, or it dies */
	if (settle_stopped(item->disks, desktop, &err) < 0)
		log_err("desktop %s: %s", desktop_row(desktop)->name, err.msg);
	else
		go_on(item, desktop);
}

void settle_now(struct disks *disks)
{
	struct unsettled *item, *next;

	DL_FOREACH_SAFE(disks->unsettled, item, next)
	{
		settle_try(item);
	}
}

static void on_retry(uv_timer_t *timer)
{
	settle_now(timer->data);
}

static struct unsettled *find(struct disks *disks, struct desktop *desktop)
{
	struct unsettled *item;

	DL_FOREACH (disks->unsettled, item) {
		if (strcmp(item->desktop_id, desktop_row(desktop)->id) == 0)
			return item;
	}
	return NULL;
}

int settle_refuse(struct disks *disks, struct desktop *desktop, struct err *err)
{
	if (!find(disks, desktop) || !has_half_done(disks, desktop_row(desktop)->id))
		return 0;
	return err_set(err, ERR_BUSY,
		       "a snapshot of desktop '%s' was interrupted and is being settled; try again "
		       "in a moment",
		       desktop_row(desktop)->name);
}

void settle_later(struct disks *disks, struct desktop *desktop)
{
	if (disks->closing || find(disks, desktop))
		return;
	struct unsettled *item = mem_new(struct unsettled);
	item->disks = disks;
	memcpy(item->desktop_id, desktop_row(desktop)->id, sizeof(item->desktop_id));
	DL_APPEND(disks->unsettled, item);
	if (disks->retry)
		return;
	disks->retry = mem_new(uv_timer_t);
	disks->retry->data = disks;
	uv_timer_init(disks->env.loop, disks->retry);
	uv_timer_start(disks->retry, on_retry, 0, RETRY_MS);
}

void settle_after_crash(struct disks *disks, struct desktop *desktop)
{
	settle_later(disks, desktop);
	struct unsettled *item = find(disks, desktop);
	if (item)
		item->fresh = true;
}

void settle_free(struct disks *disks)
{
	struct unsettled *item, *next;

	DL_FOREACH_SAFE(disks->unsettled, item, next)
	{
		quiesce_drop(item->quiesce);
		DL_DELETE(disks->unsettled, item);
		free(item);
	}
	if (disks->retry)
		uv_close((uv_handle_t *)TAKE_PTR(disks->retry), on_timer_closed);
}
