#include "vdi-hostd/disk/export.h"

#include "base/mem.h"
#include "vdi-hostd/api/api.h"
#include "vdi-hostd/disk/snapshot.h"

static const char *const disks[] = {"system", "data", NULL};
static const char *const formats[] = {"qcow2", "raw", "vmdk", "vhdx", NULL};
static const enum storage_format format_of[] = {STORAGE_QCOW2, STORAGE_RAW, STORAGE_VMDK,
						STORAGE_VHDX};

struct export_params {
	const char *image, *desktop, *path;
	int format, disk, quiesce;
	bool compress, chain, force;
};

static const struct json_field export_fields[] = {
	{"image", JSON_FIELD_REF, 0, offsetof(struct export_params, image),
	 .doc = "name (its newest published version), name:version or id"},
	{"desktop", JSON_FIELD_REF, 0, offsetof(struct export_params, desktop),
	 .doc = "in place of an image: a disk of this desktop as it is now, running or not"},
	{"disk", JSON_FIELD_ENUM, 0, offsetof(struct export_params, disk), .values = disks,
	 .doc = "which of the desktop's"},
	{"quiesce", JSON_FIELD_ENUM, 0, offsetof(struct export_params, quiesce),
	 .values = disks_quiesce_names,
	 .doc = "of a desktop: auto: the guest's file systems are brought to rest where its agent "
		"answers; require: or else it fails; no: as after a power cut"},
	{"path", JSON_FIELD_STRING, 0, offsetof(struct export_params, path),
	 .doc = "where to, written by the daemon with its own rights; left out where the "
		"descriptor comes with the line, as vdictl sends it (there - is the standard "
		"output)"},
	{"format", JSON_FIELD_ENUM, 0, offsetof(struct export_params, format), .values = formats,
	 .doc = "of the file (without one: qcow2)"},
	{"compress", JSON_FIELD_BOOL, 0, offsetof(struct export_params, compress),
	 .doc = "qcow2 only: slower to write and to read, and smaller"},
	{"chain", JSON_FIELD_BOOL, 0, offsetof(struct export_params, chain),
	 .doc = "the files that it stands on as they are, as a tar archive"},
	{"force", JSON_FIELD_BOOL, 0, offsetof(struct export_params, force),
	 .doc = "replace the file that is there"},
	{0},
};

static int open_target(struct api_call *call, const struct export_params *params,
		       struct export_target *ret, struct err *err)
{
	int fd = api_call_take_fd(call);
	if (fd >= 0)
		return export_target_fd(ret, fd, err);
	if (!params->path)
		return err_set_field(err, "path",
				     "name the file by path, or send its descriptor with the line");
	return export_target_path(ret, params->path, params->force, err);
}

static struct api_token image_export(struct api_call *call, const void *data)
{
	const struct export_params *params = data;
	const struct disks_export wanted = {
		.image = params->image,
		.desktop = params->desktop,
		.disk = params->disk,
		.quiesce = (enum disks_quiesce)params->quiesce,
		.format = format_of[params->format],
		.compress = params->compress,
		.chain = params->chain,
	};
	struct export_target target = EXPORT_TARGET_NONE;
	const char *job_id;
	struct err err;
	if (open_target(call, params, &target, &err) < 0 ||
	    disks_export(api_call_host(call)->disks, &wanted, &target, &job_id, &err) < 0)
		return api_fail(call, &err);
	return api_reply_job(call, job_id);
}

const struct api_method api_export_methods[] = {
	{"image.export", API_ROLE_ADMIN,
	 API_MUTATES | API_NAMED | API_JOB | API_FILE | API_FILE_OUT, export_fields,
	 sizeof(struct export_params), NULL, image_export,
	 "Write a version of an image, or a desktop's disk, to a file or a pipe."},
	{0},
};
