#include "storage/tar.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/mem.h"
#include "storage/file.h"

#define BLOCK         512
#define OCTAL_SIZE    (UINT64_C(1) << 33) /* what eleven octal digits cannot say any more */
#define TYPE_FILE     '0'
#define TYPE_EXTENDED 'x'

/* POSIX.1-2001, pax: ustar Interchange Format */
struct header {
	char name[100], mode[8], uid[8], gid[8], size[12], mtime[12], checksum[8], type;
	char link_name[100], magic[6], version[2], owner[32], group[32], dev_major[8], dev_minor[8];
	char prefix[155], padding[12];
};
_Static_assert(sizeof(struct header) == BLOCK, "a header is a block");

int tar_begin(struct tar *ret, struct err *err)
{
	int fd = memfd_create("tar", MFD_CLOEXEC);

	if (fd < 0)
		return err_set_sys(err, err_from_errno(errno), errno, "cannot begin an archive");
	*ret = (struct tar){.headers = fd};
	return 0;
}

void tar_done(struct tar *tar)
{
	if (tar->headers >= 0)
		close(TAKE_FD(tar->headers));
}

/* bytes of our own: those that follow each other are one part */
static int add_bytes(struct tar *tar, const void *bytes, size_t len, struct err *err)
{
	struct stream_part *last = tar->n ? &tar->parts[tar->n - 1] : NULL;

	if (storage_pwrite(tar->headers, bytes, len, tar->headers_len, err) < 0)
		return -1;
	if (last && last->fd == tar->headers)
		last->len += len;
	else
		tar->parts[tar->n++] = (struct stream_part){tar->headers, tar->headers_len, len};
	tar->headers_len += len;
	tar->size += len;
	return 0;
}

static int add_padding(struct tar *tar, uint64_t size, struct err *err)
{
	static const char zeros[BLOCK];
	size_t rest = (size_t)(size % BLOCK);

	return rest ? add_bytes(tar, zeros, BLOCK - rest, err) : 0;
}

static int add_header(struct tar *tar, char type, const char *folder, const char *name,
		      uint64_t size, int64_t mtime, struct err *err)
{
	struct header header = {.type = type, .magic = "ustar", .version = {'0', '0'}};
	const unsigned char *bytes = (const unsigned char *)&header;
	unsigned int sum = 0;

	/* neither has to end with a NUL where it fills its field */
	memcpy(header.name, name, strlen(name));
	memcpy(header.prefix, folder, strlen(folder));
	memcpy(header.mode, "0000600", 8);
	memcpy(header.uid, "0000000", 8);
	memcpy(header.gid, "0000000", 8);
	memcpy(header.dev_major, "0000000", 8);
	memcpy(header.dev_minor, "0000000", 8);
	snprintf(header.size, sizeof(header.size), "%011llo",
		 (unsigned long long)(size < OCTAL_SIZE ? size : 0));
	snprintf(header.mtime, sizeof(header.mtime), "%011llo",
		 (unsigned long long)mtime & (OCTAL_SIZE - 1));
	memset(header.checksum, ' ', sizeof(header.checksum));
	for (size_t i = 0; i < sizeof(header); i++)
		sum += bytes[i];
	snprintf(header.checksum, sizeof(header.checksum), "%06o", sum);
	return add_bytes(tar, &header, sizeof(header), err);
}

/* "LEN size=N\n", in which LEN counts itself */
static int add_extended(struct tar *tar, const char *folder, const char *name, uint64_t size,
			int64_t mtime, struct err *err)
{
	char value[64], record[80];
	int len = snprintf(value, sizeof(value), " size=%llu\n", (unsigned long long)size);

	len += len + 1 < 10 ? 1 : 2;
	snprintf(record, sizeof(record), "%d%s", len, value);
	if (add_header(tar, TYPE_EXTENDED, folder, name, (uint64_t)len, mtime, err) < 0 ||
	    add_bytes(tar, record, (size_t)len, err) < 0)
		return -1;
	return add_padding(tar, (uint64_t)len, err);
}

int tar_add(struct tar *tar, const char *folder, const char *name, int fd, int64_t mtime,
	    struct err *err)
{
	uint64_t size;

	if (tar->n + 3 > ARRAY_LEN(tar->parts))
		return err_set(err, ERR_LIMIT, "an archive holds at most %d files", TAR_FILES_MAX);
	if (strlen(folder) > sizeof(((struct header *)0)->prefix) ||
	    strlen(name) > sizeof(((struct header *)0)->name))
		return err_set(err, ERR_LIMIT, "a name is too long for an archive: %.100s", name);
	if (storage_file_size(fd, &size, err) < 0)
		return -1;
	if (size >= OCTAL_SIZE && add_extended(tar, folder, name, size, mtime, err) < 0)
		return -1;
	if (add_header(tar, TYPE_FILE, folder, name, size, mtime, err) < 0)
		return -1;
	tar->parts[tar->n++] = (struct stream_part){fd, 0, size};
	tar->size += size;
	return add_padding(tar, size, err);
}

int tar_end(struct tar *tar, struct err *err)
{
	static const char zeros[2 * BLOCK];

	return add_bytes(tar, zeros, sizeof(zeros), err);
}
