/* Whatever somebody hands over to import: recognised by its magic, checked as each format. */
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "storage/decompress.h"
#include "storage/format.h"
#include "storage/qcow2.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* what was accepted keeps its promises */
static void check(int fd, enum storage_format asked)
{
	struct storage_source source = {.virtual_size = 12345};
	struct err err = {0};

	if (storage_source_check(fd, asked, &source, &err) < 0) {
		if (err.code == 0 || err.msg[0] == '\0' || source.virtual_size != 12345)
			abort();
		return;
	}
	if (source.format == STORAGE_FORMAT_UNKNOWN || source.format > STORAGE_VHDX ||
	    (asked != STORAGE_FORMAT_UNKNOWN && source.format != asked) ||
	    source.virtual_size > STORAGE_VIRTUAL_SIZE_MAX ||
	    (source.virtual_size == 0 && source.format != STORAGE_VHDX))
		abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static int fd = -1;

	if (fd < 0)
		fd = memfd_create("image", MFD_CLOEXEC);
	if (fd < 0 || ftruncate(fd, 0) < 0 || pwrite(fd, data, size, 0) != (ssize_t)size)
		abort();
	/* as it is, and with a hole after it: tables and descriptors have to lie inside the file */
	for (int i = 0; i < 2; i++) {
		for (enum storage_format format = STORAGE_FORMAT_UNKNOWN; format <= STORAGE_VHDX;
		     format++)
			check(fd, format);
		if (ftruncate(fd, 1 << 20) < 0)
			abort();
	}
	if ((unsigned int)decompress_recognise(data, size) > DECOMPRESS_ZSTD)
		abort();
	return 0;
}
