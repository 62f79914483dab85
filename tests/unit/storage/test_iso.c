/* What is an ISO image, what is none, what is half of one. */
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/mem.h"
#include "storage/iso.h"

#define SECTORS 300

struct disc {
	int fd;
	struct storage_iso found;
	struct err err;
};

static int make(void **state)
{
	struct disc *disc = mem_new(struct disc);
	disc->fd = memfd_create("disc", MFD_CLOEXEC);
	assert_int_equal(ftruncate(disc->fd, (off_t)SECTORS * STORAGE_ISO_SECTOR), 0);
	*state = disc;
	return 0;
}

static int done(void **state)
{
	struct disc *disc = *state;
	close(disc->fd);
	free(disc);
	return 0;
}

static void put(struct disc *disc, unsigned int sector, size_t at, const void *bytes, size_t len)
{
	off_t offset = (off_t)sector * STORAGE_ISO_SECTOR + (off_t)at;
	assert_int_equal(pwrite(disc->fd, bytes, len, offset), (ssize_t)len);
}

static void put_primary(struct disc *disc, unsigned int sector, uint32_t blocks)
{
	const unsigned char both[] = {(unsigned char)blocks,         (unsigned char)(blocks >> 8),
				      (unsigned char)(blocks >> 16), (unsigned char)(blocks >> 24),
				      (unsigned char)(blocks >> 24), (unsigned char)(blocks >> 16),
				      (unsigned char)(blocks >> 8),  (unsigned char)blocks};
	put(disc, sector, 0, "\1CD001\1", 7);
	put(disc, sector, 40, "A DISC                          ", 32);
	put(disc, sector, 80, both, sizeof(both));
	put(disc, sector, 128, "\0\10\10\0", 4);
}

static void put_udf(struct disc *disc, unsigned int sector)
{
	static const unsigned char anchor[16] = {2, 0, 2, 0, 4};
	put(disc, sector, 0, "\0BEA01\1", 7);
	put(disc, sector + 1, 0, "\0NSR02\1", 7);
	put(disc, sector + 2, 0, "\0TEA01\1", 7);
	put(disc, 256, 0, anchor, sizeof(anchor));
}

static void works(struct disc *disc)
{
	if (storage_iso_check(disc->fd, &disc->found, &disc->err) < 0)
		fail_msg("%s", disc->err.msg);
	assert_int_equal(disc->found.bytes, (uint64_t)SECTORS * STORAGE_ISO_SECTOR);
}

static void fails(struct disc *disc, enum err_code code, const char *word)
{
	struct storage_iso untouched = disc->found;
	assert_int_equal(storage_iso_check(disc->fd, &disc->found, &disc->err), -1);
	assert_memory_equal(&disc->found, &untouched, sizeof(untouched));
	if (disc->err.code != code || !strstr(disc->err.msg, word))
		fail_msg("%s: %s", err_code_name(disc->err.code), disc->err.msg);
}

static void iso9660(void **state)
{
	struct disc *disc = *state;
	put_primary(disc, 16, SECTORS);
	put(disc, 17, 0, "\377CD001\1", 7);
	works(disc);
	assert_true(disc->found.iso9660);
	assert_false(disc->found.udf);
	assert_string_equal(disc->found.label, "A DISC");
}

static void udf_alone_and_as_a_bridge(void **state)
{
	struct disc *disc = *state;
	put_udf(disc, 16);
	works(disc);
	assert_true(disc->found.udf);
	assert_false(disc->found.iso9660);
	assert_string_equal(disc->found.label, "");
	put_primary(disc, 16, SECTORS);
	put(disc, 17, 0, "\377CD001\1", 7);
	put_udf(disc, 18);
	works(disc);
	assert_true(disc->found.udf && disc->found.iso9660);
}

/* A label is shown to people: no controls, no half of a character. */
static void odd_labels_are_none(void **state)
{
	struct disc *disc = *state;
	put_primary(disc, 16, SECTORS);
	put(disc, 16, 41, "\33[2J", 4);
	works(disc);
	assert_string_equal(disc->found.label, "");
	put(disc, 16, 40, "                                ", 32);
	works(disc);
	assert_string_equal(disc->found.label, "");
}

static void what_is_none(void **state)
{
	struct disc *disc = *state;
	fails(disc, ERR_UNSUPPORTED, "no ISO image");
	put(disc, 16, 0, "\2CD001\1", 7); /* a descriptor, and none of them a primary one */
	fails(disc, ERR_UNSUPPORTED, "no ISO image");
	/* a sequence without an end is read for a while only; past 64 nobody looks */
	for (unsigned int i = 16; i < SECTORS; i++)
		put(disc, i, 0, "\2CD001\1", 7);
	put_primary(disc, 100, SECTORS);
	fails(disc, ERR_UNSUPPORTED, "no ISO image");
	assert_int_equal(ftruncate(disc->fd, 0), 0);
	fails(disc, ERR_UNSUPPORTED, "no ISO image");
	assert_int_equal(ftruncate(disc->fd, 16 * STORAGE_ISO_SECTOR + 100), 0);
	fails(disc, ERR_UNSUPPORTED, "no ISO image");
}

static void what_is_damaged(void **state)
{
	struct disc *disc = *state;
	put_primary(disc, 16, SECTORS + 1);
	fails(disc, ERR_CORRUPT, "truncated");
	put_primary(disc, 16, UINT32_MAX);
	fails(disc, ERR_CORRUPT, "truncated");
	put_primary(disc, 16, SECTORS);
	put(disc, 16, 87, "\7", 1); /* the other byte order says something else */
	fails(disc, ERR_CORRUPT, "contradicts");
	put_primary(disc, 16, SECTORS);
	put(disc, 16, 128, "\0\0\0\0", 4);
	fails(disc, ERR_CORRUPT, "contradicts");
	put_primary(disc, 16, SECTORS);
	put_udf(disc, 17);
	put(disc, 256, 4, "\0", 1);
	fails(disc, ERR_CORRUPT, "anchor");
	put_primary(disc, 16, 20);
	assert_int_equal(ftruncate(disc->fd, 256 * STORAGE_ISO_SECTOR), 0);
	fails(disc, ERR_CORRUPT, "before its UDF anchor");
}

static void what_cannot_be_read(void **state)
{
	struct disc *disc = *state;
	close(disc->fd);
	disc->fd = -1;
	assert_int_equal(storage_iso_check(disc->fd, &disc->found, &disc->err), -1);
	assert_int_equal(disc->err.code, ERR_IO);
}

#define test_with_disc(test) cmocka_unit_test_setup_teardown(test, make, done)

int main(void)
{
	const struct CMUnitTest tests[] = {
		test_with_disc(iso9660),
		test_with_disc(udf_alone_and_as_a_bridge),
		test_with_disc(odd_labels_are_none),
		test_with_disc(what_is_none),
		test_with_disc(what_is_damaged),
		test_with_disc(what_cannot_be_read),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
