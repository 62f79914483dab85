/*
 * An import: a file that somebody handed over becomes a fresh qcow2 of our own making, so that
 * nothing of a foreign header survives. Its row is there before its first file; what fails or is
 * killed in between leaves nothing.
 */
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <utlist.h>

#include "base/mem.h"
#include "base/plan.h"
#include "storage/bulk.h"
#include "storage/file.h"
#include "storage/format.h"
#include "vdi-hostd/image/private.h"
#include "vdi-hostd/image/tool.h"

_Static_assert((int)STORAGE_QCOW2 == PRIV_IMG_QCOW2 && (int)STORAGE_RAW == PRIV_IMG_RAW &&
		       (int)STORAGE_VMDK == PRIV_IMG_VMDK && (int)STORAGE_VDI == PRIV_IMG_VDI &&
		       (int)STORAGE_VHDX == PRIV_IMG_VHDX,
	       "formats are numbered as on the wire");

/* the pieces of work in which a large file moves have no end that could be told beforehand */
#define LONG_MS (UINT64_C(14) * 60 * 60 * 1000)

/* where the percentage stands when each long step begins */
enum { COPY_FROM = 0, CHECKSUM_FROM = 15, CONVERT_FROM = 25, VERIFY_FROM = 90, ALL = 100 };

/*
 * struct import - one under way. At most one of @check, @bulk and @tool works at a time, and an
 * undo ends only when it does not: then nothing points here any more.
 */
struct import {
	struct images *images;
	struct image *image; /* once its row is there */
	struct job *job;     /* NULL once it was settled */
	struct plan *plan;
	struct db_image row;
	enum storage_format format; /* as asked for */
	bool publish;
	char expected[BULK_SHA256_LEN + 1];
	char source_file[64], target_file[64]; /* in tmp/ */
	int passed, copy, target;              /* descriptors; @copy is -1 where none is needed */
	struct storage_source found;
	struct err check_err;
	uv_work_t check;
	struct bulk *bulk;
	struct image_tool *tool;
	bool checking;
	bool stuck; /* a file could not be removed: its row has to stay until the next start */
	void (*waiting)(struct plan *plan, void *ctx); /* an undo, for the end of the work */
	int from, to;                                  /* the percentage at the ends of the step */
	struct import *prev, *next;
};

static int source_fd(const struct import *import)
{
	return import->copy >= 0 ? import->copy : import->passed;
}

static void report(struct import *import, uint64_t done, uint64_t total)
{
	uint64_t span = (uint64_t)(import->to - import->from);

	if (import->job && total > 0)
		job_progress(import->job, import->from + (int64_t)(done * span / total), ALL);
}

static void begin_part(struct import *import, int from, int to)
{
	import->from = from;
	import->to = to;
	report(import, 0, 1);
}

/* the end of a piece of work: the step goes on, or the undo that waited for this */
static void proceed(struct import *import, const struct err *err)
{
	if (import->waiting)
		import->waiting(import->plan, import);
	else if (err)
		plan_fail(import->plan, err);
	else
		plan_next(import->plan);
}

/* in an undo: is there work to end first? @undo is called again when it has ended */
static bool is_busy(struct import *import, void (*undo)(struct plan *plan, void *ctx))
{
	if (import->bulk)
		bulk_cancel(import->bulk);
	if (import->tool)
		image_tool_cancel(import->tool);
	bool busy = import->bulk || import->tool || import->checking;
	import->waiting = busy ? undo : NULL;
	return busy;
}

static void stop_work(struct plan *plan, void *ctx)
{
	if (!is_busy(ctx, stop_work))
		plan_undone(plan);
}

static void bulk_progress(void *data, uint64_t done, uint64_t total)
{
	report(data, done, total);
}

/* ---- row: the intent, before any file ---- */

static void add_row(struct plan *plan, void *ctx)
{
	struct import *import = ctx;
	struct images *images = import->images;
	struct err err;

	if (db_image_next_version(images->db, import->row.name, &import->row.version, &err) < 0 ||
	    db_image_insert(images->db, &import->row, &err) < 0) {
		plan_fail(plan, &err);
		return;
	}
	import->image = images_add(images, &import->row);
	plan_next(plan);
}

static void drop_row(struct plan *plan, void *ctx)
{
	struct import *import = ctx;
	struct images *images = import->images;

	/* a row that stays for now is found IMPORTING at the next start, and goes then */
	if (import->image && !import->stuck &&
	    db_image_delete(images->db, import->row.id, NULL) == 0)
		images_remove(images, TAKE_PTR(import->image));
	plan_undone(plan);
}

