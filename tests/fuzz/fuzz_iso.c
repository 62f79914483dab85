/* The volume descriptors of a disc's image, as somebody hands it over. */
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "storage/iso.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* The input stands where the descriptors begin: the 32 KiB before them are never looked at. */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct storage_iso iso;
	struct err err = {0};
	int fd = memfd_create("disc", MFD_CLOEXEC);

	if (fd < 0 || pwrite(fd, data, size, 16 * STORAGE_ISO_SECTOR) != (ssize_t)size)
		abort();
	if (storage_iso_check(fd, &iso, &err) < 0) {
		if (err.code != ERR_UNSUPPORTED && err.code != ERR_CORRUPT)
			abort();
	} else if ((!iso.iso9660 && !iso.udf) || strlen(iso.label) > STORAGE_ISO_LABEL_MAX) {
		abort();
	}
	close(fd);
	return 0;
}
