#include "base/str.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
/* cmocka wants the four above */
#include <cmocka.h>

#include "base/mem.h"

static void test_copy(void **state)
{
	char small[4] = "xxx";
	assert_int_equal(str_copy(small, sizeof(small), "abc"), 0);
	assert_string_equal(small, "abc");
	assert_int_equal(str_copy(small, sizeof(small), "abcd"), -1);
	assert_string_equal(small, "");
	assert_int_equal(str_copy(small, 0, ""), -1);
}

static void test_is_name(void **state)
{
	char name[STR_NAME_MAX + 2];
	memset(name, 'a', sizeof(name));
	name[STR_NAME_MAX + 1] = '\0';
	assert_false(str_is_name(name));
	name[STR_NAME_MAX] = '\0';
	assert_true(str_is_name(name));

	static const char *const good[] = {"a", "0", "web-1", "a-", "0-0"};
	static const char *const bad[] = {"",    "-a", "A",        "a_b", "a b",
					  "a/b", "a.", "\xc3\xa4", "a\n"};
	for (size_t i = 0; i < ARRAY_LEN(good); i++)
		assert_true(str_is_name(good[i]));
	for (size_t i = 0; i < ARRAY_LEN(bad); i++)
		assert_false(str_is_name(bad[i]));
}

static void test_uuid(void **state)
{
	char one[STR_UUID_LEN + 1], two[STR_UUID_LEN + 1];
	str_uuid_new(one);
	str_uuid_new(two);
	assert_true(str_is_uuid(one));
	assert_int_equal(one[14], '4');
	assert_non_null(strchr("89ab", one[19]));
	assert_string_not_equal(one, two);
	assert_true(str_is_name(one));

	assert_false(str_is_uuid(""));
	assert_false(str_is_uuid("0"));
	one[0] = 'A';
	assert_false(str_is_uuid(one));
	one[0] = '0';
	assert_true(str_is_uuid(one));
	one[8] = '0';
	assert_false(str_is_uuid(one));
	one[8] = '-';
	one[35] = '\0';
	assert_false(str_is_uuid(one));
	assert_false(str_is_uuid("00000000-0000-4000-8000-0000000000000"));
}

static void test_random_hex(void **state)
{
	char text[2 * 300 + 2], other[2 * 300 + 2];
	memset(text, '!', sizeof(text));
	str_random_hex(text, 300);
	assert_int_equal(strlen(text), 600);
	assert_int_equal(strspn(text, "0123456789abcdef"), 600);
	assert_int_equal(text[601], '!');
	str_random_hex(other, 300);
	assert_string_not_equal(text, other);
	assert_int_not_equal(strncmp(text, text + 512, 88), 0);
	str_random_hex(text, 0);
	assert_string_equal(text, "");
}

static void test_parse_i64(void **state)
{
	static const struct {
		const char *text;
		int64_t value;
	} good[] = {
		{"0", 0},
		{"-1", -1},
		{"007", 7},
		{"9223372036854775807", INT64_MAX},
		{"-9223372036854775808", INT64_MIN},
	};
	static const char *const bad[] = {"",    "-",   "+1",  " 1", "1 ",
					  "0x1", "1.0", "--1", "a",  "9223372036854775808"};
	for (size_t i = 0; i < ARRAY_LEN(good); i++) {
		int64_t value = 42;
		assert_int_equal(str_parse_i64(good[i].text, &value), 0);
		assert_true(value == good[i].value);
	}
	for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
		int64_t value = 42;
		assert_int_equal(str_parse_i64(bad[i], &value), -1);
		assert_int_equal(value, 42);
	}
}

static void test_parse_size(void **state)
{
	static const struct {
		const char *text;
		uint64_t value;
	} good[] = {
		{"0", 0},
		{"512", 512},
		{"512B", 512},
		{"2G", 2ull << 30},
		{"2g", 2ull << 30},
		{"64MiB", 64ull << 20},
		{"64mb", 64ull << 20},
		{"1.5T", 3ull << 39},
		{"0.5K", 512},
		{"0.001K", 1},
		{"18446744073709551615", UINT64_MAX},
		{"16777215T", 16777215ull << 40},
	};
	static const char *const bad[] = {"",          "G",
					  "-1",        "+1",
					  "1.5",       "1.",
					  ".5G",       "1 G",
					  "1GG",       "1Gi",
					  "1iB",       "1P",
					  "1e3",       "0x10",
					  "2G ",       " 2G",
					  "1.G",       "18446744073709551616",
					  "16777216T", "1.0000000001G"};
	for (size_t i = 0; i < ARRAY_LEN(good); i++) {
		uint64_t value = 42;
		assert_int_equal(str_parse_size(good[i].text, &value), 0);
		assert_true(value == good[i].value);
	}
	for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
		uint64_t value = 42;
		assert_int_equal(str_parse_size(bad[i], &value), -1);
		assert_true(value == 42);
	}
}

static void test_time(void **state)
{
	static const struct {
		int64_t ms;
		const char *text;
	} cases[] = {
		{0, "1970-01-01T00:00:00.000Z"},
		{-1, "1969-12-31T23:59:59.999Z"},
		{1767323045678, "2026-01-02T03:04:05.678Z"},
		{951782400000, "2000-02-29T00:00:00.000Z"},
		{-62167219200000, "0000-01-01T00:00:00.000Z"},
		{-40000000000000, "0702-06-15T00:53:20.000Z"},
		{INT64_MIN, "0000-01-01T00:00:00.000Z"},
		{INT64_MAX, "9999-12-31T23:59:59.999Z"},
	};
	char text[STR_TIME_MAX];
	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		str_format_time(cases[i].ms, text);
		assert_string_equal(text, cases[i].text);
	}
	assert_true(str_now_ms() > 1700000000000);
}

static void test_path_join(void **state)
{
	char path[8];
	assert_int_equal(str_path_join(path, sizeof(path), "abc", "def"), 0);
	assert_string_equal(path, "abc/def");
	assert_int_equal(str_path_join(path, sizeof(path), "abc", "defg"), -1);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_copy),      cmocka_unit_test(test_is_name),
		cmocka_unit_test(test_uuid),      cmocka_unit_test(test_random_hex),
		cmocka_unit_test(test_parse_i64), cmocka_unit_test(test_parse_size),
		cmocka_unit_test(test_time),      cmocka_unit_test(test_path_join),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
