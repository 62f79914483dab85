/*
 * Files that are needed no more are merged with what stands on them: those of a snapshot that is
 * deleted, those that no snapshot names any more, and the image where a desktop shall stand alone.
 * One job a desktop; it looks what is to be done, has copy.c do it, and looks again. So it goes on
 * by itself where a QEMU ended, and the next daemon goes on where this one was killed.
 */
#include <stdio.h>
#include <string.h>
#include <utlist.h>

#include "base/log.h"
#include "vdi-hostd/disk/merge_private.h"

#define AGAIN_MS 1000

static void go_on(struct merge *merge);

struct desktop *merge_desktop(struct merge *merge)
{
	return desktops_find(merge->disks->env.desktops, merge->desktop_id, NULL);
}

/* ---- the end ---- */

static void merge_free(struct merge *merge)
{
	DL_DELETE(merge->disks->merges, merge);
	free(merge);
}

static void end(struct merge *merge, const struct err *err)
{
	struct disks *disks = merge->disks;
	struct desktop *desktop = merge_desktop(merge);
	struct job *job = merge->job;
	struct err failed = {0};

	if (err)
		failed = *err;
	merge_unclaim(merge);
	copy_gone(merge);
	merge_free(merge);
	if (desktop)
		desktop_work_end(desktop);
	if (failed.code && failed.code != ERR_CANCELLED)
		log_warn("desktop %s: %s", desktop ? desktop_row(desktop)->name : "", failed.msg);
	if (failed.code)
		job_fail(job, &failed);
	else
		job_done(job, NULL);
	if (!failed.code && desktop)
		settle_later(disks, desktop);
}

static void on_closed(void *data)
{
	end(data, NULL);
}

/* Who waits for the job may want to do something with the desktop at once. */
static void finish(struct merge *merge)
{
	merge_unclaim(merge);
	desktop_work_close(merge_desktop(merge), on_closed);
}

/* ---- the way ---- */

static void on_timer_closed(uv_handle_t *handle)
{
	free(handle);
}

static void on_again(uv_timer_t *timer)
{
	struct merge *merge = timer->data;

	uv_close((uv_handle_t *)TAKE_PTR(merge->timer), on_timer_closed);
	go_on(merge);
}

static void again(struct merge *merge, uint64_t ms)
{
	if (merge->timer)
		uv_close((uv_handle_t *)TAKE_PTR(merge->timer), on_timer_closed);
	merge->timer = mem_new(uv_timer_t);
	merge->timer->data = merge;
	uv_timer_init(merge->disks->env.loop, merge->timer);
	uv_timer_start(merge->timer, on_again, ms, 0);
}

void merge_copied(struct merge *merge, const struct err *err)
{
	struct err failed;

	merge->swept = true;
	if (err) {
		end(merge, err);
		return;
	}
	if (merge->n_parts > 0 && merge_settle_parts(merge, &failed) < 0) {
		end(merge, &failed);
		return;
	}
	merge_unclaim(merge);
	again(merge, 0);
}

static void on_gone(void *data, const struct err *err)
{
	struct merge *merge = data;

	copy_gone(merge);
	merge->open = merge->swept = false;
	if (err && err->code == ERR_CANCELLED) {
		merge->disks->closing = true;
		return;
	}
	merge_unclaim(merge);
	again(merge, 100);
}

static void on_event(void *data, const char *name, json_t *event)
{
}

static void on_ready(void *data, const struct err *err)
{
	struct merge *merge = data;

	if (err && err->code == ERR_CANCELLED)
		return; /* the daemon stops */
	if (err) {
		end(merge, err);
		return;
	}
	merge->open = true;
	copy_begin(merge);
}

static void open_qemu(struct merge *merge)
{
	if (merge->open)
		copy_begin(merge);
	else
		desktop_work_open(merge_desktop(merge), on_ready);
}

/* A commit writes into what is kept: from here on the snapshot is none any more. */
static int announce(struct merge *merge, struct err *err)
{
	bool commits = false;

	for (size_t i = 0; i < merge->n_parts; i++)
		commits = commits || merge->parts[i].commit;
	if (!commits || merge->row.state == DB_SNAPSHOT_DELETING)
		return 0;
	merge->row.state = DB_SNAPSHOT_DELETING;
	return db_snapshot_update(merge->disks->env.db, &merge->row, err);
}

static void on_claim_ended(void *data, struct desktop *desktop, const struct err *err)
{
	struct merge *merge = data;

	if (err && err->code == ERR_CANCELLED)
		merge->disks->closing = true;
}

/* No file of it has to be copied. */
static void delete_plainly(struct merge *merge)
{
	struct desktop *desktop = merge_desktop(merge);
	struct err err;

	if (desktop_begin(desktop, on_claim_ended, merge, &err) < 0) {
		again(merge, AGAIN_MS);
		return;
	}
	int result = merge_delete_row(merge, &err);
	desktop_end(desktop, NULL);
	if (result < 0)
		end(merge, &err);
	else
		again(merge, 0);
}

