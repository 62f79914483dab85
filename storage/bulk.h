/*
 * Work on whole files: copying, checksums, syncing. Done in pieces on the loop's thread pool, so
 * that a large file neither holds up the loop nor a thread for long.
 */
#pragma once

#include <stdint.h>
#include <uv.h>

#include "base/err.h"
#include "storage/digest.h"

#define BULK_SHA256_LEN DIGEST_LEN

struct bulk;

/**
 * struct bulk_ops - what the owner hears, all from the loop
 * @progress: bytes done and in all, after each piece; may be NULL
 * @done:     exactly once, also after bulk_cancel() (ERR_CANCELLED); @sha256 is the checksum as hex
 *            text, or NULL for other work. The bulk is gone after it.
 */
struct bulk_ops {
	void (*progress)(void *data, uint64_t done, uint64_t total);
	void (*done)(void *data, const char *sha256, const struct err *err);
};

/**
 * bulk_copy() - copy a file into an empty one: as a reflink where the file system can, else piece
 * by piece with holes kept Descriptors are borrowed until done(). A source that shrinks meanwhile
 * is ERR_CORRUPT.
 */
struct bulk *bulk_copy(uv_loop_t *loop, int from, int to, const struct bulk_ops *ops, void *data);

/** bulk_sha256() - SHA-256 of a whole file */
struct bulk *bulk_sha256(uv_loop_t *loop, int fd, const struct bulk_ops *ops, void *data);

#define BULK_KEEP_MODE (~0u)

/** bulk_sync() - set a finished file's mode (or keep it) and make it durable */
struct bulk *bulk_sync(uv_loop_t *loop, int fd, unsigned int mode, const struct bulk_ops *ops,
		       void *data);

/** bulk_throttle() - from now on a pause after each piece of 32 MiB, and none of it kept in memory
 */
void bulk_throttle(struct bulk *bulk, uint64_t pause_ms);

/** bulk_cancel() - stop after the piece under way */
void bulk_cancel(struct bulk *bulk);
