#include "vdi-hostd/disk/export.h"

#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <utlist.h>

#include "vdi-hostd/disk/export_private.h"

#define LONG_MS (UINT64_C(14) * 60 * 60 * 1000)

static void begin_part(struct export *export, int64_t from, int64_t span, int64_t total)
{
	export->from = from;
	export->span = span;
	export->total = total;
}

static void report(struct export *export, uint64_t done, uint64_t total)
{
	if (export->job && total > 0)
		job_progress(export->job,
			     export->from +
				     (int64_t)((double)export->span * (double)done / (double)total),
			     export->total);
}

void export_proceed(struct export *export, const struct err *err)
{
	if (export->waiting)
		export->waiting(export->plan, export);
	else if (err)
		plan_fail(export->plan, err);
	else
		plan_next(export->plan);
}

static bool is_busy(struct export *export, void (*undo)(struct plan *plan, void *ctx))
{
	if (export->tool)
		image_tool_cancel(export->tool);
	if (export->stream)
		stream_cancel(export->stream);
	if (export->bulk)
		bulk_cancel(export->bulk);
	bool busy = export->tool || export->stream || export->bulk || export->asked;
	export->waiting = busy ? undo : NULL;
	return busy;
}

static void stop_work(struct plan *plan, void *ctx)
{
	if (!is_busy(ctx, stop_work))
		plan_undone(plan);
}

/* ---- convert: into the target, or into a file of our own ---- */

static void tool_progress(void *data, int percent_100)
{
	report(data, (uint64_t)percent_100, 10000);
}

static void tool_done(void *data, const struct err *err)
{
	struct export *export = data;

	export->tool = NULL;
	export_proceed(export, err);
}

static const struct image_tool_ops tool_ops = {tool_progress, tool_done};

/* a file that has the format and all the bytes already needs no conversion */
static bool is_as_wanted(const struct export *export)
{
	/* a desktop's may hold more than a disk: marks of what was backed up */
	return !export->desktop_id[0] && export->format == STORAGE_QCOW2 && export->n_layers == 1 &&
	       !export->compress;
}

static int start_tool(struct export *export, struct err *err)
{
	const int64_t size = export->layers[0].virtual_size;
	int sources[QEMU_CHAIN_MAX], target = export->target.fd;

	for (size_t i = 0; i < export->n_layers; i++)
		sources[i] = export->layers[i].fd;
	if (!export->direct) {
		if (store_create_tmp(images_store(export->images), export->tmp_file, 0666,
				     &export->tmp, err) < 0)
			return -1;
		target = export->tmp;
	}
	begin_part(export, 0, size, export->direct ? size : 2 * size);
	const struct image_tool_work work = {
		.img = {.source_format = PRIV_IMG_QCOW2,
			.target_format = (uint8_t) export->format,
			.compress = export->compress},
		.sources = sources,
		.n_sources = export->n_layers,
		.target = target,
	};
	return image_tool_start(export->images, &work, &tool_ops, export, &export->tool, err);
}

static void convert(struct plan *plan, void *ctx)
{
	struct export *export = ctx;
	struct err err;

	if (export->chain || is_as_wanted(export))
		plan_next(plan);
	else if (start_tool(export, &err) < 0)
		plan_fail(plan, &err);
}

static void drop_tmp(struct export *export)
{
	if (export->tmp < 0)
		return;
	close(TAKE_FD(export->tmp));
	(void)!store_delete(images_store(export->images), STORE_TMP, export->tmp_file, NULL);
}

static void drop_converted(struct plan *plan, void *ctx)
{
	struct export *export = ctx;

	if (is_busy(export, drop_converted))
		return;
	drop_tmp(export);
	plan_undone(plan);
}

/* ---- send: what was not written into the target yet ---- */

static void send_progress(void *data, uint64_t done, uint64_t total)
{
	report(data, done, total);
}

static void send_done(void *data, const struct err *err)
{
	struct export *export = data;

	export->stream = NULL;
	export_proceed(export, err);
}

