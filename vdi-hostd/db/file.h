/*
 * What the rows of all tables say of the store's files: which there have to be, and what stands on
 * a version of an image. A table that names files in its columns has to be in these statements; a
 * test compares them with the schema.
 */
#pragma once

#include "vdi-hostd/db/db.h"

enum db_file_kind {
	DB_FILE_IMAGE,
	DB_FILE_DESKTOP,
	DB_FILE_SNAPSHOT,
	DB_FILE_BACKUP,
	DB_FILE_ISO,
	DB_FILE_LAST = DB_FILE_ISO,
};

/** enum db_file_folder - where in the store */
enum db_file_folder {
	DB_FILE_IN_IMAGES,
	DB_FILE_IN_OVERLAYS,
	DB_FILE_IN_ISOS,
	DB_FILE_IN_BACKUPS,
	DB_FILE_IN_STATES,
	DB_FILE_IN_LAST = DB_FILE_IN_STATES,
};

/**
 * struct db_file - a file that a row names; valid during the callback
 * @id, @name, @owner: of what the row is about; a snapshot's owner is its desktop's
 * @image_id: the version that its chain may lead to, or ""
 * @settled:  the file has to be there; else it may be on its way in or out
 */
struct db_file {
	enum db_file_kind kind;
	enum db_file_folder folder;
	const char *file, *id, *name, *owner, *image_id;
	bool settled;
};

/** db_file_each() - every one; @cb returns 0 to go on, else the walk stops with that */
int db_file_each(struct db *db, int (*cb)(void *data, const struct db_file *file), void *data,
		 struct err *err) warn_unused;

/** struct db_image_user - what stands on a version, or is about to: "desktop", "ada" */
struct db_image_user {
	const char *what, *name;
};

/** db_image_users() - every one, by kind and name; each once */
int db_image_users(struct db *db, const char *image_id,
		   int (*cb)(void *data, const struct db_image_user *user), void *data,
		   struct err *err) warn_unused;

/** db_image_counts() - how many desktops and snapshots stand on a version */
int db_image_counts(struct db *db, const char *image_id, int64_t *ret_desktops,
		    int64_t *ret_snapshots, struct err *err) warn_unused;

/** db_changes() - a number that grows with every change of any row */
int64_t db_changes(struct db *db);
