/*
 * An import: a file that somebody handed over becomes a fresh qcow2 of our own making, so that
 * nothing of a foreign header survives. Its row is there before its first file; what fails or is
 * killed in between leaves nothing.
 */
#include "vdi-hostd/image/import.h"

#include <stdio.h>
#include <string.h>
#include <unistd.h>
#include <utlist.h>

#include "base/mem.h"
#include "storage/file.h"
#include "vdi-hostd/image/quota.h"

/* ---- progress, and the ends of work ---- */

void import_report(struct import *import, uint64_t done, uint64_t total)
{
	double part = total > 0 && done < total ? (double)done / (double)total : 1;
	uint64_t at = import->base + (uint64_t)(part * (double)import->size);

	if (at > import->told)
		import->told = at;
	if (import->job && import->total > 0)
		job_progress(import->job, (int64_t)import->told, (int64_t)import->total);
}

void import_begin_pass(struct import *import)
{
	import->base += import->size;
	import_report(import, 0, 1);
}

static bool cancel_work(struct import *import)
{
	if (import->intake)
		intake_cancel(import->intake);
	if (import->bulk)
		bulk_cancel(import->bulk);
	if (import->sync)
		bulk_cancel(import->sync);
	if (import->tool)
		image_tool_cancel(import->tool);
	return import->intake || import->bulk || import->sync || import->tool || import->checking;
}

void import_part_done(struct import *import, const struct err *err)
{
	if (err && import->failed.code == 0)
		import->failed = *err;
	if (import->failed.code != 0 ? cancel_work(import)
				     : import->bulk || import->sync || import->tool)
		return;
	struct err failed = import->failed;
	import->failed.code = 0;
	if (import->waiting)
		import->waiting(import->plan, import);
	else if (failed.code != 0)
		plan_fail(import->plan, &failed);
	else
		plan_next(import->plan);
}

bool import_is_busy(struct import *import, void (*undo)(struct plan *plan, void *ctx))
{
	bool busy = cancel_work(import);

	import->waiting = busy ? undo : NULL;
	return busy;
}

void import_stop_work(struct plan *plan, void *ctx)
{
	if (!import_is_busy(ctx, import_stop_work))
		plan_undone(plan);
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

/* ---- place, commit ---- */

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
	    images_quota_charge_check(import->images, row->owner, row->file_size, &err) < 0 ||
	    db_image_update(import->images->db, row, &err) < 0) {
		plan_fail(plan, &err);
		return;
	}
	import->image->row = *row;
	plan_next(plan);
}

static const struct plan_step import_plan[] = {
	{"row", add_row, drop_row},
	{"check", import_check_source, import_stop_work, IMPORT_LONG_MS},
	{"copy", import_copy_source, import_drop_copy, IMPORT_LONG_MS},
	{"convert", import_convert, import_drop_target, IMPORT_LONG_MS},
	{"verify", import_verify, import_stop_work, IMPORT_LONG_MS},
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
	    set_expected(import, wanted->sha256, err) < 0 ||
	    /* one that is full already need not wait for what the file will take */
	    images_quota_charge_check(import->images, row->owner, 1, err) < 0)
		return -1;
	return storage_check_input(import->passed, &import->pipe, err);
}

int images_import(struct images *images, const struct image_import *wanted, const char **ret_job_id,
		  struct err *err)
{
	struct import *import = mem_new(struct import);

	import->images = images;
	import->passed = wanted->fd;
	import->copy = import->target = -1;
	if (fill_import(import, wanted, err) < 0 ||
	    images_space_check(images, "nothing can be imported", err) < 0 ||
	    job_start(images->jobs, "image.import", import->row.id, "bytes", cancel, import,
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
