#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdio.h>
#include <string.h>

#include "base/mem.h"
#include "help.h"
#include "storage/decompress.h"

static char dir[64];

struct bytes {
	unsigned char *at;
	size_t size;
};

static struct bytes load(const char *path)
{
	FILE *f = fopen(path, "re");
	struct bytes bytes = {mem_calloc(1, 4 << 20), 0};

	assert_non_null(f);
	bytes.size = fread(bytes.at, 1, 4 << 20, f);
	fclose(f);
	return bytes;
}

/* unpack with so many bytes at a time, in and out; the code of the error, or 0 and the file "out"
 */
static enum err_code unpack(const char *path, size_t in_step, size_t out_step, struct err *err)
{
	struct bytes in = load(path);
	struct bytes out = {mem_calloc(1, out_step), 0};
	struct decompress *d;
	FILE *f = fopen("out", "we");
	size_t at = 0, used, made;
	int result;

	assert_int_equal(decompress_new(decompress_recognise(in.at, in.size), &d, err), 0);
	for (;;) {
		size_t n = in.size - at < in_step ? in.size - at : in_step;
		result = decompress_step(d, in.at + at, n, n == 0, &used, out.at, out_step, &made,
					 err);
		if (result < 0)
			break;
		assert_true(used <= n && made <= out_step);
		assert_int_equal(fwrite(out.at, 1, made, f), made);
		at += used;
		if (used > 0 || made > 0)
			continue;
		assert_int_equal(n, 0); /* it never refuses to go on in silence */
		result = decompress_end(d, err);
		break;
	}
	decompress_free(d);
	fclose(f);
	free(in.at);
	free(out.at);
	return result < 0 ? err->code : 0;
}

static const char *const tools[] = {"gzip", "xz", "zstd"};

static void make(const char *tool)
{
	assert_int_equal(help_run("head -c 300000 /dev/urandom > data; head -c 700000 /dev/zero >> "
				  "data; %s -c data > packed",
				  tool),
			 0);
}

static void expect(enum err_code code, const char *word)
{
	struct err err = {0};
	enum err_code found = unpack("packed", 65536, 65536, &err);

	if (found != code || (code && !strstr(err.msg, word)))
		fail_msg("%d: \"%s\" does not say \"%s\"", (int)found, err.msg, word);
}

static void test_recognises(void **state)
{
	static const enum decompress_kind kinds[] = {DECOMPRESS_GZIP, DECOMPRESS_XZ,
						     DECOMPRESS_ZSTD};

	for (size_t i = 0; i < ARRAY_LEN(tools); i++) {
		make(tools[i]);
		struct bytes packed = load("packed");
		assert_int_equal(decompress_recognise(packed.at, packed.size), kinds[i]);
		assert_int_equal(decompress_recognise(packed.at, DECOMPRESS_HEAD), kinds[i]);
		assert_int_equal(decompress_recognise(packed.at, 2), DECOMPRESS_NONE);
		assert_string_equal(decompress_name(kinds[i]), tools[i]);
		free(packed.at);
	}
	assert_int_equal(decompress_recognise("QFI\xfb\0\0\0\3", 8), DECOMPRESS_NONE);
	assert_int_equal(decompress_recognise("\x1f\x8b\x07\0\0\0", 6), DECOMPRESS_NONE);
	assert_int_equal(decompress_recognise("\x5a\x2a\x4d\x18\0\0", 6), DECOMPRESS_ZSTD);
}

static void test_any_steps(void **state)
{
	static const size_t steps[][2] = {{1 << 20, 1 << 20}, {7, 4096}, {4096, 3}, {65536, 65536}};
	struct err err;

	for (size_t i = 0; i < ARRAY_LEN(tools); i++) {
		make(tools[i]);
		for (size_t k = 0; k < ARRAY_LEN(steps); k++) {
			assert_int_equal(unpack("packed", steps[k][0], steps[k][1], &err), 0);
			assert_true(help_same("data", "out"));
		}
	}
	assert_int_equal(help_run("mv data packed; cp packed data"), 0);
	assert_int_equal(unpack("packed", 1000, 333, &err), 0);
	assert_true(help_same("data", "out"));
}

static void test_several_in_one(void **state)
{
	for (size_t i = 0; i < ARRAY_LEN(tools); i++) {
		make(tools[i]);
		assert_int_equal(help_run("cat packed packed packed > p && mv p packed"), 0);
		expect(0, "");
		assert_int_equal(help_run("cat data data data | cmp - out"), 0);
	}
	/* zeros behind are padding: of gzip any number, of xz four at a time */
	make("gzip");
	assert_int_equal(help_run("head -c 1000 /dev/zero >> packed"), 0);
	expect(0, "");
	assert_true(help_same("data", "out"));
	make("xz");
	assert_int_equal(help_run("head -c 1000 /dev/zero >> packed"), 0);
	expect(0, "");
	assert_true(help_same("data", "out"));
	assert_int_equal(help_run("head -c 3 /dev/zero >> packed"), 0);
	expect(ERR_CORRUPT, "xz");
}

static void test_empty_members(void **state)
{
	for (size_t i = 0; i < ARRAY_LEN(tools); i++) {
		assert_int_equal(help_run("%s -c < /dev/null > packed", tools[i]), 0);
		expect(0, "");
		assert_int_equal(help_run("test -f out -a ! -s out"), 0);
	}
}

static void test_broken(void **state)
{
	static const int cuts[] = {1, 4, 100, 150000};

	for (size_t i = 0; i < ARRAY_LEN(tools); i++) {
		for (size_t k = 0; k < ARRAY_LEN(cuts); k++) {
			make(tools[i]);
			assert_int_equal(help_run("truncate -s -%d packed", cuts[k]), 0);
			expect(ERR_CORRUPT, "truncated");
		}
		make(tools[i]);
		assert_int_equal(help_run("echo more than a header has >> packed"), 0);
		expect(ERR_CORRUPT, "follows");
		make(tools[i]);
		help_poke("packed", 150000, "\x5a\xa5\x5a\xa5\x5a\xa5", 6);
		expect(ERR_CORRUPT, tools[i]);
	}
}

/* what a header claims to need is not given to it */
static void test_memory(void **state)
{
	assert_int_equal(help_run("head -c 3000000 /dev/zero > data; "
				  "xz -c --lzma2=dict=512MiB data > packed"),
			 0);
	expect(ERR_LIMIT, "memory");
	assert_int_equal(help_run("zstd -q -c --ultra --long=31 < data > packed"), 0);
	expect(ERR_LIMIT, "memory");
	assert_int_equal(help_run("zstd -q -c --long=27 < data > packed"), 0);
	expect(0, "");
	assert_int_equal(help_run("xz -9 -c data > packed"), 0);
	expect(0, "");
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
		cmocka_unit_test(test_recognises),     cmocka_unit_test(test_any_steps),
		cmocka_unit_test(test_several_in_one), cmocka_unit_test(test_empty_members),
		cmocka_unit_test(test_broken),         cmocka_unit_test(test_memory),
	};

	return cmocka_run_group_tests(tests, setup, teardown);
}
