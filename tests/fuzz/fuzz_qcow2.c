/* The head of an image from a stranger: recognition, the qcow2 and the VMDK header. */
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "storage/format.h"
#include "storage/qcow2.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check_header(int fd)
{
	struct qcow2_header header;
	struct err err;

	if (qcow2_read(fd, QCOW2_ALLOW_BACKING | QCOW2_ALLOW_SNAPSHOTS, &header, &err) < 0)
		return;
	(void)!qcow2_check_end(fd, &header, &err);
	/* what was accepted keeps its promises */
	if (header.virtual_size > STORAGE_VIRTUAL_SIZE_MAX || header.cluster_bits < 9 ||
	    header.cluster_bits > 21 || (header.incompatible & QCOW2_DATA_FILE) ||
	    strlen(header.backing_name) > QCOW2_BACKING_NAME_MAX ||
	    strlen(header.backing_format) >= sizeof(header.backing_format))
		abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static int fd = -1;
	struct storage_source source;
	struct err err;

	if (fd < 0)
		fd = memfd_create("image", MFD_CLOEXEC);
	/* tables have to lie inside the file: a hole after the input makes room for them */
	if (fd < 0 || ftruncate(fd, 0) < 0 || pwrite(fd, data, size, 0) != (ssize_t)size ||
	    (size > 512 && ftruncate(fd, 1 << 20) < 0))
		abort();
	check_header(fd);
	for (enum storage_format format = STORAGE_FORMAT_UNKNOWN; format <= STORAGE_VHDX; format++)
		if (storage_source_check(fd, format, &source, &err) == 0 &&
		    source.virtual_size > STORAGE_VIRTUAL_SIZE_MAX)
			abort();
	return 0;
}
