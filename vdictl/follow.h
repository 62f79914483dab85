/* Long work, followed to its end. */
#pragma once

#include <jansson.h>

#include "vdictl/vdictl.h"

/**
 * follow_job() - wait for a job's end; a progress bar on a terminal; Ctrl-C cancels the job
 * @ret_job: the job's last record, new reference
 *
 * Errors: what the job failed by; ERR_CANCELLED.
 */
int follow_job(struct vdictl *vdictl, const char *id, json_t **ret_job,
	       struct err *err) warn_unused;
