#include "vdi-hostd/disk/capture.h"

#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>
#include <utlist.h>

#include "base/log.h"
#include "storage/bulk.h"
#include "storage/file.h"
#include "vdi-hostd/disk/private.h"
#include "vdi-hostd/image/quota.h"
#include "vdi-hostd/image/tool.h"

#define LONG_MS (UINT64_C(14) * 60 * 60 * 1000)
#define TRIM_MS (UINT64_C(5) * 60 * 1000)

/*
 * struct capture - one under way. An undo ends only when nothing works any more: then nothing
 * points here.
 */
struct capture {
	struct disks *disks; /* NULL once the daemon stops */
	struct images *images;
	uv_loop_t *loop;
	char desktop_id[STR_UUID_LEN + 1], desktop_name[STR_NAME_MAX + 1];
	struct job *job; /* NULL once it was settled */
	struct plan *plan;
	struct db_image row;
	bool flatten, publish, trim, shutdown;
	enum disks_quiesce want;

	struct agent *agent;
	bool trimmed, quiesced, linked;
	bool restart; /* it ran, and was shut down for this */
	bool works;   /* the desktop's work is ours */
	bool frozen;  /* to be unfrozen */
	bool made;    /* the image's row is there */
	struct image_layer layers[QEMU_CHAIN_MAX];
	size_t n_layers;
	char tmp_file[64];
	int tmp;
	bool asked; /* an answer of the desktop's is under way */
	struct image_tool *tool;
	struct bulk *bulk, *sync;
	struct err failed;                             /* the first of those that did */
	void (*waiting)(struct plan *plan, void *ctx); /* an undo, for the end of the work */
	struct capture *prev, *next;
};

static struct desktop *desktop_of(struct capture *capture)
{
	return capture->disks && !capture->disks->closing
		       ? desktops_find(capture->disks->env.desktops, capture->desktop_id, NULL)
		       : NULL;
}

static void part_done(struct capture *capture, const struct err *err)
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

static bool is_busy(struct capture *capture, void (*undo)(struct plan *plan, void *ctx))
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

static void stop_work(struct plan *plan, void *ctx)
{
	if (!is_busy(ctx, stop_work))
		plan_undone(plan);
}

/* what the desktop was asked for has come */
static void answered(struct capture *capture, const struct err *err)
{
	capture->asked = false;
	if (capture->waiting)
		capture->waiting(capture->plan, capture);
	else
		plan_end_step(capture->plan, err ? -1 : 0, err);
}

static int gone(const struct capture *capture, struct err *err)
{
	return err_set(err, ERR_NOT_FOUND, "desktop '%s' is gone", capture->desktop_name);
}

/* ---- trim: the guest gives back what it does not use; a refusal is no reason to give up ---- */

static void on_trimmed(void *data, json_t *result, const struct err *err)
{
	struct capture *capture = data;

	if (err && err->code == ERR_CANCELLED)
		return;
	if (err)
		log_warn("desktop %s: its guest did not trim its file systems: %s",
			 capture->desktop_name, err->msg);
	capture->trimmed = !err;
	plan_next(capture->plan);
}

static void trim(struct plan *plan, void *ctx)
{
	struct capture *capture = ctx;
	struct desktop *desktop = desktop_of(capture);
	char path[256];
	struct err err = {0};

	if (!desktop || !capture->trim || desktop_state(desktop) != DESKTOP_RUNNING) {
		plan_next(plan);
		return;
	}
	if (desktop_agent_path(desktop, path, sizeof(path), &err) < 0 ||
	    agent_connect(capture->loop, path, NULL, NULL, &capture->agent, &err) < 0) {
		on_trimmed(capture, NULL, &err);
		return;
	}
	agent_execute(capture->agent, "guest-fstrim", NULL, TRIM_MS, 0, on_trimmed, capture);
}

static void close_agent(struct plan *plan, void *ctx)
{
	struct capture *capture = ctx;

	agent_close(TAKE_PTR(capture->agent));
	plan_undone(plan);
}

/* ---- shutdown ---- */

static void on_stopped(void *data, struct desktop *desktop, const struct err *err)
{
	answered(data, err);
}

static void shut_down(struct plan *plan, void *ctx)
{
	struct capture *capture = ctx;
	struct desktop *desktop = desktop_of(capture);

	/* the agent has one client at a time */
	agent_close(TAKE_PTR(capture->agent));
	if (!desktop || !capture->shutdown || desktop_state(desktop) != DESKTOP_RUNNING) {
		plan_next(plan);
		return;
	}
	capture->restart = capture->asked = true;
	desktop_stop(desktop, false, 0, on_stopped, capture);
}

static void on_started(void *data, struct desktop *desktop, const struct err *err)
{
	_cleanup_free_ char *name = data;

	if (err && err->code != ERR_CANCELLED)
		log_warn("desktop %s is captured, but does not start again: %s", name, err->msg);
}

