#include "vdi-hostd/image/usage.h"

#include <stdio.h>
#include <string.h>

#include "base/mem.h"
#include "vdi-hostd/db/quota.h"
#include "vdi-hostd/image/graph.h"
#include "vdi-hostd/image/private.h"

/* struct sum - the files of one owner, version or desktop */
struct sum {
	char key[2 * STR_NAME_MAX + 8];
	char owner[STR_NAME_MAX + 1];
	int64_t bytes, clones, clone_bytes;
	UT_hash_handle hh;
};

struct usage {
	struct images *images;
	char owner[STR_NAME_MAX + 1];
	bool by_desktop;
	void (*done)(void *data, json_t *usage, const struct err *err);
	void *data;
	struct sum *owners, *versions, *desktops;
	int64_t folders[STORE_STATES + 1], used, shared, reclaimable;
};

static struct sum *find(struct sum **sums, const char *key, const char *owner)
{
	struct sum *sum = NULL;

	HASH_FIND_STR(*sums, key, sum);
	if (sum)
		return sum;
	sum = mem_new(struct sum);
	snprintf(sum->key, sizeof(sum->key), "%s", key);
	snprintf(sum->owner, sizeof(sum->owner), "%s", owner);
	HASH_ADD_STR(*sums, key, sum);
	return sum;
}

static int by_key(const struct sum *a, const struct sum *b)
{
	return strcmp(a->key, b->key);
}

static void free_sums(struct sum **sums)
{
	struct sum *sum, *next;

	HASH_ITER (hh, *sums, sum, next) {
		HASH_DEL(*sums, sum);
		free(sum);
	}
}

static void usage_free(struct usage *usage)
{
	free_sums(&usage->owners);
	free_sums(&usage->versions);
	free_sums(&usage->desktops);
	free(usage);
}

/* the version that a disk of a desktop's is a clone of */
static void add_to_version(struct usage *usage, const struct graph_file *file)
{
	const struct image *image =
		file->image_id[0] ? images_by_id(usage->images, file->image_id) : NULL;
	char key[2 * STR_NAME_MAX + 8];

	if (!image || file->kind == DB_FILE_IMAGE)
		return;
	snprintf(key, sizeof(key), "%s:%lld", image->row.name, (long long)image->row.version);
	struct sum *sum = find(&usage->versions, key, image->row.owner);
	sum->clones += file->kind == DB_FILE_DESKTOP;
	sum->clone_bytes += file->allocated;
}

static void add_file(struct usage *usage, const struct graph_file *file)
{
	char desktop[2 * STR_NAME_MAX + 8];

	usage->folders[file->folder] += file->allocated;
	usage->used += file->allocated;
	if (file->folder == STORE_TMP)
		return;
	if (!file->reachable)
		usage->reclaimable += file->regular ? file->allocated : 0;
	if (file->uses > 1)
		usage->shared += file->allocated;
	if (!file->id[0])
		return;
	find(&usage->owners, file->owner, file->owner)->bytes += file->allocated;
	if (file->kind == DB_FILE_IMAGE)
		find(&usage->versions, file->name, file->owner)->bytes += file->allocated;
	add_to_version(usage, file);
	if (file->kind != DB_FILE_DESKTOP && file->kind != DB_FILE_SNAPSHOT)
		return;
	snprintf(desktop, sizeof(desktop), "%.*s", (int)strcspn(file->name, "/"), file->name);
	find(&usage->desktops, desktop, file->owner)->bytes += file->allocated;
}

static json_t *owner_json(const struct usage *usage, const struct sum *sum, struct err *err)
{
	struct db_quota quota;
	struct err none;
	int64_t counted = 0;
	bool limited = db_quota_get(usage->images->db, sum->key, &quota, &none) == 0;

	if (db_quota_used(usage->images->db, sum->key, &counted, err) < 0)
		return NULL;
	return json_pack("{s:o, s:I, s:I, s:o}", "owner",
			 sum->key[0] ? json_string(sum->key) : json_null(), "bytes",
			 (json_int_t)sum->bytes, "counted_bytes", (json_int_t)counted,
			 "quota_bytes", limited ? json_integer(quota.bytes) : json_null());
}

