/* What is imported: looked at first, then taken into a file of our own where that is needed. */
#include "vdi-hostd/image/import.h"

#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/mem.h"
#include "storage/file.h"

int import_source_fd(const struct import *import)
{
	return import->copy >= 0 ? import->copy : import->passed;
}

int import_compare(const struct import *import, const char *sha256, struct err *err)
{
	if (import->expected[0] == '\0' || strcmp(sha256, import->expected) == 0)
		return 0;
	return err_set(err, ERR_CORRUPT,
		       "the file is not the one that was meant: its SHA-256 is %s", sha256);
}

/* may somebody change it, or may the tool not read it? */
static bool needs_copy(const struct import *import, const struct stat *st)
{
	if (st->st_mode & (S_IWGRP | S_IWOTH))
		return true;
	/* the tool runs as we do, and opens it again by its mode */
	if (priv_is_rootless(import->images->priv) && st->st_uid == geteuid())
		return !(st->st_mode & S_IRUSR);
	/* who owns it could change it between the check and the conversion; root need not bother */
	return st->st_uid != 0 || !(st->st_mode & S_IROTH);
}

/* ---- check: the first look, off the loop, for the file may be on a slow file system ---- */

static int look(struct import *import, struct err *err)
{
	unsigned char head[DECOMPRESS_HEAD];
	uint64_t size;
	struct stat st;

	if (import->pipe)
		return 0;
	if (storage_file_size(import->passed, &size, err) < 0)
		return -1;
	if (size >= sizeof(head)) {
		if (storage_pread(import->passed, head, sizeof(head), 0, err) < 0)
			return -1;
		import->packed = decompress_recognise(head, sizeof(head)) != DECOMPRESS_NONE;
	}
	import->take = import->packed || fstat(import->passed, &st) < 0 || needs_copy(import, &st);
	import->size = size;
	/* holes are skipped, not copied */
	if (!import->packed && fstat(import->passed, &st) == 0 &&
	    (uint64_t)st.st_blocks * 512 < size)
		import->size = (uint64_t)st.st_blocks * 512;
	if (import->packed)
		return 0;
	return storage_source_check(import->passed, import->format, &import->found, err);
}

static void run_check(uv_work_t *work)
{
	struct import *import = container_of(work, struct import, check);

	import->failed.code = 0;
	(void)!look(import, &import->failed);
}

static void check_done(uv_work_t *work, int status)
{
	struct import *import = container_of(work, struct import, check);
	struct err err = import->failed;

	import->checking = false;
	import->take = import->take || import->pipe;
	/* a file that is all hole has no bytes to count */
	if (import->size == 0)
		import->size = 1;
	import->total = import->pipe ? 0 : (import->take ? 3 : 2) * import->size;
	import_report(import, 0, 1);
	import_part_done(import, err.code ? &err : NULL);
}

void import_check_source(struct plan *plan, void *ctx)
{
	struct import *import = ctx;

	import->checking = true;
	uv_queue_work(import->images->loop, &import->check, run_check, check_done);
}

/* ---- copy ---- */

static void bulk_progress(void *data, uint64_t done, uint64_t total)
{
	import_report(data, done, total);
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
	import_begin_pass(import);
	import_part_done(import, err);
}

static const struct bulk_ops copy_ops = {bulk_progress, copy_done};

static void intake_progress(void *data, uint64_t read, uint64_t total)
{
	struct import *import = data;

	if (total > 0)
		import_report(import, read, total);
	else if (import->job)
		job_progress(import->job, (int64_t)read, 0);
}

static int check_taken(struct import *import, const struct intake_result *result, struct err *err)
{
	if (import->pipe && result->read == 0)
		return err_set(err, ERR_CORRUPT, "nothing came through the pipe");
	if (import_compare(import, result->sha256, err) < 0 ||
	    storage_source_check(import->copy, import->format, &import->found, err) < 0)
		return -1;
	return 0;
}

static void intake_done(void *data, const struct intake_result *result, const struct err *err)
{
	struct import *import = data;
	struct err wrong = {0};

	import->intake = NULL;
	if (!err && check_taken(import, result, &wrong) < 0)
		err = &wrong;
	if (!err && import->pipe) {
		import->size = result->read;
		import->total = 3 * import->size;
	}
	import_begin_pass(import);
	import_part_done(import, err);
}

static const struct intake_ops intake_ops = {intake_progress, intake_done};

void import_copy_source(struct plan *plan, void *ctx)
{
	struct import *import = ctx;
	uv_loop_t *loop = import->images->loop;
	struct err err;

	if (!import->take) {
		plan_next(plan);
		return;
	}
	/* readable by the tool, in a folder that nobody else can enter */
	if (store_create_tmp(import->images->store, import->source_file, 0644, &import->copy,
			     &err) < 0)
		plan_fail(plan, &err);
	else if (import->pipe || import->packed)
		import->intake = intake_start(loop, import->passed, import->copy,
					      (struct intake_limits){0}, &intake_ops, import);
	else
		import->bulk = bulk_copy(loop, import->passed, import->copy, &copy_ops, import);
}

void import_drop_copy(struct plan *plan, void *ctx)
{
	struct import *import = ctx;

	if (import_is_busy(import, import_drop_copy))
		return;
	if (import->copy >= 0) {
		close(TAKE_FD(import->copy));
		(void)!store_delete(import->images->store, STORE_TMP, import->source_file, NULL);
	}
	plan_undone(plan);
}
