#include "storage/format.h"

#include <endian.h>
#include <stdbool.h>
#include <string.h>

#include "base/mem.h"
#include "storage/file.h"
#include "storage/qcow2.h"

#define HEAD_SIZE 512

static const char *const format_names[] = {
	[STORAGE_FORMAT_UNKNOWN] = "unknown",
	[STORAGE_QCOW2] = "qcow2",
	[STORAGE_RAW] = "raw",
	[STORAGE_VMDK] = "vmdk",
	[STORAGE_VDI] = "vdi",
	[STORAGE_VHDX] = "vhdx",
};

const char *storage_format_name(enum storage_format format)
{
	return (size_t)format < ARRAY_LEN(format_names) ? format_names[format] : "unknown";
}

/* struct magic - bytes at the head of a file; @refusal: what it is, where we do not take it */
struct magic {
	enum storage_format format;
	uint16_t offset, len;
	const char *bytes;
	const char *refusal;
};

static const struct magic magics[] = {
	{STORAGE_QCOW2, 0, 4, "QFI\xfb", NULL},
	{STORAGE_VMDK, 0, 4, "KDMV", NULL},
	{STORAGE_VDI, 0x40, 4, "\x7f\x10\xda\xbe", NULL},
	{STORAGE_VHDX, 0, 8, "vhdxfile", NULL},
	{0, 0, 4, "COWD", "a VMDK image of an ESX host"},
	{0, 0, 21, "# Disk DescriptorFile", "a VMDK descriptor without the disk itself"},
	{0, 0, 8, "conectix", "a VHD image"},
	{0, 0, 4, "QED\0", "a QED image"},
	{0, 0, 6, "LUKS\xba\xbe", "an encrypted (LUKS) volume"},
	{0, 0, 16, "WithoutFreeSpace", "a Parallels image"},
	{0, 0, 16, "WithouFreSpacExt", "a Parallels image"},
	{0, 0, 2, "\x1f\x8b", "a gzip file; unpack it first"},
	{0, 0, 6,
	 "\xfd"
	 "7zXZ",
	 "an xz file; unpack it first"},
	{0, 0, 4, "\x28\xb5\x2f\xfd", "a zstd file; unpack it first"},
	{0, 0, 4, "BZh9", "a bzip2 file; unpack it first"},
	{0, 0, 4, "PK\3\4", "a zip file; unpack it first"},
	{0, 257, 5, "ustar", "a tar archive (an OVA is one); take the disk out of it first"},
	{0, 0, 6, "7z\xbc\xaf\x27\x1c", "a 7-zip file; unpack it first"},
};

static bool has_magic(const struct magic *m, const unsigned char *head)
{
	return memcmp(head + m->offset, m->bytes, m->len) == 0;
}

static int recognise(const unsigned char *head, enum storage_format *ret, struct err *err)
{
	for (size_t i = 0; i < ARRAY_LEN(magics); i++) {
		if (!has_magic(&magics[i], head))
			continue;
		if (magics[i].refusal)
			return err_set(err, ERR_UNSUPPORTED, "the file is %s", magics[i].refusal);
		*ret = magics[i].format;
		return 0;
	}
	*ret = STORAGE_RAW;
	return 0;
}

static int check_magic(enum storage_format format, const unsigned char *head, struct err *err)
{
	for (size_t i = 0; i < ARRAY_LEN(magics); i++)
		if (magics[i].format == format && has_magic(&magics[i], head))
			return 0;
	return err_set(err, ERR_UNSUPPORTED, "this is no %s image: its magic is missing",
		       storage_format_name(format));
}

static uint64_t le64(const unsigned char *at)
{
	uint64_t value;

	memcpy(&value, at, sizeof(value));
	return le64toh(value);
}

/*
 * VMware Virtual Disk Format 5.0. What makes it dangerous is its embedded text descriptor, which
 * may name a parent or, in a file without a capacity of its own, extents in other files.
 */
static int check_vmdk(int fd, const unsigned char *head, uint64_t file_size, uint64_t *ret_size,
		      struct err *err)
{
	uint64_t sectors = le64(head + 12);
	uint64_t offset = le64(head + 28);
	size_t size = 20 * 512; /* as much as QEMU looks at */
	_cleanup_free_ char *text = mem_calloc(1, size + 1);

	if (sectors == 0)
		return err_set(err, ERR_UNSUPPORTED,
			       "the VMDK image keeps its data in other files; convert it first");
	if (sectors > STORAGE_VIRTUAL_SIZE_MAX / 512)
		return err_set(err, ERR_LIMIT,
			       "the virtual size of the VMDK image is over the limit");
	*ret_size = sectors * 512;
	if (offset == 0)
		return 0;
	if (offset >= file_size / 512)
		return err_set(err, ERR_CORRUPT,
			       "the VMDK image is truncated: its descriptor is past the end");
	offset *= 512;
	if (size > file_size - offset)
		size = (size_t)(file_size - offset);
	if (storage_pread(fd, text, size, offset, err) < 0)
		return -1;
	/* past a NUL nobody looks, but a stranger's reader might */
	if (memmem(text, size, "parentFileNameHint", 18))
		return err_set(err, ERR_UNSUPPORTED,
			       "the VMDK image needs a parent file; flatten it first");
	return 0;
}

static int check_size(uint64_t size, struct err *err)
{
	if (size == 0)
		return err_set(err, ERR_CORRUPT, "the image is empty: its disk has no bytes");
	if (size > STORAGE_VIRTUAL_SIZE_MAX)
		return err_set(err, ERR_LIMIT,
			       "the virtual size of the image (%llu bytes) is over the limit of "
			       "%llu bytes",
			       (unsigned long long)size,
			       (unsigned long long)STORAGE_VIRTUAL_SIZE_MAX);
	return 0;
}

int storage_source_check(int fd, enum storage_format format, struct storage_source *ret,
			 struct err *err)
{
	unsigned char head[HEAD_SIZE] = {0};
	struct qcow2_header qcow2;
	struct storage_source source = {0};
	uint64_t file_size;

	if (storage_file_size(fd, &file_size, err) < 0)
		return -1;
	size_t have = file_size < sizeof(head) ? (size_t)file_size : sizeof(head);
	if (storage_pread(fd, head, have, 0, err) < 0)
		return -1;
	source.format = format;
	if (format == STORAGE_FORMAT_UNKNOWN && recognise(head, &source.format, err) < 0)
		return -1;
	switch (source.format) {
	case STORAGE_QCOW2:
		if (qcow2_read(fd, QCOW2_ALLOW_SNAPSHOTS, &qcow2, err) < 0 ||
		    qcow2_check_end(fd, &qcow2, err) < 0)
			return -1;
		source.virtual_size = qcow2.virtual_size;
		break;
	case STORAGE_RAW:
		source.virtual_size = (file_size + 511) & ~UINT64_C(511);
		break;
	case STORAGE_VMDK:
		if (check_magic(source.format, head, err) < 0 ||
		    check_vmdk(fd, head, file_size, &source.virtual_size, err) < 0)
			return -1;
		break;
	case STORAGE_VDI:
		if (check_magic(source.format, head, err) < 0)
			return -1;
		source.virtual_size = le64(head + 0x170);
		break;
	case STORAGE_VHDX:
		if (check_magic(source.format, head, err) < 0)
			return -1;
		*ret = source;
		return 0;
	case STORAGE_FORMAT_UNKNOWN:
		return err_set(err, ERR_INTERNAL, "the image's format was not recognised");
	}
	if (check_size(source.virtual_size, err) < 0)
		return -1;
	*ret = source;
	return 0;
}