static bool is_shown(const struct usage *usage, const struct sum *sum)
{
	return !usage->owner[0] || strcmp(usage->owner, sum->owner) == 0;
}

static json_t *sums_json(const struct usage *usage, struct err *err)
{
	json_t *owners = json_array(), *versions = json_array(), *desktops = json_array();
	struct sum *sum, *next;
	bool failed = false;

	HASH_ITER (hh, usage->owners, sum, next) {
		json_t *owner = is_shown(usage, sum) ? owner_json(usage, sum, err) : NULL;
		failed = failed || (is_shown(usage, sum) && !owner);
		if (owner)
			json_array_append_new(owners, owner);
	}
	HASH_ITER (hh, usage->versions, sum, next) {
		if (is_shown(usage, sum))
			json_array_append_new(versions,
					      json_pack("{s:s, s:I, s:I, s:I}", "image", sum->key,
							"bytes", (json_int_t)sum->bytes, "clones",
							(json_int_t)sum->clones, "clone_bytes",
							(json_int_t)sum->clone_bytes));
	}
	HASH_ITER (hh, usage->desktops, sum, next) {
		if (usage->by_desktop && is_shown(usage, sum))
			json_array_append_new(desktops, json_pack("{s:s, s:s, s:I}", "desktop",
								  sum->key, "owner", sum->owner,
								  "bytes", (json_int_t)sum->bytes));
	}
	json_t *ret = json_pack("{s:o, s:o, s:o}", "owners", owners, "images", versions, "desktops",
				desktops);
	if (failed)
		json_decref(ret);
	return failed ? NULL : ret;
}

static json_t *usage_json(struct usage *usage, struct err *err)
{
	int64_t free_bytes, total;

	HASH_SORT(usage->owners, by_key);
	HASH_SORT(usage->versions, by_key);
	HASH_SORT(usage->desktops, by_key);
	json_t *ret = images_disk_free(usage->images, &free_bytes, &total, err) < 0
			      ? NULL
			      : sums_json(usage, err);
	if (!ret)
		return NULL;
	_cleanup_json_ json_t *totals = json_pack(
		"{s:I, s:I, s:I, s:I, s:I}", "used_bytes", (json_int_t)usage->used, "shared_bytes",
		(json_int_t)usage->shared, "reclaimable_bytes", (json_int_t)usage->reclaimable,
		"free_bytes", (json_int_t)free_bytes, "total_bytes", (json_int_t)total);
	json_t *folders = json_object();
	for (int i = 0; i <= STORE_STATES; i++)
		json_object_set_new(folders, store_folder_name((enum store_folder)i),
				    json_integer(usage->folders[i]));
	json_object_set_new(totals, "folders", folders);
	json_object_update(ret, totals);
	return ret;
}

static void on_graph(void *data, struct graph *graph, const struct err *err)
{
	struct usage *usage = data;
	struct graph_file *file, *next;
	struct err failed = {0};
	json_t *json = NULL;

	if (graph) {
		HASH_ITER (hh, graph->files, file, next) {
			add_file(usage, file);
		}
		json = usage_json(usage, &failed);
		err = json ? NULL : &failed;
	}
	graph_free(graph);
	usage->done(usage->data, json, err);
	usage_free(usage);
}

int images_usage(struct images *images, const char *owner, bool desktops,
		 void (*done)(void *data, json_t *usage, const struct err *err), void *data,
		 struct err *err)
{
	struct usage *usage = mem_new(struct usage);
	struct graph_walk *walk;

	usage->images = images;
	usage->by_desktop = desktops;
	usage->done = done;
	usage->data = data;
	snprintf(usage->owner, sizeof(usage->owner), "%s", owner ? owner : "");
	if (graph_walk(images, NULL, on_graph, usage, &walk, err) == 0)
		return 0;
	usage_free(usage);
	return -1;
}
