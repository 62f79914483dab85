#include "storage/iso.h"

#include <string.h>

#include "storage/file.h"

#define FIRST_SECTOR 16 /* 32 KiB of system area come before it */
#define SECTORS_MAX  64 /* descriptors that are looked at */
#define ANCHOR       256

enum { ISO_PRIMARY = 1, ISO_END = 255 };

static uint32_t read_le32(const unsigned char *at)
{
	return (uint32_t)at[0] | (uint32_t)at[1] << 8 | (uint32_t)at[2] << 16 |
	       (uint32_t)at[3] << 24;
}

static uint32_t read_be32(const unsigned char *at)
{
	return (uint32_t)at[3] | (uint32_t)at[2] << 8 | (uint32_t)at[1] << 16 |
	       (uint32_t)at[0] << 24;
}

static void read_label(const unsigned char *at, char ret[STORAGE_ISO_LABEL_MAX + 1])
{
	size_t len = STORAGE_ISO_LABEL_MAX;

	while (len > 0 && (at[len - 1] == ' ' || at[len - 1] == '\0'))
		len--;
	for (size_t i = 0; i < len; i++)
		if (at[i] < 0x20 || at[i] > 0x7e)
			len = 0;
	memcpy(ret, at, len);
	ret[len] = '\0';
}

/* ECMA-119 8.4; numbers stand there in both byte orders */
static int check_primary(const unsigned char *sector, struct storage_iso *iso, struct err *err)
{
	uint32_t blocks = read_le32(sector + 80);
	unsigned int size = sector[128] | (unsigned int)sector[129] << 8;

	if (blocks != read_be32(sector + 84) ||
	    size != (sector[131] | (unsigned int)sector[130] << 8) ||
	    (size != 512 && size != 1024 && size != STORAGE_ISO_SECTOR))
		return err_set(err, ERR_CORRUPT,
			       "the ISO image is corrupt: its volume descriptor contradicts "
			       "itself");
	if ((uint64_t)blocks * size > iso->bytes)
		return err_set(err, ERR_CORRUPT,
			       "the ISO image is truncated: it has %llu of the %llu bytes that its "
			       "volume descriptor names",
			       (unsigned long long)iso->bytes, (unsigned long long)blocks * size);
	iso->iso9660 = true;
	read_label(sector + 40, iso->label);
	return 0;
}

/* a descriptor tag, ECMA-167 3/7.2: 2 is the anchor, byte 4 the sum of the other fifteen */
static int check_anchor(int fd, const struct storage_iso *iso, struct err *err)
{
	unsigned char tag[16], sum = 0;

	if (iso->bytes < (uint64_t)(ANCHOR + 1) * STORAGE_ISO_SECTOR)
		return err_set(err, ERR_CORRUPT,
			       "the ISO image is truncated: it ends before its UDF anchor");
	if (storage_pread(fd, tag, sizeof(tag), (uint64_t)ANCHOR * STORAGE_ISO_SECTOR, err) < 0)
		return -1;
	for (size_t i = 0; i < sizeof(tag); i++)
		sum = (unsigned char)(sum + (i == 4 ? 0 : tag[i]));
	if (tag[0] != 2 || tag[1] != 0 || sum != tag[4])
		return err_set(err, ERR_CORRUPT, "the ISO image is corrupt: it has no UDF anchor");
	return 0;
}

/* one descriptor; 1: the sequence goes on, 0: it ends here */
static int look(const unsigned char *sector, struct storage_iso *iso, struct err *err)
{
	const char *id = (const char *)sector + 1;

	if (memcmp(id, "CD001", 5) == 0) {
		if (sector[0] == ISO_PRIMARY && !iso->iso9660 &&
		    check_primary(sector, iso, err) < 0)
			return -1;
		return 1; /* after the ISO 9660 ones, those of UDF may follow */
	}
	if (memcmp(id, "NSR02", 5) == 0 || memcmp(id, "NSR03", 5) == 0)
		iso->udf = true;
	else if (memcmp(id, "BEA01", 5) != 0 && memcmp(id, "BOOT2", 5) != 0)
		return 0;
	return 1;
}

int storage_iso_check(int fd, struct storage_iso *ret, struct err *err)
{
	struct storage_iso iso = {0};
	unsigned char sector[STORAGE_ISO_SECTOR];
	int more = 1;

	if (storage_file_size(fd, &iso.bytes, err) < 0)
		return -1;
	for (uint64_t n = FIRST_SECTOR;
	     more && n < FIRST_SECTOR + SECTORS_MAX && (n + 1) * STORAGE_ISO_SECTOR <= iso.bytes;
	     n++) {
		if (storage_pread(fd, sector, sizeof(sector), n * STORAGE_ISO_SECTOR, err) < 0)
			return -1;
		more = look(sector, &iso, err);
		if (more < 0)
			return -1;
	}
	if (!iso.iso9660 && !iso.udf)
		return err_set(err, ERR_UNSUPPORTED,
			       "this is no ISO image: it has neither ISO 9660 nor UDF volume "
			       "descriptors; unpack it first if it is compressed");
	if (iso.udf && check_anchor(fd, &iso, err) < 0)
		return -1;
	*ret = iso;
	return 0;
}