static const struct stream_ops send_ops = {send_progress, send_done};

/* "../images/FILE" in a header leads from NAME/overlays/ to NAME/images/, there as here */
static int fill_tar(struct export *export, struct err *err)
{
	static const char *const folders[] = {[STORE_IMAGES] = "images",
					      [STORE_OVERLAYS] = "overlays",
					      [STORE_BACKUPS] = "backups"};
	char folder[128];

	if (tar_begin(&export->tar, err) < 0)
		return -1;
	for (size_t i = 0; i < export->n_layers; i++) {
		const struct image_layer *layer = &export->layers[i];
		struct stat st = {0};
		if (fstat(layer->fd, &st) < 0)
			return err_set_sys(err, ERR_IO, errno, "cannot look at %s", layer->file);
		snprintf(folder, sizeof(folder), "%s/%s", export->name, folders[layer->folder]);
		if (tar_add(&export->tar, folder, layer->file, layer->fd, st.st_mtime, err) < 0)
			return -1;
	}
	return tar_end(&export->tar, err);
}

static int send_file(struct export *export, int fd, struct err *err)
{
	const int64_t size = export->layers[0].virtual_size;
	struct stat st;

	if (fstat(fd, &st) < 0)
		return err_set_sys(err, ERR_IO, errno, "cannot look at what was converted");
	const struct stream_part part = {fd, 0, (uint64_t)st.st_size};
	if (export->tmp >= 0)
		begin_part(export, size, size, 2 * size);
	else
		begin_part(export, 0, st.st_size, st.st_size);
	export->stream = stream_start(export->loop, export->target.fd, &part, 1, &send_ops, export);
	return 0;
}

static int send_chain(struct export *export, struct err *err)
{
	if (fill_tar(export, err) < 0)
		return -1;
	begin_part(export, 0, (int64_t) export->tar.size, (int64_t) export->tar.size);
	export->stream = stream_start(export->loop, export->target.fd, export->tar.parts,
				      export->tar.n, &send_ops, export);
	return 0;
}

static void send_out(struct plan *plan, void *ctx)
{
	struct export *export = ctx;
	struct err err;
	int failed = 0;

	if (export->chain)
		failed = send_chain(export, &err);
	else if (is_as_wanted(export))
		failed = send_file(export, export->layers[0].fd, &err);
	else if (export->tmp >= 0)
		failed = send_file(export, export->tmp, &err);
	else
		plan_next(plan);
	if (failed < 0)
		plan_fail(plan, &err);
}

/* ---- sync, place ---- */

static void sync_done(void *data, const char *sha256, const struct err *err)
{
	struct export *export = data;

	export->bulk = NULL;
	export_proceed(export, err);
}

static const struct bulk_ops sync_ops = {NULL, sync_done};

static void sync_target(struct plan *plan, void *ctx)
{
	struct export *export = ctx;
	struct stat st;

	if (fstat(export->target.fd, &st) == 0 && S_ISREG(st.st_mode))
		export->bulk = bulk_sync(export->loop, export->target.fd, BULK_KEEP_MODE, &sync_ops,
					 export);
	else
		plan_next(plan);
}

static void place_target(struct plan *plan, void *ctx)
{
	struct export *export = ctx;
	struct err err;

	plan_end_step(plan, export_target_settle(&export->target, &err), &err);
}

static const struct plan_step export_plan[] = {
	{"freeze", export_freeze, stop_work, LONG_MS},
	{"convert", convert, drop_converted, LONG_MS},
	{"send", send_out, stop_work, LONG_MS},
	{"sync", sync_target, stop_work, LONG_MS},
	{"place", place_target, NULL},
};

/* ---- the whole ---- */

