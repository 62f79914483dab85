#include "tests/unit/netcfg/netns.h"

#include "netcfg/internal.h"

static void test_parse_and_format(void **state)
{
	static const char *const good[][2] = {
		{"10.0.0.1", "10.0.0.1/32"},
		{"10.0.0.0/8", "10.0.0.0/8"},
		{"0.0.0.0/0", "0.0.0.0/0"},
		{"fd00::1", "fd00::1/128"},
		{"FD00::1/64", "fd00::1/64"},
		{"::/0", "::/0"},
		{"::ffff:1.2.3.4", "::ffff:1.2.3.4/128"},
	};
	static const char *const bad[] = {
		"",
		"10",
		"10.0.0",
		"10.0.0.1/",
		"10.0.0.1/33",
		"10.0.0.1/-1",
		"fd00::1/129",
		":::",
		"10.0.0.1 ",
		"10.0.0.1/8x",
		"/8",
		"fd00::1%eth0",
		"1111:1111:1111:1111:1111:1111:1111:1111:1111:1111:1111:1111",
	};
	struct err err;
	struct netcfg_addr addr;
	char text[NETCFG_ADDR_TEXT_MAX];
	for (size_t i = 0; i < ARRAY_LEN(good); i++) {
		assert_ok(netcfg_addr_parse(good[i][0], &addr, &err));
		assert_string_equal(netcfg_addr_format(&addr, text), good[i][1]);
	}
	for (size_t i = 0; i < ARRAY_LEN(bad); i++)
		assert_err(netcfg_addr_parse(bad[i], &addr, &err), ERR_INVALID);
	const struct netcfg_addr none = {.family = 0};
	assert_string_equal(netcfg_addr_format(&none, text), "none");
}

static void test_networks(void **state)
{
	static const char *const of[][2] = {
		{"10.9.8.7/24", "10.9.8.0/24"},           {"10.9.8.7/9", "10.0.0.0/9"},
		{"10.9.8.7/32", "10.9.8.7/32"},           {"10.9.8.7/0", "0.0.0.0/0"},
		{"fd00::ffff:1/112", "fd00::ffff:0/112"}, {"fd00::1/57", "fd00::/57"},
		{"fdff:ffff::1/13", "fdf8::/13"},
	};
	char text[NETCFG_ADDR_TEXT_MAX];
	for (size_t i = 0; i < ARRAY_LEN(of); i++) {
		const struct netcfg_addr addr = netns_addr(of[i][0]);
		const struct netcfg_addr net = netcfg_addr_network(&addr);
		assert_string_equal(netcfg_addr_format(&net, text), of[i][1]);
	}
}

static void test_subnets(void **state)
{
	static const char *const good[] = {"10.0.0.1/8", "10.0.0.1/30", "fd00::1/48",
					   "fd00::ffff/112", "fd00::1/126"};
	static const char *const bad[] = {"10.0.0.1/7",    "10.0.0.1/31", "10.0.0.0/24",
					  "10.0.0.255/24", "fd00::1/47",  "fd00::1/127",
					  "fd00::/64"};
	struct err err;
	struct netcfg_addr addr;
	for (size_t i = 0; i < ARRAY_LEN(good); i++) {
		addr = netns_addr(good[i]);
		assert_ok(netcfg_subnet_check(&addr, &err));
	}
	for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
		addr = netns_addr(bad[i]);
		assert_err(netcfg_subnet_check(&addr, &err), ERR_INVALID);
	}
}

static void test_macs(void **state)
{
	const uint8_t mac[6] = {0x52, 0x54, 0, 0xab, 0xcd, 0xef}, group[6] = {1}, zeros[6] = {0};
	char text[NETCFG_ADDR_TEXT_MAX];
	assert_true(netcfg_mac_is_valid(mac));
	assert_false(netcfg_mac_is_valid(group));
	assert_false(netcfg_mac_is_valid(zeros));
	assert_string_equal(netcfg_mac_format(mac, text), "52:54:00:ab:cd:ef");
	const struct in6_addr own = netcfg_mac_link_local(mac);
	const struct netcfg_addr addr = netcfg_addr_v6(&own, 64);
	assert_string_equal(netcfg_addr_format(&addr, text), "fe80::5054:ff:feab:cdef/64");
}

static void test_addresses_of_hosts(void **state)
{
	static const char *const good[] = {"1.0.0.0", "126.255.255.255", "128.0.0.0", "10.9.8.7",
					   "223.255.255.255"};
	static const char *const bad[] = {"0.0.0.0",         "0.255.255.255", "127.0.0.1",
					  "127.255.255.255", "224.0.0.0",     "255.255.255.255"};
	for (size_t i = 0; i < ARRAY_LEN(good); i++)
		assert_true(netcfg_ipv4_is_unicast(netns_addr(good[i]).v4));
	for (size_t i = 0; i < ARRAY_LEN(bad); i++)
		assert_false(netcfg_ipv4_is_unicast(netns_addr(bad[i]).v4));
}

static void test_equal(void **state)
{
	const struct netcfg_addr a = netns_addr("10.0.0.1/8"), b = netns_addr("10.0.0.1/9"),
				 c = netns_addr("fd00::1"), d = netns_addr("10.0.0.1/8");
	const struct netcfg_addr none = {.family = 0};
	assert_true(netcfg_addr_equal(&a, &d));
	assert_false(netcfg_addr_equal(&a, &b));
	assert_false(netcfg_addr_equal(&a, &c));
	assert_false(netcfg_addr_equal(&a, &none));
	assert_true(netcfg_addr_equal(&none, &none));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_parse_and_format),
		cmocka_unit_test(test_networks),
		cmocka_unit_test(test_subnets),
		cmocka_unit_test(test_macs),
		cmocka_unit_test(test_addresses_of_hosts),
		cmocka_unit_test(test_equal),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
