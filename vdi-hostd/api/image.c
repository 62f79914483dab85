#include "vdi-hostd/image/image.h"

#include <fcntl.h>
#include <string.h>

#include "base/mem.h"
#include "storage/file.h"
#include "storage/format.h"
#include "vdi-hostd/api/api.h"
#include "vdi-hostd/image/lineage.h"
#include "vdi-hostd/image/verify.h"

static const char *const states[] = {"importing", "draft", "published", "retired", NULL};

/* in the order of enum storage_format, after its STORAGE_FORMAT_UNKNOWN */
static const char *const formats[] = {"auto", "qcow2", "raw", "vmdk", "vdi", "vhdx", NULL};

_Static_assert(ARRAY_LEN(formats) == STORAGE_VHDX + 2, "a format lacks its name");

static const struct json_field image_fields[] = {
	{"id", JSON_FIELD_STRING, .doc = "UUID"},
	{"name", JSON_FIELD_NAME, .doc = "shared by all its versions"},
	{"version", JSON_FIELD_INT, .doc = "from 1"},
	{"state", JSON_FIELD_ENUM, .values = states, .doc = "how far it is"},
	{"virtual_size_bytes", JSON_FIELD_INT, .doc = "of the disk that a guest sees"},
	{"file_size_bytes", JSON_FIELD_INT, .doc = "what its file takes in the store"},
	{"sha256", JSON_FIELD_STRING, JSON_FIELD_NULLABLE, .doc = "of its file in the store"},
	{"owner", JSON_FIELD_STRING, JSON_FIELD_NULLABLE, .doc = "whose it is"},
	{"description", JSON_FIELD_STRING, JSON_FIELD_NULLABLE, .doc = "for people"},
	{"parent", JSON_FIELD_STRING, JSON_FIELD_NULLABLE,
	 .doc = "the version that its file stands on, as name:version"},
	{"depth_max", JSON_FIELD_INT, .doc = "files in a clone's chain before it is flattened"},
	{"broken", JSON_FIELD_STRING, JSON_FIELD_NULLABLE,
	 .doc = "what is wrong with its file: no new desktop is made from it"},
	{"verified_at", JSON_FIELD_TIME, JSON_FIELD_NULLABLE,
	 .doc = "when its checksum was last compared"},
	{"created_at", JSON_FIELD_TIME, .doc = "when its import began"},
	{"published_at", JSON_FIELD_TIME, JSON_FIELD_NULLABLE, .doc = "when it was published"},
	{0},
};

static json_t *text_json(const char *text)
{
	return text[0] ? json_string(text) : json_null();
}

static json_t *time_json(int64_t ms)
{
	char text[STR_TIME_MAX];
	if (ms == 0)
		return json_null();
	str_format_time(ms, text);
	return json_string(text);
}

static json_t *version_json(const struct db_image *row)
{
	return row ? json_sprintf("%s:%lld", row->name, (long long)row->version) : json_null();
}

static json_t *image_json(struct images *images, const struct db_image *row)
{
	return json_pack(
		"{s:s, s:s, s:I, s:s, s:I, s:I, s:o, s:o, s:o, s:o, s:I, s:o, s:o, s:o, s:o}", "id",
		row->id, "name", row->name, "version", (json_int_t)row->version, "state",
		states[row->state], "virtual_size_bytes", (json_int_t)row->virtual_size,
		"file_size_bytes", (json_int_t)row->file_size, "sha256", text_json(row->sha256),
		"owner", text_json(row->owner), "description", text_json(row->description),
		"parent", version_json(images_parent(images, row)), "depth_max",
		(json_int_t)row->depth_max, "broken", text_json(row->broken), "verified_at",
		time_json(row->verified_at), "created_at", time_json(row->created_at),
		"published_at", time_json(row->published_at));
}

struct import_params {
	const char *name, *path, *owner, *description, *sha256;
	int format;
	bool publish;
};

