/* Methods on the image store as a whole. */
#include "base/mem.h"
#include "vdi-hostd/api/api.h"
#include "vdi-hostd/image/gc.h"
#include "vdi-hostd/image/usage.h"

#define MIN_AGE_FIELD(params)                                                                      \
	{                                                                                          \
		"min_age_s", JSON_FIELD_INT, 0, offsetof(struct params, min_age_s), 0, 10LL << 30, \
			IMAGES_GC_MIN_AGE_S,                                                       \
			.doc = "younger files are left alone: they may be in the making"           \
	}

struct gc_params {
	bool dry_run;
	int64_t min_age_s;
};

static const struct json_field gc_fields[] = {
	{"dry_run", JSON_FIELD_BOOL, 0, offsetof(struct gc_params, dry_run),
	 .doc = "only say what would be removed"},
	MIN_AGE_FIELD(gc_params),
	{0},
};

static struct api_token image_gc(struct api_call *call, const void *data)
{
	const struct gc_params *params = data;
	const struct image_gc gc = {params->dry_run, params->min_age_s};
	const char *job_id;
	struct err err;
	if (images_gc(api_call_host(call)->images, &gc, &job_id, &err) < 0)
		return api_fail(call, &err);
	return api_reply_job(call, job_id);
}

struct scrub_params {
	bool checksums, repair;
	int64_t min_age_s;
};

static const struct json_field scrub_fields[] = {
	{"checksums", JSON_FIELD_BOOL, 0, offsetof(struct scrub_params, checksums),
	 .doc = "read every version from end to end, too"},
	{"repair", JSON_FIELD_BOOL, 0, offsetof(struct scrub_params, repair),
	 .doc = "set modes right, remove what nobody needs, and mark versions that are broken"},
	MIN_AGE_FIELD(scrub_params),
	{0},
};

static struct api_token image_scrub(struct api_call *call, const void *data)
{
	const struct scrub_params *params = data;
	const struct image_scrub scrub = {params->checksums, params->repair, params->min_age_s};
	const char *job_id;
	struct err err;
	if (images_scrub(api_call_host(call)->images, &scrub, &job_id, &err) < 0)
		return api_fail(call, &err);
	return api_reply_job(call, job_id);
}

struct usage_params {
	const char *owner;
	bool desktops;
};

static const struct json_field usage_fields[] = {
	{"owner", JSON_FIELD_NAME, 0, offsetof(struct usage_params, owner),
	 .doc = "only this one's images and desktops; the totals are of the whole store"},
	{"desktops", JSON_FIELD_BOOL, 0, offsetof(struct usage_params, desktops),
	 .doc = "desktops one by one, too"},
	{0},
};

static const struct json_field owner_fields[] = {
	{"owner", JSON_FIELD_STRING, JSON_FIELD_NULLABLE, .doc = "null: what is nobody's"},
	{"bytes", JSON_FIELD_INT, .doc = "what the files take in the store"},
	{"counted_bytes", JSON_FIELD_INT, .doc = "what counts for the quota"},
	{"quota_bytes", JSON_FIELD_INT, JSON_FIELD_NULLABLE, .doc = "the quota"},
	{0},
};

static const struct json_field version_fields[] = {
	{"image", JSON_FIELD_STRING, .doc = "as name:version"},
	{"bytes", JSON_FIELD_INT, .doc = "what its file takes"},
	{"clones", JSON_FIELD_INT, .doc = "disks of desktops that stand on it"},
	{"clone_bytes", JSON_FIELD_INT, .doc = "what those and their snapshots take"},
	{0},
};

static const struct json_field desktop_fields[] = {
	{"desktop", JSON_FIELD_STRING, .doc = "its name"},
	{"owner", JSON_FIELD_STRING, .doc = "whose it is"},
	{"bytes", JSON_FIELD_INT, .doc = "what its disks and snapshots take"},
	{0},
};

static const struct json_field usage_result[] = {
	{"used_bytes", JSON_FIELD_INT, .doc = "what all files take in the store"},
	{"shared_bytes", JSON_FIELD_INT, .doc = "of these, files that several others stand on"},
	{"reclaimable_bytes", JSON_FIELD_INT, .doc = "of these, what image.gc can remove"},
	{"free_bytes", JSON_FIELD_INT, .doc = "free on the store's file system"},
	{"total_bytes", JSON_FIELD_INT, .doc = "its size"},
	{"folders", JSON_FIELD_OBJECT, .doc = "bytes by folder of the store"},
	{"owners", JSON_FIELD_ARRAY, .fields = owner_fields, .doc = "by owner"},
	{"images", JSON_FIELD_ARRAY, .fields = version_fields, .doc = "by version of an image"},
	{"desktops", JSON_FIELD_ARRAY, .fields = desktop_fields, .doc = "where asked for"},
	{0},
};

static void answer_usage(void *data, json_t *usage, const struct err *err)
{
	if (err)
		api_fail(data, err);
	else
		api_reply(data, usage);
}

static struct api_token image_usage(struct api_call *call, const void *data)
{
	const struct usage_params *params = data;
	struct err err;
	if (images_usage(api_call_host(call)->images, params->owner, params->desktops, answer_usage,
			 call, &err) < 0)
		return api_fail(call, &err);
	return api_pending(call);
}

const struct api_method api_store_methods[] = {
	{"image.gc", API_ROLE_ADMIN, API_MUTATES | API_JOB, gc_fields, sizeof(struct gc_params),
	 NULL, image_gc, "Remove files of the store that nothing needs."},
	{"image.scrub", API_ROLE_ADMIN, API_MUTATES | API_JOB, scrub_fields,
	 sizeof(struct scrub_params), NULL, image_scrub,
	 "Compare the store's files with what the daemon knows of them."},
	{"image.usage", API_ROLE_OPERATOR, 0, usage_fields, sizeof(struct usage_params),
	 usage_result, image_usage, "Show what the store's space is used for."},
	{0},
};
