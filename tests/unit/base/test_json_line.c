#include "base/json_line.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
/* cmocka wants the four above */
#include <cmocka.h>

#include "base/mem.h"

static int parse(const char *text, json_t **ret, struct err *err)
{
	return json_line_parse(text, strlen(text), JSON_LINE_DEPTH_MAX, ret, err);
}

static void test_good(void **state)
{
	static const char *const texts[] = {"{}",
					    "[]",
					    "1",
					    "null",
					    "\"a\"",
					    " {\"a\":1} ",
					    "{\"a\":{\"a\":1}}",
					    "[\"\xc3\xa4\"]"};
	for (size_t i = 0; i < ARRAY_LEN(texts); i++) {
		json_t *value = NULL;
		struct err err = {0};
		assert_int_equal(parse(texts[i], &value, &err), 0);
		assert_non_null(value);
		json_decref(value);
	}
}

static void refuse(const char *text, size_t len)
{
	json_t *value = NULL;
	struct err err = {0};
	assert_int_equal(json_line_parse(text, len, JSON_LINE_DEPTH_MAX, &value, &err), -1);
	assert_null(value);
	assert_int_equal(err.code, ERR_INVALID);
	assert_true(err.msg[0] != '\0');
	for (const char *c = err.msg; *c; c++)
		assert_true(*c >= 0x20 && *c < 0x7f);
	/* an error need not be kept */
	assert_int_equal(json_line_parse(text, len, JSON_LINE_DEPTH_MAX, &value, NULL), -1);
}

static void test_bad(void **state)
{
	static const char *const texts[] = {
		"",
		" ",
		"{",
		"}",
		"{}x",
		"{} {}",
		"{\"a\":1,\"a\":2}",
		"[{\"b\":{\"a\":1,\"a\":1}}]",
		"{'a':1}",
		"[1,]",
		"nul",
		"\"\xff\"",
		"\"\xc3",
		"\"\\u0000\"",
		"{\"\\u0000\":1}",
		"\"\x01\"",
		"[1e999]",
		"[99999999999999999999]",
		"\x1b[31m",
		"\"abc\\",
	};
	for (size_t i = 0; i < ARRAY_LEN(texts); i++)
		refuse(texts[i], strlen(texts[i]));
	refuse("{}\0", 3);
	refuse("\0{}", 3);
	refuse("[\"a\0b\"]", 7);
	refuse("[1\0]", 4);
}

static void fill_nested(char *text, size_t depth, char open, char shut)
{
	memset(text, open, depth);
	memset(text + depth, shut, depth);
}

static void test_depth(void **state)
{
	enum { DEEP = 100000 };
	json_t *value = NULL;
	struct err err = {0};
	char text[2 * (JSON_LINE_DEPTH_MAX + 1)];

	fill_nested(text, JSON_LINE_DEPTH_MAX, '[', ']');
	assert_int_equal(
		json_line_parse(text, 2 * JSON_LINE_DEPTH_MAX, JSON_LINE_DEPTH_MAX, &value, &err),
		0);
	json_decref(value);
	fill_nested(text, JSON_LINE_DEPTH_MAX + 1, '[', ']');
	refuse(text, sizeof(text));
	assert_int_equal(json_line_parse("1", 1, 0, &value, &err), 0);
	json_decref(value);
	assert_int_equal(json_line_parse("[]", 2, 0, &value, &err), -1);

	char *deep = mem_calloc(DEEP, 2);
	fill_nested(deep, DEEP, '[', ']');
	refuse(deep, 2 * (size_t)DEEP);
	refuse(deep, DEEP);
	for (size_t i = 0; i + 5 <= DEEP; i += 5)
		memcpy(deep + i, "{\"a\":", 5);
	refuse(deep, DEEP);
	free(deep);
}

/* Brackets within strings are text, however the string is quoted. */
static void test_depth_strings(void **state)
{
	struct err err = {0};
	json_t *value = NULL;
	assert_int_equal(json_line_parse("[\"[[[{{{\"]", 10, 1, &value, &err), 0);
	json_decref(value);
	assert_int_equal(json_line_parse("[\"\\\"[[\"]", 8, 1, &value, &err), 0);
	json_decref(value);
	assert_int_equal(json_line_parse("[\"\\\\\",[]]", 9, 1, &value, &err), -1);
	assert_int_equal(json_line_parse("[[],[],[]]", 10, 2, &value, &err), 0);
	json_decref(value);
	/* closing brackets without partners buy nothing */
	assert_int_equal(json_line_parse("]]]][[", 6, 1, &value, &err), -1);
	assert_non_null(strstr(err.msg, "deeper"));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_good),
		cmocka_unit_test(test_bad),
		cmocka_unit_test(test_depth),
		cmocka_unit_test(test_depth_strings),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
