#include "vdi-hostd/image/image.h"

#include <fcntl.h>

#include "base/mem.h"
#include "storage/file.h"
#include "storage/format.h"
#include "vdi-hostd/api/api.h"
#include "vdi-hostd/desktop/desktop.h"

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
	{"created_at", JSON_FIELD_TIME, .doc = "when its import began"},
	{"published_at", JSON_FIELD_TIME, JSON_FIELD_NULLABLE, .doc = "when it was published"},
	{0},
};

static json_t *text_json(const char *text)
{
	return text[0] ? json_string(text) : json_null();
}

static json_t *image_json(const struct db_image *row)
{
	char created[STR_TIME_MAX], published[STR_TIME_MAX];
	str_format_time(row->created_at, created);
	str_format_time(row->published_at, published);
	return json_pack("{s:s, s:s, s:I, s:s, s:I, s:I, s:o, s:o, s:o, s:s, s:s?}", "id", row->id,
			 "name", row->name, "version", (json_int_t)row->version, "state",
			 states[row->state], "virtual_size_bytes", (json_int_t)row->virtual_size,
			 "file_size_bytes", (json_int_t)row->file_size, "sha256",
			 text_json(row->sha256), "owner", text_json(row->owner), "description",
			 text_json(row->description), "created_at", created, "published_at",
			 row->published_at ? published : NULL);
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

static void add_to_list(void *data, const struct db_image *row)
{
	json_array_append_new(data, image_json(row));
}

static struct api_token image_list(struct api_call *call, const void *data)
{
	json_t *items = json_array();
	images_each(api_call_host(call)->images, add_to_list, items);
	return api_reply(call, items);
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
	struct err err;
	const struct db_image *row = images_find(api_call_host(call)->images, ref, &err);
	return row ? api_reply(call, image_json(row)) : api_fail(call, &err);
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
	const struct api_host *host = api_call_host(call);
	struct err err;
	if (images_delete(host->images, params->image, desktops_use_image, host->desktops, &err) <
	    0)
		return api_fail(call, &err);
	return api_reply(call, json_object());
}

static const struct json_field chain_fields[] = {
	{"file", JSON_FIELD_STRING, .doc = "its name in the store's images/"},
	{"virtual_size_bytes", JSON_FIELD_INT, .doc = "of the disk that it holds"},
	{"file_size_bytes", JSON_FIELD_INT, .doc = "what it takes in the store"},
	{0},
};

static const struct json_field chain_result[] = {
	{"files", JSON_FIELD_ARRAY, .fields = chain_fields,
	 .doc = "the top one first; each stands on the next"},
	{0},
};

static struct api_token image_chain(struct api_call *call, const void *data)
{
	const struct ref_params *params = data;
	struct images *images = api_call_host(call)->images;
	struct image_layer layers[QEMU_CHAIN_MAX];
	struct err err;
	size_t n;
	const struct db_image *row = images_find(images, params->image, &err);
	if (!row || images_chain(images, row, layers, &n, &err) < 0)
		return api_fail(call, &err);
	json_t *files = json_array();
	for (size_t i = 0; i < n; i++)
		json_array_append_new(
			files, json_pack("{s:s, s:I, s:I}", "file", layers[i].file,
					 "virtual_size_bytes", (json_int_t)layers[i].virtual_size,
					 "file_size_bytes", (json_int_t)layers[i].allocated));
	return api_reply(call, json_pack("{s:o}", "files", files));
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
	 chain_result, image_chain, "Show the files that a version is made of."},
	{"image.publish", API_ROLE_ADMIN, CHANGES, ref_fields, sizeof(struct ref_params),
	 image_fields, image_publish, "Offer a version for new desktops."},
	{"image.retire", API_ROLE_ADMIN, CHANGES, ref_fields, sizeof(struct ref_params),
	 image_fields, image_retire, "Offer a version no longer; its desktops go on."},
	{"image.delete", API_ROLE_ADMIN, CHANGES, ref_fields, sizeof(struct ref_params), NULL,
	 image_delete, "Delete a version that no desktop is a clone of."},
	{0},
};
