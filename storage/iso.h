/* What an ISO image is: a look at its volume descriptors, before a guest gets it. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"

#define STORAGE_ISO_SECTOR    2048
#define STORAGE_ISO_LABEL_MAX 32

/**
 * struct storage_iso - a file that was checked
 * @iso9660, @udf: which file systems it says it holds; at least one
 * @label:         its volume's name as far as it is ISO 9660 and printable ASCII, else ""
 * @bytes:         of the file
 */
struct storage_iso {
	bool iso9660, udf;
	char label[STORAGE_ISO_LABEL_MAX + 1];
	uint64_t bytes;
};

/**
 * storage_iso_check() - is it an ISO image, and all of it?
 *
 * Reads a bounded number of sectors: the volume recognition sequence (ECMA-167 2/8; ECMA-119 8 for
 * "CD001") and, for UDF, the anchor (ECMA-167 3/10.2). Nothing in an ISO image refers to other
 * files, and QEMU reads it as raw bytes: this is for who took the wrong file, or half of the right
 * one. Errors: ERR_UNSUPPORTED where it is none, ERR_CORRUPT where it is damaged or cut off.
 */
int storage_iso_check(int fd, struct storage_iso *ret, struct err *err) warn_unused;
