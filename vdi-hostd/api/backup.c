#include "vdi-hostd/disk/backup.h"

#include "base/mem.h"
#include "vdi-hostd/api/api.h"
#include "vdi-hostd/disk/snapshot.h"

static const struct json_field backup_fields[] = {
	{"id", JSON_FIELD_STRING, .doc = "UUID"},
	{"desktop", JSON_FIELD_NAME, .doc = "what it was called then; it may be gone"},
	{"desktop_id", JSON_FIELD_STRING, .doc = "its id"},
	{"full", JSON_FIELD_BOOL, .doc = "it holds all; else what was written since its parent"},
	{"parent", JSON_FIELD_STRING, JSON_FIELD_NULLABLE, .doc = "the backup that it stands on"},
	{"state", JSON_FIELD_ENUM, .values = disks_backup_states,
	 .doc = "broken: verifying it found a file that is not as it was written"},
	{"image_id", JSON_FIELD_STRING, .doc = "what the desktop stood on; it may be gone"},
	{"system_disk_bytes", JSON_FIELD_INT, .doc = "size of the system disk"},
	{"data_disk_bytes", JSON_FIELD_INT, .doc = "size of the data disk; 0: there is none"},
	{"system_sha256", JSON_FIELD_STRING, JSON_FIELD_NULLABLE, .doc = "of its file"},
	{"data_sha256", JSON_FIELD_STRING, JSON_FIELD_NULLABLE, .doc = "of its file"},
	{"stored_bytes", JSON_FIELD_INT, .doc = "what its own files take in the store"},
	{"memory_mib", JSON_FIELD_INT, .doc = "memory that the desktop had"},
	{"vcpus", JSON_FIELD_INT, .doc = "processors that the desktop had"},
	{"owner", JSON_FIELD_STRING, JSON_FIELD_NULLABLE, .doc = "whose the desktop was"},
	{"created_at", JSON_FIELD_TIME, .doc = "the moment that it holds"},
	{0},
};

/* desktop.backup */

struct make_params {
	const char *desktop;
	bool full;
	int quiesce;
};

static const struct json_field make_fields[] = {
	{"desktop", JSON_FIELD_REF, JSON_FIELD_REQUIRED, offsetof(struct make_params, desktop),
	 .doc = "name or id"},
	{"full", JSON_FIELD_BOOL, 0, offsetof(struct make_params, full),
	 .doc = "all of it, also where what was written since the last backup is known"},
	{"quiesce", JSON_FIELD_ENUM, 0, offsetof(struct make_params, quiesce),
	 .values = disks_quiesce_names,
	 .doc = "auto: the guest's file systems are brought to rest where its agent answers; "
		"require: or else it fails; no: as after a power cut"},
	{0},
};

static struct api_token desktop_backup(struct api_call *call, const void *data)
{
	const struct make_params *params = data;
	const struct api_host *host = api_call_host(call);
	const char *job_id;
	struct err err;
	struct desktop *desktop = desktops_find(host->desktops, params->desktop, &err);
	if (!desktop || disks_backup(host->disks, desktop, params->full,
				     (enum disks_quiesce)params->quiesce, &job_id, &err) < 0)
		return api_fail(call, &err);
	return api_reply_job(call, job_id);
}

/* backup.list, get, delete, verify */

struct list_params {
	const char *desktop;
};

static const struct json_field list_fields[] = {
	{"desktop", JSON_FIELD_REF, 0, offsetof(struct list_params, desktop),
	 .doc = "name or id; left out: of all"},
	{0},
};

static struct api_token backup_list(struct api_call *call, const void *data)
{
	const struct list_params *params = data;
	json_t *list;
	struct err err;
	if (disks_backup_list(api_call_host(call)->disks, params->desktop, &list, &err) < 0)
		return api_fail(call, &err);
	return api_reply(call, list);
}

struct ref_params {
	const char *backup;
};

static const struct json_field ref_fields[] = {
	{"backup", JSON_FIELD_STRING, JSON_FIELD_REQUIRED, offsetof(struct ref_params, backup),
	 .max = 72, .doc = "its id; latest:DESKTOP is the newest one of a desktop"},
	{0},
};

static struct api_token backup_get(struct api_call *call, const void *data)
{
	const struct ref_params *params = data;
	json_t *backup;
	struct err err;
	if (disks_backup_get(api_call_host(call)->disks, params->backup, &backup, &err) < 0)
		return api_fail(call, &err);
	return api_reply(call, backup);
}

static struct api_token backup_delete(struct api_call *call, const void *data)
{
	const struct ref_params *params = data;
	struct err err;
	if (disks_backup_delete(api_call_host(call)->disks, params->backup, &err) < 0)
		return api_fail(call, &err);
	return api_reply(call, json_object());
}

static struct api_token backup_verify(struct api_call *call, const void *data)
{
	const struct ref_params *params = data;
	const char *job_id;
	struct err err;
	if (disks_backup_verify(api_call_host(call)->disks, params->backup, &job_id, &err) < 0)
		return api_fail(call, &err);
	return api_reply_job(call, job_id);
}

/* backup.restore */

static const struct json_field restore_fields[] = {
	{"backup", JSON_FIELD_STRING, JSON_FIELD_REQUIRED, offsetof(struct disks_restore, backup),
	 .max = 72, .doc = "its id; latest:DESKTOP is the newest one of a desktop"},
	{"name", JSON_FIELD_NAME, JSON_FIELD_REQUIRED, offsetof(struct disks_restore, name),
	 .doc = "of the new desktop"},
	{"network", JSON_FIELD_REF, 0, offsetof(struct disks_restore, network),
	 .doc = "its network; left out: none"},
	{"image", JSON_FIELD_REF, 0, offsetof(struct disks_restore, image),
	 .doc = "what it counts as a clone of, where that is not what the backed up one was; its "
		"disks stand on none"},
	{"owner", JSON_FIELD_NAME, 0, offsetof(struct disks_restore, owner),
	 .doc = "whose it is; left out: as the backed up one"},
	{0},
};

static struct api_token backup_restore(struct api_call *call, const void *data)
{
	const char *job_id;
	struct err err;
	if (disks_restore(api_call_host(call)->disks, data, &job_id, &err) < 0)
		return api_fail(call, &err);
	return api_reply_job(call, job_id);
}

#define CHANGES (API_MUTATES | API_NAMED)

const struct api_method api_backup_methods[] = {
	{"desktop.backup", API_ROLE_OPERATOR, CHANGES | API_JOB, make_fields,
	 sizeof(struct make_params), NULL, desktop_backup,
	 "Copy a desktop's disks as they are now, or what was written since the last time."},
	{"backup.list", API_ROLE_OPERATOR, API_LIST, list_fields, sizeof(struct list_params),
	 backup_fields, backup_list, "List the backups, oldest first."},
	{"backup.get", API_ROLE_OPERATOR, API_NAMED, ref_fields, sizeof(struct ref_params),
	 backup_fields, backup_get, "Show one backup."},
	{"backup.verify", API_ROLE_OPERATOR, CHANGES | API_JOB, ref_fields,
	 sizeof(struct ref_params), NULL, backup_verify,
	 "Compare the files of a backup, and of those that it stands on, with their checksums."},
	{"backup.restore", API_ROLE_ADMIN, CHANGES | API_JOB, restore_fields,
	 sizeof(struct disks_restore), NULL, backup_restore,
	 "Make a new desktop with the disks of a backup."},
	{"backup.delete", API_ROLE_ADMIN, CHANGES, ref_fields, sizeof(struct ref_params), NULL,
	 backup_delete, "Delete a backup that no other stands on."},
	{0},
};
