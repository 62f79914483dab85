/* Inside of image/ only. */
#pragma once

#include <uthash.h>

#include "base/mem.h"
#include "storage/store.h"
#include "vdi-hostd/image/image.h"

struct image {
	struct images *all;
	struct db_image row;
	UT_hash_handle hh;
};

struct images {
	uv_loop_t *loop;
	struct db *db;
	struct jobs *jobs;
	struct priv *priv;
	struct store *store;
	struct image *by_id;
	bool rootless;
};

/* image.c */
struct image *image_add(struct images *all, const struct db_image *row);
void image_remove(struct image *image);
void image_tell(struct image *image, const char *what);
