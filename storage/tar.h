/* An archive of a few files, as POSIX.1-2001 (pax) has it, made without a copy of them. */
#pragma once

#include <stdint.h>

#include "storage/stream.h"

#define TAR_FILES_MAX 64

/**
 * struct tar - an archive in the making
 * @parts: what stream_start() writes, once tar_end() was called
 */
struct tar {
	int headers; /* all that is not a file's */
	uint64_t headers_len, size;
	struct stream_part parts[2 * TAR_FILES_MAX + 1];
	size_t n;
};

/** tar_begin(), tar_done() - tar_done() may follow in any case, once nothing reads the parts */
int tar_begin(struct tar *ret, struct err *err) warn_unused;
void tar_done(struct tar *tar);

/**
 * tar_add() - the next file
 * @folder, @name: at most 155 and 100 bytes; it is FOLDER/NAME in the archive
 * @fd:            a regular file, borrowed as long as the parts are used
 * @mtime:         seconds since 1970
 */
int tar_add(struct tar *tar, const char *folder, const char *name, int fd, int64_t mtime,
	    struct err *err) warn_unused;

/** tar_end() - what ends an archive; tar->size is the whole's then */
int tar_end(struct tar *tar, struct err *err) warn_unused;
