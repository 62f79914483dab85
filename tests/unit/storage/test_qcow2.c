#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#include "base/mem.h"
#include "help.h"
#include "storage/qcow2.h"

static char dir[64];

static int read_header(const char *path, unsigned int flags, struct qcow2_header *ret,
		       struct err *err)
{
	_cleanup_close_ int fd = open(path, O_RDONLY | O_CLOEXEC);

	assert_true(fd >= 0);
	return qcow2_read(fd, flags, ret, err);
}

static void accepted(const char *path, unsigned int flags, struct qcow2_header *ret)
{
	struct err err = {0};

	if (read_header(path, flags, ret, &err) < 0)
		fail_msg("%s: %s", path, err.msg);
}

static void refused(const char *path, unsigned int flags, enum err_code code, const char *word)
{
	struct qcow2_header header = {.version = 77};
	struct err err = {0};

	assert_int_equal(read_header(path, flags, &header, &err), -1);
	assert_int_equal(header.version, 77);
	if (!strstr(err.msg, word) || err.code != code)
		fail_msg("%s: %s: \"%s\" does not say \"%s\"", path, err_code_name(err.code),
			 err.msg, word);
}

/* a fresh image to break */
static const char *fresh(const char *options)
{
	assert_int_equal(help_run("rm -f img; qemu-img create -q -f qcow2 %s img 1G", options), 0);
	return "img";
}

static void test_reads_what_qemu_writes(void **state)
{
	struct qcow2_header h;

	accepted(fresh(""), 0, &h);
	assert_int_equal(h.version, 3);
	assert_int_equal(h.cluster_bits, 16);
	assert_int_equal(h.virtual_size, UINT64_C(1) << 30);
	assert_string_equal(h.backing_name, "");
	accepted(fresh("-o compat=0.10"), 0, &h);
	assert_int_equal(h.version, 2);
	accepted(fresh("-o cluster_size=512"), 0, &h);
	assert_int_equal(h.cluster_bits, 9);
	accepted(fresh("-o cluster_size=2M"), 0, &h);
	accepted(fresh("-o extended_l2=on,cluster_size=128k"), 0, &h);
	accepted(fresh("-o compression_type=zstd"), 0, &h);
	assert_int_equal(h.compression, 1);
	accepted(fresh("-o refcount_bits=64,lazy_refcounts=on"), 0, &h);
	assert_int_equal(h.refcount_order, 6);
	/* dirty bitmaps of backups */
	assert_int_equal(help_run("qemu-img bitmap --add %s vdi-1", fresh("")), 0);
	accepted("img", 0, &h);
	assert_int_equal(h.autoclear & 1, 1);
	assert_int_equal(help_run("qemu-img create -q -f qcow2 -b img -F qcow2 over 2G"), 0);
	accepted("over", QCOW2_ALLOW_BACKING, &h);
	assert_string_equal(h.backing_name, "img");
	assert_string_equal(h.backing_format, "qcow2");
	assert_int_equal(help_run("qemu-img create -q -f qcow2 -o preallocation=metadata big 4G"),
			 0);
	accepted("big", 0, &h);
}

static void test_refuses_other_files(void **state)
{
	fresh("");
	assert_int_equal(help_run("qemu-img create -q -f qcow2 -b img -F qcow2 over"), 0);
	refused("over", 0, ERR_UNSUPPORTED, "backing file (img)");
	assert_int_equal(help_run("rm -f d; qemu-img create -q -f qcow2 -o data_file=d img 1G"), 0);
	refused("img", 0, ERR_UNSUPPORTED, "external data file");
	/* the extension alone, its feature bit cleared */
	help_poke64("img", 72, 0);
	refused("img", 0, ERR_UNSUPPORTED, "external data file");
}

static void test_refuses_encryption(void **state)
{
	help_poke32(fresh(""), 32, 1);
	refused("img", 0, ERR_UNSUPPORTED, "encrypted (method 1)");
	help_poke32(fresh(""), 32, 2);
	refused("img", 0, ERR_UNSUPPORTED, "encrypted");
	help_poke32(fresh(""), 112, 0x0537be77);
	refused("img", 0, ERR_UNSUPPORTED, "LUKS");
}

