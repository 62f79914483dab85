/* Inside of db/ only: statements. */
#pragma once

#include <sqlite3.h>

#include "vdi-hostd/db/db.h"
#include "vdi-hostd/db/event.h"

#define DB_STATEMENTS_MAX 160

struct db_listener {
	void (*cb)(void *data, const struct db_event *event);
	void *data;
};

struct db {
	sqlite3 *sqlite;
	int lock_fd;
	const char *transaction; /* who opened it, or NULL */
	struct {
		const char *sql; /* by address: statements are literals */
		sqlite3_stmt *stmt;
	} statements[DB_STATEMENTS_MAX];
	size_t n_statements;
	struct db_listener listener;
	struct pending_event *pending; /* told to the listener once committed */
};

/** db_prepare() - a statement, compiled once; reset and unbound */
int db_prepare(struct db *db, const char *sql, sqlite3_stmt **ret, struct err *err) warn_unused;

/* Values by position, from 1 as sqlite3 counts; columns from 0. Text is copied. */
void db_bind_text(sqlite3_stmt *stmt, int at, const char *text);
/** db_bind_ref() - text that refers to another row: "" is NULL */
void db_bind_ref(sqlite3_stmt *stmt, int at, const char *text);
void db_bind_int(sqlite3_stmt *stmt, int at, int64_t value);

/** db_column_text() - into a fixed buffer; -1 when the file holds more than fits */
int db_column_text(sqlite3_stmt *stmt, int at, char *ret, size_t size) warn_unused;
/** db_column_enum() - -1 when the value is none of 0..@last */
int db_column_enum(sqlite3_stmt *stmt, int at, int last, int *ret) warn_unused;

/** db_run() - step a statement that answers no rows */
int db_run(struct db *db, sqlite3_stmt *stmt, const char *what, struct err *err) warn_unused;
/** db_run_one() - the same; ERR_NOT_FOUND when no row was changed */
int db_run_one(struct db *db, sqlite3_stmt *stmt, const char *what, struct err *err) warn_unused;
/** db_fail() - the error of the last sqlite call */
int db_fail(struct db *db, const char *what, struct err *err);
/** db_fail_row() - a row that cannot be what we wrote */
int db_fail_row(const char *table, struct err *err);

/** db_each() - step through rows; @row reads one and calls on; stops at its first non-zero value */
int db_each(struct db *db, sqlite3_stmt *stmt, const char *what,
	    int (*row)(void *ctx, sqlite3_stmt *stmt, struct err *err), void *ctx,
	    struct err *err) warn_unused;

/** db_free_slot() - the number that @sql answers; ERR_LIMIT past the last one */
int db_free_slot(struct db *db, const char *sql, const char *what, int64_t *ret,
		 struct err *err) warn_unused;

/** db_check_version() - ERR_UNSUPPORTED when a newer version wrote the file; reads only */
int db_check_version(struct db *db, struct err *err) warn_unused;
/** db_migrate() - bring the schema up to date (migrations.c) */
int db_migrate(struct db *db, struct err *err) warn_unused;

/** db_tell() - tell the listener what the transaction that ended wrote, or forget it (event.c) */
void db_tell(struct db *db, bool committed);
