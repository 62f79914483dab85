/* Desktops move to another version of their image. */
#include "vdi-hostd/disk/recompose.h"

#include "base/mem.h"
#include "vdi-hostd/api/api.h"

static const struct json_field item_fields[] = {
	{"desktop", JSON_FIELD_STRING, .doc = "its name"},
	{"from", JSON_FIELD_STRING, .doc = "name:version that it stood on"},
	{"to", JSON_FIELD_STRING, .doc = "name:version that was asked for"},
	{"action", JSON_FIELD_ENUM, .values = disks_recompose_actions,
	 .doc = "none: it stands there already; next-start: it is disposable, and moves with its "
		"next start; recompose: its system disk is made anew; restart: the same, stopped "
		"before and started after; refused: see error"},
	{"warning", JSON_FIELD_STRING, JSON_FIELD_NULLABLE, .doc = "what to think of first"},
	{"error", JSON_FIELD_STRING, JSON_FIELD_NULLABLE, .doc = "what stood in the way"},
	{0},
};

#define HOW_FIELDS(params)                                                                         \
	{"stop", JSON_FIELD_BOOL, 0, offsetof(struct params, stop),                                \
	 .doc = "stop a desktop that runs, and start it again afterwards"},                        \
		{"force", JSON_FIELD_BOOL, 0, offsetof(struct params, force),                      \
		 .doc = "also a desktop without a data disk, whose user may keep things on the "   \
			"system disk"},                                                            \
	{                                                                                          \
		"dry_run", JSON_FIELD_BOOL, 0, offsetof(struct params, dry_run),                   \
			.doc = "only say what would be done"                                       \
	}

/* desktop.recompose */

struct one_params {
	const char *desktop, *image;
	bool stop, force, dry_run;
};

static const struct json_field one_fields[] = {
	{"desktop", JSON_FIELD_REF, JSON_FIELD_REQUIRED, offsetof(struct one_params, desktop),
	 .doc = "name or id"},
	{"image", JSON_FIELD_REF, JSON_FIELD_REQUIRED, offsetof(struct one_params, image),
	 .doc = "the version to move to: name (its newest published version), name:version or id"},
	HOW_FIELDS(one_params),
	{0},
};

static void answer_item(void *data, json_t *item, const struct err *err)
{
	struct api_call *call = data;

	if (err)
		api_fail(call, err);
	else
		api_reply(call, item);
}

static struct desktop *find(struct api_call *call, const char *ref, struct err *err)
{
	return desktops_find(api_call_host(call)->desktops, ref, err);
}

static struct api_token recompose_one(struct api_call *call, const void *data)
{
	const struct one_params *params = data;
	const struct disks_recompose how = {params->stop, params->force, params->dry_run};
	struct err err;
	struct desktop *desktop = find(call, params->desktop, &err);
	if (!desktop)
		return api_fail(call, &err);
	struct api_token token = api_pending(call);
	disks_recompose(api_call_host(call)->disks, desktop, params->image, &how, answer_item,
			call);
	return token;
}

/* desktop.recompose.undo, confirm */

struct ref_params {
	const char *desktop;
};

static const struct json_field ref_fields[] = {
	{"desktop", JSON_FIELD_REF, JSON_FIELD_REQUIRED, offsetof(struct ref_params, desktop),
	 .doc = "name or id"},
	{0},
};

static const struct json_field moved_fields[] = {
	{"desktop", JSON_FIELD_STRING, .doc = "its name"},
	{"image", JSON_FIELD_STRING, .doc = "what it stands on"},
	{"image_version", JSON_FIELD_INT, .doc = "and which version"},
	{0},
};

static void answer_desktop(void *data, struct desktop *desktop, const struct err *err)
{
	struct api_call *call = data;

	if (err) {
		api_fail(call, err);
		return;
	}
	_cleanup_json_ json_t *all = desktop_to_json(desktop);
	api_reply(call, json_pack("{s:O, s:O, s:O}", "desktop", json_object_get(all, "name"),
				  "image", json_object_get(all, "image"), "image_version",
				  json_object_get(all, "image_version")));
}

static struct api_token end_recompose(struct api_call *call, const struct ref_params *params,
				      void (*end)(struct disks *, struct desktop *, desktop_cb,
						  void *))
{
	struct err err;
	struct desktop *desktop = find(call, params->desktop, &err);
	if (!desktop)
		return api_fail(call, &err);
	struct api_token token = api_pending(call);
	end(api_call_host(call)->disks, desktop, answer_desktop, call);
	return token;
}

static struct api_token recompose_undo(struct api_call *call, const void *data)
{
	return end_recompose(call, data, disks_recompose_undo);
}

static struct api_token recompose_confirm(struct api_call *call, const void *data)
{
	return end_recompose(call, data, disks_recompose_confirm);
}

/* image.recompose */

struct all_params {
	const char *image, *from;
	json_t *desktops;
	bool stop, force, dry_run;
};

static const struct json_field all_fields[] = {
	{"image", JSON_FIELD_REF, JSON_FIELD_REQUIRED, offsetof(struct all_params, image),
	 .doc = "the version to move to: name (its newest published version), name:version or id"},
	{"from", JSON_FIELD_REF, 0, offsetof(struct all_params, from),
	 .doc = "only desktops that stand on this version; without it those on any version of that "
		"name"},
	{"desktops", JSON_FIELD_STRINGS, 0, offsetof(struct all_params, desktops), .max = 10000,
	 .doc = "only these of them: names or ids"},
	HOW_FIELDS(all_params),
	{0},
};

static struct api_token recompose_all(struct api_call *call, const void *data)
{
	const struct all_params *params = data;
	const struct disks_recompose_all what = {
		.image = params->image,
		.from = params->from,
		.desktops = params->desktops,
		.how = {params->stop, params->force, params->dry_run},
	};
	const char *job_id;
	struct err err;
	if (disks_recompose_all(api_call_host(call)->disks, &what, &job_id, &err) < 0)
		return api_fail(call, &err);
	return api_reply_job(call, job_id);
}

#define CHANGES (API_MUTATES | API_NAMED)

const struct api_method api_recompose_methods[] = {
	{"desktop.recompose", API_ROLE_ADMIN, CHANGES, one_fields, sizeof(struct one_params),
	 item_fields, recompose_one, "Move a desktop to another version of its image."},
	{"desktop.recompose.undo", API_ROLE_ADMIN, CHANGES, ref_fields, sizeof(struct ref_params),
	 moved_fields, recompose_undo, "Go back to the system disk from before a recompose."},
	{"desktop.recompose.confirm", API_ROLE_ADMIN, CHANGES, ref_fields,
	 sizeof(struct ref_params), moved_fields, recompose_confirm,
	 "Keep a recompose: the old system disk is deleted."},
	{"image.recompose", API_ROLE_ADMIN, CHANGES | API_JOB, all_fields,
	 sizeof(struct all_params), NULL, recompose_all,
	 "Move the desktops of an image to one of its versions."},
	{0},
};