static const struct json_field import_fields[] = {
	{"name", JSON_FIELD_NAME, JSON_FIELD_REQUIRED, offsetof(struct import_params, name),
	 .doc = "a name that is there already gets its next version"},
	{"path", JSON_FIELD_STRING, 0, offsetof(struct import_params, path),
	 .doc = "the file, plain or packed by gzip, xz or zstd, opened by the daemon with its own "
		"rights; left out where its descriptor, or that of a pipe, comes with the line, as "
		"vdictl sends it"},
	{"format", JSON_FIELD_ENUM, 0, offsetof(struct import_params, format), .values = formats,
	 .doc = "of the disk, also inside a packed file; auto recognises it by its first bytes"},
	{"publish", JSON_FIELD_BOOL, 0, offsetof(struct import_params, publish),
	 .doc = "publish it when it is imported"},
	{"sha256", JSON_FIELD_STRING, 0, offsetof(struct import_params, sha256), .min = 64,
	 .max = 64, .doc = "checksum that the file must have, as it was handed over"},
	{"owner", JSON_FIELD_NAME, 0, offsetof(struct import_params, owner), .doc = "whose it is"},
	{"description", JSON_FIELD_STRING, 0, offsetof(struct import_params, description),
	 .max = 255, .doc = "for people"},
	{0},
};

static int open_source(struct api_call *call, const char *path, struct err *err)
{
	int fd = api_call_take_fd(call);
	if (fd >= 0)
		return fd;
	if (!path)
		return err_set_field(err, "path",
				     "name the file by path, or send its descriptor with the line");
	if (path[0] != '/')
		return err_set_field(err, "path", "the path must begin with a slash");
	return storage_open(AT_FDCWD, path, O_RDONLY, &fd, err) < 0 ? -1 : fd;
}

static struct api_token image_import(struct api_call *call, const void *data)
{
	const struct import_params *params = data;
	const char *job_id;
	struct err err;
	int fd = open_source(call, params->path, &err);
	const struct image_import import = {
		.name = params->name,
		.fd = fd,
		.format = params->format,
		.publish = params->publish,
		.owner = params->owner,
		.description = params->description,
		.sha256 = params->sha256,
	};
	if (fd < 0 || images_import(api_call_host(call)->images, &import, &job_id, &err) < 0)
		return api_fail(call, &err);
	return api_reply_job(call, job_id);
}

struct list {
	struct images *images;
	json_t *items;
};

static void add_to_list(void *data, const struct db_image *row)
{
	struct list *list = data;
	json_array_append_new(list->items, image_json(list->images, row));
}

static struct api_token image_list(struct api_call *call, const void *data)
{
	struct list list = {api_call_host(call)->images, json_array()};
	images_each(list.images, add_to_list, &list);
	return api_reply(call, list.items);
}

struct ref_params {
	const char *image;
};

static const struct json_field ref_fields[] = {
	{"image", JSON_FIELD_REF, JSON_FIELD_REQUIRED, offsetof(struct ref_params, image),
	 .doc = "name (its newest published version), name:version or id"},
	{0},
};

static struct api_token answer_image(struct api_call *call, const char *ref)
{
	struct images *images = api_call_host(call)->images;
	struct err err;
	const struct db_image *row = images_find(images, ref, &err);
	return row ? api_reply(call, image_json(images, row)) : api_fail(call, &err);
}

static struct api_token image_get(struct api_call *call, const void *data)
{
	const struct ref_params *params = data;
	return answer_image(call, params->image);
}

/* Methods that change one image and answer it: by its id, as a change may move what a name means.
 */
static struct api_token change(struct api_call *call, const struct ref_params *params,
			       int (*operation)(struct images *, const char *, struct err *))
{
	struct images *images = api_call_host(call)->images;
	struct err err;
	const struct db_image *row = images_find(images, params->image, &err);
	if (!row)
		return api_fail(call, &err);
	char id[STR_UUID_LEN + 1];
	memcpy(id, row->id, sizeof(id));
	if (operation(images, id, &err) < 0)
		return api_fail(call, &err);
	return answer_image(call, id);
}