static void test_refuses_features(void **state)
{
	help_poke64(fresh(""), 72, UINT64_C(1) << 5);
	refused("img", 0, ERR_UNSUPPORTED, "unknown incompatible features (bits 0x20)");
	help_poke64(fresh(""), 72, UINT64_C(1) << 63);
	refused("img", 0, ERR_UNSUPPORTED, "unknown incompatible features");
	help_poke64(fresh(""), 72, QCOW2_CORRUPT);
	refused("img", 0, ERR_CORRUPT, "marked as corrupt");
	help_poke64(fresh(""), 72, QCOW2_COMPRESSION);
	refused("img", 0, ERR_CORRUPT, "compression");
	help_poke32(fresh(""), 4, 4);
	refused("img", 0, ERR_UNSUPPORTED, "version 4");
	help_poke32(fresh(""), 4, 1);
	refused("img", 0, ERR_UNSUPPORTED, "version 1");
	help_poke32(fresh(""), 0, 0);
	refused("img", 0, ERR_UNSUPPORTED, "magic");
	/* a dirty image is only one that was not closed */
	struct qcow2_header h;
	help_poke64(fresh("-o lazy_refcounts=on"), 72, QCOW2_DIRTY);
	accepted("img", 0, &h);
}

static void test_refuses_truncation(void **state)
{
	static const int lengths[] = {0, 1, 71, 72, 103, 104, 112, 65536, 131072, 196608};

	for (size_t i = 0; i < ARRAY_LEN(lengths); i++) {
		fresh("");
		assert_int_equal(truncate("img", lengths[i]), 0);
		refused("img", 0, ERR_CORRUPT, "truncated");
	}
}

static void test_refuses_bad_bounds(void **state)
{
	help_poke64(fresh(""), 24, STORAGE_VIRTUAL_SIZE_MAX + 512);
	refused("img", 0, ERR_LIMIT, "over the limit");
	help_poke64(fresh(""), 24, UINT64_MAX);
	refused("img", 0, ERR_LIMIT, "over the limit");
	help_poke64(fresh(""), 24, UINT64_C(1) << 40);
	refused("img", 0, ERR_CORRUPT, "too small");
	help_poke32(fresh(""), 20, 8);
	refused("img", 0, ERR_CORRUPT, "cluster size");
	help_poke32(fresh(""), 20, 22);
	refused("img", 0, ERR_CORRUPT, "cluster size");
	help_poke32(fresh(""), 20, UINT32_MAX);
	refused("img", 0, ERR_CORRUPT, "cluster size");
	help_poke32(fresh(""), 36, UINT32_MAX);
	refused("img", 0, ERR_CORRUPT, "L1 table is too large");
	help_poke64(fresh(""), 40, 3);
	refused("img", 0, ERR_CORRUPT, "L1 table is not at a cluster");
	help_poke64(fresh(""), 40, 0);
	refused("img", 0, ERR_CORRUPT, "L1 table is not at a cluster");
	help_poke64(fresh(""), 40, UINT64_C(1) << 63);
	refused("img", 0, ERR_CORRUPT, "past the end");
	help_poke64(fresh(""), 48, UINT64_C(1) << 40);
	refused("img", 0, ERR_CORRUPT, "refcount table lies past the end");
	help_poke32(fresh(""), 56, 0);
	refused("img", 0, ERR_CORRUPT, "no refcount table");
	help_poke32(fresh(""), 56, UINT32_MAX);
	refused("img", 0, ERR_CORRUPT, "refcount table is too large");
	help_poke32(fresh(""), 96, 7);
	refused("img", 0, ERR_CORRUPT, "refcount width");
	help_poke32(fresh(""), 100, 96);
	refused("img", 0, ERR_CORRUPT, "header length");
	help_poke32(fresh(""), 100, 105);
	refused("img", 0, ERR_CORRUPT, "header length");
	help_poke32(fresh(""), 100, UINT32_MAX - 7);
	refused("img", 0, ERR_CORRUPT, "header length");
}

static void test_refuses_bad_extensions(void **state)
{
	help_poke32(fresh(""), 116, UINT32_MAX);
	refused("img", 0, ERR_CORRUPT, "does not fit");
	help_poke32(fresh(""), 112, 0xe2792aca);
	refused("img", 0, ERR_CORRUPT, "backing format");
	/* extensions without end: the whole header full of empty ones */
	fresh("");
	for (int i = 0; i < 100; i++) {
		help_poke32("img", 112 + 8 * (uint64_t)i, 0x12345678);
		help_poke32("img", 116 + 8 * (uint64_t)i, 0);
	}
	refused("img", 0, ERR_CORRUPT, "too many header extensions");
}

