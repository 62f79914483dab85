/* What the store's space is used for. */
#pragma once

#include <jansson.h>

#include "vdi-hostd/image/image.h"

/**
 * images_usage() - look at all files and add up, on the thread pool
 * @owner:    only this one's images and desktops; NULL: everybody's. Totals are of the whole store.
 * @desktops: one by one, too
 * @done:     exactly once, not inside this call; @usage is the callee's: as image.usage answers
 */
int images_usage(struct images *images, const char *owner, bool desktops,
		 void (*done)(void *data, json_t *usage, const struct err *err), void *data,
		 struct err *err) warn_unused;
