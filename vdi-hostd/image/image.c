#include <stdio.h>
#include <string.h>
#include <utlist.h>

#include "base/log.h"
#include "base/mem.h"
#include "base/plan.h"
#include "vdi-hostd/db/event.h"
#include "vdi-hostd/db/file.h"
#include "vdi-hostd/image/private.h"
#include "vdi-hostd/image/quota.h"

/* a file on its way out: moved to tmp/ under this name first, so that a restart knows what was
 * meant */
#define DELETED ".deleted"

struct image *images_add(struct images *images, const struct db_image *row)
{
	struct image *image = mem_new(struct image);

	image->row = *row;
	DL_APPEND(images->list, image);
	return image;
}

void images_remove(struct images *images, struct image *image)
{
	DL_DELETE(images->list, image);
	free(image);
}

void images_tell(struct images *images, const struct db_image *row, const char *what)
{
	struct err err;
	json_t *data = json_pack("{s:s, s:I, s:s}", "name", row->name, "version",
				 (json_int_t)row->version, "state", what);

	log_info("image %s version %lld: %s", row->name, (long long)row->version, what);
	if (db_event_append(images->db, "image", row->id, data, &err) < 0)
		log_err("image %s: its event is lost: %s", row->name, err.msg);
	json_decref(data);
}

static int load_row(void *data, const struct db_image *row)
{
	images_add(data, row);
	return 0;
}

struct image *images_by_id(struct images *images, const char *id)
{
	for (struct image *image = images->list; image; image = image->next)
		if (strcmp(image->row.id, id) == 0)
			return image;
	return NULL;
}

/* what an import left that was interrupted: its files are nobody's yet */
static int clean_imports(struct images *images, struct err *err)
{
	struct image *next;

	for (struct image *image = images->list; image; image = next) {
		next = image->next;
		if (image->row.state != DB_IMAGE_IMPORTING)
			continue;
		if (store_delete(images->store, STORE_IMAGES, image->row.file, err) < 0 ||
		    db_image_delete(images->db, image->row.id, err) < 0)
			return err_prefix(err, "image %s:%lld, whose import was interrupted",
					  image->row.name, (long long)image->row.version);
		log_info("image %s: its import was interrupted and undone", image->row.name);
		images_remove(images, image);
	}
	return 0;
}

/* a file in tmp/: one that was being deleted takes its row along, the rest is half-made */
static int clean_tmp_file(void *data, const char *file)
{
	struct images *images = data;
	struct err err;
	char id[STR_UUID_LEN + 1];

	snprintf(id, sizeof(id), "%s", file);
	struct image *image = str_is_uuid(id) && strcmp(file + STR_UUID_LEN, DELETED) == 0
				      ? images_by_id(images, id)
				      : NULL;
	if (image) {
		if (db_image_delete(images->db, id, &err) < 0) {
			log_err("image %s:%lld stays half deleted: %s", image->row.name,
				(long long)image->row.version, err.msg);
			return 0;
		}
		images_remove(images, image);
	}
	if (store_delete(images->store, STORE_TMP, file, &err) < 0)
		log_warn("something stays in the store's tmp/: %s", err.msg);
	return 0;
}

int images_new(uv_loop_t *loop, struct db *db, struct jobs *jobs, struct priv *priv,
	       const char *state_dir, struct images **ret, struct err *err)
{
	struct images *images = mem_new(struct images);

	*images = (struct images){.loop = loop, .db = db, .jobs = jobs, .priv = priv};
	if (store_open(state_dir, &images->store, err) < 0 ||
	    db_image_each(db, load_row, images, err) < 0 || clean_imports(images, err) < 0 ||
	    isos_load(images, err) < 0 ||
	    store_each(images->store, STORE_TMP, clean_tmp_file, images, err) < 0) {
		images->closing = true;
		images_release(images);
		return -1;
	}
	*ret = images;
	return 0;
}

