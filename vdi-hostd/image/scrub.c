#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/mem.h"
#include "storage/bulk.h"
#include "storage/scan.h"
#include "vdi-hostd/image/upkeep.h"

#define IMMUTABLE 0440 /* versions and ISOs */

static void go_on_with_checksums(struct upkeep *upkeep);

static const char *subject(const struct graph_file *file, char ret[192])
{
	static const char *const kinds[] = {
		[DB_FILE_IMAGE] = "image",       [DB_FILE_DESKTOP] = "desktop",
		[DB_FILE_SNAPSHOT] = "snapshot", [DB_FILE_BACKUP] = "backup",
		[DB_FILE_ISO] = "iso",
	};

	if (file->id[0] == '\0')
		return NULL;
	snprintf(ret, 192, "%s %s", kinds[file->kind], file->name);
	return ret;
}

static void report(struct upkeep *upkeep, const char *kind, const struct graph_file *file,
		   const char *detail, bool repaired)
{
	char name[192];

	upkeep->found++;
	if (upkeep->found > UPKEEP_LIST_MAX)
		return;
	json_array_append_new(upkeep->list,
			      json_pack("{s:s, s:s, s:s, s:s?, s:s?, s:b}", "kind", kind, "folder",
					store_folder_name(file->folder), "file", file->file,
					"subject", subject(file, name), "detail", detail,
					"repaired", repaired));
}

/* a version that cannot be used is marked: nobody makes a desktop from it unawares */
static bool mark_broken(struct upkeep *upkeep, const struct graph_file *file, const char *why)
{
	struct image *image = file->kind == DB_FILE_IMAGE && file->named
				      ? images_by_id(upkeep->images, file->id)
				      : NULL;
	struct err err;

	return upkeep->scrub.repair && image &&
	       images_set_broken(upkeep->images, image, why, &err) == 0;
}

/* ---- one file ---- */

static void check_there(struct upkeep *upkeep, const struct graph_file *file)
{
	static const char why[] = "its file is missing from the store";

	if (!file->there && file->settled)
		report(upkeep, "missing", file, why, mark_broken(upkeep, file, why));
}

static void check_mode(struct upkeep *upkeep, const struct graph_file *file)
{
	struct err err;
	char detail[64];

	if (!file->there || !file->regular || !file->settled || file->mode == IMMUTABLE ||
	    (file->folder != STORE_IMAGES && file->folder != STORE_ISOS))
		return;
	snprintf(detail, sizeof(detail), "mode %04o instead of %04o", file->mode, IMMUTABLE);
	report(upkeep, "mode", file, detail,
	       upkeep->scrub.repair && scan_set_mode(upkeep->images->store, file->folder,
						     file->file, IMMUTABLE, &err) == 0);
}

/* Where a chain goes from here, as the rows would have it; NULL: it may. */
static const char *astray(struct images *images, const struct graph_file *file)
{
	const char *image_id = file->image_id;
	const struct graph_file *at = file;

	for (int i = 0; at; at = at->below, i++) {
		if (i == QEMU_CHAIN_MAX)
			return "its chain of files has no end";
		if (at->problem)
			return at->problem;
		if (!at->there)
			return at == file ? NULL : "it stands on a file that is not there";
		if (at == file || at->folder == file->folder) {
			if (at != file && file->folder == STORE_OVERLAYS &&
			    strncmp(at->file, file->file, STR_UUID_LEN) != 0)
				return "it stands on a file of another desktop";
			if (file->folder != STORE_IMAGES || at == file)
				continue;
		}
		const struct image *image = image_id[0] ? images_by_id(images, image_id) : NULL;
		if (at->folder != STORE_IMAGES || !image || strcmp(image->row.file, at->file) != 0)
			return "it stands on a file that its row does not name";
		image_id = image->row.parent_id;
	}
	return NULL;
}

static void check_chain(struct upkeep *upkeep, const struct graph_file *file)
{
	bool has_chain = file->folder == STORE_IMAGES || file->folder == STORE_OVERLAYS ||
			 file->folder == STORE_BACKUPS;
	const char *why =
		file->there && file->settled && has_chain ? astray(upkeep->images, file) : NULL;

	if (why)
		report(upkeep, "chain", file, why, mark_broken(upkeep, file, why));
}

static void check_stray(struct upkeep *upkeep, const struct graph_file *file)
{
	if (!file->there)
		return;
	if (!file->regular)
		report(upkeep, "foreign", file, "the daemon never makes such a thing here", false);
	else if (file->folder == STORE_TMP &&
		 str_now_ms() - file->changed_ms >= upkeep->scrub.min_age_s * 1000)
		report(upkeep, "tmp", file,
		       "in the making, or left over: the next start of the daemon removes it",
		       false);
	else if (upkeep_is_garbage(file, upkeep->scrub.min_age_s) && !upkeep->scrub.repair)
		report(upkeep, "unreachable", file, "no row leads to it", false);
}

