/*
 * What QEMU does for a backup: copies of the disks as they are at one moment, and bitmaps of what
 * is written from then on (qemu docs/interop/bitmaps.rst).
 *
 * Each backup has a bitmap of its own, named after it, that begins with it; the next one copies
 * what that marks and leaves it alone. So nothing that fails or is killed in between can lose a
 * mark: the bitmap of the newest backup that is ready always tells what was written since.
 */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "base/log.h"
#include "vdi-hostd/disk/backup_private.h"

#define PAUSE_FIRST 20
#define PAUSE_MOST  500
/* sets from the command line have small numbers, those of other files have 0x40000000 and up */
#define FDSET 0x20000000

void backup_bitmap_name(const struct db_backup *row, char ret[BACKUP_NAME_MAX])
{
	snprintf(ret, BACKUP_NAME_MAX, BACKUP_BITMAP_PREFIX "%s", row->id);
}

static void numbered(const char *prefix, unsigned int disk, const char *suffix,
		     char ret[BACKUP_NAME_MAX])
{
	snprintf(ret, BACKUP_NAME_MAX, "%s%u%s", prefix, disk, suffix);
}

void backup_source_node(const struct backup *backup, unsigned int disk, char ret[QEMU_NODE_MAX + 1])
{
	images_node(desktop_row(backup->desktop)->disks[disk].file, ret);
}

/* ---- asking QEMU ---- */

struct qmp *backup_qmp(struct backup *backup)
{
	return backup->opened ? desktop_qmp(backup->desktop) : NULL;
}

static void tell(struct backup *backup, const struct err *err)
{
	/* the daemon stops, or QEMU ended: who holds the work is told of that */
	if (err && err->code == ERR_CANCELLED)
		return;
	backup->busy = false;
	if (backup->waiting && !backup->undoing)
		backup_proceed(backup, err);
	else
		backup->then(backup, err);
}

static void on_answer(void *data, json_t *result, const struct err *err)
{
	struct backup *backup = data;

	json_decref(backup->answer);
	backup->answer = json_incref(result);
	tell(backup, err);
}

static int no_qemu(const struct backup *backup, struct err *err)
{
	return err_set(err, ERR_UNAVAILABLE, "the QEMU of desktop '%s' is gone",
		       desktop_row(backup->desktop)->name);
}

void backup_ask(struct backup *backup, const char *command, json_t *args,
		void (*then)(struct backup *backup, const struct err *err))
{
	struct err err;

	backup->then = then;
	if (!backup_qmp(backup)) {
		json_decref(args);
		no_qemu(backup, &err);
		then(backup, &err);
		return;
	}
	backup->busy = true;
	qmp_execute(backup_qmp(backup), command, args, PLAN_DEADLINE_MS, on_answer, backup);
}

static void on_batch(void *data, const struct err *err)
{
	tell(data, err);
}

/* several commands, of which all are tried */
static void batch_begin(struct backup *backup,
			void (*then)(struct backup *backup, const struct err *err))
{
	backup->then = then;
	backup->busy = true;
	batch_init(&backup->batch, on_batch, backup);
}

static void add(struct backup *backup, const char *command, json_t *args)
{
	batch_add(&backup->batch, backup_qmp(backup), command, args, -1);
}

static void on_timer(uv_timer_t *timer)
{
	struct backup *backup = timer->data;

	backup->then(backup, NULL);
}

static void pause_then(struct backup *backup,
		       void (*then)(struct backup *backup, const struct err *err))
{
	backup->then = then;
	uv_timer_start(backup->timer, on_timer, backup->pause_ms, 0);
	backup->pause_ms *= 2;
	if (backup->pause_ms > PAUSE_MOST)
		backup->pause_ms = PAUSE_MOST;
}

void backup_poke(struct backup *backup)
{
	if (uv_is_active((uv_handle_t *)backup->timer))
		uv_timer_start(backup->timer, on_timer, 0, 0);
}

/* ---- sweep: nothing of a backup is left in QEMU: jobs, then nodes, then files ---- */

static void sweep_jobs(struct backup *backup, const struct err *err);

static bool is_ours(json_t *job)
{
	const char *id = json_string_value(json_object_get(job, "id"));

	return id && strncmp(id, "backup", 6) == 0;
}

static bool is_concluded(json_t *job)
{
	const char *status = json_string_value(json_object_get(job, "status"));

	return status && strcmp(status, "concluded") == 0;
}

static void sweep_nodes(struct backup *backup);

