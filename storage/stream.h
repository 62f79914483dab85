/*
 * Bytes of several files, one after the other, into a file or a pipe. A pipe is written to as fast
 * as it is read, and its flags, which others share, stay as they are.
 */
#pragma once

#include <stddef.h>
#include <stdint.h>
#include <uv.h>

#include "base/err.h"

struct stream;

/** struct stream_part - @len bytes of a regular file from @offset on; borrowed until done() */
struct stream_part {
	int fd;
	uint64_t offset, len;
};

/** struct stream_ops - as of storage/bulk.h; @progress may be NULL */
struct stream_ops {
	void (*progress)(void *data, uint64_t done, uint64_t total);
	void (*done)(void *data, const struct err *err);
};

/**
 * stream_start() - write the parts
 * @to:    a pipe; or a regular file, which is emptied first and keeps the parts' holes. Borrowed.
 * @parts: copied
 * No callback fires inside this call. A part that is shorter than it was said to be is ERR_CORRUPT.
 */
struct stream *stream_start(uv_loop_t *loop, int to, const struct stream_part *parts, size_t n,
			    const struct stream_ops *ops, void *data);

/** stream_cancel() - stop soon; done() follows with ERR_CANCELLED */
void stream_cancel(struct stream *stream);
