#include "vdi-hostd/image/image.h"

#include <fcntl.h>
#include <stdio.h>
#include <string.h>

#include "base/log.h"
#include "vdi-hostd/db/event.h"
#include "vdi-hostd/image/private.h"
#include "vdi-hostd/priv/qemu_spec.h"

struct image *image_add(struct images *all, const struct db_image *row)
{
	struct image *image = mem_new(struct image);
	image->all = all;
	image->row = *row;
	HASH_ADD_STR(all->by_id, row.id, image);
	return image;
}

void image_remove(struct image *image)
{
	HASH_DEL(image->all->by_id, image);
	free(image);
}

void image_tell(struct image *image, const char *what)
{
	struct err err;
	json_t *data = json_pack("{s:s, s:I, s:s}", "name", image->row.name, "version",
				 (json_int_t)image->row.version, "state", what);
	if (db_event_append(image->all->db, "image", image->row.id, data, &err) < 0)
		log_err("image %s: its event is lost: %s", image->row.name, err.msg);
	json_decref(data);
}

static int load_row(void *data, const struct db_image *row)
{
	image_add(data, row);
	return 0;
}

static int delete_tmp(void *data, const char *file)
{
	struct images *all = data;
	struct err err;
	if (store_delete(all->store, STORE_TMP, file, &err) < 0)
		log_warn("a file in the making stays: %s", err.msg);
	return 0;
}

/* What an import left that was killed: its row says it never came to its end. */
static int undo_interrupted(struct images *all, struct err *err)
{
	struct image *image, *next;
	if (store_each(all->store, STORE_TMP, delete_tmp, all, err) < 0)
		return -1;
	HASH_ITER (hh, all->by_id, image, next) {
		if (image->row.state != DB_IMAGE_IMPORTING)
			continue;
		if (store_delete(all->store, STORE_IMAGES, image->row.file, err) < 0 ||
		    db_image_delete(all->db, image->row.id, err) < 0)
			return -1;
		log_info("image %s: its import was interrupted and undone", image->row.name);
		image_remove(image);
	}
	return 0;
}

int images_new(uv_loop_t *loop, struct db *db, struct jobs *jobs, struct priv *priv,
	       const char *state_dir, struct images **ret, struct err *err)
{
	struct images *all = mem_new(struct images);
	all->loop = loop;
	all->db = db;
	all->jobs = jobs;
	all->priv = priv;
	all->rootless = priv_is_rootless(priv);
	if (store_open(state_dir, &all->store, err) < 0 ||
	    db_image_each(db, load_row, all, err) < 0 || undo_interrupted(all, err) < 0) {
		images_free(all);
		return -1;
	}
	*ret = all;
	return 0;
}

void images_free(struct images *all)
{
	if (!all)
		return;
	struct image *image, *next;
	HASH_ITER (hh, all->by_id, image, next) {
		image_remove(image);
	}
	store_free(all->store);
	free(all);
}

/* Of one name: a published version before any other, then the newest. */
static bool is_better(const struct image *image, const struct image *than)
{
	if (!than)
		return true;
	bool published = image->row.state == DB_IMAGE_PUBLISHED;
	if (published != (than->row.state == DB_IMAGE_PUBLISHED))
		return published;
	return image->row.version > than->row.version;
}

static struct image *find_by_name(struct images *all, const char *ref)
{
	const char *colon = strchr(ref, ':');
	size_t len = colon ? (size_t)(colon - ref) : strlen(ref);
	int64_t version = 0;
	struct image *best = NULL;
	if (colon && str_parse_i64(colon + 1, &version) < 0)
		return NULL;
	for (struct image *image = all->by_id; image; image = image->hh.next) {
		if (strlen(image->row.name) != len || memcmp(image->row.name, ref, len) != 0)
			continue;
		if (colon ? image->row.version == version : is_better(image, best))
			best = image;
	}
	return best;
}

static struct image *find(struct images *all, const char *ref, struct err *err)
{
	struct image *image = NULL;
	HASH_FIND_STR(all->by_id, ref, image);
	if (!image)
		image = find_by_name(all, ref);
	if (!image)
		err_set(err, ERR_NOT_FOUND,
			"there is no image '%.80s'; `vdictl image list` shows those there are",
			ref);
	return image;
}

const struct db_image *images_find(struct images *all, const char *ref, struct err *err)
{
	struct image *image = find(all, ref, err);
	return image ? &image->row : NULL;
}

