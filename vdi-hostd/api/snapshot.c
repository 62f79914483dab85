#include "vdi-hostd/disk/snapshot.h"

#include "base/mem.h"
#include "vdi-hostd/api/api.h"

static const struct json_field snapshot_fields[] = {
	{"id", JSON_FIELD_STRING, .doc = "UUID"},
	{"name", JSON_FIELD_NAME, .doc = "unique within its desktop"},
	{"description", JSON_FIELD_STRING, JSON_FIELD_NULLABLE, .doc = "for people"},
	{"parent", JSON_FIELD_STRING, JSON_FIELD_NULLABLE, .doc = "the one that it stands on"},
	{"children", JSON_FIELD_STRINGS, .doc = "those that stand on it"},
	{"depth", JSON_FIELD_INT, .doc = "how many stand below it"},
	{"current", JSON_FIELD_BOOL, .doc = "the one that the desktop goes on from"},
	{"state", JSON_FIELD_ENUM, .values = disks_snapshot_states, .doc = "how far it is"},
	{"kind", JSON_FIELD_ENUM, .values = disks_snapshot_kinds,
	 .doc = "crash-consistent: as after a power cut; quiesced: the guest's file systems were at "
		"rest, or it was off; memory: the guest goes on where it was"},
	{"size_bytes", JSON_FIELD_INT,
	 .doc = "what its own files take in the store: what was written between its parent and it"},
	{"image", JSON_FIELD_STRING, JSON_FIELD_NULLABLE, .doc = "what the desktop stood on"},
	{"image_version", JSON_FIELD_INT, JSON_FIELD_NULLABLE, .doc = "and which version"},
	{"memory_mib", JSON_FIELD_INT, .doc = "memory that the guest had"},
	{"vcpus", JSON_FIELD_INT, .doc = "processors that the guest had"},
	{"created_at", JSON_FIELD_TIME, .doc = "when it was taken"},
	{0},
};

static struct desktop *find(struct api_call *call, const char *ref, struct err *err)
{
	return desktops_find(api_call_host(call)->desktops, ref, err);
}

static void answer(void *data, json_t *result, const struct err *err)
{
	struct api_call *call = data;

	if (err)
		api_fail(call, err);
	else
		api_reply(call, result);
}

/* desktop.snapshot.create */

struct create_params {
	const char *desktop, *name, *description;
	bool memory;
	int quiesce;
};

static const struct json_field create_fields[] = {
	{"desktop", JSON_FIELD_REF, JSON_FIELD_REQUIRED, offsetof(struct create_params, desktop),
	 .doc = "name or id"},
	{"name", JSON_FIELD_NAME, 0, offsetof(struct create_params, name),
	 .doc = "unique within the desktop; without one the date and time"},
	{"description", JSON_FIELD_STRING, 0, offsetof(struct create_params, description),
	 .max = 255, .doc = "for people"},
	{"memory", JSON_FIELD_BOOL, 0, offsetof(struct create_params, memory),
	 .doc = "with the guest's memory, so that a revert goes on where it was"},
	{"quiesce", JSON_FIELD_ENUM, 0, offsetof(struct create_params, quiesce),
	 .values = disks_quiesce_names,
	 .doc = "auto: the guest's file systems are brought to rest where its agent answers; "
		"require: or else it fails; no: as after a power cut"},
	{0},
};

static struct api_token snapshot_create(struct api_call *call, const void *data)
{
	const struct create_params *params = data;
	const struct disks_snapshot snapshot = {
		.name = params->name,
		.description = params->description,
		.memory = params->memory,
		.quiesce = (enum disks_quiesce)params->quiesce,
	};
	struct err err;
	struct desktop *desktop = find(call, params->desktop, &err);
	if (!desktop)
		return api_fail(call, &err);
	struct api_token token = api_pending(call);
	disks_snapshot_create(api_call_host(call)->disks, desktop, &snapshot, answer, call);
	return token;
}

/* desktop.snapshot.list */

struct list_params {
	const char *desktop;
};

static const struct json_field list_fields[] = {
	{"desktop", JSON_FIELD_REF, JSON_FIELD_REQUIRED, offsetof(struct list_params, desktop),
	 .doc = "name or id"},
	{0},
};

static struct api_token snapshot_list(struct api_call *call, const void *data)
{
	const struct list_params *params = data;
	json_t *list;
	struct err err;
	struct desktop *desktop = find(call, params->desktop, &err);
	if (!desktop || disks_snapshot_list(api_call_host(call)->disks, desktop, &list, &err) < 0)
		return api_fail(call, &err);
	return api_reply(call, list);
}

/* desktop.snapshot.revert */

struct ref_params {
	const char *desktop, *snapshot;
};

static const struct json_field ref_fields[] = {
	{"desktop", JSON_FIELD_REF, JSON_FIELD_REQUIRED, offsetof(struct ref_params, desktop),
	 .doc = "name or id"},
	{"snapshot", JSON_FIELD_REF, JSON_FIELD_REQUIRED, offsetof(struct ref_params, snapshot),
	 .doc = "name or id"},
	{0},
};

static struct api_token snapshot_revert(struct api_call *call, const void *data)
{
	const struct ref_params *params = data;
	struct err err;
	struct desktop *desktop = find(call, params->desktop, &err);
	if (!desktop)
		return api_fail(call, &err);
	struct api_token token = api_pending(call);
	disks_snapshot_revert(api_call_host(call)->disks, desktop, params->snapshot, answer, call);
	return token;
}

#define CHANGES (API_MUTATES | API_NAMED)

const struct api_method api_snapshot_methods[] = {
	{"desktop.snapshot.create", API_ROLE_OPERATOR, CHANGES, create_fields,
	 sizeof(struct create_params), snapshot_fields, snapshot_create,
	 "Keep a desktop's disks as they are now; it goes on at once."},
	{"desktop.snapshot.list", API_ROLE_OPERATOR, API_LIST | API_NAMED, list_fields,
	 sizeof(struct list_params), snapshot_fields, snapshot_list,
	 "List a desktop's snapshots, each behind the one that it stands on."},
	{"desktop.snapshot.revert", API_ROLE_ADMIN, CHANGES, ref_fields, sizeof(struct ref_params),
	 snapshot_fields, snapshot_revert,
	 "Go back to a snapshot; what was written since is lost."},
	{0},
};
