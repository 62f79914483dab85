/* Versions of images, and disks of desktops, as files for other programs. */
#pragma once

#include "storage/format.h"
#include "vdi-hostd/disk/freeze.h"
#include "vdi-hostd/disk/target.h"

/**
 * struct disks_export - what goes where
 * @image, @desktop: one of the two; a desktop goes on running
 * @disk:   of the desktop: DB_DISK_*
 * @format: not STORAGE_VDI
 * @chain:  the files of the chain as they are, in an archive; @format and @compress do not count
 */
struct disks_export {
	const char *image, *desktop;
	int disk;
	enum storage_format format;
	bool compress, chain;
	enum disks_quiesce quiesce; /* of a desktop that runs */
};

/** disks_export() - @target: taken, also on failure; @ret_job_id: the job that does it */
int disks_export(struct disks *disks, const struct disks_export *export,
		 struct export_target *target, const char **ret_job_id,
		 struct err *err) warn_unused;

/** exports_cancel() - the daemon stops: their jobs end in this call, the rest while the loop runs
 * on */
void exports_cancel(struct disks *disks);
