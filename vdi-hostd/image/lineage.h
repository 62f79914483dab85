/* What versions of images stand on, and what stands on them. */
#pragma once

#include "vdi-hostd/image/image.h"

/**
 * struct image_version - one version in the tree of its image
 * @depth:  0 for those that stand on no version that is shown
 * @own:    bytes of its file in the store; @shared: of the files that it stands on
 */
struct image_version {
	const struct db_image *row;
	const struct db_image *parent; /* or NULL */
	int64_t depth, own, shared, desktops, snapshots;
};

/**
 * images_versions() - all versions of an image, and those of others that stand on them
 * @cb: each after the one that it stands on, the old ones first
 */
int images_versions(struct images *images, const char *name,
		    void (*cb)(void *data, const struct image_version *version), void *data,
		    struct err *err) warn_unused;

/** images_parent() - the version that one stands on, or NULL */
const struct db_image *images_parent(struct images *images, const struct db_image *row);
