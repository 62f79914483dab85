#include "vdi-hostd/image/iso.h"

#include <fcntl.h>

#include "base/mem.h"
#include "storage/file.h"
#include "vdi-hostd/api/api.h"
#include "vdi-hostd/desktop/cdrom.h"

static const char *const states[] = {"importing", "ready", NULL};

static const struct json_field iso_fields[] = {
	{"id", JSON_FIELD_STRING, .doc = "UUID"},
	{"name", JSON_FIELD_NAME, .doc = "unique among ISOs"},
	{"state", JSON_FIELD_ENUM, .values = states, .doc = "how far it is"},
	{"size_bytes", JSON_FIELD_INT, .doc = "of the disc"},
	{"sha256", JSON_FIELD_STRING, JSON_FIELD_NULLABLE, .doc = "of the file"},
	{"owner", JSON_FIELD_STRING, JSON_FIELD_NULLABLE, .doc = "whose it is"},
	{"description", JSON_FIELD_STRING, JSON_FIELD_NULLABLE, .doc = "for people"},
	{"created_at", JSON_FIELD_TIME, .doc = "when its import began"},
	{0},
};

static json_t *text_json(const char *text)
{
	return text[0] ? json_string(text) : json_null();
}

static json_t *iso_json(const struct db_iso *row)
{
	char created[STR_TIME_MAX];
	str_format_time(row->created_at, created);
	return json_pack("{s:s, s:s, s:s, s:I, s:o, s:o, s:o, s:s}", "id", row->id, "name",
			 row->name, "state", states[row->state], "size_bytes",
			 (json_int_t)row->size, "sha256", text_json(row->sha256), "owner",
			 text_json(row->owner), "description", text_json(row->description),
			 "created_at", created);
}

struct import_params {
	const char *name, *path, *owner, *description, *sha256;
};

static const struct json_field import_fields[] = {
	{"name", JSON_FIELD_NAME, JSON_FIELD_REQUIRED, offsetof(struct import_params, name),
	 .doc = "unique among ISOs"},
	{"path", JSON_FIELD_STRING, 0, offsetof(struct import_params, path),
	 .doc = "the file, opened by the daemon with its own rights; left out where the descriptor "
		"comes with the line, as vdictl sends it"},
	{"sha256", JSON_FIELD_STRING, 0, offsetof(struct import_params, sha256), .min = 64,
	 .max = 64, .doc = "checksum that the file must have"},
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
	if (!path || path[0] != '/')
		return err_set_field(err, "path",
				     "name the file by a path from /, or send its descriptor with "
				     "the line");
	return storage_open(AT_FDCWD, path, O_RDONLY, &fd, err) < 0 ? -1 : fd;
}

static struct api_token iso_import(struct api_call *call, const void *data)
{
	const struct import_params *params = data;
	const char *job_id;
	struct err err;
	int fd = open_source(call, params->path, &err);
	const struct iso_import import = {
		.name = params->name,
		.fd = fd,
		.owner = params->owner,
		.description = params->description,
		.sha256 = params->sha256,
	};
	if (fd < 0 || isos_import(api_call_host(call)->images, &import, &job_id, &err) < 0)
		return api_fail(call, &err);
	return api_reply_job(call, job_id);
}

static void add_to_list(void *data, const struct db_iso *row)
{
	json_array_append_new(data, iso_json(row));
}

static struct api_token iso_list(struct api_call *call, const void *data)
{
	json_t *items = json_array();
	isos_each(api_call_host(call)->images, add_to_list, items);
	return api_reply(call, items);
}

struct ref_params {
	const char *iso;
};

static const struct json_field ref_fields[] = {
	{"iso", JSON_FIELD_REF, JSON_FIELD_REQUIRED, offsetof(struct ref_params, iso),
	 .doc = "name or id"},
	{0},
};

static struct api_token iso_get(struct api_call *call, const void *data)
{
	const struct ref_params *params = data;
	struct err err;
	const struct db_iso *row = isos_find(api_call_host(call)->images, params->iso, &err);
	return row ? api_reply(call, iso_json(row)) : api_fail(call, &err);
}

static struct api_token iso_delete(struct api_call *call, const void *data)
{
	const struct ref_params *params = data;
	const struct api_host *host = api_call_host(call);
	struct err err;
	if (isos_delete(host->images, params->iso, desktops_with_iso, host->desktops, &err) < 0)
		return api_fail(call, &err);
	return api_reply(call, json_object());
}

#define CHANGES (API_MUTATES | API_NAMED)

const struct api_method api_iso_methods[] = {
	{"iso.import", API_ROLE_ADMIN, CHANGES | API_JOB | API_FILE, import_fields,
	 sizeof(struct import_params), NULL, iso_import, "Take a disc's image into the library."},
	{"iso.list", API_ROLE_OPERATOR, API_LIST, NULL, 0, iso_fields, iso_list,
	 "List the ISO library."},
	{"iso.get", API_ROLE_OPERATOR, API_NAMED, ref_fields, sizeof(struct ref_params), iso_fields,
	 iso_get, "Show one ISO."},
	{"iso.delete", API_ROLE_ADMIN, CHANGES, ref_fields, sizeof(struct ref_params), NULL,
	 iso_delete, "Delete an ISO that is in no desktop's drive."},
	{0},
};
