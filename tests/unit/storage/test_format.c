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
#include "storage/format.h"
#include "storage/qcow2.h"

static char dir[64];

static int check(const char *path, enum storage_format format, struct storage_source *ret,
		 struct err *err)
{
	_cleanup_close_ int fd = open(path, O_RDONLY | O_CLOEXEC);

	assert_true(fd >= 0);
	return storage_source_check(fd, format, ret, err);
}

static void refused(const char *path, enum storage_format format, enum err_code code,
		    const char *word)
{
	struct storage_source source;
	struct err err = {0};

	assert_int_equal(check(path, format, &source, &err), -1);
	if (err.code != code || !strstr(err.msg, word))
		fail_msg("%s: %s: \"%s\" does not say \"%s\"", path, err_code_name(err.code),
			 err.msg, word);
}

static void test_recognises(void **state)
{
	static const enum storage_format formats[] = {STORAGE_QCOW2, STORAGE_RAW, STORAGE_VMDK,
						      STORAGE_VDI, STORAGE_VHDX};

	for (size_t i = 0; i < ARRAY_LEN(formats); i++) {
		struct storage_source source = {0};
		struct err err = {0};
		const char *name = storage_format_name(formats[i]);

		assert_int_equal(help_run("qemu-img create -q -f %s img 64M", name), 0);
		if (check("img", STORAGE_FORMAT_UNKNOWN, &source, &err) < 0)
			fail_msg("%s: %s", name, err.msg);
		assert_int_equal(source.format, formats[i]);
		if (formats[i] != STORAGE_VHDX)
			assert_int_equal(source.virtual_size, 64 << 20);
		assert_int_equal(check("img", formats[i], &source, &err), 0);
	}
}

static void test_format_must_fit(void **state)
{
	struct storage_source source;
	struct err err = {0};

	assert_int_equal(help_run("qemu-img create -q -f qcow2 img 1M"), 0);
	refused("img", STORAGE_VMDK, ERR_UNSUPPORTED, "no vmdk image");
	refused("img", STORAGE_VDI, ERR_UNSUPPORTED, "no vdi image");
	refused("img", STORAGE_VHDX, ERR_UNSUPPORTED, "no vhdx image");
	/* said to be raw, its bytes are taken as they are */
	assert_int_equal(check("img", STORAGE_RAW, &source, &err), 0);
	assert_int_equal(help_run("truncate -s 1M raw"), 0);
	refused("raw", STORAGE_QCOW2, ERR_UNSUPPORTED, "no qcow2 image");
}

static void test_foreign_formats(void **state)
{
	help_write("x", "\x1f\x8b\x08\0", 4);
	refused("x", 0, ERR_UNSUPPORTED, "gzip");
	help_write("x", "PK\3\4", 4);
	refused("x", 0, ERR_UNSUPPORTED, "zip");
	help_write("x", "# Disk DescriptorFile\n", 22);
	refused("x", 0, ERR_UNSUPPORTED, "descriptor");
	help_write("x", "", 0);
	refused("x", 0, ERR_CORRUPT, "empty");
	help_write("x", "QFI\xfb", 4);
	refused("x", 0, ERR_CORRUPT, "truncated");
}

static void test_size_limits(void **state)
{
	assert_int_equal(help_run("qemu-img create -q -f vdi img 1M"), 0);
	uint64_t size = STORAGE_VIRTUAL_SIZE_MAX + 1;
	help_poke("img", 0x170, &size, 8);
	refused("img", 0, ERR_LIMIT, "over the limit");
	assert_int_equal(truncate("img", 0x170), 0);
	refused("img", 0, ERR_CORRUPT, "no bytes");
	assert_int_equal(help_run("qemu-img create -q -f vmdk img 1M"), 0);
	help_poke("img", 12, &size, 8);
	refused("img", 0, ERR_LIMIT, "over the limit");
}

static void test_vmdk_names_no_other_file(void **state)
{
	assert_int_equal(help_run("qemu-img create -q -f vmdk base 1M && "
				  "qemu-img create -q -f vmdk -b base -F vmdk img"),
			 0);
	refused("img", 0, ERR_UNSUPPORTED, "parent file");
	uint64_t value = 0;
	help_poke("img", 12, &value, 8);
	refused("img", 0, ERR_UNSUPPORTED, "other files");
	assert_int_equal(help_run("qemu-img create -q -f vmdk img 1M"), 0);
	value = UINT64_MAX / 2;
	help_poke("img", 28, &value, 8);
	refused("img", 0, ERR_CORRUPT, "truncated");
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
		cmocka_unit_test(test_recognises),
		cmocka_unit_test(test_format_must_fit),
		cmocka_unit_test(test_foreign_formats),
		cmocka_unit_test(test_size_limits),
		cmocka_unit_test(test_vmdk_names_no_other_file),
	};

	return cmocka_run_group_tests(tests, setup, teardown);
}
