/* What a file to import is: its format by its magic, and whether it is safe to let qemu-img read.
 */
#pragma once

#include <stdint.h>

#include "base/err.h"

/** enum storage_format - the numbers are those of the wire to the privileged half */
enum storage_format {
	STORAGE_FORMAT_UNKNOWN,
	STORAGE_QCOW2,
	STORAGE_RAW,
	STORAGE_VMDK,
	STORAGE_VDI,
	STORAGE_VHDX,
};

/** storage_format_name() - as qemu-img and the API name it */
const char *storage_format_name(enum storage_format format);

/**
 * struct storage_source - a file that was checked
 * @virtual_size: bytes of the disk in it; 0 where only the conversion can tell (vhdx)
 */
struct storage_source {
	enum storage_format format;
	uint64_t virtual_size;
};

/**
 * storage_source_check() - look at the head of a file before any tool does
 * @format: what it is said to be, or STORAGE_FORMAT_UNKNOWN: recognised by its magic (raw where
 *          there is none)
 *
 * Reads a bounded part. Refuses what a tool would follow to other files (backing and parent files,
 * data files, extents by name), encryption, unknown features, sizes over the limit; and archives
 * and foreign formats by their name. Errors as of qcow2_read().
 */
int storage_source_check(int fd, enum storage_format format, struct storage_source *ret,
			 struct err *err) warn_unused;