/* ---- check: the first look, off the loop, for the file may be on a slow file system ---- */

static void run_check(uv_work_t *work)
{
	struct import *import = container_of(work, struct import, check);

	import->check_err.code = 0;
	(void)!storage_source_check(import->passed, import->format, &import->found,
				    &import->check_err);
}

static void check_done(uv_work_t *work, int status)
{
	struct import *import = container_of(work, struct import, check);

	import->checking = false;
	proceed(import, import->check_err.code ? &import->check_err : NULL);
}

static void check_source(struct plan *plan, void *ctx)
{
	struct import *import = ctx;

	begin_part(import, COPY_FROM, CHECKSUM_FROM);
	import->checking = true;
	uv_queue_work(import->images->loop, &import->check, run_check, check_done);
}

/* ---- copy: where the tool may not read the source, or somebody might change it ---- */

static bool needs_copy(const struct import *import)
{
	struct stat st;

	if (fstat(import->passed, &st) < 0 || (st.st_mode & (S_IWGRP | S_IWOTH)))
		return true;
	/* the tool runs as we do, and opens it again by its mode */
	if (priv_is_rootless(import->images->priv) && st.st_uid == geteuid())
		return !(st.st_mode & S_IRUSR);
	/* who owns it could change it between the check and the conversion; root need not bother */
	return st.st_uid != 0 || !(st.st_mode & S_IROTH);
}

static void copy_done(void *data, const char *sha256, const struct err *err)
{
	struct import *import = data;
	struct err again = {0};

	import->bulk = NULL;
	/* this copy is nobody's but ours: what is found in it now holds */
	if (!err &&
	    storage_source_check(import->copy, import->found.format, &import->found, &again) < 0)
		err = &again;
	proceed(import, err);
}

static const struct bulk_ops copy_ops = {bulk_progress, copy_done};

static void copy_source(struct plan *plan, void *ctx)
{
	struct import *import = ctx;
	struct err err;

	if (!needs_copy(import)) {
		plan_next(plan);
		return;
	}
	/* readable by the tool, in a folder that nobody else can enter */
	if (store_create_tmp(import->images->store, import->source_file, 0644, &import->copy,
			     &err) < 0) {
		plan_fail(plan, &err);
		return;
	}
	import->bulk =
		bulk_copy(import->images->loop, import->passed, import->copy, &copy_ops, import);
}

static void drop_copy(struct plan *plan, void *ctx)
{
	struct import *import = ctx;

	if (is_busy(import, drop_copy))
		return;
	if (import->copy >= 0) {
		close(TAKE_FD(import->copy));
		(void)!store_delete(import->images->store, STORE_TMP, import->source_file, NULL);
	}
	plan_undone(plan);
}

/* ---- checksum: is it the file that was meant? ---- */

static void checksum_done(void *data, const char *sha256, const struct err *err)
{
	struct import *import = data;
	struct err wrong;

	import->bulk = NULL;
	if (!err && strcmp(sha256, import->expected) != 0) {
		err_set(&wrong, ERR_CORRUPT,
			"the file is not the one that was meant: its SHA-256 is %s", sha256);
		err = &wrong;
	}
	proceed(import, err);
}

static const struct bulk_ops checksum_ops = {bulk_progress, checksum_done};

static void checksum_source(struct plan *plan, void *ctx)
{
	struct import *import = ctx;

	begin_part(import, CHECKSUM_FROM, CONVERT_FROM);
	if (import->expected[0] == '\0')
		plan_next(plan);
	else
		import->bulk =
			bulk_sha256(import->images->loop, source_fd(import), &checksum_ops, import);
}

/* ---- convert ---- */

static void tool_progress(void *data, int percent_100)
{
	report(data, (uint64_t)percent_100, 10000);
}

static void tool_done(void *data, const struct err *err)
{
	struct import *import = data;

	import->tool = NULL;
	proceed(import, err);
}

static const struct image_tool_ops tool_ops = {tool_progress, tool_done};

