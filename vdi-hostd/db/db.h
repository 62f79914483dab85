/*
 * The daemon's memory: one sqlite3 file, WAL, foreign keys, STRICT tables. All SQL lives in this
 * folder, one file an entity; rows are plain structs with fixed-size strings. Synchronous: a commit
 * takes under a millisecond. A transaction never spans a callback.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"
#include "base/str.h"

struct db;

/**
 * db_open() - open or make the database and bring its schema up to date
 * Blocks for some seconds where another daemon holds it, which may be about to end.
 * Errors: ERR_BUSY if it still does, ERR_UNSUPPORTED if a newer version wrote it (nothing is
 * touched), ERR_CORRUPT, ERR_IO, ERR_LIMIT (disk full).
 */
int db_open(const char *path, struct db **ret, struct err *err) warn_unused;
void db_close(struct db *db);

/**
 * db_begin() - open a transaction; nests never; @where is __func__, named in messages when one is
 * left open db_commit() - on failure the transaction is rolled back db_rollback() - never fails;
 * fine when none is open
 */
int db_begin(struct db *db, const char *where, struct err *err) warn_unused;
int db_commit(struct db *db, struct err *err) warn_unused;
void db_rollback(struct db *db);

/** db_meta_get() / db_meta_set() - small facts about this host by key; absent: ERR_NOT_FOUND */
int db_meta_get(struct db *db, const char *key, char *ret, size_t size,
		struct err *err) warn_unused;
int db_meta_set(struct db *db, const char *key, const char *value, struct err *err) warn_unused;
