/* Rows of `snapshot`: what a desktop's disks (and its memory) were at one moment. */
#pragma once

#include "vdi-hostd/db/desktop.h"

/*
 * creating   its `next` files are made and come on top of `disks`; what QEMU, or the files, say
 *            decides whether a crash in between is gone on with or undone
 * ready      `next`, where there are any, are files that nobody needs: of a revert that a crash
 *            interrupted, the new ones before the switch and the old ones after it
 * deleting   its layers are merged away, or are about to be; not to be gone back to any more
 */
enum db_snapshot_state { DB_SNAPSHOT_CREATING, DB_SNAPSHOT_READY, DB_SNAPSHOT_DELETING };

enum db_snapshot_kind {
	DB_SNAPSHOT_CRASH,    /* as after a power cut */
	DB_SNAPSHOT_QUIESCED, /* the guest's file systems were at rest, or it was off */
	DB_SNAPSHOT_MEMORY,   /* with the guest's memory: it goes on where it was */
};

#define DB_SNAPSHOT_FREEZE ".freeze" /* how the names of those begin that nobody asked for */

struct db_snapshot {
	char id[STR_UUID_LEN + 1];
	char desktop_id[STR_UUID_LEN + 1];
	char parent_id[STR_UUID_LEN + 1]; /* "" for none */
	char name[STR_NAME_MAX + 1];      /* unique within the desktop */
	char description[256];
	enum db_snapshot_state state;
	enum db_snapshot_kind kind;
	char image_id[STR_UUID_LEN + 1]; /* what the desktop stood on */
	struct db_disk disks[DB_DISKS];  /* files that are not written to any more */
	char next[DB_DISKS][96];         /* see the states; "" for none */
	char memory_file[96];            /* in the store's states/, or "" */
	int64_t memory_mib, vcpus;
	int64_t created_at;
};

int db_snapshot_insert(struct db *db, const struct db_snapshot *row, struct err *err) warn_unused;
int db_snapshot_update(struct db *db, const struct db_snapshot *row, struct err *err) warn_unused;
/** db_snapshot_delete() - those that stand on it stand on its parent from now on */
int db_snapshot_delete(struct db *db, const struct db_snapshot *row, struct err *err) warn_unused;
/** db_snapshot_delete_all() - a desktop's */
int db_snapshot_delete_all(struct db *db, const char *desktop_id, struct err *err) warn_unused;
/** db_snapshot_get() - @ref: name or id */
int db_snapshot_get(struct db *db, const char *desktop_id, const char *ref, struct db_snapshot *ret,
		    struct err *err) warn_unused;
/**
 * db_snapshot_each() - oldest first; @cb returns 0 to go on, else the walk stops with that
 * @desktop_id: NULL for those of all desktops
 *
 * @cb may not change the table.
 */
int db_snapshot_each(struct db *db, const char *desktop_id,
		     int (*cb)(void *data, const struct db_snapshot *row), void *data,
		     struct err *err) warn_unused;
