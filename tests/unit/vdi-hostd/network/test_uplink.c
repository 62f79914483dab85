/* What an uplink had before, written down and read again. */
#include <arpa/inet.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "vdi-hostd/network/private.h"

static struct netcfg_addr addr(const char *text)
{
	struct netcfg_addr ret;
	assert_int_equal(netcfg_addr_parse(text, &ret, NULL), 0);
	return ret;
}

static void test_round(void **state)
{
	struct netcfg_uplink uplink = {.name = "enp3s0.7",
				       .mac = {0x02, 0, 0xff, 1, 2, 3},
				       .mtu = 9000,
				       .was_up = 1,
				       .n_addresses = NETCFG_UPLINK_ADDRS_MAX,
				       .n_routes = NETCFG_UPLINK_ROUTES_MAX},
			     got;
	struct err err;
	memset(&got, 0xff, sizeof(got));
	for (size_t i = 0; i < NETCFG_UPLINK_ADDRS_MAX; i++)
		uplink.addresses[i] = addr(i % 2 ? "fd00:1:2:3::77/64" : "10.200.100.250/8");
	for (size_t i = 0; i < NETCFG_UPLINK_ROUTES_MAX; i++)
		uplink.routes[i] = (struct netcfg_route){.to = addr(i % 2 ? "::/0" : "0.0.0.0/0"),
							 .gateway = addr("10.0.0.1"),
							 .source = addr("10.0.0.2"),
							 .table = UINT32_MAX,
							 .metric = (uint32_t)i,
							 .protocol = 255,
							 .scope = 253,
							 .onlink = 1};
	uplink.routes[3].gateway = (struct netcfg_addr){.family = 0};
	_cleanup_free_ char *text = uplink_to_text(&uplink);
	assert_int_equal(uplink_from_text(text, &got, &err), 0);
	assert_string_equal(got.name, uplink.name);
	assert_memory_equal(got.mac, uplink.mac, 6);
	assert_int_equal(got.mtu, 9000);
	assert_int_equal(got.n_addresses, NETCFG_UPLINK_ADDRS_MAX);
	assert_int_equal(got.n_routes, NETCFG_UPLINK_ROUTES_MAX);
	for (size_t i = 0; i < NETCFG_UPLINK_ADDRS_MAX; i++)
		assert_true(netcfg_addr_equal(&got.addresses[i], &uplink.addresses[i]));
	for (size_t i = 0; i < NETCFG_UPLINK_ROUTES_MAX; i++) {
		assert_true(netcfg_addr_equal(&got.routes[i].to, &uplink.routes[i].to));
		assert_true(netcfg_addr_equal(&got.routes[i].source, &uplink.routes[i].source));
		assert_int_equal(got.routes[i].gateway.family, i == 3 ? 0 : AF_INET);
		assert_int_equal(got.routes[i].table, UINT32_MAX);
		assert_int_equal(got.routes[i].metric, i);
		assert_int_equal(got.routes[i].protocol, 255);
		assert_int_equal(got.routes[i].onlink, 1);
	}
}

static void test_rubbish(void **state)
{
	static const char *const texts[] = {
		"",
		"{}",
		"[]",
		"{\"name\": 5}",
		"{\"name\":\"a-name-of-16-char\",\"mac\":\"02:00:00:00:00:01\",\"mtu\":1,\"was_up\":"
		"true,\"addresses\":[],\"routes\":[]}",
		"{\"name\":\"eth0\",\"mac\":\"02:00\",\"mtu\":1,\"was_up\":true,\"addresses\":[],"
		"\"routes\":[]}",
		"{\"name\":\"eth0\",\"mac\":\"02:00:00:00:00:01\",\"mtu\":1,\"was_up\":true,"
		"\"addresses\":[\"x\"],\"routes\":[]}",
		"{\"name\":\"eth0\",\"mac\":\"02:00:00:00:00:01\",\"mtu\":1,\"was_up\":true,"
		"\"addresses\":[],\"routes\":[{}]}",
		"{\"name\":\"eth0\",\"mac\":\"02:00:00:00:00:01\",\"mtu\":1,\"was_up\":true,"
		"\"addresses\":[1,2,3,4,5,6,7,8,9,10,11,12,13,14,15,16,17],\"routes\":[]}",
	};
	for (size_t i = 0; i < ARRAY_LEN(texts); i++) {
		struct netcfg_uplink got = {.mtu = 7};
		struct err err = {0};
		assert_int_equal(uplink_from_text(texts[i], &got, &err), -1);
		assert_int_not_equal(err.code, 0);
		assert_int_equal(got.mtu, 7);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_round),
		cmocka_unit_test(test_rubbish),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
