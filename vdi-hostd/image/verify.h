/*
 * Is a version still what was imported? Its file is read from end to end and its checksum compared,
 * when somebody asks and by the clock; what is found stands in its row. A broken one, and what
 * stands on it, is refused for new desktops until it is found to be whole again.
 */
#pragma once

#include "vdi-hostd/image/image.h"

/**
 * images_verify() - @ret_job_id: the job that does it, in bytes
 * The job fails with ERR_CORRUPT where the version is broken. Errors: ERR_UNSUPPORTED (no checksum
 * was recorded), ERR_BUSY while it is imported or verified already.
 */
int images_verify(struct images *images, const char *ref, const char **ret_job_id,
		  struct err *err) warn_unused;

/**
 * images_verify_every() - by the clock: the one that was verified longest ago, one at a time, with
 * pauses; the daemon wakes up only when one is due
 * @interval_ms: how often each; 0: never. To be called once.
 */
void images_verify_every(struct images *images, int64_t interval_ms);
