/* Rows of `image`: one a version of a named image. */
#pragma once

#include "vdi-hostd/db/db.h"

enum db_image_state { DB_IMAGE_IMPORTING, DB_IMAGE_DRAFT, DB_IMAGE_PUBLISHED, DB_IMAGE_RETIRED };

#define DB_IMAGE_DEPTH_MAX 4 /* unless somebody says otherwise */

struct db_image {
	char id[STR_UUID_LEN + 1];
	char name[STR_NAME_MAX + 1];
	int64_t version; /* from 1; unique with the name */
	enum db_image_state state;
	char file[128];       /* in the store's images/ folder */
	int64_t virtual_size; /* bytes */
	int64_t file_size;    /* bytes allocated when it was made */
	char sha256[65];      /* of the file, or "" */
	char owner[STR_NAME_MAX + 1];
	char description[256];
	int64_t created_at, published_at; /* ms since 1970; 0: not yet */
	char parent_id[STR_UUID_LEN + 1]; /* the version that its file stands on, or "" */
	int64_t depth_max;                /* files in the chain of a clone before it is flattened */
	int64_t verified_at;              /* when its checksum was last compared; 0: not yet */
	char broken[128];                 /* what was found wrong with it then, or "" */
};

int db_image_insert(struct db *db, const struct db_image *row, struct err *err) warn_unused;
int db_image_update(struct db *db, const struct db_image *row, struct err *err) warn_unused;
int db_image_delete(struct db *db, const char *id, struct err *err) warn_unused;
int db_image_get(struct db *db, const char *id, struct db_image *ret, struct err *err) warn_unused;
/** db_image_next_version() - one more than the newest of that name */
int db_image_next_version(struct db *db, const char *name, int64_t *ret,
			  struct err *err) warn_unused;
/** db_image_each() - every row by name and version; @cb returns 0 to go on, else the walk stops
 * with that */
int db_image_each(struct db *db, int (*cb)(void *data, const struct db_image *row), void *data,
		  struct err *err) warn_unused;
