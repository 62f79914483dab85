/* Rows of `quota`: how many bytes an owner's disks, images, ISOs and backups may have. */
#pragma once

#include "vdi-hostd/db/db.h"

struct db_quota {
	char owner[STR_NAME_MAX + 1];
	int64_t bytes;
};

/** db_quota_set() - a new one, or another number for one that is there */
int db_quota_set(struct db *db, const struct db_quota *row, struct err *err) warn_unused;
int db_quota_delete(struct db *db, const char *owner, struct err *err) warn_unused;
int db_quota_get(struct db *db, const char *owner, struct db_quota *ret,
		 struct err *err) warn_unused;
/** db_quota_each() - every row by owner; @cb returns 0 to go on, else the walk stops with that */
int db_quota_each(struct db *db, int (*cb)(void *data, const struct db_quota *row), void *data,
		  struct err *err) warn_unused;

/**
 * db_quota_used() - the bytes that count for an owner: the disks of desktops by the size that their
 * guests see, versions of images, ISOs and backups by the size of their files
 */
int db_quota_used(struct db *db, const char *owner, int64_t *ret, struct err *err) warn_unused;
