#include "vdi-hostd/disk/capture.h"

#include "base/mem.h"
#include "vdi-hostd/api/api.h"
#include "vdi-hostd/disk/snapshot.h"

struct capture_params {
	const char *desktop, *name, *description;
	bool flatten, publish, trim, shutdown;
	int quiesce;
};

static const struct json_field capture_fields[] = {
	{"desktop", JSON_FIELD_REF, JSON_FIELD_REQUIRED, offsetof(struct capture_params, desktop),
	 .doc = "name or id"},
	{"name", JSON_FIELD_NAME, 0, offsetof(struct capture_params, name),
	 .doc = "of the image; left out: another version of the one that the desktop stands on"},
	{"publish", JSON_FIELD_BOOL, 0, offsetof(struct capture_params, publish),
	 .doc = "publish it when it is there"},
	{"description", JSON_FIELD_STRING, 0, offsetof(struct capture_params, description),
	 .max = 255, .doc = "for people"},
	{"flatten", JSON_FIELD_BOOL, 0, offsetof(struct capture_params, flatten),
	 .doc = "one file that stands on no other version, which takes longer and more room"},
	{"trim", JSON_FIELD_BOOL, 0, offsetof(struct capture_params, trim),
	 .doc = "have the guest's agent give back what its file systems do not use"},
	{"shutdown", JSON_FIELD_BOOL, 0, offsetof(struct capture_params, shutdown),
	 .doc = "shut the guest down for it, and start it again"},
	{"quiesce", JSON_FIELD_ENUM, 0, offsetof(struct capture_params, quiesce),
	 .values = disks_quiesce_names,
	 .doc = "auto: the guest's file systems are brought to rest where its agent answers; "
		"require: or else it fails; no: as after a power cut"},
	{0},
};

static struct api_token image_capture(struct api_call *call, const void *data)
{
	const struct capture_params *params = data;
	const struct api_host *host = api_call_host(call);
	const struct disks_capture wanted = {
		.name = params->name,
		.description = params->description,
		.flatten = params->flatten,
		.publish = params->publish,
		.trim = params->trim,
		.shutdown = params->shutdown,
		.quiesce = (enum disks_quiesce)params->quiesce,
	};
	const char *job_id;
	struct err err;
	struct desktop *desktop = desktops_find(host->desktops, params->desktop, &err);
	if (!desktop || disks_capture(host->disks, desktop, &wanted, &job_id, &err) < 0)
		return api_fail(call, &err);
	return api_reply_job(call, job_id);
}

const struct api_method api_capture_methods[] = {
	{"image.capture", API_ROLE_ADMIN, API_MUTATES | API_NAMED | API_JOB, capture_fields,
	 sizeof(struct capture_params), NULL, image_capture,
	 "Make a version of an image out of a desktop's disk; the desktop goes on."},
	{0},
};