static void test_refuses_bad_backing(void **state)
{
	const unsigned int flags = QCOW2_ALLOW_BACKING;

	help_poke64(fresh(""), 8, 600);
	refused("img", flags, ERR_CORRUPT, "out of bounds"); /* no length */
	help_poke32("img", 16, 1024);
	refused("img", flags, ERR_CORRUPT, "out of bounds");
	help_poke32("img", 16, 10);
	refused("img", flags, ERR_CORRUPT, "NUL");
	help_poke64("img", 8, 65530);
	refused("img", flags, ERR_CORRUPT, "out of bounds");
	help_poke64("img", 8, 8);
	refused("img", flags, ERR_CORRUPT, "out of bounds");
	help_poke64("img", 8, UINT64_MAX);
	refused("img", flags, ERR_CORRUPT, "out of bounds");
	help_poke64("img", 8, 600);
	help_poke("img", 600, "/etc\npasswd", 11);
	help_poke32("img", 16, 11);
	refused("img", 0, ERR_UNSUPPORTED, "/etc?passwd");
}

static int check_end(const char *path, struct err *err)
{
	_cleanup_close_ int fd = open(path, O_RDONLY | O_CLOEXEC);
	struct qcow2_header h;

	/* where the tables themselves went with the end, reading the header says so */
	if (qcow2_read(fd, QCOW2_ALLOW_BACKING, &h, err) < 0)
		return -1;
	return qcow2_check_end(fd, &h, err);
}

static void test_finds_a_lost_end(void **state)
{
	static const char *const options[] = {"",
					      "-o refcount_bits=1",
					      "-o refcount_bits=64",
					      "-o cluster_size=512",
					      "-o compat=0.10",
					      "-o preallocation=metadata"};

	for (size_t i = 0; i < ARRAY_LEN(options); i++) {
		struct err err = {0};
		fresh(options[i]);
		assert_int_equal(help_run("qemu-io -c 'write -P 1 5M 9M' img >/dev/null"), 0);
		if (check_end("img", &err) < 0)
			fail_msg("%s: %s", options[i], err.msg);
		assert_int_equal(truncate("img", 8 << 20), 0);
		assert_int_equal(check_end("img", &err), -1);
		assert_int_equal(err.code, ERR_CORRUPT);
		assert_non_null(strstr(err.msg, "truncated"));
	}
}

static void test_refuses_bad_refcounts(void **state)
{
	struct err err = {0};

	help_poke64(fresh(""), 65536, UINT64_C(1) << 50);
	assert_int_equal(check_end("img", &err), -1);
	assert_non_null(strstr(err.msg, "refcount block"));
	help_poke64(fresh(""), 65536, 131072 + 512);
	assert_int_equal(check_end("img", &err), -1);
	help_poke64(fresh(""), 65536 + 65528, 131072);
	assert_int_equal(check_end("img", &err), -1);
	help_poke64(fresh(""), 65536, 0);
	assert_int_equal(check_end("img", &err), 0);
}

static void test_snapshots(void **state)
{
	struct qcow2_header h;

	fresh("");
	assert_int_equal(help_run("qemu-img snapshot -c one img"), 0);
	refused("img", 0, ERR_UNSUPPORTED, "internal snapshots");
	accepted("img", QCOW2_ALLOW_SNAPSHOTS, &h);
	assert_int_equal(h.snapshots, 1);
	help_poke32("img", 60, 65537);
	refused("img", QCOW2_ALLOW_SNAPSHOTS, ERR_CORRUPT, "too many snapshots");
	help_poke32("img", 60, 65536);
	refused("img", QCOW2_ALLOW_SNAPSHOTS, ERR_CORRUPT, "snapshot table lies past");
}

static int write_image(const char *path, uint64_t size, const char *backing, const char *format,
		       struct err *err)
{
	_cleanup_close_ int fd = open(path, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);

	assert_true(fd >= 0);
	return qcow2_write(fd, size, backing, format, err);
}