static struct api_token image_publish(struct api_call *call, const void *data)
{
	return change(call, data, images_publish);
}

static struct api_token image_retire(struct api_call *call, const void *data)
{
	return change(call, data, images_retire);
}

static struct api_token image_delete(struct api_call *call, const void *data)
{
	const struct ref_params *params = data;
	struct err err;
	if (images_delete(api_call_host(call)->images, params->image, &err) < 0)
		return api_fail(call, &err);
	return api_reply(call, json_object());
}

static const struct json_field chain_fields[] = {
	{"file", JSON_FIELD_STRING, .doc = "its name in the store's images/"},
	{"virtual_size_bytes", JSON_FIELD_INT, .doc = "of the disk that it holds"},
	{"file_size_bytes", JSON_FIELD_INT, .doc = "what it takes in the store"},
	{0},
};

static const struct json_field lineage_fields[] = {
	{"image", JSON_FIELD_STRING, .doc = "as name:version"},
	{"parent", JSON_FIELD_STRING, JSON_FIELD_NULLABLE, .doc = "what its file stands on"},
	{"depth", JSON_FIELD_INT, .doc = "how far below the root of its tree it stands"},
	{"state", JSON_FIELD_ENUM, .values = states, .doc = "how far it is"},
	{"virtual_size_bytes", JSON_FIELD_INT, .doc = "of the disk that a guest sees"},
	{"own_bytes", JSON_FIELD_INT, .doc = "what its file takes in the store"},
	{"shared_bytes", JSON_FIELD_INT, .doc = "what the files that it stands on take"},
	{"desktops", JSON_FIELD_INT, .doc = "how many stand on it"},
	{"snapshots", JSON_FIELD_INT, .doc = "how many stand on it"},
	{"broken", JSON_FIELD_STRING, JSON_FIELD_NULLABLE, .doc = "what is wrong with its file"},
	{0},
};

static const struct json_field chain_result[] = {
	{"files", JSON_FIELD_ARRAY, JSON_FIELD_NULLABLE, .fields = chain_fields,
	 .doc = "of the version, the top one first; each stands on the next; null where a whole "
		"image was asked for whose newest version has none that can be read"},
	{"versions", JSON_FIELD_ARRAY, JSON_FIELD_NULLABLE, .fields = lineage_fields,
	 .doc = "where a whole image was asked for: its versions as a tree, each after the one "
		"that it stands on"},
	{0},
};

static json_t *files_json(struct images *images, const struct db_image *row, struct err *err)
{
	struct image_layer layers[QEMU_CHAIN_MAX];
	size_t n;
	if (images_chain(images, row, layers, &n, err) < 0)
		return NULL;
	json_t *files = json_array();
	for (size_t i = 0; i < n; i++)
		json_array_append_new(
			files, json_pack("{s:s, s:I, s:I}", "file", layers[i].file,
					 "virtual_size_bytes", (json_int_t)layers[i].virtual_size,
					 "file_size_bytes", (json_int_t)layers[i].allocated));
	return files;
}

static void add_version(void *data, const struct image_version *version)
{
	const struct db_image *row = version->row;
	json_array_append_new(
		data,
		json_pack("{s:o, s:o, s:I, s:s, s:I, s:I, s:I, s:I, s:I, s:o}", "image",
			  version_json(row), "parent", version_json(version->parent), "depth",
			  (json_int_t)version->depth, "state", states[row->state],
			  "virtual_size_bytes", (json_int_t)row->virtual_size, "own_bytes",
			  (json_int_t)version->own, "shared_bytes", (json_int_t)version->shared,
			  "desktops", (json_int_t)version->desktops, "snapshots",
			  (json_int_t)version->snapshots, "broken", text_json(row->broken)));
}

