/*
 * An import: a file that somebody handed over becomes a fresh qcow2 of our own making, so that
 * nothing of a foreign header survives. Its row is there before its first file; what fails or is
 * killed in between leaves nothing.
 */
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "base/log.h"
#include "base/plan.h"
#include "storage/bulk.h"
#include "storage/convert.h"
#include "storage/file.h"
#include "storage/format.h"
#include "vdi-hostd/image/private.h"

#define STEP_MS (12ULL * 3600 * 1000)

struct import {
	struct image *image;
	struct plan *plan;
	struct job *job;
	struct storage_source source;
	bool publish;
	char expected_sha256[BULK_SHA256_LEN + 1];
	char staged[64], target[64]; /* names in tmp/ */
	int source_fd, staged_fd, target_fd;

	/* what runs now, if anything does */
	struct bulk *bulk;
	struct convert *convert;
	int32_t pid;
	uint64_t start_time;
	char checksum[BULK_SHA256_LEN + 1];
};

static void write_row(struct plan *plan, void *ctx);
static void erase_row(struct plan *plan, void *ctx);
static void check_source(struct plan *plan, void *ctx);
static void stop_work(struct plan *plan, void *ctx);
static void stage_source(struct plan *plan, void *ctx);
static void unstage_source(struct plan *plan, void *ctx);
static void convert_source(struct plan *plan, void *ctx);
static void delete_target(struct plan *plan, void *ctx);
static void verify_target(struct plan *plan, void *ctx);
static void sync_target(struct plan *plan, void *ctx);
static void place_target(struct plan *plan, void *ctx);
static void delete_image(struct plan *plan, void *ctx);
static void settle(struct plan *plan, void *ctx);

static const struct plan_step import_plan[] = {
	{"row", write_row, erase_row},
	{"checksum", check_source, stop_work, STEP_MS},
	{"stage", stage_source, unstage_source, STEP_MS},
	{"convert", convert_source, delete_target, STEP_MS},
	{"verify", verify_target, stop_work, STEP_MS},
	{"sync", sync_target, stop_work, STEP_MS},
	{"place", place_target, delete_image},
	{"settle", settle, NULL},
};

static void write_row(struct plan *plan, void *ctx)
{
	struct import *import = ctx;
	struct err err;
	if (db_image_insert(import->image->all->db, &import->image->row, &err) < 0)
		plan_fail(plan, &err);
	else
		plan_next(plan);
}

static void erase_row(struct plan *plan, void *ctx)
{
	struct import *import = ctx;
	struct err err;
	if (db_image_delete(import->image->all->db, import->image->row.id, &err) < 0 &&
	    err.code != ERR_NOT_FOUND)
		log_err("image %s: %s", import->image->row.name, err.msg);
	plan_undone(plan);
}

/* Work on whole files ends in here, whatever it was; on the way back its end completes the undo. */
static void on_bulk_done(void *data, const char *sha256, const struct err *err)
{
	struct import *import = data;
	import->bulk = NULL;
	if (plan_is_undoing(import->plan)) {
		plan_undone(import->plan);
		return;
	}
	if (err) {
		plan_fail(import->plan, err);
		return;
	}
	if (sha256)
		snprintf(import->checksum, sizeof(import->checksum), "%s", sha256);
	plan_next(import->plan);
}

static const struct bulk_ops bulk_ops = {.done = on_bulk_done};

static void stop_work(struct plan *plan, void *ctx)
{
	struct import *import = ctx;
	if (import->bulk)
		bulk_cancel(import->bulk);
	else
		plan_undone(plan);
}

static void on_source_summed(void *data, const char *sha256, const struct err *err)
{
	struct import *import = data;
	struct err wrong;
	if (!err && strcmp(sha256, import->expected_sha256) != 0) {
		err_set(&wrong, ERR_CORRUPT,
			"the file's sha256 is %s and not the one that was given; fetch it again",
			sha256);
		err = &wrong;
	}
	on_bulk_done(data, NULL, err);
}

static void check_source(struct plan *plan, void *ctx)
{
	static const struct bulk_ops ops = {.done = on_source_summed};
	struct import *import = ctx;
	if (import->expected_sha256[0])
		import->bulk =
			bulk_sha256(import->image->all->loop, import->source_fd, &ops, import);
	else
		plan_next(plan);
}

/*
 * qemu-img runs under a uid of its own and opens the file anew through its descriptor, which the
 * kernel allows where the file's mode lets everybody read. Any other file is copied first.
 */
static bool tool_can_read(const struct import *import)
{
	struct stat st;
	return import->image->all->rootless ||
	       (fstat(import->source_fd, &st) == 0 && (st.st_mode & S_IROTH));
}