static void go_on(struct merge *merge)
{
	struct desktop *desktop = merge_desktop(merge);
	struct err err;

	if (merge->cancelled) {
		err_set(&err, ERR_CANCELLED, "it was cancelled; the disks are as they were");
		end(merge, &err);
		return;
	}
	if (desktop_is_claimed(desktop)) {
		again(merge, AGAIN_MS / 10);
		return;
	}
	/* what an earlier daemon began in this QEMU comes first */
	merge->n_parts = 0;
	if (!merge->swept && desktop_qmp(desktop)) {
		open_qemu(merge);
		return;
	}
	if (merge_choose(merge, &err) < 0 || announce(merge, &err) < 0)
		end(merge, &err);
	else if (merge->n_parts > 0)
		open_qemu(merge);
	else if (merge->row.id[0])
		delete_plainly(merge);
	else
		finish(merge);
}

static void cancel(void *data)
{
	copy_cancel(data);
}

int merge_begin(struct disks *disks, struct desktop *desktop, const struct db_snapshot *row,
		bool all, int64_t speed, const char **ret_job, struct err *err)
{
	struct merge *merge = mem_new(struct merge);
	const char *kind =
		row && row->name[0] != '.' ? "desktop.snapshot.delete" : "desktop.flatten";

	merge->disks = disks;
	merge->all = all;
	merge->speed = speed;
	memcpy(merge->desktop_id, desktop_row(desktop)->id, sizeof(merge->desktop_id));
	if (row)
		merge->row = *row;
	if (row && row->name[0] != '.')
		snprintf(merge->what, sizeof(merge->what), "its snapshot '%s' is being merged",
			 row->name);
	else
		snprintf(merge->what, sizeof(merge->what), "its disks are being merged");
	const struct desktop_work work = {merge->what, on_event, on_gone, merge};
	if (desktop_work_begin(desktop, &work, err) < 0) {
		free(merge);
		return -1;
	}
	if (job_start(disks->env.jobs, kind, merge->desktop_id, "bytes", cancel, merge, &merge->job,
		      err) < 0) {
		desktop_work_end(desktop);
		free(merge);
		return -1;
	}
	DL_APPEND(disks->merges, merge);
	if (ret_job)
		*ret_job = job_id(merge->job);
	again(merge, 0);
	return 0;
}

void merges_free(struct disks *disks)
{
	struct merge *merge, *next;
	struct err err;

	err_set(&err, ERR_CANCELLED, "the daemon stops; its next start goes on with it");
	DL_FOREACH_SAFE(disks->merges, merge, next)
	{
		copy_gone(merge);
		job_fail(merge->job, &err);
		merge_free(merge);
	}
}

/* ---- of its own accord ---- */

struct waiting {
	struct disks *disks;
	struct db_snapshot row;
};

static int look_for_row(void *data, const struct db_snapshot *row)
{
	struct waiting *waiting = data;
	bool nameless = row->name[0] == '.' && !held_find(waiting->disks, row->desktop_id);

	if (row->state == DB_SNAPSHOT_CREATING || (row->state == DB_SNAPSHOT_READY && !nameless))
		return 0;
	waiting->row = *row;
	return 1;
}

/* More files than the image's budget, and some of them for nobody. */
static bool is_too_deep(struct disks *disks, struct desktop *desktop)
{
	const struct db_desktop *row = desktop_row(desktop);
	const struct db_image *image = images_find(disks->env.images, row->image_id, NULL);
	_cleanup_free_ struct layers *layers = mem_new(struct layers);
	struct image_layer chain[QEMU_CHAIN_MAX];
	bool nameless = false;
	size_t n;

	if (images_chain_read(disks->env.images, row->disks[DB_DISK_SYSTEM].file, row->image_id,
			      chain, &n, NULL) < 0)
		return false;
	images_chain_close(chain, n);
	if ((int64_t)n <= (image ? image->depth_max : DB_IMAGE_DEPTH_MAX) ||
	    layers_load(disks, desktop, layers, NULL) < 0)
		return false;
	for (size_t i = 0; i < layers->n; i++)
		nameless = nameless || (layers->list[i].above == 1 && !layers->list[i].is_top &&
					!layers->list[i].is_named);
	return nameless;
}

bool merge_look(struct disks *disks, struct desktop *desktop, bool stale)
{
	struct waiting waiting = {.disks = disks};
	const char *id = desktop_row(desktop)->id;
	struct err err = {0};
	int found = db_snapshot_each(disks->env.db, id, look_for_row, &waiting, &err);

	if (found < 0)
		log_err("desktop %s: %s", desktop_row(desktop)->name, err.msg);
	if (found < 0 || (found == 0 && !stale && !is_too_deep(disks, desktop)))
		return true;
	if (merge_begin(disks, desktop, found ? &waiting.row : NULL, false, disks->env.merge_rate,
			NULL, &err) == 0)
		return true;
	if (err.code != ERR_BUSY)
		log_warn("desktop %s: %s", desktop_row(desktop)->name, err.msg);
	return err.code != ERR_BUSY;
}