static void on_jobs(struct backup *backup, const struct err *err)
{
	json_t *jobs = err ? NULL : json_incref(backup->answer), *job;
	bool any = false;
	size_t i;

	if (err || !backup_qmp(backup)) {
		json_decref(jobs);
		backup_proceed(backup, err);
		return;
	}
	json_array_foreach(jobs, i, job)
	{
		json_t *id = json_object_get(job, "id");
		if (!is_ours(job))
			continue;
		any = true;
		qmp_execute(backup_qmp(backup), is_concluded(job) ? "job-dismiss" : "job-cancel",
			    json_pack("{s:O}", "id", id), 0, NULL, NULL);
	}
	json_decref(jobs);
	if (any)
		pause_then(backup, sweep_jobs);
	else
		sweep_nodes(backup);
}

static void sweep_jobs(struct backup *backup, const struct err *err)
{
	backup_ask(backup, "query-jobs", NULL, on_jobs);
}

/* where there are none, QEMU says so, which is as well */
static void swept(struct backup *backup, const struct err *err)
{
	backup_proceed(backup, NULL);
}

static void add_removals(struct backup *backup, unsigned int disk)
{
	char node[BACKUP_NAME_MAX], file[BACKUP_NAME_MAX];

	numbered("backup", disk, "", node);
	numbered("backup", disk, "-file", file);
	add(backup, "blockdev-del", json_pack("{s:s}", "node-name", node));
	add(backup, "blockdev-del", json_pack("{s:s}", "node-name", file));
	add(backup, "remove-fd", json_pack("{s:i}", "fdset-id", FDSET + (int)disk));
}

static void sweep_nodes(struct backup *backup)
{
	batch_begin(backup, swept);
	for (unsigned int i = 0; i < DB_DISKS; i++) {
		char node[QEMU_NODE_MAX + 1], bitmap[BACKUP_NAME_MAX];
		add_removals(backup, i);
		if (!backup->undoing || !backup_has(backup, i))
			continue;
		backup_source_node(backup, i, node);
		backup_bitmap_name(&backup->row, bitmap);
		add(backup, "block-dirty-bitmap-remove",
		    json_pack("{s:s, s:s}", "node", node, "name", bitmap));
	}
	batch_end(&backup->batch);
}

void backup_sweep(struct plan *plan, void *ctx)
{
	struct backup *backup = ctx;

	backup->pause_ms = PAUSE_FIRST;
	sweep_jobs(backup, NULL);
}

static void drop_done(struct plan *plan, void *ctx)
{
	struct backup *backup = ctx;

	backup->undoing = backup->in_qemu = false;
	backup->waiting = NULL;
	plan_undone(plan);
}

static void drop_now(struct plan *plan, void *ctx)
{
	struct backup *backup = ctx;

	uv_timer_stop(backup->timer);
	if (!backup->in_qemu || !backup_qmp(backup)) {
		drop_done(plan, ctx);
		return;
	}
	backup->undoing = true;
	backup->waiting = drop_done;
	backup->pause_ms = PAUSE_FIRST;
	sweep_jobs(backup, NULL);
}

void backup_drop_live(struct plan *plan, void *ctx)
{
	if (!backup_is_busy(ctx, backup_drop_live))
		drop_now(plan, ctx);
}

/* ---- nodes: the files to write to ---- */

static void add_node(struct backup *backup, unsigned int disk)
{
	char node[BACKUP_NAME_MAX], file[BACKUP_NAME_MAX], path[BACKUP_NAME_MAX];
	const int set = FDSET + (int)disk;

	numbered("backup", disk, "", node);
	numbered("backup", disk, "-file", file);
	snprintf(path, sizeof(path), "/dev/fdset/%d", set);
	batch_add(&backup->batch, backup_qmp(backup), "add-fd", json_pack("{s:i}", "fdset-id", set),
		  backup->fds[disk]);
	add(backup, "blockdev-add",
	    json_pack("{s:s, s:s, s:s, s:b, s:s}", "driver", "file", "node-name", file, "filename",
		      path, "auto-read-only", 0, "discard", "unmap"));
	/* what its header names is for who reads it later */
	add(backup, "blockdev-add",
	    json_pack("{s:s, s:s, s:s, s:b, s:s, s:s, s:n}", "driver", "qcow2", "node-name", node,
		      "file", file, "auto-read-only", 0, "discard", "unmap", "detect-zeroes", "on",
		      "backing"));
}

void backup_add_nodes(struct plan *plan, void *ctx)
{
	struct backup *backup = ctx;
	struct err err;

	if (!backup_qmp(backup)) {
		no_qemu(backup, &err);
		plan_fail(plan, &err);
		return;
	}
	backup->in_qemu = true;
	batch_begin(backup, backup_proceed);
	for (unsigned int i = 0; i < DB_DISKS; i++)
		if (backup_has(backup, i))
			add_node(backup, i);
	batch_end(&backup->batch);
}

