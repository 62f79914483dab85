/* Rows of `iso`: images of discs, for the CD drives of desktops. */
#pragma once

#include "vdi-hostd/db/db.h"

/** enum db_iso_state - DB_ISO_IMPORTING: on its way in or out; what a crash left so is removed */
enum db_iso_state { DB_ISO_IMPORTING, DB_ISO_READY };

struct db_iso {
	char id[STR_UUID_LEN + 1];
	char name[STR_NAME_MAX + 1]; /* unique */
	enum db_iso_state state;
	char file[128]; /* in the store's isos/ folder */
	int64_t size;   /* bytes */
	char sha256[65];
	char owner[STR_NAME_MAX + 1];
	char description[256];
	int64_t created_at; /* ms since 1970 */
};

int db_iso_insert(struct db *db, const struct db_iso *row, struct err *err) warn_unused;
int db_iso_update(struct db *db, const struct db_iso *row, struct err *err) warn_unused;
int db_iso_delete(struct db *db, const char *id, struct err *err) warn_unused;
/** db_iso_each() - every row by name; @cb returns 0 to go on, else the walk stops with that */
int db_iso_each(struct db *db, int (*cb)(void *data, const struct db_iso *row), void *data,
		struct err *err) warn_unused;
