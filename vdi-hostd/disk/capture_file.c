/* The file of a captured version and its row: copied, verified, placed. */
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "storage/file.h"
#include "vdi-hostd/disk/capture_private.h"
#include "vdi-hostd/image/quota.h"

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

void capture_add_row(struct plan *plan, void *ctx)
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

void capture_drop_row(struct plan *plan, void *ctx)
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
	capture_part_done(capture, err);
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
	capture_part_done(capture, err);
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

void capture_copy(struct plan *plan, void *ctx)
{
	struct err err;

	if (start_copy(ctx, &err) < 0)
		plan_fail(plan, &err);
}

void capture_drop_tmp(struct plan *plan, void *ctx)
{
	struct capture *capture = ctx;

	if (capture_is_busy(capture, capture_drop_tmp))
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
	capture_part_done(capture, err);
}

static const struct bulk_ops sum_ops = {NULL, sum_done};

static void sync_done(void *data, const char *sha256, const struct err *err)
{
	struct capture *capture = data;

	capture->sync = NULL;
	capture_part_done(capture, err);
}

static const struct bulk_ops sync_ops = {NULL, sync_done};

void capture_verify(struct plan *plan, void *ctx)
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

/* ---- capture_place, commit ---- */

void capture_place(struct plan *plan, void *ctx)
{
	struct capture *capture = ctx;
	struct err err;

	plan_end_step(plan,
		      store_move(images_store(capture->images), STORE_TMP, capture->tmp_file,
				 STORE_IMAGES, capture->row.file, &err),
		      &err);
}

void capture_commit(struct plan *plan, void *ctx)
{
	struct capture *capture = ctx;
	struct err err;

	plan_end_step(plan, images_made(capture->images, &capture->row, capture->publish, &err),
		      &err);
}