/* ---- begin: all disks at one moment ---- */

static json_t *begin_action(const struct backup *backup, unsigned int disk)
{
	char source[QEMU_NODE_MAX + 1], target[BACKUP_NAME_MAX], filter[BACKUP_NAME_MAX],
		since[BACKUP_NAME_MAX];
	json_t *data;

	backup_source_node(backup, disk, source);
	numbered("backup", disk, "", target);
	numbered("backup", disk, "-top", filter);
	backup_bitmap_name(&backup->parent, since);
	/* job and node may share a name, but for people they are better told apart by their place
	 */
	data = json_pack("{s:s, s:s, s:s, s:s, s:s, s:b}", "job-id", target, "device", source,
			 "target", target, "filter-node-name", filter, "sync",
			 backup->full ? "full" : "bitmap", "auto-dismiss", 0);
	if (!backup->full)
		json_object_update_new(
			data, json_pack("{s:s, s:s}", "bitmap", since, "bitmap-mode", "never"));
	return json_pack("{s:s, s:o}", "type", "blockdev-backup", "data", data);
}

static json_t *bitmap_action(const struct backup *backup, unsigned int disk)
{
	char source[QEMU_NODE_MAX + 1], own[BACKUP_NAME_MAX];

	backup_source_node(backup, disk, source);
	backup_bitmap_name(&backup->row, own);
	return json_pack("{s:s, s:{s:s, s:s, s:b}}", "type", "block-dirty-bitmap-add", "data",
			 "node", source, "name", own, "persistent", 1);
}

void backup_begin_jobs(struct plan *plan, void *ctx)
{
	struct backup *backup = ctx;
	json_t *actions = json_array();

	for (unsigned int i = 0; i < DB_DISKS; i++) {
		if (!backup_has(backup, i))
			continue;
		json_array_append_new(actions, bitmap_action(backup, i));
		json_array_append_new(actions, begin_action(backup, i));
	}
	backup_ask(backup, "transaction", json_pack("{s:o}", "actions", actions), backup_proceed);
}

/* ---- copy: until the jobs have ended ---- */

static int check_job(json_t *job, struct err *err)
{
	const char *why = json_string_value(json_object_get(job, "error"));

	if (!why)
		return 0;
	return err_set(err, strstr(why, "No space left") ? ERR_LIMIT : ERR_IO,
		       "the disk could not be copied: %.150s", why);
}

static void ask_jobs(struct backup *backup, const struct err *err);

static void on_progress(struct backup *backup, const struct err *err)
{
	struct err wrong = {0};
	bool running = false, any = false;
	json_t *job;
	size_t i;

	backup->done = backup->total = 0;
	json_array_foreach(err ? NULL : backup->answer, i, job)
	{
		if (!is_ours(job))
			continue;
		any = true;
		running = running || !is_concluded(job);
		backup->done += json_integer_value(json_object_get(job, "current-progress"));
		backup->total += json_integer_value(json_object_get(job, "total-progress"));
		if (check_job(job, &wrong) < 0)
			err = &wrong;
	}
	if (!err && !any) {
		err_set(&wrong, ERR_IO, "QEMU knows nothing of the backup any more");
		err = &wrong;
	}
	if (backup->job && backup->total > 0)
		job_progress(backup->job, backup->done, backup->total);
	if (running && !err)
		pause_then(backup, ask_jobs);
	else
		backup_proceed(backup, err);
}

static void ask_jobs(struct backup *backup, const struct err *err)
{
	backup_ask(backup, "query-jobs", NULL, on_progress);
}

void backup_await_jobs(struct plan *plan, void *ctx)
{
	struct backup *backup = ctx;

	backup->pause_ms = PAUSE_FIRST;
	ask_jobs(backup, NULL);
}

/* ---- detach: the files are closed and whole, the bitmaps stay ---- */

static void detached(struct backup *backup, const struct err *err)
{
	if (!err)
		backup->in_qemu = false;
	backup_proceed(backup, err);
}

void backup_detach(struct plan *plan, void *ctx)
{
	struct backup *backup = ctx;
	struct err err;

	if (!backup_qmp(backup)) {
		no_qemu(backup, &err);
		plan_fail(plan, &err);
		return;
	}
	batch_begin(backup, detached);
	for (unsigned int i = 0; i < DB_DISKS; i++) {
		char name[BACKUP_NAME_MAX];
		if (!backup_has(backup, i))
			continue;
		numbered("backup", i, "", name);
		add(backup, "job-dismiss", json_pack("{s:s}", "id", name));
		add_removals(backup, i);
	}
	batch_end(&backup->batch);
}
