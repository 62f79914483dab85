/* A disc on its way into the library. */
#include <stdio.h>
#include <string.h>
#include <unistd.h>
#include <utlist.h>

#include "base/mem.h"
#include "base/plan.h"
#include "storage/bulk.h"
#include "storage/file.h"
#include "storage/iso.h"
#include "vdi-hostd/image/iso_private.h"
#include "vdi-hostd/image/quota.h"

/* a large file on a slow disk: its end cannot be told beforehand */
#define LONG_MS (UINT64_C(14) * 60 * 60 * 1000)

/* struct iso_run - an import under way; an undo ends only when neither @bulk nor @check works */
struct iso_run {
	struct images *images;
	struct iso *iso; /* once its row is there */
	struct job *job; /* NULL once it was settled */
	struct plan *plan;
	struct db_iso row;
	char expected[BULK_SHA256_LEN + 1];
	char target_file[64]; /* in tmp/ */
	int passed, target;   /* descriptors */
	struct storage_iso found;
	struct bulk *bulk;
	uv_work_t check;
	struct err check_err;
	bool checking;
	bool stuck; /* its file could not be removed: the row stays until the next start */
	void (*waiting)(struct plan *plan, void *ctx);
	struct iso_run *prev, *next;
};

static void proceed(struct iso_run *run, const struct err *err)
{
	if (run->waiting)
		run->waiting(run->plan, run);
	else if (err)
		plan_fail(run->plan, err);
	else
		plan_next(run->plan);
}

/* in an undo: is there work to end first? @undo is called again when it has ended */
static bool is_busy(struct iso_run *run, void (*undo)(struct plan *plan, void *ctx))
{
	if (run->bulk)
		bulk_cancel(run->bulk);
	bool busy = run->bulk || run->checking;
	run->waiting = busy ? undo : NULL;
	return busy;
}

static void stop_work(struct plan *plan, void *ctx)
{
	if (!is_busy(ctx, stop_work))
		plan_undone(plan);
}

static void add_row(struct plan *plan, void *ctx)
{
	struct iso_run *run = ctx;
	struct err err;

	if (db_iso_insert(run->images->db, &run->row, &err) < 0) {
		plan_fail(plan, &err);
		return;
	}
	run->iso = isos_add(run->images, &run->row);
	plan_next(plan);
}

static void drop_row(struct plan *plan, void *ctx)
{
	struct iso_run *run = ctx;

	if (run->iso && !run->stuck && db_iso_delete(run->images->db, run->row.id, NULL) == 0)
		isos_forget(run->images, TAKE_PTR(run->iso));
	plan_undone(plan);
}

static void run_check(uv_work_t *work)
{
	struct iso_run *run = container_of(work, struct iso_run, check);

	run->check_err.code = 0;
	(void)!storage_iso_check(run->target >= 0 ? run->target : run->passed, &run->found,
				 &run->check_err);
}

static void check_done(uv_work_t *work, int status)
{
	struct iso_run *run = container_of(work, struct iso_run, check);

	run->checking = false;
	proceed(run, run->check_err.code ? &run->check_err : NULL);
}

/* before the copy, to say at once what is wrong; and after it, of what nobody can change any more
 */
static void check_iso(struct plan *plan, void *ctx)
{
	struct iso_run *run = ctx;

	run->checking = true;
	uv_queue_work(run->images->loop, &run->check, run_check, check_done);
}

static void copy_progress(void *data, uint64_t done, uint64_t total)
{
	struct iso_run *run = data;

	if (run->job)
		job_progress(run->job, (int64_t)done, (int64_t)total * 2);
}

static void sum_progress(void *data, uint64_t done, uint64_t total)
{
	copy_progress(data, total + done, total);
}

static void bulk_done(void *data, const char *sha256, const struct err *err)
{
	struct iso_run *run = data;
	struct err wrong;

	run->bulk = NULL;
	if (!err && sha256) {
		memcpy(run->row.sha256, sha256, sizeof(run->row.sha256));
		if (run->expected[0] && strcmp(sha256, run->expected) != 0) {
			err_set(&wrong, ERR_CORRUPT,
				"the file is not the one that was meant: its SHA-256 is %s",
				sha256);
			err = &wrong;
		}
	}
	proceed(run, err);
}

static const struct bulk_ops copy_ops = {copy_progress, bulk_done};
static const struct bulk_ops sum_ops = {sum_progress, bulk_done};
static const struct bulk_ops sync_ops = {NULL, bulk_done};

static void copy_iso(struct plan *plan, void *ctx)
{
	struct iso_run *run = ctx;
	struct err err;

	if (store_create_tmp(run->images->store, run->target_file, 0600, &run->target, &err) < 0)
		plan_fail(plan, &err);
	else
		run->bulk = bulk_copy(run->images->loop, run->passed, run->target, &copy_ops, run);
}

static void drop_copy(struct plan *plan, void *ctx)
{
	struct iso_run *run = ctx;

	if (is_busy(run, drop_copy))
		return;
	if (run->target >= 0) {
		close(TAKE_FD(run->target));
		(void)!store_delete(run->images->store, STORE_TMP, run->target_file, NULL);
	}
	plan_undone(plan);
}

static void sum_copy(struct plan *plan, void *ctx)
{
	struct iso_run *run = ctx;

	run->bulk = bulk_sha256(run->images->loop, run->target, &sum_ops, run);
}

static void sync_copy(struct plan *plan, void *ctx)
{
	struct iso_run *run = ctx;

	run->bulk = bulk_sync(run->images->loop, run->target, 0440, &sync_ops, run);
}

