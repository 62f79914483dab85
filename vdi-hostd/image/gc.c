#include "vdi-hostd/image/gc.h"

#include <string.h>
#include <unistd.h>
#include <utlist.h>

#include "base/mem.h"
#include "storage/bulk.h"
#include "vdi-hostd/image/upkeep.h"

/* ---- what gc and scrub share ---- */

static void upkeep_free(struct upkeep *upkeep)
{
	mem_closep(&upkeep->fd);
	graph_free(upkeep->graph);
	json_decref(upkeep->list);
	free(upkeep->ids);
	free(upkeep);
}

void upkeep_end(struct upkeep *upkeep, json_t *result, const struct err *err)
{
	struct images *images = upkeep->images;
	struct job *job = TAKE_PTR(upkeep->job);

	if (job && err)
		job_fail(job, err);
	else if (job)
		job_done(job, TAKE_PTR(result));
	json_decref(result);
	DL_DELETE(images->upkeeps, upkeep);
	upkeep_free(upkeep);
	images_unhold(images);
}

static void cancel(void *data)
{
	struct upkeep *upkeep = data;

	upkeep->cancelled = true;
	if (upkeep->walk)
		graph_walk_cancel(upkeep->walk);
	if (upkeep->bulk)
		bulk_cancel(upkeep->bulk);
}

static void on_progress(void *data, int64_t files)
{
	struct upkeep *upkeep = data;

	if (upkeep->job)
		job_progress(upkeep->job, files, 0);
}

static void on_graph(void *data, struct graph *graph, const struct err *err)
{
	struct upkeep *upkeep = data;

	upkeep->walk = NULL;
	upkeep->graph = graph;
	if (err)
		upkeep_end(upkeep, NULL, err);
	else
		upkeep->go_on(upkeep);
}

int upkeep_start(struct upkeep *upkeep, const char *kind, const char *unit, const char **ret_job_id,
		 struct err *err)
{
	struct images *images = upkeep->images;

	upkeep->fd = -1;
	upkeep->list = json_array();
	int result = 0;
	if (images->upkeeps)
		result = err_set(err, ERR_BUSY,
				 "the store is being looked after already; wait for that job, or "
				 "cancel it: `vdictl job list` shows it");
	if (result < 0 ||
	    job_start(images->jobs, kind, "", unit, cancel, upkeep, &upkeep->job, err) < 0) {
		upkeep_free(upkeep);
		return -1;
	}
	DL_APPEND(images->upkeeps, upkeep);
	images_hold(images);
	*ret_job_id = job_id(upkeep->job);
	struct err failed;
	if (graph_walk(images, on_progress, on_graph, upkeep, &upkeep->walk, &failed) < 0) {
		if (err)
			*err = failed;
		upkeep_end(upkeep, NULL, &failed);
		return -1;
	}
	return 0;
}

void upkeeps_cancel(struct images *images)
{
	struct upkeep *upkeep;
	struct err err;

	err_set(&err, ERR_CANCELLED, "the daemon was stopped; start it again");
	DL_FOREACH (images->upkeeps, upkeep) {
		if (upkeep->job)
			job_fail(TAKE_PTR(upkeep->job), &err);
		cancel(upkeep);
	}
}

/* ---- gc ---- */

static void add_garbage(struct upkeep *upkeep, const struct graph_file *file)
{
	upkeep->found++;
	upkeep->bytes += file->allocated;
	if (upkeep->found <= UPKEEP_LIST_MAX)
		json_array_append_new(upkeep->list,
				      json_pack("{s:s, s:s, s:I}", "folder",
						store_folder_name(file->folder), "file", file->file,
						"bytes", (json_int_t)file->allocated));
}

static void gc_done(struct upkeep *upkeep, const struct err *err)
{
	struct err failed;

	if (!err) {
		upkeep_end(upkeep,
			   json_pack("{s:b, s:O, s:I, s:I}", "dry_run", upkeep->gc.dry_run, "items",
				     upkeep->list, "files", (json_int_t)upkeep->found, "bytes",
				     (json_int_t)upkeep->bytes),
			   NULL);
		return;
	}
	failed = *err;
	if (err->code != ERR_CANCELLED)
		err_prefix(&failed, "after %lld files", (long long)upkeep->found);
	upkeep_end(upkeep, NULL, &failed);
}

static void gc_go_on(struct upkeep *upkeep)
{
	struct graph_file *file, *next;

	if (!upkeep->gc.dry_run) {
		upkeep->sweep = sweep_start(upkeep, upkeep->gc.min_age_s, add_garbage, gc_done);
		return;
	}
	HASH_ITER (hh, upkeep->graph->files, file, next) {
		if (upkeep_is_garbage(file, upkeep->gc.min_age_s))
			add_garbage(upkeep, file);
	}
	gc_done(upkeep, NULL);
}

int images_gc(struct images *images, const struct image_gc *gc, const char **ret_job_id,
	      struct err *err)
{
	struct upkeep *upkeep = mem_new(struct upkeep);

	upkeep->images = images;
	upkeep->go_on = gc_go_on;
	upkeep->gc = *gc;
	return upkeep_start(upkeep, "image.gc", "files", ret_job_id, err);
}