void images_release(struct images *images)
{
	if (!images->closing || images->imports || images->iso_runs || images->verifies ||
	    images->holds)
		return;
	while (images->list)
		images_remove(images, images->list);
	isos_unload(images);
	store_free(images->store);
	free(images);
}

void images_hold(struct images *images)
{
	images->holds++;
}

void images_unhold(struct images *images)
{
	images->holds--;
	images_release(images);
}

struct store *images_store(struct images *images)
{
	return images->store;
}

void images_free(struct images *images)
{
	if (!images)
		return;
	images_space_unwatch(images);
	imports_cancel(images);
	isos_cancel(images);
	verifies_cancel(images);
	upkeeps_cancel(images);
	images->closing = true;
	images_release(images);
}

/* published before the rest, whole before half, new before old */
static bool is_better(const struct db_image *a, const struct db_image *b)
{
	bool a_published = a->state == DB_IMAGE_PUBLISHED;
	bool b_published = b->state == DB_IMAGE_PUBLISHED;
	bool a_whole = a->state != DB_IMAGE_IMPORTING, b_whole = b->state != DB_IMAGE_IMPORTING;

	if (a_published != b_published)
		return a_published;
	if (a_whole != b_whole)
		return a_whole;
	return a->version > b->version;
}

static struct image *find_name(struct images *images, const char *ref)
{
	const char *colon = strchr(ref, ':');
	size_t len = colon ? (size_t)(colon - ref) : strlen(ref);
	int64_t version = 0;
	struct image *best = NULL;

	if (colon && str_parse_i64(colon + 1, &version) < 0)
		return NULL;
	for (struct image *image = images->list; image; image = image->next) {
		const struct db_image *row = &image->row;
		if (strlen(row->name) != len || memcmp(row->name, ref, len) != 0)
			continue;
		if (colon ? row->version == version : !best || is_better(row, &best->row))
			best = image;
	}
	return best;
}

static struct image *find(struct images *images, const char *ref, struct err *err)
{
	struct image *image = images_by_id(images, ref);

	if (!image)
		image = find_name(images, ref);
	if (!image)
		err_set(err, ERR_NOT_FOUND,
			"there is no image '%.80s'; `vdictl image list` shows those there are",
			ref);
	return image;
}

const struct db_image *images_find(struct images *images, const char *ref, struct err *err)
{
	struct image *image = find(images, ref, err);

	return image ? &image->row : NULL;
}

static int compare(const struct image *a, const struct image *b)
{
	int names = strcmp(a->row.name, b->row.name);

	if (names != 0)
		return names;
	return a->row.version < b->row.version ? -1 : a->row.version > b->row.version;
}

void images_each(struct images *images, void (*cb)(void *data, const struct db_image *row),
		 void *data)
{
	DL_SORT(images->list, compare);
	for (const struct image *image = images->list; image; image = image->next)
		cb(data, &image->row);
}

int images_refuse_importing(const struct db_image *row, struct err *err)
{
	if (row->state != DB_IMAGE_IMPORTING)
		return 0;
	return err_set(err, ERR_BUSY,
		       "image '%s' version %lld is still being imported; wait for its job, or "
		       "cancel it",
		       row->name, (long long)row->version);
}

/*
 * Every change of a state but the import's own. importing: nothing but the end of the import (or
 * its cancelling). draft, published, retired: publish, retire and delete, in any order.
 */
static int set_state(struct images *images, struct image *image, enum db_image_state state,
		     const char *what, struct err *err)
{
	struct db_image row = image->row;

	if (row.state == state)
		return 0;
	row.state = state;
	if (state == DB_IMAGE_PUBLISHED && row.published_at == 0)
		row.published_at = str_now_ms();
	if (db_image_update(images->db, &row, err) < 0)
		return -1;
	image->row = row;
	images_tell(images, &row, what);
	return 0;
}

int images_publish(struct images *images, const char *ref, struct err *err)
{
	struct image *image = find(images, ref, err);

	if (!image || images_refuse_importing(&image->row, err) < 0)
		return -1;
	return set_state(images, image, DB_IMAGE_PUBLISHED, "published", err);
}

