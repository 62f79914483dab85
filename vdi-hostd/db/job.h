/* Rows of `job`: the record of long work, kept after its end. */
#pragma once

#include "vdi-hostd/db/db.h"

enum db_job_state { DB_JOB_RUNNING, DB_JOB_DONE, DB_JOB_FAILED, DB_JOB_CANCELLED };

struct db_job {
	char id[STR_UUID_LEN + 1];
	char kind[32];                  /* "image.import" */
	char subject[STR_UUID_LEN + 1]; /* what it works on */
	enum db_job_state state;
	int64_t done, total;
	char unit[16];
	char *result; /* JSON text or NULL; owned by the row */
	struct err err;
	int64_t created_at, ended_at;
};

void db_job_done(struct db_job *row); /* frees what the row owns */
int db_job_insert(struct db *db, const struct db_job *row, struct err *err) warn_unused;
int db_job_update(struct db *db, const struct db_job *row, struct err *err) warn_unused;
int db_job_get(struct db *db, const char *id, struct db_job *ret, struct err *err) warn_unused;
/** db_job_each() - newest first; @before: only rows older than this id's, or NULL; at most @limit
 */
int db_job_each(struct db *db, const char *before, int64_t limit,
		int (*cb)(void *data, const struct db_job *row), void *data,
		struct err *err) warn_unused;
/** db_job_fail_running() - after a restart nothing runs: settle what the last daemon left */
int db_job_fail_running(struct db *db, const char *message, struct err *err) warn_unused;
/** db_job_prune() - forget all but the newest @keep ended ones */
int db_job_prune(struct db *db, int64_t keep, struct err *err) warn_unused;
