/*
 * The removal of garbage. Between the walk over the store and this moment others worked on: each
 * file is looked up among the roots as they are now, and looked at once more, right before it is
 * moved aside, on the loop's thread, where all rows are written. Only the unlinking, which may take
 * long for a large file, is left to the thread pool.
 */
#include <stdio.h>
#include <string.h>

#include "base/mem.h"
#include "base/plan.h"
#include "storage/scan.h"
#include "vdi-hostd/image/upkeep.h"

#define BATCH 128

/* how long the loop may be held up by one batch: a renaming takes microseconds, or a millisecond */
#define BATCH_NS (UINT64_C(5) * 1000 * 1000)

struct sweep {
	uv_work_t work;
	struct upkeep *upkeep;
	int64_t min_age_s;
	void (*removed)(struct upkeep *upkeep, const struct graph_file *file);
	void (*done)(struct upkeep *upkeep, const struct err *err);
	struct graph_file *at; /* the next one to be looked at */
	int64_t looked;
	char aside[BATCH][64]; /* in tmp/ */
	size_t n_aside;
	struct graph *names;
	int64_t names_at; /* db_changes() when they were read */
	struct err err;
};

bool upkeep_is_garbage(const struct graph_file *file, int64_t min_age_s)
{
	return file->there && file->regular && !file->reachable && file->folder != STORE_TMP &&
	       str_now_ms() - file->changed_ms >= min_age_s * 1000;
}

static void unlink_batch(uv_work_t *work)
{
	struct sweep *sweep = container_of(work, struct sweep, work);

	for (size_t i = 0; i < sweep->n_aside; i++) {
		plan_crash_point("image-gc", "file", "before");
		/* one that stays is removed by the next start */
		(void)!store_delete(sweep->upkeep->images->store, STORE_TMP, sweep->aside[i], NULL);
		plan_crash_point("image-gc", "file", "after");
	}
	sweep->n_aside = 0;
}

/* the roots as they are now; read again only when a row has changed or parts have their own */
static int refresh_names(struct sweep *sweep, struct err *err)
{
	struct images *images = sweep->upkeep->images;

	if (sweep->names && images->n_roots == 0 && sweep->names_at == db_changes(images->db))
		return 0;
	graph_free(TAKE_PTR(sweep->names));
	sweep->names_at = db_changes(images->db);
	return graph_of_names(images, &sweep->names, err);
}

static int set_aside(struct sweep *sweep, const struct graph_file *file, struct err *err)
{
	struct store *store = sweep->upkeep->images->store;
	char *aside = sweep->aside[sweep->n_aside];
	struct scan_file now;
	struct err none;

	if (graph_find(sweep->names, file->folder, file->file) ||
	    scan_look(store, file->folder, file->file, &now, &none) < 0 || !now.regular ||
	    now.changed_ms != file->changed_ms)
		return 0;
	strcpy(aside, "gc-");
	str_random_hex(aside + strlen(aside), 8);
	plan_crash_point("image-gc", "aside", "before");
	if (scan_set_aside(store, file->folder, file->file, aside, err) < 0)
		return -1;
	plan_crash_point("image-gc", "aside", "after");
	sweep->n_aside++;
	sweep->removed(sweep->upkeep, file);
	return 0;
}

static int sweep_batch(struct sweep *sweep, struct err *err)
{
	if (refresh_names(sweep, err) < 0)
		return -1;
	uint64_t end = uv_hrtime() + BATCH_NS;
	for (; sweep->at && sweep->n_aside < BATCH && (sweep->n_aside == 0 || uv_hrtime() < end);
	     sweep->at = sweep->at->hh.next) {
		sweep->looked++;
		if (upkeep_is_garbage(sweep->at, sweep->min_age_s) &&
		    set_aside(sweep, sweep->at, err) < 0)
			return -1;
	}
	return 0;
}

static void batch_done(uv_work_t *work, int status)
{
	struct sweep *sweep = container_of(work, struct sweep, work);
	struct upkeep *upkeep = sweep->upkeep;

	if (upkeep->job)
		job_progress(upkeep->job, sweep->looked, HASH_COUNT(upkeep->graph->files));
	if (sweep->err.code == 0 && upkeep->cancelled)
		err_set(&sweep->err, ERR_CANCELLED, "the work was cancelled");
	if (sweep->err.code == 0 && sweep->at) {
		/* what a failure interrupts is still unlinked where it was set aside */
		(void)!sweep_batch(sweep, &sweep->err);
		uv_queue_work(upkeep->images->loop, &sweep->work, unlink_batch, batch_done);
		return;
	}
	graph_free(sweep->names);
	upkeep->sweep = NULL;
	sweep->done(upkeep, sweep->err.code ? &sweep->err : NULL);
	free(sweep);
}

struct sweep *sweep_start(struct upkeep *upkeep, int64_t min_age_s,
			  void (*removed)(struct upkeep *upkeep, const struct graph_file *file),
			  void (*done)(struct upkeep *upkeep, const struct err *err))
{
	struct sweep *sweep = mem_new(struct sweep);

	sweep->upkeep = upkeep;
	sweep->min_age_s = min_age_s;
	sweep->removed = removed;
	sweep->done = done;
	sweep->at = upkeep->graph->files;
	/* an empty batch first: the loop is given back before anything is done */
	uv_queue_work(upkeep->images->loop, &sweep->work, unlink_batch, batch_done);
	return sweep;
}
