/* What an import makes: converted, looked at, summed up, durable. */
#include "vdi-hostd/image/import.h"

#include <string.h>
#include <unistd.h>

#include "base/mem.h"
#include "storage/file.h"

_Static_assert((int)STORAGE_QCOW2 == PRIV_IMG_QCOW2 && (int)STORAGE_RAW == PRIV_IMG_RAW &&
		       (int)STORAGE_VMDK == PRIV_IMG_VMDK && (int)STORAGE_VDI == PRIV_IMG_VDI &&
		       (int)STORAGE_VHDX == PRIV_IMG_VHDX,
	       "formats are numbered as on the wire");

/* ---- convert; meanwhile, is it the file that was meant? ---- */

static void tool_progress(void *data, int percent_100)
{
	import_report(data, (uint64_t)percent_100, 10000);
}

static void tool_done(void *data, const struct err *err)
{
	struct import *import = data;

	import->tool = NULL;
	import_part_done(import, err);
}

static const struct image_tool_ops tool_ops = {tool_progress, tool_done};

static void checksum_done(void *data, const char *sha256, const struct err *err)
{
	struct import *import = data;
	struct err wrong;

	import->bulk = NULL;
	if (!err && import_compare(import, sha256, &wrong) < 0)
		err = &wrong;
	import_part_done(import, err);
}

static const struct bulk_ops checksum_ops = {NULL, checksum_done};

void import_convert(struct plan *plan, void *ctx)
{
	struct import *import = ctx;
	struct images *images = import->images;
	const int source = import_source_fd(import);
	struct convert_limits limits = {0};
	struct err err;

	if (store_create_tmp(images->store, import->target_file, 0666, &import->target, &err) < 0 ||
	    storage_usual_reserve(import->target, &limits.reserve, &err) < 0) {
		plan_fail(plan, &err);
		return;
	}
	const struct image_tool_work work = {
		.img = {.source_format = (uint8_t)import->found.format,
			.target_format = PRIV_IMG_QCOW2},
		.sources = &source,
		.n_sources = 1,
		.target = import->target,
		.limits = limits,
	};
	if (image_tool_start(images, &work, &tool_ops, import, &import->tool, &err) < 0) {
		plan_fail(plan, &err);
		return;
	}
	/* that of a pipe or a packed file was taken from what was read */
	if (import->expected[0] != '\0' && !import->pipe && !import->packed)
		import->bulk = bulk_sha256(images->loop, source, &checksum_ops, import);
}

void import_drop_target(struct plan *plan, void *ctx)
{
	struct import *import = ctx;

	if (import_is_busy(import, import_drop_target))
		return;
	if (import->target >= 0) {
		close(TAKE_FD(import->target));
		(void)!store_delete(import->images->store, STORE_TMP, import->target_file, NULL);
	}
	plan_undone(plan);
}

/* ---- verify: the tool's work is looked at like a stranger's, and made durable ---- */

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

static void verify_progress(void *data, uint64_t done, uint64_t total)
{
	import_report(data, done, total);
}

static void verify_done(void *data, const char *sha256, const struct err *err)
{
	struct import *import = data;

	import->bulk = NULL;
	if (!err)
		memcpy(import->row.sha256, sha256, sizeof(import->row.sha256));
	import_part_done(import, err);
}

static const struct bulk_ops verify_ops = {verify_progress, verify_done};

static void sync_done(void *data, const char *sha256, const struct err *err)
{
	struct import *import = data;

	import->sync = NULL;
	import_part_done(import, err);
}

static const struct bulk_ops sync_ops = {NULL, sync_done};

void import_verify(struct plan *plan, void *ctx)
{
	struct import *import = ctx;
	uv_loop_t *loop = import->images->loop;
	struct err err;

	if (check_target(import, &err) < 0) {
		plan_fail(plan, &err);
		return;
	}
	import_begin_pass(import);
	import->sync = bulk_sync(loop, import->target, 0440, &sync_ops, import);
	import->bulk = bulk_sha256(loop, import->target, &verify_ops, import);
}
