/* Rows of `backup`: what a desktop's disks were at one moment, in files of their own. */
#pragma once

#include "vdi-hostd/db/desktop.h"

/*
 * making   its files are being written, or removed; those of a daemon that is gone go
 * ready    whole; its files have the checksums that stand here
 * broken   they have not: found when it was verified
 */
enum db_backup_state { DB_BACKUP_MAKING, DB_BACKUP_READY, DB_BACKUP_BROKEN };

struct db_backup {
	char id[STR_UUID_LEN + 1];
	char desktop_id[STR_UUID_LEN + 1]; /* the desktop may be gone */
	char desktop_name[STR_NAME_MAX + 1];
	char parent_id[STR_UUID_LEN + 1]; /* what its files stand on; "" for a full one */
	enum db_backup_state state;
	char image_id[STR_UUID_LEN + 1]; /* what the desktop stood on; it may be gone, too */
	struct db_disk disks[DB_DISKS];  /* files in the store's backups/ folder */
	char sha256[DB_DISKS][65];
	int64_t memory_mib, vcpus;
	char owner[STR_NAME_MAX + 1];
	int64_t stored_bytes; /* what its own files take */
	int64_t created_at;
};

int db_backup_insert(struct db *db, const struct db_backup *row, struct err *err) warn_unused;
int db_backup_update(struct db *db, const struct db_backup *row, struct err *err) warn_unused;
int db_backup_delete(struct db *db, const char *id, struct err *err) warn_unused;
int db_backup_get(struct db *db, const char *id, struct db_backup *ret,
		  struct err *err) warn_unused;
/** db_backup_latest() - the newest ready one of a desktop; ERR_NOT_FOUND */
int db_backup_latest(struct db *db, const char *desktop_id, struct db_backup *ret,
		     struct err *err) warn_unused;
/**
 * db_backup_each() - oldest first; @cb returns 0 to go on, else the walk stops with that
 * @desktop: id or name, or NULL for all
 * @cb may not change the table.
 */
int db_backup_each(struct db *db, const char *desktop,
		   int (*cb)(void *data, const struct db_backup *row), void *data,
		   struct err *err) warn_unused;
