/* Rows of `idempotency`: the first answer to a keyed request, for 24 h. */
#pragma once

#include "vdi-hostd/db/db.h"

/**
 * db_idempotency_find() - @ret_answer: JSON text, owned by the caller, or NULL while the first
 * request is still under way. Errors: ERR_NOT_FOUND; ERR_CONFLICT when method or parameters differ.
 */
int db_idempotency_find(struct db *db, const char *caller, const char *key, const char *method,
			const char *params_sha256, char **ret_answer, struct err *err) warn_unused;
int db_idempotency_begin(struct db *db, const char *caller, const char *key, const char *method,
			 const char *params_sha256, struct err *err) warn_unused;
int db_idempotency_finish(struct db *db, const char *caller, const char *key, const char *answer,
			  struct err *err) warn_unused;
/** db_idempotency_prune() - forget those older than @before (ms since 1970) and, at start,
 * unfinished ones */
int db_idempotency_prune(struct db *db, int64_t before, bool unfinished,
			 struct err *err) warn_unused;