static void convert_image(struct plan *plan, void *ctx)
{
	struct import *import = ctx;
	const int source = source_fd(import);
	struct err err;

	begin_part(import, CONVERT_FROM, VERIFY_FROM);
	if (store_create_tmp(import->images->store, import->target_file, 0666, &import->target,
			     &err) < 0) {
		plan_fail(plan, &err);
		return;
	}
	const struct image_tool_work work = {
		.img = {.source_format = (uint8_t)import->found.format,
			.target_format = PRIV_IMG_QCOW2},
		.sources = &source,
		.n_sources = 1,
		.target = import->target,
	};
	if (image_tool_start(import->images, &work, &tool_ops, import, &import->tool, &err) < 0)
		plan_fail(plan, &err);
}

static void drop_target(struct plan *plan, void *ctx)
{
	struct import *import = ctx;

	if (is_busy(import, drop_target))
		return;
	if (import->target >= 0) {
		close(TAKE_FD(import->target));
		(void)!store_delete(import->images->store, STORE_TMP, import->target_file, NULL);
	}
	plan_undone(plan);
}

/* ---- verify: the tool's work is looked at like a stranger's ---- */

static int check_target(struct import *import, struct err *err)
{
	enum storage_format format = import->found.format;
	struct qcow2_header header;

	if (qcow2_read(import->target, 0, &header, err) < 0)
		return err_prefix(err, "qemu-img's result");
	uint64_t expected = (import->found.virtual_size + 511) & ~UINT64_C(511);
	if ((format == STORAGE_QCOW2 || format == STORAGE_RAW) && header.virtual_size != expected)
		return err_set(err, ERR_CORRUPT,
			       "qemu-img's result has %llu bytes where the source has %llu",
			       (unsigned long long)header.virtual_size,
			       (unsigned long long)expected);
	import->row.virtual_size = (int64_t)header.virtual_size;
	return 0;
}

static void verify_done(void *data, const char *sha256, const struct err *err)
{
	struct import *import = data;

	import->bulk = NULL;
	if (!err)
		memcpy(import->row.sha256, sha256, sizeof(import->row.sha256));
	proceed(import, err);
}

static const struct bulk_ops verify_ops = {bulk_progress, verify_done};

static void verify_target(struct plan *plan, void *ctx)
{
	struct import *import = ctx;
	struct err err;

	begin_part(import, VERIFY_FROM, ALL);
	if (check_target(import, &err) < 0)
		plan_fail(plan, &err);
	else
		import->bulk =
			bulk_sha256(import->images->loop, import->target, &verify_ops, import);
}

/* ---- sync, place, commit ---- */

static void sync_done(void *data, const char *sha256, const struct err *err)
{
	struct import *import = data;

	import->bulk = NULL;
	proceed(import, err);
}

static const struct bulk_ops sync_ops = {NULL, sync_done};

static void sync_target(struct plan *plan, void *ctx)
{
	struct import *import = ctx;

	import->bulk = bulk_sync(import->images->loop, import->target, 0440, &sync_ops, import);
}

static void place_target(struct plan *plan, void *ctx)
{
	struct import *import = ctx;
	struct err err;

	plan_end_step(plan,
		      store_move(import->images->store, STORE_TMP, import->target_file,
				 STORE_IMAGES, import->row.file, &err),
		      &err);
}

static void drop_placed(struct plan *plan, void *ctx)
{
	struct import *import = ctx;

	if (store_delete(import->images->store, STORE_IMAGES, import->row.file, NULL) < 0)
		import->stuck = true;
	plan_undone(plan);
}

static void commit_row(struct plan *plan, void *ctx)
{
	struct import *import = ctx;
	struct db_image *row = &import->row;
	struct err err;

	row->state = import->publish ? DB_IMAGE_PUBLISHED : DB_IMAGE_DRAFT;
	row->published_at = import->publish ? str_now_ms() : 0;
	if (store_allocated(import->images->store, STORE_IMAGES, row->file, &row->file_size, &err) <
		    0 ||
	    db_image_update(import->images->db, row, &err) < 0) {
		plan_fail(plan, &err);
		return;
	}
	import->image->row = *row;
	plan_next(plan);
}

static const struct plan_step import_plan[] = {
	{"row", add_row, drop_row},
	{"check", check_source, stop_work, LONG_MS},
	{"copy", copy_source, drop_copy, LONG_MS},
	{"checksum", checksum_source, stop_work, LONG_MS},
	{"convert", convert_image, drop_target, LONG_MS},
	{"verify", verify_target, stop_work, LONG_MS},
	{"sync", sync_target, stop_work, LONG_MS},
	{"place", place_target, drop_placed},
	{"commit", commit_row, NULL},
};

/* ---- the whole ---- */

static void import_free(struct import *import)
{
	mem_closep(&import->passed);
	mem_closep(&import->copy);
	mem_closep(&import->target);
	free(import);
}

