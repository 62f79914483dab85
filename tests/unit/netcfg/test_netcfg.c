#include "netcfg/netcfg.h"

#include "tests/unit/netcfg/netns.h"

static void test_names(void **state)
{
	assert_true(netcfg_name_is_valid("a"));
	assert_true(netcfg_name_is_valid("vdibr65535"));
	assert_true(netcfg_name_is_valid("vdi65535n7-abcd"));
	assert_false(netcfg_name_is_valid(""));
	assert_false(netcfg_name_is_valid("vdi65535n7-abcde"));
	const char *const bad[] = {"Br0",   "br_0", "br.0", "br 0", "br/0",
				   "br\"0", "br;0", "br%d", "br\n"};
	for (size_t i = 0; i < ARRAY_LEN(bad); i++)
		assert_false(netcfg_name_is_valid(bad[i]));
}

static void test_masks(void **state)
{
	assert_int_equal(netcfg_mask(0), 0);
	assert_int_equal(netcfg_mask(8), 0xff000000);
	assert_int_equal(netcfg_mask(30), 0xfffffffc);
	assert_int_equal(netcfg_mask(32), 0xffffffff);
}

static void test_open_and_close(void **state)
{
	struct err err;
	struct netcfg *netcfg = NULL;
	assert_ok(netcfg_open(&netcfg, &err));
	assert_non_null(netcfg);
	netcfg_close(netcfg);
	netcfg_close(NULL);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_names),
		cmocka_unit_test(test_masks),
		cmocka_unit_test(test_open_and_close),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
