#include "vdi-hostd/disk/snapshot.h"

#include "base/mem.h"
#include "vdi-hostd/api/api.h"
#include "vdi-hostd/config.h"

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
	 .doc = "what its own files take in the store: what was written between its parent and it, and "
		"its memory"},
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

/* desktop.snapshot.delete, desktop.flatten */

#define MIB (1LL << 20)

struct delete_params {
	const char *desktop, *snapshot;
	int64_t rate;
};

#define RATE_FIELD(params)                                                                         \
	{                                                                                          \
		"rate_mib_s", JSON_FIELD_INT, 0, offsetof(struct params, rate), 0, 1 << 20, -1,    \
			.doc = "how fast it may copy; 0 as fast as it can; without it as "         \
			       "configured"                                                        \
	}

static const struct json_field delete_fields[] = {
	{"desktop", JSON_FIELD_REF, JSON_FIELD_REQUIRED, offsetof(struct delete_params, desktop),
	 .doc = "name or id"},
	{"snapshot", JSON_FIELD_REF, JSON_FIELD_REQUIRED, offsetof(struct delete_params, snapshot),
	 .doc = "name or id"},
	RATE_FIELD(delete_params),
	{0},
};

static int64_t rate(struct api_call *call, int64_t mib_s)
{
	return (mib_s < 0 ? api_call_host(call)->config->merge_rate_mib_s : mib_s) * MIB;
}

static struct api_token snapshot_delete(struct api_call *call, const void *data)
{
	const struct delete_params *params = data;
	const char *job;
	struct err err;
	struct desktop *desktop = find(call, params->desktop, &err);
	if (!desktop || disks_snapshot_delete(api_call_host(call)->disks, desktop, params->snapshot,
					      rate(call, params->rate), &job, &err) < 0)
		return api_fail(call, &err);
	return api_reply_job(call, job);
}

struct flatten_params {
	const char *desktop;
	bool all;
	int64_t rate;
};

static const struct json_field flatten_fields[] = {
	{"desktop", JSON_FIELD_REF, JSON_FIELD_REQUIRED, offsetof(struct flatten_params, desktop),
	 .doc = "name or id"},
	{"all", JSON_FIELD_BOOL, 0, offsetof(struct flatten_params, all),
	 .doc = "the image as well: the desktop then stands alone"},
	RATE_FIELD(flatten_params),
	{0},
};

static struct api_token desktop_flatten(struct api_call *call, const void *data)
{
	const struct flatten_params *params = data;
	const char *job;
	struct err err;
	struct desktop *desktop = find(call, params->desktop, &err);
	if (!desktop || disks_flatten(api_call_host(call)->disks, desktop, params->all,
				      rate(call, params->rate), &job, &err) < 0)
		return api_fail(call, &err);
	return api_reply_job(call, job);
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
	{"desktop.snapshot.delete", API_ROLE_OPERATOR, CHANGES | API_JOB, delete_fields,
	 sizeof(struct delete_params), NULL, snapshot_delete,
	 "Delete a snapshot; what others stand on is merged with them, also while it runs."},
	{"desktop.flatten", API_ROLE_OPERATOR, CHANGES | API_JOB, flatten_fields,
	 sizeof(struct flatten_params), NULL, desktop_flatten,
	 "Merge the files of a desktop's disks that no snapshot needs."},
	{0},
};