static void stage_source(struct plan *plan, void *ctx)
{
	struct import *import = ctx;
	struct images *all = import->image->all;
	struct err err;
	if (tool_can_read(import)) {
		plan_next(plan);
		return;
	}
	if (store_create_tmp(all->store, import->staged, 0644, &import->staged_fd, &err) < 0) {
		plan_fail(plan, &err);
		return;
	}
	import->bulk =
		bulk_copy(all->loop, import->source_fd, import->staged_fd, &bulk_ops, import);
}

static void delete_tmp(struct import *import, const char *file)
{
	struct err err;
	if (store_delete(import->image->all->store, STORE_TMP, file, &err) < 0)
		log_warn("image %s: a file in the making stays: %s", import->image->row.name,
			 err.msg);
}

static void unstage_source(struct plan *plan, void *ctx)
{
	struct import *import = ctx;
	delete_tmp(import, import->staged);
	stop_work(plan, ctx);
}

static void on_spawned(void *data, const struct priv_reply *reply, int *fds, const struct err *err)
{
	struct import *import = data;
	if (!err) {
		import->pid = reply->pid;
		import->start_time = reply->start_time;
	}
	convert_spawned(import->convert, err ? -1 : fds[0], err);
}

static void spawn_tool(void *data, const int fds[CONVERT_FDS])
{
	struct import *import = data;
	struct priv_request req = {.verb = PRIV_IMG_SPAWN, .n_fds = CONVERT_FDS};
	req.u.img = (struct priv_img){
		.source_format = (uint8_t)import->source.format,
		.target_format = PRIV_IMG_QCOW2,
	};
	priv_call(import->image->all->priv, &req, fds, CONVERT_FDS, on_spawned, import);
}

static void on_signalled(void *data, const struct priv_reply *reply, int *fds,
			 const struct err *err)
{
	if (err && err->code != ERR_CANCELLED && err->code != ERR_NOT_FOUND)
		log_warn("a signal to qemu-img was refused: %s", err->msg);
}

static struct priv_request tool_request(const struct import *import, enum priv_verb verb, int sig)
{
	struct priv_request req = {.verb = verb};
	req.u.process = (struct priv_process){
		.pid = import->pid,
		.start_time = import->start_time,
		.sig = sig,
	};
	return req;
}

static void kill_tool(void *data)
{
	struct import *import = data;
	struct priv_request req = tool_request(import, PRIV_IMG_SIGNAL, SIGKILL);
	priv_call(import->image->all->priv, &req, NULL, 0, on_signalled, NULL);
}

static void on_reaped(void *data, const struct priv_reply *reply, int *fds, const struct err *err)
{
	struct import *import = data;
	convert_reaped(import->convert, err ? -1 : reply->wait_status);
}

static void reap_tool(void *data)
{
	struct import *import = data;
	struct priv_request req = tool_request(import, PRIV_REAP, 0);
	priv_call(import->image->all->priv, &req, NULL, 0, on_reaped, import);
}

static void on_progress(void *data, int percent_100)
{
	struct import *import = data;
	int64_t total = (int64_t)import->source.virtual_size;
	job_progress(import->job, total / 10000 * percent_100, total);
}

static void on_converted(void *data, const struct err *err)
{
	struct import *import = data;
	import->convert = NULL;
	if (plan_is_undoing(import->plan))
		plan_undone(import->plan);
	else if (err)
		plan_fail(import->plan, err);
	else
		plan_next(import->plan);
}

static void convert_source(struct plan *plan, void *ctx)
{
	static const struct convert_ops ops = {spawn_tool, kill_tool, reap_tool, on_progress,
					       on_converted};
	struct import *import = ctx;
	struct images *all = import->image->all;
	int source = import->staged_fd >= 0 ? import->staged_fd : import->source_fd;
	struct err err;
	/* the folder is closed to others: this mode opens the file to nobody but the tool */
	if (store_create_tmp(all->store, import->target, 0666, &import->target_fd, &err) < 0 ||
	    convert_start(all->loop, source, import->target_fd, &ops, (struct convert_limits){0},
			  import, &import->convert, &err) < 0)
		plan_fail(plan, &err);
}

static void delete_target(struct plan *plan, void *ctx)
{
	struct import *import = ctx;
	delete_tmp(import, import->target);
	if (import->convert)
		convert_cancel(import->convert);
	else
		plan_undone(plan);
}

static void verify_target(struct plan *plan, void *ctx)
{
	struct import *import = ctx;
	struct qcow2_header header;
	struct err err;
	delete_tmp(import, import->staged);
	/* what the tool made is looked at like any other file */
	if (qcow2_read(import->target_fd, 0, &header, &err) < 0) {
		err_prefix(&err, "qemu-img made a file that cannot be used");
		plan_fail(plan, &err);
		return;
	}
	import->image->row.virtual_size = (int64_t)header.virtual_size;
	import->bulk = bulk_sha256(import->image->all->loop, import->target_fd, &bulk_ops, import);
}

static void sync_target(struct plan *plan, void *ctx)
{
	struct import *import = ctx;
	import->bulk =
		bulk_sync(import->image->all->loop, import->target_fd, 0440, &bulk_ops, import);
}

