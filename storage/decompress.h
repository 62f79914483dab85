/*
 * Compressed streams (gzip RFC 1952, xz, zstd RFC 8878) in bounded steps: bytes in, bytes out,
 * nothing allocated by what a stream claims of itself. Several members or frames one after the
 * other are one stream.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"

#define DECOMPRESS_HEAD 6 /* bytes that tell the kind */

enum decompress_kind { DECOMPRESS_NONE, DECOMPRESS_GZIP, DECOMPRESS_XZ, DECOMPRESS_ZSTD };

/** decompress_recognise() - by the first bytes of a file; NONE where it is none of them */
enum decompress_kind decompress_recognise(const void *head, size_t size);

/** decompress_name() - "gzip"; "plain" for NONE */
const char *decompress_name(enum decompress_kind kind);

struct decompress;

/** decompress_new() - @kind NONE passes the bytes on as they are */
int decompress_new(enum decompress_kind kind, struct decompress **ret, struct err *err) warn_unused;
void decompress_free(struct decompress *decompress);

/**
 * decompress_step() - take some input, make some output
 * @in, @in_size: what follows what was taken before
 * @last:         nothing comes after @in
 * @ret_used:     bytes of @in that were taken
 * @ret_made:     bytes that were written to @out
 *
 * Neither used nor made anything: it needs more input, or @last was given and all is done. Errors:
 * ERR_CORRUPT (broken, or followed by something else), ERR_LIMIT (it needs more memory to unpack
 * than one stream may have).
 */
int decompress_step(struct decompress *decompress, const void *in, size_t in_size, bool last,
		    size_t *ret_used, void *out, size_t out_size, size_t *ret_made,
		    struct err *err) warn_unused;

/** decompress_end() - all input was given and taken: is the stream whole? Else ERR_CORRUPT */
int decompress_end(struct decompress *decompress, struct err *err) warn_unused;