/* also where the capture failed */
static void start_again(struct capture *capture)
{
	struct desktop *desktop = desktop_of(capture);

	if (capture->restart && desktop)
		desktop_start(desktop, 0, on_started, mem_strdup(capture->desktop_name));
	capture->restart = false;
}

/* ---- freeze ---- */

static void take_layers(struct capture *capture, const struct disks_frozen *frozen)
{
	struct image_layer data[QEMU_CHAIN_MAX];

	capture->frozen = true;
	capture->quiesced = frozen->quiesced;
	capture->n_layers = frozen->n_layers[DB_DISK_SYSTEM];
	memcpy(capture->layers, frozen->layers[DB_DISK_SYSTEM],
	       capture->n_layers * sizeof(capture->layers[0]));
	memcpy(data, frozen->layers[DB_DISK_DATA], sizeof(data));
	images_chain_close(data, frozen->n_layers[DB_DISK_DATA]);
}

static void on_frozen(void *data, const struct disks_frozen *frozen, const struct err *err)
{
	struct capture *capture = data;

	if (frozen)
		take_layers(capture, frozen);
	/* what it reads from now on stands still */
	start_again(capture);
	answered(capture, err);
}

static void freeze(struct plan *plan, void *ctx)
{
	struct capture *capture = ctx;
	struct desktop *desktop = desktop_of(capture);
	struct err err;

	if (!desktop) {
		gone(capture, &err);
		plan_fail(plan, &err);
		return;
	}
	capture->asked = true;
	disks_freeze(capture->disks, desktop, capture->want, on_frozen, capture);
}

/* ---- row ---- */

/*
 * Linked, the new version is what the desktop wrote on top of its image, if that is one file and
 * clones of it stay within the image's depth.
 */
static bool can_link(const struct capture *capture, const struct db_image *image)
{
	return !capture->flatten && image && capture->n_layers > 1 &&
	       capture->layers[0].folder == STORE_OVERLAYS &&
	       capture->layers[1].folder == STORE_IMAGES &&
	       strcmp(capture->layers[1].file, image->file) == 0 &&
	       (int64_t)capture->n_layers + 1 <= image->depth_max;
}

static int check_room(struct capture *capture, struct err *err)
{
	int64_t need = 0, has, total;

	for (size_t i = 0; i < (capture->linked ? 1 : capture->n_layers); i++)
		need += capture->layers[i].allocated;
	if (images_space_check(capture->images, "no desktop can be captured", err) < 0 ||
	    images_quota_charge_check(capture->images, capture->row.owner, 0, err) < 0 ||
	    images_disk_free(capture->images, &has, &total, err) < 0)
		return -1;
	if (has >= need)
		return 0;
	return err_set(err, ERR_LIMIT,
		       "the new version may take %lld MiB and the store has %lld MiB free; make "
		       "room first",
		       (long long)(need >> 20), (long long)(has >> 20));
}

static void add_row(struct plan *plan, void *ctx)
{
	struct capture *capture = ctx;
	struct db_image *row = &capture->row;
	const struct db_image *image = images_find(capture->images, row->parent_id, NULL);
	struct err err;

	capture->linked = can_link(capture, image);
	if (!capture->linked)
		row->parent_id[0] = '\0';
	row->virtual_size = capture->layers[0].virtual_size;
	if (check_room(capture, &err) < 0 || images_making(capture->images, row, &err) < 0) {
		plan_fail(plan, &err);
		return;
	}
	capture->made = true;
	snprintf(capture->tmp_file, sizeof(capture->tmp_file), "%s.capture", row->id);
	plan_next(plan);
}

static void drop_row(struct plan *plan, void *ctx)
{
	struct capture *capture = ctx;

	if (capture->made)
		images_unmake(capture->images, &capture->row);
	capture->made = false;
	plan_undone(plan);
}

/* ---- copy ---- */

static void report(struct capture *capture, uint64_t done, uint64_t total)
{
	int64_t all =
		capture->linked ? capture->layers[0].allocated : capture->layers[0].virtual_size;

	if (capture->job && total > 0)
		job_progress(capture->job, (int64_t)((double)all * (double)done / (double)total),
			     all);
}

static void tool_progress(void *data, int percent_100)
{
	report(data, (uint64_t)percent_100, 10000);
}

static void tool_done(void *data, const struct err *err)
{
	struct capture *capture = data;

	capture->tool = NULL;
	part_done(capture, err);
}

static const struct image_tool_ops tool_ops = {tool_progress, tool_done};

static void copy_progress(void *data, uint64_t done, uint64_t total)
{
	report(data, done, total);
}

static void copy_done(void *data, const char *sha256, const struct err *err)
{
	struct capture *capture = data;

	capture->bulk = NULL;
	part_done(capture, err);
}