int images_retire(struct images *images, const char *ref, struct err *err)
{
	struct image *image = find(images, ref, err);

	if (!image || images_refuse_importing(&image->row, err) < 0)
		return -1;
	return set_state(images, image, DB_IMAGE_RETIRED, "retired", err);
}

/* the file goes aside, then the row, then the file: each moment says what is to come next */
static int delete_image(struct images *images, struct image *image, struct err *err)
{
	static const char plan[] = "image-delete";
	const struct db_image *row = &image->row;
	char aside[64];
	bool there;

	snprintf(aside, sizeof(aside), "%s" DELETED, row->id);
	plan_crash_point(plan, "aside", "before");
	if (store_has(images->store, STORE_IMAGES, row->file, &there, err) < 0 ||
	    (there &&
	     store_move(images->store, STORE_IMAGES, row->file, STORE_TMP, aside, err) < 0))
		return -1;
	plan_crash_point(plan, "row", "before");
	if (db_image_delete(images->db, row->id, err) < 0) {
		struct err back;
		if (there &&
		    store_move(images->store, STORE_TMP, aside, STORE_IMAGES, row->file, &back) < 0)
			log_err("image %s: %s", row->name, back.msg);
		return -1;
	}
	plan_crash_point(plan, "file", "before");
	if (store_delete(images->store, STORE_TMP, aside, err) < 0)
		log_warn("image %s is deleted, its space is not free yet: %s", row->name, err->msg);
	plan_crash_point(plan, "file", "after");
	return 0;
}

/* up to eight by name, the rest by their number: a message has an end */
struct users {
	char names[120];
	size_t n, named;
};

static int add_user(void *data, const struct db_image_user *user)
{
	struct users *users = data;
	size_t at = strlen(users->names);
	int len = snprintf(NULL, 0, ", %s %s", user->what, user->name);

	users->n++;
	if (users->named == users->n - 1 && users->named < 8 &&
	    at + (size_t)len < sizeof(users->names)) {
		snprintf(users->names + at, sizeof(users->names) - at, "%s%s %s", at ? ", " : "",
			 user->what, user->name);
		users->named++;
	}
	return 0;
}

static int refuse_used(struct images *images, const struct db_image *row, struct err *err)
{
	struct users users = {0};
	char more[32] = "";

	if (db_image_users(images->db, row->id, add_user, &users, err) < 0)
		return -1;
	if (users.n == 0)
		return 0;
	if (users.n > users.named)
		snprintf(more, sizeof(more), " and %zu more", users.n - users.named);
	return err_set(err, ERR_CONFLICT, "%s:%lld is needed by %s%s; delete those first",
		       row->name, (long long)row->version, users.names, more);
}

int images_delete(struct images *images, const char *ref, struct err *err)
{
	struct image *image = find(images, ref, err);

	if (!image || images_refuse_importing(&image->row, err) < 0 ||
	    refuse_used(images, &image->row, err) < 0 || delete_image(images, image, err) < 0)
		return -1;
	images_tell(images, &image->row, "deleted");
	images_remove(images, image);
	return 0;
}

int images_update(struct images *images, const char *ref, const struct image_update *update,
		  struct err *err)
{
	struct image *image = find(images, ref, err);

	if (!image || images_refuse_importing(&image->row, err) < 0)
		return -1;
	struct db_image row = image->row;
	if (update->owner && strcmp(update->owner, row.owner) != 0) {
		if (images_quota_charge_check(images, update->owner, row.file_size, err) < 0)
			return -1;
		snprintf(row.owner, sizeof(row.owner), "%s", update->owner);
	}
	if (update->description)
		snprintf(row.description, sizeof(row.description), "%s", update->description);
	if (update->depth_max > 0)
		row.depth_max = update->depth_max;
	if (db_image_update(images->db, &row, err) < 0)
		return -1;
	image->row = row;
	images_tell(images, &row, "updated");
	return 0;
}
