#include "vdi-hostd/db/quota.h"

#include <stdio.h>

#include "base/mem.h"
#include "vdi-hostd/api/api.h"

#define GIB (1LL << 30)

static const struct json_field quota_fields[] = {
	{"owner", JSON_FIELD_NAME, .doc = "whose"},
	{"bytes", JSON_FIELD_INT, .doc = "how much his disks, images, ISOs and backups may have"},
	{"used_bytes", JSON_FIELD_INT,
	 .doc = "what counts now: disks by the size that guests see, the rest by its files"},
	{0},
};

struct list {
	struct db *db;
	json_t *items;
	struct err *err;
};

static json_t *quota_json(struct db *db, const struct db_quota *row, struct err *err)
{
	int64_t used;
	if (db_quota_used(db, row->owner, &used, err) < 0)
		return NULL;
	return json_pack("{s:s, s:I, s:I}", "owner", row->owner, "bytes", (json_int_t)row->bytes,
			 "used_bytes", (json_int_t)used);
}

static int add_to_list(void *data, const struct db_quota *row)
{
	struct list *list = data;
	json_t *quota = quota_json(list->db, row, list->err);
	return quota ? json_array_append_new(list->items, quota) : -1;
}

static struct api_token quota_list(struct api_call *call, const void *data)
{
	struct err err = {0};
	struct list list = {api_call_host(call)->db, json_array(), &err};
	if (db_quota_each(list.db, add_to_list, &list, &err) == 0)
		return api_reply(call, list.items);
	json_decref(list.items);
	return api_fail(call, &err);
}

struct set_params {
	const char *owner;
	int64_t gib, bytes;
};

static const struct json_field set_fields[] = {
	{"owner", JSON_FIELD_NAME, JSON_FIELD_REQUIRED, offsetof(struct set_params, owner),
	 .doc = "the owner of desktops and images that it is for"},
	{"gib", JSON_FIELD_INT, 0, offsetof(struct set_params, gib), 0, 1LL << 32, -1,
	 .doc = "how much there may be, in GiB"},
	{"bytes", JSON_FIELD_SIZE, 0, offsetof(struct set_params, bytes), 0, INT64_MAX, -1,
	 .doc = "the same in bytes; one of the two"},
	{0},
};

static struct api_token quota_set(struct api_call *call, const void *data)
{
	const struct set_params *params = data;
	struct db *db = api_call_host(call)->db;
	struct db_quota row = {.bytes = params->gib >= 0 ? params->gib * GIB : params->bytes};
	struct err err;
	if ((params->gib >= 0) == (params->bytes >= 0)) {
		err_set_field(&err, "gib", "say how much by gib, or by bytes");
		return api_fail(call, &err);
	}
	snprintf(row.owner, sizeof(row.owner), "%s", params->owner);
	json_t *quota = NULL;
	if (db_quota_set(db, &row, &err) < 0 || !(quota = quota_json(db, &row, &err)))
		return api_fail(call, &err);
	return api_reply(call, quota);
}

struct delete_params {
	const char *owner;
};

static const struct json_field delete_fields[] = {
	{"owner", JSON_FIELD_NAME, JSON_FIELD_REQUIRED, offsetof(struct delete_params, owner),
	 .doc = "whose"},
	{0},
};

static struct api_token quota_delete(struct api_call *call, const void *data)
{
	const struct delete_params *params = data;
	struct err err;
	if (db_quota_delete(api_call_host(call)->db, params->owner, &err) == 0)
		return api_reply(call, json_object());
	if (err.code == ERR_NOT_FOUND)
		err_set(&err, ERR_NOT_FOUND,
			"'%s' has no quota; `vdictl quota list` shows who has one", params->owner);
	return api_fail(call, &err);
}

#define CHANGES (API_MUTATES | API_NAMED)

const struct api_method api_quota_methods[] = {
	{"quota.set", API_ROLE_ADMIN, CHANGES, set_fields, sizeof(struct set_params), quota_fields,
	 quota_set, "Limit the space that an owner's disks and images may have."},
	{"quota.list", API_ROLE_OPERATOR, API_LIST, NULL, 0, quota_fields, quota_list,
	 "List the quotas and what is used of them."},
	{"quota.delete", API_ROLE_ADMIN, CHANGES, delete_fields, sizeof(struct delete_params), NULL,
	 quota_delete, "Lift an owner's quota."},
	{0},
};