static int compare(const struct image *a, const struct image *b)
{
	int names = strcmp(a->row.name, b->row.name);
	if (names != 0)
		return names;
	return a->row.version < b->row.version ? -1 : a->row.version > b->row.version;
}

void images_each(struct images *all, void (*cb)(void *data, const struct db_image *row), void *data)
{
	HASH_SORT(all->by_id, compare);
	struct image *image, *next;
	HASH_ITER (hh, all->by_id, image, next) {
		cb(data, &image->row);
	}
}

static int change_state(struct image *image, enum db_image_state state, const char *what,
			struct err *err)
{
	struct db_image row = image->row;
	row.state = state;
	if (state == DB_IMAGE_PUBLISHED && row.published_at == 0)
		row.published_at = str_now_ms();
	if (db_image_update(image->all->db, &row, err) < 0)
		return -1;
	image->row = row;
	log_info("image %s version %lld: %s", row.name, (long long)row.version, what);
	image_tell(image, what);
	return 0;
}

static int refuse_importing(const struct image *image, struct err *err)
{
	return err_set(
		err, ERR_BUSY,
		"image '%s' version %lld is still being imported; wait for its job, or cancel it",
		image->row.name, (long long)image->row.version);
}

int images_publish(struct images *all, const char *ref, struct err *err)
{
	struct image *image = find(all, ref, err);
	if (!image)
		return -1;
	if (image->row.state == DB_IMAGE_IMPORTING)
		return refuse_importing(image, err);
	if (image->row.state == DB_IMAGE_PUBLISHED)
		return 0;
	return change_state(image, DB_IMAGE_PUBLISHED, "published", err);
}

int images_retire(struct images *all, const char *ref, struct err *err)
{
	struct image *image = find(all, ref, err);
	if (!image)
		return -1;
	if (image->row.state == DB_IMAGE_IMPORTING)
		return refuse_importing(image, err);
	if (image->row.state == DB_IMAGE_RETIRED)
		return 0;
	return change_state(image, DB_IMAGE_RETIRED, "retired", err);
}

/* The row first: a file without a row is waste, a row without its file is a lie. */
int images_delete(struct images *all, const char *ref,
		  const char *(*in_use)(void *data, const char *image_id), void *data,
		  struct err *err)
{
	struct image *image = find(all, ref, err);
	if (!image)
		return -1;
	if (image->row.state == DB_IMAGE_IMPORTING)
		return refuse_importing(image, err);
	const char *user = in_use(data, image->row.id);
	if (user)
		return err_set(
			err, ERR_CONFLICT,
			"desktop '%s' is a clone of image '%s' version %lld; delete it first, "
			"or retire the image",
			user, image->row.name, (long long)image->row.version);
	if (db_image_delete(all->db, image->row.id, err) < 0)
		return -1;
	if (store_delete(all->store, STORE_IMAGES, image->row.file, err) < 0)
		log_warn("image %s: its file stays: %s", image->row.name, err->msg);
	log_info("image %s version %lld: deleted", image->row.name, (long long)image->row.version);
	image_tell(image, "deleted");
	image_remove(image);
	return 0;
}

int images_overlay_create(struct images *all, const struct db_image *image, const char *file,
			  int64_t virtual_size, struct err *err)
{
	return store_create_overlay(all->store, file, image->file, (uint64_t)virtual_size, err);
}

int images_overlay_delete(struct images *all, const char *file, struct err *err)
{
	return store_delete(all->store, STORE_OVERLAYS, file, err);
}

int images_overlay_allocated(struct images *all, const char *file, int64_t *ret, struct err *err)
{
	return store_allocated(all->store, STORE_OVERLAYS, file, ret, err);
}

int images_chain_open(struct images *all, const char *overlay, int *ret_fds, uint8_t *ret_formats,
		      size_t *ret_n, struct err *err)
{
	_cleanup_free_ struct store_layer *layers =
		mem_calloc(QEMU_CHAIN_MAX, sizeof(struct store_layer));
	size_t n;
	if (store_open_chain(all->store, STORE_OVERLAYS, overlay, O_RDWR, layers, QEMU_CHAIN_MAX,
			     &n, err) < 0)
		return -1;
	for (size_t i = 0; i < n; i++) {
		ret_fds[i] = layers[i].fd;
		ret_formats[i] = QEMU_FILE_QCOW2;
	}
	*ret_n = n;
	return 0;
}

int images_disk_free(struct images *all, int64_t *ret_free, int64_t *ret_total, struct err *err)
{
	return store_space(all->store, ret_free, ret_total, err);
}