/* ---- the whole ---- */

static void scrub_done(struct upkeep *upkeep)
{
	upkeep_end(upkeep,
		   json_pack("{s:O, s:I}", "findings", upkeep->list, "found",
			     (json_int_t)upkeep->found),
		   NULL);
}

static void on_removed(struct upkeep *upkeep, const struct graph_file *file)
{
	report(upkeep, "unreachable", file, "no row led to it", true);
}

static void on_swept(struct upkeep *upkeep, const struct err *err)
{
	if (err)
		upkeep_end(upkeep, NULL, err);
	else
		go_on_with_checksums(upkeep);
}

static void scrub_go_on(struct upkeep *upkeep)
{
	struct graph_file *file, *next;

	HASH_ITER (hh, upkeep->graph->files, file, next) {
		check_there(upkeep, file);
		check_mode(upkeep, file);
		check_chain(upkeep, file);
		check_stray(upkeep, file);
	}
	if (upkeep->scrub.repair)
		upkeep->sweep = sweep_start(upkeep, upkeep->scrub.min_age_s, on_removed, on_swept);
	else
		go_on_with_checksums(upkeep);
}

/* ---- checksums, one after the other ---- */

static void list_ids(struct upkeep *upkeep)
{
	const struct image *image;
	size_t n = 0;

	for (image = upkeep->images->list; image; image = image->next)
		n++;
	upkeep->ids = mem_calloc(n + 1, sizeof(*upkeep->ids));
	for (image = upkeep->images->list; image; image = image->next)
		if (image->row.state != DB_IMAGE_IMPORTING && image->row.sha256[0])
			memcpy(upkeep->ids[upkeep->n_ids++], image->row.id, STR_UUID_LEN + 1);
}

static void on_summed(void *data, const char *sha256, const struct err *err)
{
	static const char wrong[] =
		"its file was changed: the checksum is another than at its import";
	struct upkeep *upkeep = data;
	struct image *image = images_by_id(upkeep->images, upkeep->ids[upkeep->at_id - 1]);

	upkeep->bulk = NULL;
	close(TAKE_FD(upkeep->fd));
	if (upkeep->cancelled) {
		struct err cancelled;
		err_set(&cancelled, ERR_CANCELLED, "the work was cancelled");
		upkeep_end(upkeep, NULL, &cancelled);
		return;
	}
	const struct graph_file *file =
		image ? graph_find(upkeep->graph, STORE_IMAGES, image->row.file) : NULL;
	if (file && (err || strcmp(sha256, image->row.sha256) != 0)) {
		const char *why = err ? err->msg : wrong;
		report(upkeep, "checksum", file, why, mark_broken(upkeep, file, why));
	} else if (file && upkeep->scrub.repair && !file->problem) {
		struct err unsaved; /* the next look will say so again */
		(void)!images_set_broken(upkeep->images, image, "", &unsaved);
	}
	go_on_with_checksums(upkeep);
}

static void on_sum_progress(void *data, uint64_t done, uint64_t total)
{
	struct upkeep *upkeep = data;

	if (upkeep->job)
		job_progress(upkeep->job, (int64_t)upkeep->at_id, (int64_t)upkeep->n_ids);
}

static const struct bulk_ops sum_ops = {on_sum_progress, on_summed};

static void go_on_with_checksums(struct upkeep *upkeep)
{
	struct images *images = upkeep->images;
	struct err err;

	if (upkeep->scrub.checksums && !upkeep->ids)
		list_ids(upkeep);
	while (upkeep->at_id < upkeep->n_ids) {
		const struct image *image = images_by_id(images, upkeep->ids[upkeep->at_id++]);
		/* one whose file is missing was reported */
		if (!image || store_open_file(images->store, STORE_IMAGES, image->row.file,
					      O_RDONLY, &upkeep->fd, &err) < 0)
			continue;
		upkeep->bulk = bulk_sha256(images->loop, upkeep->fd, &sum_ops, upkeep);
		return;
	}
	scrub_done(upkeep);
}

int images_scrub(struct images *images, const struct image_scrub *scrub, const char **ret_job_id,
		 struct err *err)
{
	struct upkeep *upkeep = mem_new(struct upkeep);

	upkeep->images = images;
	upkeep->go_on = scrub_go_on;
	upkeep->scrub = *scrub;
	return upkeep_start(upkeep, "image.scrub", "files", ret_job_id, err);
}
