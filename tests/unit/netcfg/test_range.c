#include "netcfg/link.h"

#include "netcfg/bridge.h"
#include "tests/unit/netcfg/netns.h"

static int setup(void **state)
{
	if (netns_setup(state) < 0)
		return -1;
	netns_run("ip link set lo up");
	netns_run("ip link add eth0 type veth peer name wire");
	netns_run("ip link set wire up; ip link set eth0 up");
	netns_run("ip addr add 192.168.5.20/24 dev eth0");
	netns_run("ip route add default via 192.168.5.1");
	return 0;
}

#define range_test(f) cmocka_unit_test_setup_teardown(f, setup, netns_teardown)

static void test_free_ranges(void **state)
{
	struct netcfg *netcfg = *state;
	struct err err;
	assert_ok(netcfg_range_check(netcfg, netns_ip("10.1.2.0"), 24, NULL, &err));
	assert_ok(netcfg_range_check(netcfg, netns_ip("192.168.4.0"), 24, NULL, &err));
	assert_ok(netcfg_range_check(netcfg, netns_ip("192.168.6.0"), 24, NULL, &err));
	/* a VPN that takes everything in two halves takes nothing from us */
	netns_run("ip route add 0.0.0.0/1 dev eth0; ip route add 128.0.0.0/1 dev eth0");
	assert_ok(netcfg_range_check(netcfg, netns_ip("10.1.2.0"), 24, NULL, &err));
}

static void test_what_is_in_the_way_is_named(void **state)
{
	struct netcfg *netcfg = *state;
	struct err err;
	/* the same, inside it, around it */
	const char *const addresses[] = {"192.168.5.0", "192.168.5.200", "192.168.0.0"};
	const unsigned int prefixes[] = {24, 28, 16};
	for (size_t i = 0; i < ARRAY_LEN(addresses); i++) {
		assert_err(
			netcfg_range_check(netcfg, netns_ip(addresses[i]), prefixes[i], NULL, &err),
			ERR_CONFLICT);
		assert_non_null(strstr(err.msg, "192.168.5.0/24"));
		assert_non_null(strstr(err.msg, "eth0"));
	}
	assert_err(netcfg_range_check(netcfg, netns_ip("127.0.0.1"), 24, NULL, &err), ERR_CONFLICT);
	assert_err(netcfg_range_check(netcfg, netns_ip("10.0.0.0"), 33, NULL, &err), ERR_INVALID);
}

static void test_routes_count(void **state)
{
	struct netcfg *netcfg = *state;
	struct err err;
	netns_run("ip route add 10.20.0.0/16 via 192.168.5.9");
	netns_run("ip route add blackhole 10.30.0.0/16");
	netns_run("ip route add 10.40.0.0/16 dev eth0 table 77");
	assert_err(netcfg_range_check(netcfg, netns_ip("10.20.30.0"), 24, NULL, &err),
		   ERR_CONFLICT);
	assert_non_null(strstr(err.msg, "10.20.0.0/16"));
	assert_err(netcfg_range_check(netcfg, netns_ip("10.30.1.0"), 24, NULL, &err), ERR_CONFLICT);
	assert_err(netcfg_range_check(netcfg, netns_ip("10.40.1.0"), 24, NULL, &err), ERR_CONFLICT);
}

static void test_own_bridge_does_not_count(void **state)
{
	struct netcfg *netcfg = *state;
	struct err err;
	struct in_addr ip = netns_ip("10.9.8.1");
	const struct netcfg_bridge bridge = {.addresses = {netcfg_addr_v4(ip, 24)},
					     .n_addresses = 1};
	assert_ok(netcfg_bridge_ensure(netcfg, "vdibr1", &bridge, &err));
	assert_ok(netcfg_range_check(netcfg, ip, 24, "vdibr1", &err));
	assert_err(netcfg_range_check(netcfg, ip, 24, "vdibr2", &err), ERR_CONFLICT);
	assert_err(netcfg_range_check(netcfg, ip, 24, NULL, &err), ERR_CONFLICT);
}

static int stop_at_first(void *data, const struct netcfg_range *range)
{
	++*(int *)data;
	return 1;
}

static void test_walk_stops(void **state)
{
	struct netcfg *netcfg = *state;
	struct err err;
	int calls = 0;
	assert_ok(netcfg_ranges_each(netcfg, stop_at_first, &calls, &err));
	assert_int_equal(calls, 1);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		range_test(test_free_ranges),  range_test(test_what_is_in_the_way_is_named),
		range_test(test_routes_count), range_test(test_own_bridge_does_not_count),
		range_test(test_walk_stops),
	};
	netns_require();
	return cmocka_run_group_tests(tests, NULL, NULL);
}