static json_t *result(const struct export *export)
{
	const char *format = export->chain ? "tar" : storage_format_name(export->format);
	json_t *files = json_array();
	struct stat st = {0};

	for (size_t i = 0; export->chain && i < export->n_layers; i++)
		json_array_append_new(files, json_string(export->layers[i].file));
	if (fstat(export->target.fd, &st) < 0 || !S_ISREG(st.st_mode))
		st.st_size = export->chain ? (off_t) export->tar.size : 0;
	return json_pack("{s:s, s:I, s:I, s:o, s:b}", "format", format, "virtual_size_bytes",
			 (json_int_t) export->layers[0].virtual_size, "file_size_bytes",
			 (json_int_t)st.st_size, "files", files, "quiesced",
			 export->desktop_id[0] ? export->quiesced : 1);
}

static void export_free(struct export *export)
{
	drop_tmp(export);
	tar_done(&export->tar);
	images_chain_close(export->layers, export->n_layers);
	export_target_close(&export->target);
	images_unhold(export->images);
	free(export);
}

static void export_done(void *ctx, const struct err *err)
{
	struct export *export = ctx;
	struct job *job = TAKE_PTR(export->job);
	json_t *json = err ? NULL : result(export);

	export_let_go(export);
	if (export->disks)
		DL_DELETE(export->disks->exports, export);
	/* who hears of the end finds nothing of it any more */
	export_free(export);
	if (job && err)
		job_fail(job, err);
	else if (job)
		job_done(job, json);
	else
		json_decref(json);
}

static void cancel(void *data)
{
	struct export *export = data;
	struct err err;

	err_set(&err, ERR_CANCELLED, "the export of '%s' was cancelled", export->name);
	plan_cancel(export->plan, &err);
}

void exports_cancel(struct disks *disks)
{
	struct export *next;
	struct err err;

	err_set(&err, ERR_CANCELLED, "the daemon was stopped; export it again");
	for (struct export *export = disks->exports; export; export = next) {
		next = export->next;
		DL_DELETE(disks->exports, export);
		export->disks = NULL;
		export->asked = false;
		if (export->job)
			job_fail(TAKE_PTR(export->job), &err);
		plan_cancel(export->plan, &err);
	}
}

static int check(const struct disks_export *wanted, struct err *err)
{
	if (!wanted->image == !wanted->desktop)
		return err_set_field(err, "image", "name an image or a desktop: one of the two");
	if (wanted->chain && (wanted->compress || wanted->format != STORAGE_QCOW2))
		return err_set_field(err, "chain",
				     "the files of a chain go out as they are: neither compressed "
				     "nor in another format");
	if (wanted->compress && wanted->format != STORAGE_QCOW2)
		return err_set_field(err, "compress", "only qcow2 files can be compressed");
	return 0;
}

int disks_export(struct disks *disks, const struct disks_export *wanted,
		 struct export_target *target, const char **ret_job_id, struct err *err)
{
	struct export *export = mem_new(struct export);
	char random[17];

	*export = (struct export){
		.disks = disks,
		.images = disks->env.images,
		.loop = disks->env.loop,
		.target = *target,
		.format = wanted->format,
		.compress = wanted->compress,
		.chain = wanted->chain,
		.disk = (unsigned int)wanted->disk,
		.want = wanted->quiesce,
		.tmp = -1,
		.tar = {.headers = -1},
	};
	*target = EXPORT_TARGET_NONE;
	export->direct =
		export_target_is_direct(&export->target, priv_is_rootless(disks->env.priv));
	images_hold(export->images);
	str_random_hex(random, 8);
	snprintf(export->tmp_file, sizeof(export->tmp_file), "export-%s", random);
	if (check(wanted, err) < 0 || export_open_source(export, wanted, err) < 0 ||
	    job_start(disks->env.jobs, "image.export", export->name, "bytes", cancel, export,
		      &export->job, err) < 0) {
		export_let_go(export);
		export_free(export);
		return -1;
	}
	DL_APPEND(disks->exports, export);
	export->plan = plan_start(export->loop, "image-export", export_plan, ARRAY_LEN(export_plan),
				  export, export_done);
	*ret_job_id = job_id(export->job);
	return 0;
}