static void test_writes_what_qemu_reads(void **state)
{
	static const uint64_t sizes[] = {512,
					 1 << 20,
					 UINT64_C(512) << 20,
					 (UINT64_C(512) << 20) + 512,
					 UINT64_C(100) << 30,
					 UINT64_C(5) << 40,
					 STORAGE_VIRTUAL_SIZE_MAX};
	struct qcow2_header h;
	struct err err = {0};

	for (size_t i = 0; i < ARRAY_LEN(sizes); i++) {
		assert_int_equal(write_image("own", sizes[i], NULL, NULL, &err), 0);
		assert_int_equal(help_run("qemu-img check -q own"), 0);
		assert_int_equal(help_run("qemu-img info --output=json own | "
					  "grep -q '\"virtual-size\": %llu,'",
					  (unsigned long long)sizes[i]),
				 0);
		accepted("own", 0, &h);
		assert_int_equal(h.virtual_size, sizes[i]);
	}
	assert_int_equal(write_image("own", 1 << 30, NULL, NULL, &err), 0);
	assert_int_equal(help_run("qemu-io -c 'write -P 7 1000000k 1M' -c 'read -P 7 1000000k 1M' "
				  "-c 'read -P 0 0 1M' own | grep -q 'attern' && exit 1;"
				  "qemu-img check -q own"),
			 0);
}

static void test_writes_clones(void **state)
{
	struct qcow2_header h;
	struct err err = {0};

	fresh("");
	assert_int_equal(help_run("qemu-io -c 'write -P 9 0 1M' img >/dev/null"), 0);
	assert_int_equal(write_image("own", UINT64_C(2) << 30, "img", "qcow2", &err), 0);
	assert_int_equal(help_run("qemu-img check -q own"), 0);
	assert_int_equal(help_run("qemu-img info own | grep -q 'backing file: img$'"), 0);
	assert_int_equal(help_run("qemu-img info own | grep -q 'backing file format: qcow2$'"), 0);
	assert_int_equal(help_run("qemu-io -c 'read -P 9 0 1M' -c 'read -P 0 1G 1M' own | "
				  "grep -q attern && exit 1; exit 0"),
			 0);
	accepted("own", QCOW2_ALLOW_BACKING, &h);
	assert_string_equal(h.backing_name, "img");
}

static void test_write_refuses(void **state)
{
	char name[QCOW2_BACKING_NAME_MAX + 2] = {0};
	struct err err = {0};

	assert_int_equal(write_image("own", 0, NULL, NULL, &err), -1);
	assert_int_equal(err.code, ERR_INVALID);
	assert_int_equal(write_image("own", 513, NULL, NULL, &err), -1);
	assert_int_equal(write_image("own", STORAGE_VIRTUAL_SIZE_MAX + 512, NULL, NULL, &err), -1);
	assert_int_equal(err.code, ERR_LIMIT);
	assert_int_equal(write_image("own", 512, "img", NULL, &err), -1);
	assert_int_equal(write_image("own", 512, "", "qcow2", &err), -1);
	memset(name, 'a', sizeof(name) - 1);
	assert_int_equal(write_image("own", 512, name, "qcow2", &err), -1);
	name[QCOW2_BACKING_NAME_MAX] = '\0';
	assert_int_equal(write_image("own", 512, name, "qcow2", &err), 0);
	_cleanup_close_ int fd = open("/dev/full", O_RDWR | O_CLOEXEC);
	assert_int_equal(qcow2_write(fd, 512, NULL, NULL, &err), -1);
}

static int setup(void **state)
{
	help_dir(dir, sizeof(dir));
	return 0;
}

static int teardown(void **state)
{
	help_remove_dir(dir);
	return 0;
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_reads_what_qemu_writes),
		cmocka_unit_test(test_refuses_other_files),
		cmocka_unit_test(test_refuses_encryption),
		cmocka_unit_test(test_refuses_features),
		cmocka_unit_test(test_refuses_truncation),
		cmocka_unit_test(test_refuses_bad_bounds),
		cmocka_unit_test(test_refuses_bad_extensions),
		cmocka_unit_test(test_refuses_bad_backing),
		cmocka_unit_test(test_finds_a_lost_end),
		cmocka_unit_test(test_refuses_bad_refcounts),
		cmocka_unit_test(test_snapshots),
		cmocka_unit_test(test_writes_what_qemu_reads),
		cmocka_unit_test(test_writes_clones),
		cmocka_unit_test(test_write_refuses),
	};

	return cmocka_run_group_tests(tests, setup, teardown);
}
