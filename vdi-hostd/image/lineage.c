#include "vdi-hostd/image/lineage.h"

#include <string.h>
#include <utlist.h>

#include "vdi-hostd/db/file.h"
#include "vdi-hostd/image/private.h"

struct lineage {
	struct images *images;
	void (*cb)(void *data, const struct image_version *version);
	void *data;
};

const struct db_image *images_parent(struct images *images, const struct db_image *row)
{
	const struct image *parent =
		row->parent_id[0] ? images_by_id(images, row->parent_id) : NULL;

	return parent ? &parent->row : NULL;
}

/* a file that is missing takes no room; `broken` says the rest */
static int64_t allocated(struct images *images, const struct db_image *row)
{
	int64_t bytes;

	return store_allocated(images->store, STORE_IMAGES, row->file, &bytes, NULL) < 0 ? 0
											 : bytes;
}

static int show(const struct lineage *lineage, const struct db_image *row, int64_t depth,
		struct err *err)
{
	struct images *images = lineage->images;
	struct image_version version = {.row = row, .depth = depth};
	const struct db_image *below = images_parent(images, row);
	const struct image *image;

	version.parent = below;
	version.own = allocated(images, row);
	for (int i = 0; below && i < QEMU_CHAIN_MAX; i++) {
		version.shared += allocated(images, below);
		below = images_parent(images, below);
	}
	if (db_image_counts(images->db, row->id, &version.desktops, &version.snapshots, err) < 0)
		return -1;
	lineage->cb(lineage->data, &version);
	/* rows that stand on each other in a ring have an end, too */
	if (depth == QEMU_CHAIN_MAX)
		return 0;
	DL_FOREACH (images->list, image)
		if (strcmp(image->row.parent_id, row->id) == 0 &&
		    show(lineage, &image->row, depth + 1, err) < 0)
			return -1;
	return 0;
}

int images_versions(struct images *images, const char *name,
		    void (*cb)(void *data, const struct image_version *version), void *data,
		    struct err *err)
{
	const struct lineage lineage = {images, cb, data};
	const struct image *image;

	DL_FOREACH (images->list, image) {
		if (strcmp(image->row.name, name) != 0)
			continue;
		const struct db_image *parent = images_parent(images, &image->row);
		if (parent && strcmp(parent->name, name) == 0)
			continue;
		if (show(&lineage, &image->row, 0, err) < 0)
			return -1;
	}
	return 0;
}