static void place_copy(struct plan *plan, void *ctx)
{
	struct iso_run *run = ctx;
	struct err err;

	plan_end_step(plan,
		      store_move(run->images->store, STORE_TMP, run->target_file, STORE_ISOS,
				 run->row.file, &err),
		      &err);
}

static void drop_placed(struct plan *plan, void *ctx)
{
	struct iso_run *run = ctx;

	if (store_delete(run->images->store, STORE_ISOS, run->row.file, NULL) < 0)
		run->stuck = true;
	plan_undone(plan);
}

static void commit_row(struct plan *plan, void *ctx)
{
	struct iso_run *run = ctx;
	struct err err;

	run->row.state = DB_ISO_READY;
	run->row.size = (int64_t)run->found.bytes;
	if (images_quota_charge_check(run->images, run->row.owner, run->row.size, &err) < 0 ||
	    db_iso_update(run->images->db, &run->row, &err) < 0) {
		plan_fail(plan, &err);
		return;
	}
	run->iso->row = run->row;
	plan_next(plan);
}

static const struct plan_step import_plan[] = {
	{"row", add_row, drop_row},
	{"check", check_iso, stop_work, LONG_MS},
	{"copy", copy_iso, drop_copy, LONG_MS},
	{"again", check_iso, stop_work, LONG_MS},
	{"checksum", sum_copy, stop_work, LONG_MS},
	{"sync", sync_copy, stop_work, LONG_MS},
	{"place", place_copy, drop_placed},
	{"commit", commit_row, NULL},
};

static void run_free(struct iso_run *run)
{
	mem_closep(&run->passed);
	mem_closep(&run->target);
	free(run);
}

static void import_done(void *ctx, const struct err *err)
{
	struct iso_run *run = ctx;
	struct images *images = run->images;
	struct job *job = TAKE_PTR(run->job);

	if (!err)
		isos_tell(images, &run->row, "ready");
	if (job && err)
		job_fail(job, err);
	else if (job)
		job_done(job, json_pack("{s:s, s:s}", "iso", run->row.id, "name", run->row.name));
	DL_DELETE(images->iso_runs, run);
	run_free(run);
	images_release(images);
}

static void cancel(void *data)
{
	struct iso_run *run = data;
	struct err err;

	err_set(&err, ERR_CANCELLED, "the import of ISO '%s' was cancelled", run->row.name);
	plan_cancel(run->plan, &err);
}

void isos_cancel(struct images *images)
{
	struct iso_run *next;
	struct err err;

	err_set(&err, ERR_CANCELLED, "the daemon was stopped; import the ISO again");
	for (struct iso_run *run = images->iso_runs; run; run = next) {
		next = run->next;
		if (run->job)
			job_fail(TAKE_PTR(run->job), &err);
		plan_cancel(run->plan, &err);
	}
}

static int set_text(char *dst, size_t size, const char *field, const char *text, struct err *err)
{
	if (!text || str_copy(dst, size, text) == 0)
		return 0;
	return err_set_field(err, field, "%s has more than %zu bytes", field, size - 1);
}

static int set_expected(struct iso_run *run, const char *sha256, struct err *err)
{
	if (!sha256)
		return 0;
	if (strlen(sha256) != BULK_SHA256_LEN ||
	    strspn(sha256, "0123456789abcdefABCDEF") != BULK_SHA256_LEN)
		return err_set_field(err, "sha256", "sha256 must be %d hexadecimal digits",
				     BULK_SHA256_LEN);
	for (size_t i = 0; i < BULK_SHA256_LEN; i++)
		run->expected[i] = (char)(sha256[i] | (sha256[i] >= 'A' ? 0x20 : 0));
	return 0;
}

static int fill(struct iso_run *run, const struct iso_import *wanted, struct err *err)
{
	struct db_iso *row = &run->row;

	if (!str_is_name(wanted->name) || str_copy(row->name, sizeof(row->name), wanted->name) < 0)
		return err_set_field(err, "name",
				     "an ISO's name is made of a-z, 0-9 and -, at most %d of them, "
				     "and begins with no -",
				     STR_NAME_MAX);
	if (isos_find(run->images, wanted->name, NULL))
		return err_set(err, ERR_EXISTS, "there is an ISO '%s' already", wanted->name);
	str_uuid_new(row->id);
	row->created_at = str_now_ms();
	snprintf(row->file, sizeof(row->file), "%s.iso", row->id);
	snprintf(run->target_file, sizeof(run->target_file), "%s.iso", row->id);
	if (set_text(row->owner, sizeof(row->owner), "owner", wanted->owner, err) < 0 ||
	    set_text(row->description, sizeof(row->description), "description", wanted->description,
		     err) < 0 ||
	    set_expected(run, wanted->sha256, err) < 0)
		return -1;
	return storage_check_fd(run->passed, err);
}

int isos_import(struct images *images, const struct iso_import *wanted, const char **ret_job_id,
		struct err *err)
{
	struct iso_run *run = mem_new(struct iso_run);

	run->images = images;
	run->passed = wanted->fd;
	run->target = -1;
	if (fill(run, wanted, err) < 0 ||
	    images_space_check(images, "no disc can be imported", err) < 0 ||
	    job_start(images->jobs, "iso.import", run->row.id, "bytes", cancel, run, &run->job,
		      err) < 0) {
		run_free(run);
		return -1;
	}
	DL_APPEND(images->iso_runs, run);
	run->plan = plan_start(images->loop, "iso-import", import_plan, ARRAY_LEN(import_plan), run,
			       import_done);
	*ret_job_id = job_id(run->job);
	return 0;
}