static const struct bulk_ops copy_ops = {copy_progress, copy_done};

static int start_copy(struct capture *capture, struct err *err)
{
	struct convert_limits limits = {0};
	int sources[QEMU_CHAIN_MAX];

	if (store_create_tmp(images_store(capture->images), capture->tmp_file, 0666, &capture->tmp,
			     err) < 0 ||
	    storage_usual_reserve(capture->tmp, &limits.reserve, err) < 0)
		return -1;
	if (capture->linked) {
		capture->bulk = bulk_copy(capture->loop, capture->layers[0].fd, capture->tmp,
					  &copy_ops, capture);
		return 0;
	}
	for (size_t i = 0; i < capture->n_layers; i++)
		sources[i] = capture->layers[i].fd;
	const struct image_tool_work work = {
		.img = {.source_format = PRIV_IMG_QCOW2, .target_format = PRIV_IMG_QCOW2},
		.sources = sources,
		.n_sources = capture->n_layers,
		.target = capture->tmp,
		.limits = limits,
	};
	return image_tool_start(capture->images, &work, &tool_ops, capture, &capture->tool, err);
}

static void copy(struct plan *plan, void *ctx)
{
	struct err err;

	if (start_copy(ctx, &err) < 0)
		plan_fail(plan, &err);
}

static void drop_tmp(struct plan *plan, void *ctx)
{
	struct capture *capture = ctx;

	if (is_busy(capture, drop_tmp))
		return;
	if (capture->tmp >= 0) {
		close(TAKE_FD(capture->tmp));
		(void)!store_delete(images_store(capture->images), STORE_TMP, capture->tmp_file,
				    NULL);
	}
	plan_undone(plan);
}

/* ---- verify: it is what it should be, its checksum is known, it is durable ---- */

static int check_result(struct capture *capture, struct err *err)
{
	const struct db_image *image = NULL;
	struct qcow2_header header;
	char below[160] = "";

	if (qcow2_read(capture->tmp, QCOW2_ALLOW_BACKING, &header, err) < 0)
		return err_prefix(err, "the copy");
	if (capture->linked)
		image = images_find(capture->images, capture->row.parent_id, err);
	if (capture->linked && !image)
		return -1;
	if (image)
		store_backing_name(STORE_IMAGES, image->file, below);
	if (strcmp(header.backing_name, below) == 0 &&
	    (int64_t)header.virtual_size == capture->row.virtual_size)
		return 0;
	return err_set(err, ERR_CORRUPT, "the copy is not what the disk of desktop '%s' was",
		       capture->desktop_name);
}

static void sum_done(void *data, const char *sha256, const struct err *err)
{
	struct capture *capture = data;

	capture->bulk = NULL;
	if (!err)
		memcpy(capture->row.sha256, sha256, sizeof(capture->row.sha256));
	part_done(capture, err);
}

static const struct bulk_ops sum_ops = {NULL, sum_done};

static void sync_done(void *data, const char *sha256, const struct err *err)
{
	struct capture *capture = data;

	capture->sync = NULL;
	part_done(capture, err);
}

static const struct bulk_ops sync_ops = {NULL, sync_done};

static void verify(struct plan *plan, void *ctx)
{
	struct capture *capture = ctx;
	struct err err;

	if (check_result(capture, &err) < 0) {
		plan_fail(plan, &err);
		return;
	}
	capture->sync = bulk_sync(capture->loop, capture->tmp, 0440, &sync_ops, capture);
	capture->bulk = bulk_sha256(capture->loop, capture->tmp, &sum_ops, capture);
}

/* ---- place, commit ---- */

static void place(struct plan *plan, void *ctx)
{
	struct capture *capture = ctx;
	struct err err;

	plan_end_step(plan,
		      store_move(images_store(capture->images), STORE_TMP, capture->tmp_file,
				 STORE_IMAGES, capture->row.file, &err),
		      &err);
}

static void commit(struct plan *plan, void *ctx)
{
	struct capture *capture = ctx;
	struct err err;

	plan_end_step(plan, images_made(capture->images, &capture->row, capture->publish, &err),
		      &err);
}

/* what was placed goes with the row */
static const struct plan_step capture_plan[] = {
	{"trim", trim, close_agent, TRIM_MS + 5000},
	{"shutdown", shut_down, stop_work, LONG_MS},
	{"freeze", freeze, stop_work, LONG_MS},
	{"row", add_row, drop_row},
	{"copy", copy, drop_tmp, LONG_MS},
	{"verify", verify, stop_work, LONG_MS},
	{"place", place, NULL},
	{"commit", commit, NULL},
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
	struct desktop *desktop = desktop_of(capture);

	images_chain_close(capture->layers, capture->n_layers);
	capture->n_layers = 0;
	start_again(capture);
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
