/*
 * Taking in what somebody hands over as a stream: a compressed file, or a pipe with a plain or
 * compressed one in it. It ends up in an empty file, unpacked, with holes where it has long runs of
 * zeros. Done in pieces on the loop's thread pool.
 */
#pragma once

#include <stdint.h>
#include <uv.h>

#include "storage/bulk.h"
#include "storage/decompress.h"

struct intake;

/**
 * struct intake_limits - 0 stands for the default
 * @size_max: bytes that may come out: STORAGE_VIRTUAL_SIZE_MAX
 * @reserve:  bytes that have to stay free where it is written: storage_usual_reserve()
 * @stall_ms: how long a pipe may stay silent: 2 minutes
 */
struct intake_limits {
	uint64_t size_max;
	uint64_t reserve;
	uint64_t stall_ms;
};

/** struct intake_result - @read, @written: bytes; @sha256: of what was read, as hex text */
struct intake_result {
	uint64_t read, written;
	char sha256[BULK_SHA256_LEN + 1];
};

/**
 * struct intake_ops - what the owner hears, all from the loop
 * @progress: bytes read and in all (0: a pipe does not say), after each piece
 * @done:     exactly once, also after intake_cancel() (ERR_CANCELLED); @result is NULL on failure.
 *            The intake is gone after it.
 */
struct intake_ops {
	void (*progress)(void *data, uint64_t read, uint64_t total);
	void (*done)(void *data, const struct intake_result *result, const struct err *err);
};

/**
 * intake_start() - begin
 * @from: a regular file (read from its beginning) or a pipe, borrowed until done()
 * @to:   an empty file, borrowed until done()
 *
 * What comes is recognised by its first bytes (decompress_recognise()). Errors: those of
 * decompress_step(); ERR_LIMIT over @limits or with a full disk, ERR_TIMEOUT for a silent pipe. No
 * callback fires inside this call.
 */
struct intake *intake_start(uv_loop_t *loop, int from, int to, struct intake_limits limits,
			    const struct intake_ops *ops, void *data);

/** intake_cancel() - stop after the piece under way */
void intake_cancel(struct intake *intake);