static struct api_token image_chain(struct api_call *call, const void *data)
{
	const struct ref_params *params = data;
	struct images *images = api_call_host(call)->images;
	_cleanup_json_ json_t *versions = NULL;
	struct err err;
	const struct db_image *row = images_find(images, params->image, &err);
	if (!row)
		return api_fail(call, &err);
	if (strcmp(row->name, params->image) == 0) {
		versions = json_array();
		if (images_versions(images, row->name, add_version, versions, &err) < 0)
			return api_fail(call, &err);
	}
	json_t *files = files_json(images, row, &err);
	if (!files && !versions)
		return api_fail(call, &err);
	return api_reply(call, json_pack("{s:o?, s:O?}", "files", files, "versions", versions));
}

struct update_params {
	const char *image, *owner, *description;
	int64_t depth_max;
};

static const struct json_field update_fields[] = {
	{"image", JSON_FIELD_REF, JSON_FIELD_REQUIRED, offsetof(struct update_params, image),
	 .doc = "name (its newest published version), name:version or id"},
	{"owner", JSON_FIELD_NAME, 0, offsetof(struct update_params, owner),
	 .doc = "whose it is; counts for the new owner's quota"},
	{"description", JSON_FIELD_STRING, 0, offsetof(struct update_params, description),
	 .max = 255, .doc = "for people"},
	{"depth_max", JSON_FIELD_INT, 0, offsetof(struct update_params, depth_max), 1,
	 QEMU_CHAIN_MAX, .doc = "files in a clone's chain before it is flattened"},
	{0},
};

static struct api_token image_update(struct api_call *call, const void *data)
{
	const struct update_params *params = data;
	struct images *images = api_call_host(call)->images;
	const struct image_update update = {params->owner, params->description, params->depth_max};
	struct err err;
	if (images_update(images, params->image, &update, &err) < 0)
		return api_fail(call, &err);
	return answer_image(call, params->image);
}

static struct api_token image_verify(struct api_call *call, const void *data)
{
	const struct ref_params *params = data;
	const char *job_id;
	struct err err;
	if (images_verify(api_call_host(call)->images, params->image, &job_id, &err) < 0)
		return api_fail(call, &err);
	return api_reply_job(call, job_id);
}

#define CHANGES (API_MUTATES | API_NAMED)

const struct api_method api_image_methods[] = {
	{"image.import", API_ROLE_ADMIN, CHANGES | API_JOB | API_FILE, import_fields,
	 sizeof(struct import_params), NULL, image_import,
	 "Make a version of an image out of a disk file."},
	{"image.list", API_ROLE_OPERATOR, API_LIST, NULL, 0, image_fields, image_list,
	 "List the images and their versions."},
	{"image.get", API_ROLE_OPERATOR, API_NAMED, ref_fields, sizeof(struct ref_params),
	 image_fields, image_get, "Show one version of an image."},
	{"image.chain", API_ROLE_OPERATOR, API_NAMED, ref_fields, sizeof(struct ref_params),
	 chain_result, image_chain,
	 "Show the files that a version is made of, or an image's versions as a tree."},
	{"image.publish", API_ROLE_ADMIN, CHANGES, ref_fields, sizeof(struct ref_params),
	 image_fields, image_publish, "Offer a version for new desktops."},
	{"image.retire", API_ROLE_ADMIN, CHANGES, ref_fields, sizeof(struct ref_params),
	 image_fields, image_retire, "Offer a version no longer; its desktops go on."},
	{"image.update", API_ROLE_ADMIN, CHANGES, update_fields, sizeof(struct update_params),
	 image_fields, image_update, "Change what is said of a version; its disk never changes."},
	{"image.verify", API_ROLE_ADMIN, CHANGES | API_JOB, ref_fields, sizeof(struct ref_params),
	 NULL, image_verify, "Compare a version's file with its checksum."},
	{"image.delete", API_ROLE_ADMIN, CHANGES, ref_fields, sizeof(struct ref_params), NULL,
	 image_delete, "Delete a version that nothing stands on."},
	{0},
};
