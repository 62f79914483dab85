/* A capture: its plan, and its life from the call to the end. */
#include "vdi-hostd/disk/capture.h"

#include <stdio.h>
#include <string.h>
#include <utlist.h>

#include "vdi-hostd/disk/capture_private.h"

struct desktop *capture_desktop(struct capture *capture)
{
	return capture->disks && !capture->disks->closing
		       ? desktops_find(capture->disks->env.desktops, capture->desktop_id, NULL)
		       : NULL;
}

void capture_part_done(struct capture *capture, const struct err *err)
{
	if (err && !capture->failed.code)
		capture->failed = *err;
	if (err && capture->bulk)
		bulk_cancel(capture->bulk);
	if (err && capture->sync)
		bulk_cancel(capture->sync);
	if (capture->tool || capture->bulk || capture->sync)
		return;
	struct err failed = capture->failed;
	if (capture->waiting)
		capture->waiting(capture->plan, capture);
	else
		plan_end_step(capture->plan, failed.code ? -1 : 0, &failed);
}

bool capture_is_busy(struct capture *capture, void (*undo)(struct plan *plan, void *ctx))
{
	if (capture->tool)
		image_tool_cancel(capture->tool);
	if (capture->bulk)
		bulk_cancel(capture->bulk);
	if (capture->sync)
		bulk_cancel(capture->sync);
	bool busy = capture->tool || capture->bulk || capture->sync || capture->asked;
	capture->waiting = busy ? undo : NULL;
	return busy;
}

void capture_stop_work(struct plan *plan, void *ctx)
{
	if (!capture_is_busy(ctx, capture_stop_work))
		plan_undone(plan);
}

void capture_answered(struct capture *capture, const struct err *err)
{
	capture->asked = false;
	if (capture->waiting)
		capture->waiting(capture->plan, capture);
	else
		plan_end_step(capture->plan, err ? -1 : 0, err);
}

/* what was placed goes with the row */
static const struct plan_step capture_plan[] = {
	{"trim", capture_trim, capture_close_agent, CAPTURE_TRIM_MS + 5000},
	{"shutdown", capture_shut_down, capture_stop_work, CAPTURE_LONG_MS},
	{"freeze", capture_freeze, capture_stop_work, CAPTURE_LONG_MS},
	{"row", capture_add_row, capture_drop_row},
	{"copy", capture_copy, capture_drop_tmp, CAPTURE_LONG_MS},
	{"verify", capture_verify, capture_stop_work, CAPTURE_LONG_MS},
	{"place", capture_place, NULL},
	{"commit", capture_commit, NULL},
};

/* ---- the whole ---- */

static void capture_free(struct capture *capture)
{
	agent_close(capture->agent);
	images_chain_close(capture->layers, capture->n_layers);
	mem_closep(&capture->tmp);
	images_unhold(capture->images);
	free(capture);
}

/* the desktop is nobody's any more */
static void let_go(struct capture *capture)
{
	struct desktop *desktop = capture_desktop(capture);

	images_chain_close(capture->layers, capture->n_layers);
	capture->n_layers = 0;
	capture_start_again(capture);
	if (desktop && capture->works)
		desktop_work_end(desktop);
	if (desktop && capture->frozen)
		disks_unfreeze(capture->disks, desktop);
	capture->works = capture->frozen = false;
}

static void capture_done(void *ctx, const struct err *err)
{
	struct capture *capture = ctx;
	const struct db_image *row = &capture->row;
	struct job *job = TAKE_PTR(capture->job);
	json_t *json = err ? NULL
			   : json_pack("{s:s, s:s, s:I, s:b, s:b, s:b}", "image", row->id, "name",
				       row->name, "version", (json_int_t)row->version, "linked",
				       capture->linked, "quiesced", capture->quiesced, "trimmed",
				       capture->trimmed);

	let_go(capture);
	if (capture->disks)
		DL_DELETE(capture->disks->captures, capture);
	capture_free(capture);
	if (job && err)
		job_fail(job, err);
	else if (job)
		job_done(job, json);
	else
		json_decref(json);
}

static void cancel(void *data)
{
	struct capture *capture = data;
	struct err err;

	err_set(&err, ERR_CANCELLED, "the capture of desktop '%s' was cancelled",
		capture->desktop_name);
	plan_cancel(capture->plan, &err);
}

void captures_free(struct disks *disks)
{
	struct capture *capture, *next;
	struct err err;

	err_set(&err, ERR_CANCELLED, "the daemon was stopped; capture the desktop again");
	DL_FOREACH_SAFE(disks->captures, capture, next)
	{
		DL_DELETE(disks->captures, capture);
		capture->disks = NULL;
		capture->asked = false;
		if (capture->job)
			job_fail(TAKE_PTR(capture->job), &err);
		plan_cancel(capture->plan, &err);
	}
}

static int fill_row(struct capture *capture, const struct db_desktop *desktop,
		    const struct disks_capture *wanted, struct err *err)
{
	const struct db_image *image = images_find(capture->images, desktop->image_id, err);
	const struct db_image *same =
		wanted->name ? images_find(capture->images, wanted->name, NULL) : image;
	struct db_image *row = &capture->row;

	if (!image)
		return -1;
	snprintf(row->name, sizeof(row->name), "%s", wanted->name ? wanted->name : image->name);
	memcpy(row->parent_id, image->id, sizeof(row->parent_id));
	snprintf(row->owner, sizeof(row->owner), "%s", same ? same->owner : desktop->owner);
	snprintf(row->description, sizeof(row->description), "%s",
		 wanted->description ? wanted->description : "");
	row->depth_max = image->depth_max;
	memcpy(capture->desktop_id, desktop->id, sizeof(capture->desktop_id));
	memcpy(capture->desktop_name, desktop->name, sizeof(capture->desktop_name));
	return 0;
}

int disks_capture(struct disks *disks, struct desktop *desktop, const struct disks_capture *wanted,
		  const char **ret_job_id, struct err *err)
{
	struct capture *capture = mem_new(struct capture);
	struct desktop_work work = {.what = "it is being captured"};

	*capture = (struct capture){
		.disks = disks,
		.images = disks->env.images,
		.loop = disks->env.loop,
		.flatten = wanted->flatten,
		.publish = wanted->publish,
		.trim = wanted->trim,
		.shutdown = wanted->shutdown,
		.want = wanted->quiesce,
		.tmp = -1,
	};
	images_hold(capture->images);
	work.data = capture;
	if (fill_row(capture, desktop_row(desktop), wanted, err) < 0 ||
	    desktop_work_begin(desktop, &work, err) < 0) {
		capture_free(capture);
		return -1;
	}
	capture->works = true;
	if (job_start(disks->env.jobs, "image.capture", capture->desktop_id, "bytes", cancel,
		      capture, &capture->job, err) < 0) {
		let_go(capture);
		capture_free(capture);
		return -1;
	}
	DL_APPEND(disks->captures, capture);
	capture->plan = plan_start(capture->loop, "image-capture", capture_plan,
				   ARRAY_LEN(capture_plan), capture, capture_done);
	*ret_job_id = job_id(capture->job);
	return 0;
}
