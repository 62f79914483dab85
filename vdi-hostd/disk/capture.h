/* A desktop's system disk becomes a new version of an image, while it lives on. */
#pragma once

#include "vdi-hostd/disk/freeze.h"

/**
 * struct disks_capture - what is made of it
 * @name:     of the image; NULL: that of the one that it stands on
 * @flatten:  a version that stands on nothing, also where it could stand on that image
 * @trim:     the guest's agent is asked to give back what its file systems do not use
 * @shutdown: the guest is shut down for the moment of the capture, and started again
 */
struct disks_capture {
	const char *name, *description;
	bool flatten, publish, trim, shutdown;
	enum disks_quiesce quiesce;
};

int disks_capture(struct disks *disks, struct desktop *desktop, const struct disks_capture *capture,
		  const char **ret_job_id, struct err *err) warn_unused;