static void place_target(struct plan *plan, void *ctx)
{
	struct import *import = ctx;
	struct err err;
	if (store_move(import->image->all->store, STORE_TMP, import->target, STORE_IMAGES,
		       import->image->row.file, &err) < 0)
		plan_fail(plan, &err);
	else
		plan_next(plan);
}

static void delete_image(struct plan *plan, void *ctx)
{
	struct import *import = ctx;
	struct err err;
	if (store_delete(import->image->all->store, STORE_IMAGES, import->image->row.file, &err) <
	    0)
		log_warn("image %s: its file stays: %s", import->image->row.name, err.msg);
	plan_undone(plan);
}

static void settle(struct plan *plan, void *ctx)
{
	struct import *import = ctx;
	struct db_image *row = &import->image->row;
	struct err err;
	if (store_allocated(import->image->all->store, STORE_IMAGES, row->file, &row->file_size,
			    &err) < 0) {
		plan_fail(plan, &err);
		return;
	}
	memcpy(row->sha256, import->checksum, sizeof(row->sha256));
	row->state = import->publish ? DB_IMAGE_PUBLISHED : DB_IMAGE_DRAFT;
	row->published_at = import->publish ? str_now_ms() : 0;
	if (db_image_update(import->image->all->db, row, &err) < 0)
		plan_fail(plan, &err);
	else
		plan_next(plan);
}

static void import_free(struct import *import)
{
	if (import->source_fd >= 0)
		close(import->source_fd);
	if (import->staged_fd >= 0)
		close(import->staged_fd);
	if (import->target_fd >= 0)
		close(import->target_fd);
	free(import);
}

static void on_imported(void *ctx, const struct err *err)
{
	struct import *import = ctx;
	struct image *image = import->image;
	if (err) {
		job_fail(import->job, err);
		image_remove(image);
	} else {
		log_info("image %s version %lld: imported", image->row.name,
			 (long long)image->row.version);
		image_tell(image, import->publish ? "published" : "draft");
		job_done(import->job,
			 json_pack("{s:s, s:s, s:I}", "image", image->row.id, "name",
				   image->row.name, "version", (json_int_t)image->row.version));
	}
	import_free(import);
}

static void on_cancel(void *data)
{
	struct import *import = data;
	if (!plan_is_undoing(import->plan))
		plan_cancel(import->plan, NULL);
}

static int check_request(const struct image_import *request, struct storage_source *ret,
			 struct err *err)
{
	const char *sha256 = request->sha256;
	if (sha256 && (strlen(sha256) != BULK_SHA256_LEN ||
		       strspn(sha256, "0123456789abcdef") != BULK_SHA256_LEN))
		return err_set_field(err, "sha256",
				     "sha256 must be 64 lower-case hexadecimal digits");
	if (storage_check_fd(request->fd, err) < 0)
		return -1;
	return storage_source_check(request->fd, (enum storage_format)request->format, ret, err);
}

static int fill_row(struct images *all, const struct image_import *request,
		    const struct storage_source *source, struct db_image *row, struct err *err)
{
	str_uuid_new(row->id);
	snprintf(row->name, sizeof(row->name), "%s", request->name);
	snprintf(row->file, sizeof(row->file), "%s.qcow2", row->id);
	snprintf(row->owner, sizeof(row->owner), "%s", request->owner ? request->owner : "");
	snprintf(row->description, sizeof(row->description), "%s",
		 request->description ? request->description : "");
	row->state = DB_IMAGE_IMPORTING;
	row->virtual_size = (int64_t)source->virtual_size;
	row->created_at = str_now_ms();
	return db_image_next_version(all->db, row->name, &row->version, err);
}

int images_import(struct images *all, const struct image_import *request, const char **ret_job_id,
		  struct err *err)
{
	struct storage_source source;
	struct db_image row = {0};
	_cleanup_close_ int fd = request->fd;
	if (check_request(request, &source, err) < 0 ||
	    fill_row(all, request, &source, &row, err) < 0)
		return -1;
	struct import *import = mem_new(struct import);
	import->source_fd = TAKE_FD(fd);
	import->staged_fd = -1;
	import->target_fd = -1;
	import->source = source;
	import->publish = request->publish;
	snprintf(import->expected_sha256, sizeof(import->expected_sha256), "%s",
		 request->sha256 ? request->sha256 : "");
	snprintf(import->staged, sizeof(import->staged), "%s.source", row.id);
	snprintf(import->target, sizeof(import->target), "%s.qcow2", row.id);
	if (job_start(all->jobs, "image.import", row.id, "bytes", on_cancel, import, &import->job,
		      err) < 0) {
		import_free(import);
		return -1;
	}
	import->image = image_add(all, &row);
	import->plan = plan_start(all->loop, "image-import", import_plan, ARRAY_LEN(import_plan),
				  import, on_imported);
	*ret_job_id = job_id(import->job);
	return 0;
}