static void import_done(void *ctx, const struct err *err)
{
	struct import *import = ctx;
	struct images *images = import->images;
	struct job *job = TAKE_PTR(import->job);

	if (!err && import->copy >= 0)
		(void)!store_delete(images->store, STORE_TMP, import->source_file, NULL);
	if (!err)
		images_tell(images, &import->row, import->publish ? "published" : "draft");
	if (job && err)
		job_fail(job, err);
	else if (job)
		job_done(job,
			 json_pack("{s:s, s:s, s:I}", "image", import->row.id, "name",
				   import->row.name, "version", (json_int_t)import->row.version));
	DL_DELETE(images->imports, import);
	import_free(import);
	images_release(images);
}

static void cancel(void *data)
{
	struct import *import = data;
	struct err err;

	err_set(&err, ERR_CANCELLED, "the import of image '%s' was cancelled", import->row.name);
	plan_cancel(import->plan, &err);
}

void imports_cancel(struct images *images)
{
	struct import *next;
	struct err err;

	err_set(&err, ERR_CANCELLED, "the daemon was stopped; import the image again");
	for (struct import *import = images->imports; import; import = next) {
		next = import->next;
		if (import->job)
			job_fail(TAKE_PTR(import->job), &err);
		plan_cancel(import->plan, &err);
	}
}

static int set_text(char *dst, size_t size, const char *field, const char *text, struct err *err)
{
	if (!text || str_copy(dst, size, text) == 0)
		return 0;
	return err_set_field(err, field, "%s has more than %zu bytes", field, size - 1);
}

static int set_expected(struct import *import, const char *sha256, struct err *err)
{
	if (!sha256)
		return 0;
	if (strlen(sha256) != BULK_SHA256_LEN ||
	    strspn(sha256, "0123456789abcdefABCDEF") != BULK_SHA256_LEN)
		return err_set_field(err, "sha256", "sha256 must be %d hexadecimal digits",
				     BULK_SHA256_LEN);
	for (size_t i = 0; i < BULK_SHA256_LEN; i++)
		import->expected[i] = (char)(sha256[i] | (sha256[i] >= 'A' ? 0x20 : 0));
	return 0;
}

static int fill_import(struct import *import, const struct image_import *wanted, struct err *err)
{
	struct db_image *row = &import->row;

	if (!wanted->name || !str_is_name(wanted->name) ||
	    str_copy(row->name, sizeof(row->name), wanted->name) < 0)
		return err_set_field(err, "name",
				     "an image's name is made of a-z, 0-9 and -, at most %d of "
				     "them, and begins with no -",
				     STR_NAME_MAX);
	if (wanted->format < STORAGE_FORMAT_UNKNOWN || wanted->format > STORAGE_VHDX)
		return err_set_field(err, "format", "there is no image format %d", wanted->format);
	import->format = (enum storage_format)wanted->format;
	import->publish = wanted->publish;
	str_uuid_new(row->id);
	row->state = DB_IMAGE_IMPORTING;
	row->depth_max = DB_IMAGE_DEPTH_MAX;
	row->created_at = str_now_ms();
	snprintf(row->file, sizeof(row->file), "%s.qcow2", row->id);
	snprintf(import->source_file, sizeof(import->source_file), "%s.source", row->id);
	snprintf(import->target_file, sizeof(import->target_file), "%s.target", row->id);
	if (set_text(row->owner, sizeof(row->owner), "owner", wanted->owner, err) < 0 ||
	    set_text(row->description, sizeof(row->description), "description", wanted->description,
		     err) < 0 ||
	    set_expected(import, wanted->sha256, err) < 0)
		return -1;
	return storage_check_fd(import->passed, err);
}

int images_import(struct images *images, const struct image_import *wanted, const char **ret_job_id,
		  struct err *err)
{
	struct import *import = mem_new(struct import);

	import->images = images;
	import->passed = wanted->fd;
	import->copy = import->target = -1;
	if (fill_import(import, wanted, err) < 0 ||
	    job_start(images->jobs, "image.import", import->row.id, "percent", cancel, import,
		      &import->job, err) < 0) {
		import_free(import);
		return -1;
	}
	DL_APPEND(images->imports, import);
	import->plan = plan_start(images->loop, "image-import", import_plan, ARRAY_LEN(import_plan),
				  import, import_done);
	*ret_job_id = job_id(import->job);
	return 0;
}
