/* Long work: what runs now, with progress and cancel; its record is in the database. */
#pragma once

#include <jansson.h>
#include <uv.h>

#include "vdi-hostd/db/job.h"

struct jobs;
struct job;

int jobs_new(uv_loop_t *loop, struct db *db, struct jobs **ret, struct err *err) warn_unused;
/** jobs_free() - running jobs are cancelled first by their owners */
void jobs_free(struct jobs *jobs);

/**
 * job_start() - begin a record
 * @cancel: asked to stop: ends, now or later, in job_fail() with ERR_CANCELLED; NULL: cannot be
 * cancelled The job is freed by job_done() or job_fail(), exactly one of which the owner calls,
 * never inside job_start().
 */
int job_start(struct jobs *jobs, const char *kind, const char *subject, const char *unit,
	      void (*cancel)(void *data), void *data, struct job **ret,
	      struct err *err) warn_unused;
const char *job_id(const struct job *job);
/** job_progress() - cheap: kept in memory, written and sent as an event at most 4 times a second */
void job_progress(struct job *job, int64_t done, int64_t total);
void job_done(struct job *job, json_t *result /* stolen, may be NULL */);
void job_fail(struct job *job, const struct err *err);

/** jobs_get() - the row as it is now (running ones with live progress); db_job_done() it */
int jobs_get(struct jobs *jobs, const char *id, struct db_job *ret, struct err *err) warn_unused;
/** jobs_cancel() - ERR_NOT_FOUND, ERR_CONFLICT if it has ended, ERR_UNSUPPORTED if it cannot be */
int jobs_cancel(struct jobs *jobs, const char *id, struct err *err) warn_unused;
/** jobs_wait() - @cb fires from the loop once it has ended, also when it had ended before the call;
 * NULL row: the daemon stops. Return: a handle for jobs_unwait(), good until @cb fires */
struct job_wait *jobs_wait(struct jobs *jobs, const char *id,
			   void (*cb)(void *data, const struct db_job *row), void *data);
void jobs_unwait(struct job_wait *wait);
/** job_to_json() - as job.get answers; new reference */
json_t *job_to_json(const struct db_job *row);
