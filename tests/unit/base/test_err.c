#include "base/err.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
/* cmocka wants those above */
#include <cmocka.h>
#include <jansson.h>

#include "base/mem.h"

static void test_set(void **state)
{
	struct err err;
	memset(&err, 0x55, sizeof(err));
	assert_int_equal(err_set(&err, ERR_BUSY, "%s is %d", "x", 1), -1);
	assert_int_equal(err.code, ERR_BUSY);
	assert_int_equal(err.sys, 0);
	assert_string_equal(err.msg, "x is 1");
	assert_string_equal(err.field, "");
	assert_int_equal(err_set_field(&err, "name", "bad"), -1);
	assert_int_equal(err.code, ERR_INVALID);
	assert_string_equal(err.field, "name");
	assert_int_equal(err_set_sys(&err, ERR_IO, ENOENT, "cannot open x"), -1);
	assert_int_equal(err.sys, ENOENT);
	assert_string_equal(err.msg, "cannot open x: No such file or directory");
	assert_string_equal(err.field, "");
}

static void test_null(void **state)
{
	assert_int_equal(err_set(NULL, ERR_BUSY, "x"), -1);
	assert_int_equal(err_set_field(NULL, "f", "x"), -1);
	assert_int_equal(err_set_sys(NULL, ERR_IO, EIO, "x"), -1);
	assert_int_equal(err_prefix(NULL, "x"), -1);
}

static void test_prefix(void **state)
{
	struct err err;
	char longer[400];
	memset(longer, 'y', sizeof(longer) - 1);
	longer[sizeof(longer) - 1] = '\0';
	err_set_sys(&err, ERR_IO, EIO, "reading");
	assert_int_equal(err_prefix(&err, "disk %d", 3), -1);
	assert_string_equal(err.msg, "disk 3: reading: Input/output error");
	assert_int_equal(err.code, ERR_IO);
	assert_int_equal(err.sys, EIO);
	for (size_t len = 240; len < 260; len++) {
		err_set(&err, ERR_IO, "tail");
		err_prefix(&err, "%.*s", (int)len, longer);
		assert_true(strlen(err.msg) < ERR_MSG_MAX);
		assert_int_equal(strspn(err.msg, "y"), len < 256 ? len : 255);
	}
}

/* Wherever a message is cut, JSON takes what is left. */
static void test_cut(void **state)
{
	static const char *const chars[] = {"a", "\xc3\xa4", "\xe2\x82\xac", "\xf0\x9f\x90\xa7"};
	char text[400], pad[5] = "    ";
	for (size_t i = 0; i < ARRAY_LEN(chars); i++) {
		for (size_t skip = 0; skip < 4; skip++) {
			struct err err;
			text[0] = '\0';
			while (strlen(text) < 350)
				strcat(text, chars[i]);
			err_set_field(&err, text, "%.*s%s", (int)skip, pad, text);
			_cleanup_json_ json_t *msg = json_string(err.msg);
			_cleanup_json_ json_t *field = json_string(err.field);
			assert_non_null(msg);
			assert_non_null(field);
			assert_true(strlen(err.msg) > ERR_MSG_MAX - 5);
			err_prefix(&err, "p");
			_cleanup_json_ json_t *prefixed = json_string(err.msg);
			assert_non_null(prefixed);
		}
	}
}

static void test_names(void **state)
{
	for (enum err_code code = ERR_INVALID; code <= ERR_INTERNAL; code++)
		assert_int_equal(err_code_from_name(err_code_name(code)), code);
	assert_string_equal(err_code_name(ERR_NOT_FOUND), "not_found");
	assert_int_equal(err_code_from_name("nonsense"), ERR_INTERNAL);
	assert_string_equal(err_code_name((enum err_code)0), "internal");
	assert_string_equal(err_code_name((enum err_code)99), "internal");
}

static void test_errno(void **state)
{
	assert_int_equal(err_from_errno(ENOENT), ERR_NOT_FOUND);
	assert_int_equal(err_from_errno(EACCES), ERR_DENIED);
	assert_int_equal(err_from_errno(ENOSPC), ERR_LIMIT);
	assert_int_equal(err_from_errno(EEXIST), ERR_EXISTS);
	assert_int_equal(err_from_errno(ECONNREFUSED), ERR_UNAVAILABLE);
	assert_int_equal(err_from_errno(EIO), ERR_IO);
	assert_int_equal(err_from_errno(0), ERR_IO);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_set),    cmocka_unit_test(test_null),
		cmocka_unit_test(test_prefix), cmocka_unit_test(test_cut),
		cmocka_unit_test(test_names),  cmocka_unit_test(test_errno),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
