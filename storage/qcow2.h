/*
 * The qcow2 header, read and written by our own hand (qemu docs/interop/qcow2.txt), so that no
 * program that follows what a header names ever sees one that was not looked at first.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"

#define QCOW2_MAGIC            0x514649fbu /* "QFI\xfb" */
#define QCOW2_BACKING_NAME_MAX 1023

/* the most that a disk may claim to be: 16 TiB */
#define STORAGE_VIRTUAL_SIZE_MAX (UINT64_C(16) << 40)

/* incompatible features */
#define QCOW2_DIRTY       (UINT64_C(1) << 0)
#define QCOW2_CORRUPT     (UINT64_C(1) << 1)
#define QCOW2_DATA_FILE   (UINT64_C(1) << 2)
#define QCOW2_COMPRESSION (UINT64_C(1) << 3)
#define QCOW2_EXTENDED_L2 (UINT64_C(1) << 4)

/**
 * struct qcow2_header - what a header says, checked
 * @virtual_size:  bytes that the guest sees
 * @backing_name, @backing_format: "" where there is none
 * @compression:   0 zlib, 1 zstd
 */
struct qcow2_header {
	uint32_t version;
	uint32_t cluster_bits;
	uint64_t virtual_size;
	uint64_t incompatible, compatible, autoclear;
	uint32_t l1_entries;
	uint64_t l1_offset;
	uint64_t reftable_offset;
	uint32_t reftable_clusters;
	uint32_t snapshots;
	uint64_t snapshots_offset;
	uint32_t refcount_order;
	uint32_t header_length;
	uint8_t compression;
	char backing_name[QCOW2_BACKING_NAME_MAX + 1];
	char backing_format[16];
};

enum {
	QCOW2_ALLOW_BACKING = 1 << 0,   /* else a backing name is refused */
	QCOW2_ALLOW_SNAPSHOTS = 1 << 1, /* internal ones: a conversion leaves them behind */
};

/**
 * qcow2_read() - read and check a header
 * @fd:    a regular file, readable
 * @flags: QCOW2_ALLOW_*
 *
 * Reads a bounded part of the file, whatever is in it. Errors: ERR_CORRUPT (truncated, out of
 * bounds, marked corrupt), ERR_UNSUPPORTED (data file, encryption, unknown features, a backing file
 * or snapshots that @flags does not allow), ERR_LIMIT (virtual size), ERR_IO.
 */
int qcow2_read(int fd, unsigned int flags, struct qcow2_header *ret, struct err *err) warn_unused;

/**
 * qcow2_check_end() - does the file hold the last cluster that its refcounts say is in use?
 * @header: as qcow2_read() found it in the same file
 *
 * A reader takes what lies past the end for zeros, so that a download cut short would pass for
 * whole. Images that were not closed cleanly are not judged. Reads 8 MiB at most. Errors:
 * ERR_CORRUPT, ERR_IO.
 */
int qcow2_check_end(int fd, const struct qcow2_header *header, struct err *err) warn_unused;

/**
 * qcow2_write() - make an empty image in an empty file: version 3, clusters of 64 KiB, 16-bit
 * refcounts
 * @fd:           open for writing
 * @virtual_size: bytes, a multiple of 512
 * @backing_name, @backing_format: what it is a clone of, or NULL
 *
 * Not synced. Errors: ERR_INVALID, ERR_LIMIT (size, disk full), ERR_IO.
 */
int qcow2_write(int fd, uint64_t virtual_size, const char *backing_name, const char *backing_format,
		struct err *err) warn_unused;
