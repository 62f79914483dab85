/*
 * A run of qemu-img through the privileged half, watched by storage/convert.h: import, export and
 * whatever else has one disk made out of others. It knows nothing of images' rows.
 */
#pragma once

#include "storage/convert.h"
#include "vdi-hostd/image/image.h"

struct image_tool;

/** struct image_tool_ops - @progress: 0..10000, never going down; @done: exactly once, when the
 * tool has ended or never ran; the image_tool is gone after it */
struct image_tool_ops {
	void (*progress)(void *data, int percent_100);
	void (*done)(void *data, const struct err *err);
};

/**
 * struct image_tool_work - what is to be done
 * @img:     the request, as the privileged half takes it
 * @sources: @n_sources descriptors, the top of a chain first; at most QEMU_CHAIN_MAX
 * @target:  open O_RDWR
 * @limits:  0 in a field stands for its default
 */
struct image_tool_work {
	struct priv_img img;
	const int *sources;
	size_t n_sources;
	int target;
	struct convert_limits limits;
};

/**
 * image_tool_start() - run it once
 * @work: copied, and so are the numbers of the descriptors; they are borrowed until done()
 *
 * On the wire the sources come first, then the target, stdout and stderr. No callback fires inside
 * this call. Once the daemon ends, the tool is killed and done() follows without asking the
 * privileged half for its exit status.
 */
int image_tool_start(struct images *images, const struct image_tool_work *work,
		     const struct image_tool_ops *ops, void *data, struct image_tool **ret,
		     struct err *err) warn_unused;

/** image_tool_cancel() - end it; done() follows with ERR_CANCELLED */
void image_tool_cancel(struct image_tool *tool);
