#include "netcfg/uplink.h"

#include "netcfg/bridge.h"
#include "netcfg/link.h"
#include "netcfg/port.h"
#include "tests/unit/netcfg/guests.h"

#define SHOW                                                                                       \
	"ip -o addr show eth0 | grep -v 'inet6 fe80' | sed 's/ *valid.*//'; ip route; ip route "   \
	"show table 77; ip -6 route | grep -v fe80"
#define HOST_IP "192.0.2.1"

/* A host whose eth0 leads to a router, with routes of several kinds. */
static struct guest world_new(void)
{
	struct guest router = guest_new("router");
	guest_link(&router, "eth0", "52:54:00:00:00:fe", "192.0.2.254/24", "fd00:2::fe/64");
	netns_run(
		"echo 0 >/proc/sys/net/ipv6/conf/eth0/accept_dad; ip addr add " HOST_IP
		"/24 brd + dev eth0; ip addr add 192.0.2.9/24 brd + dev eth0; ip addr add fd00:2::1/64 dev "
		"eth0 nodad; ip route add default via 192.0.2.254 src 192.0.2.9 metric 100; "
		"ip route add 198.51.100.0/24 via 192.0.2.254; ip route add 203.0.113.0/24 dev "
		"eth0; ip route add 10.0.0.0/8 via 192.0.2.254 table 77; ip -6 route add default "
		"via fd00:2::fe");
	return router;
}

static void bridge_ready(struct netcfg *netcfg)
{
	struct err err;
	const struct netcfg_bridge bridge = {.keep_addresses = true};
	assert_ok(netcfg_bridge_ensure(netcfg, "vdibr1", &bridge, &err));
}

static void reachable(const struct guest *router, bool yes)
{
	int ssh = guest_serves(NULL, SOCK_STREAM, 22);
	bool (*const reaches)(const struct guest *, const char *, unsigned int) =
		yes ? guest_reaches_soon : guest_reaches;
	if (reaches(router, HOST_IP, 22) != yes || reaches(router, "fd00:2::1", 22) != yes)
		fail_msg("the host is %sreachable: %s", yes ? "un" : "",
			 netns_output("ip addr; ip route; ip -6 route"));
	close(ssh);
}

static void test_there_and_back(void **state)
{
	struct netcfg *netcfg = *state;
	struct err err;
	struct netcfg_uplink uplink;
	struct netcfg_link link, bridge;
	struct guest router = world_new();
	_cleanup_free_ char *before = netns_output(SHOW);
	reachable(&router, true);
	assert_ok(netcfg_uplink_capture(netcfg, "eth0", &uplink, &err));
	assert_int_equal(uplink.n_addresses, 3);
	assert_int_equal(uplink.n_routes, 5);
	_cleanup_free_ char *still = netns_output(SHOW);
	assert_string_equal(before, still);
	bridge_ready(netcfg);

	/* a connection that stands goes on standing */
	_cleanup_close_ int server = guest_serves(&router, SOCK_STREAM, 80);
	_cleanup_close_ int open = guest_connects(NULL, "192.0.2.254", 80);
	assert_true(open >= 0);
	_cleanup_close_ int other = accept(server, NULL, NULL);
	assert_true(other >= 0);
	for (int twice = 0; twice < 2; twice++) {
		assert_ok(netcfg_uplink_enslave(netcfg, &uplink, "vdibr1", &err));
		assert_ok(netcfg_link_get(netcfg, "eth0", &link, &err));
		assert_ok(netcfg_link_get(netcfg, "vdibr1", &bridge, &err));
		assert_string_equal(link.master_name, "vdibr1");
		assert_memory_equal(link.mac, bridge.mac, 6);
		reachable(&router, true);
	}
	assert_int_equal(write(open, "x", 1), 1);
	struct pollfd ready = {.fd = other, .events = POLLIN};
	assert_int_equal(poll(&ready, 1, GUEST_PATIENCE_MS), 1);
	assert_false(netns_shows("ip -4 addr show eth0", "inet"));
	assert_true(netns_shows("ip route", "default via 192.0.2.254 dev vdibr1 src 192.0.2.9 "
					    "metric 100"));
	assert_true(netns_shows("ip route show table 77", "10.0.0.0/8 via 192.0.2.254 dev vdibr1"));
	assert_true(netns_shows("ip -6 route", "default via fd00:2::fe dev vdibr1"));

	/* now it is a port, and no other bridge gets it */
	struct netcfg_uplink none;
	assert_err(netcfg_uplink_capture(netcfg, "eth0", &none, &err), ERR_CONFLICT);
	assert_non_null(strstr(err.msg, "vdibr1"));
	netns_run("ip link add vdibr2 type bridge");
	assert_err(netcfg_uplink_enslave(netcfg, &uplink, "vdibr2", &err), ERR_CONFLICT);
	assert_err(netcfg_uplink_release(netcfg, &uplink, "vdibr2", &err), ERR_CONFLICT);

	for (int twice = 0; twice < 2; twice++) {
		assert_ok(netcfg_uplink_release(netcfg, &uplink, "vdibr1", &err));
		_cleanup_free_ char *back = netns_output(SHOW);
		assert_string_equal(before, back);
		reachable(&router, true);
	}
	assert_false(netns_shows("ip -4 addr show vdibr1", "inet"));
	guest_done(&router);
}

/* The bridge is gone, with all that was on it: the administrator gets in again all the same. */
static void test_released_without_its_bridge(void **state)
{
	struct netcfg *netcfg = *state;
	struct err err;
	struct netcfg_uplink uplink;
	struct guest router = world_new();
	_cleanup_free_ char *before = netns_output(SHOW);
	assert_ok(netcfg_uplink_capture(netcfg, "eth0", &uplink, &err));
	bridge_ready(netcfg);
	assert_ok(netcfg_uplink_enslave(netcfg, &uplink, "vdibr1", &err));
	netns_run("ip link del vdibr1");
	reachable(&router, false);
	assert_ok(netcfg_uplink_release(netcfg, &uplink, "vdibr1", &err));
	_cleanup_free_ char *back = netns_output(SHOW);
	assert_string_equal(before, back);
	reachable(&router, true);
	guest_done(&router);
}

/* A step that fails puts all back. */
static void test_failure_puts_back(void **state)
{
	struct netcfg *netcfg = *state;
	struct err err;
	struct netcfg_uplink uplink;
	struct guest router = world_new();
	_cleanup_free_ char *before = netns_output(SHOW);
	assert_ok(netcfg_uplink_capture(netcfg, "eth0", &uplink, &err));
	bridge_ready(netcfg);
	struct netcfg_uplink broken = uplink;
	for (int i = 0; i < broken.n_routes; i++)
		if (broken.routes[i].gateway.family == AF_INET)
			broken.routes[i].gateway = netns_addr("172.31.0.1");
	assert_err(netcfg_uplink_enslave(netcfg, &broken, "vdibr1", &err), ERR_IO);
	/* what was put back is what the caller had captured: here, with its broken routes */
	assert_ok(netcfg_uplink_release(netcfg, &uplink, "vdibr1", &err));
	_cleanup_free_ char *back = netns_output(SHOW);
	assert_string_equal(before, back);
	reachable(&router, true);
	guest_done(&router);
}

static void test_refused(void **state)
{
	struct netcfg *netcfg = *state;
	struct err err;
	struct netcfg_uplink uplink;
	assert_err(netcfg_uplink_capture(netcfg, "lo", &uplink, &err), ERR_CONFLICT);
	assert_err(netcfg_uplink_capture(netcfg, "eth7", &uplink, &err), ERR_NOT_FOUND);
	assert_err(netcfg_uplink_capture(netcfg, "a/b", &uplink, &err), ERR_INVALID);
	bridge_ready(netcfg);
	assert_err(netcfg_uplink_capture(netcfg, "vdibr1", &uplink, &err), ERR_CONFLICT);
	netns_run("ip link add Eth_0.x type veth peer name b; ip link add br9 type bridge; "
		  "ip link set Eth_0.x master br9");
	assert_err(netcfg_uplink_capture(netcfg, "Eth_0.x", &uplink, &err), ERR_CONFLICT);
	assert_non_null(strstr(err.msg, "br9"));
	netns_run("ip link set Eth_0.x nomaster");
	assert_ok(netcfg_uplink_capture(netcfg, "Eth_0.x", &uplink, &err));
	assert_err(netcfg_uplink_enslave(netcfg, &uplink, "vdibr7", &err), ERR_NOT_FOUND);
	assert_ok(netcfg_uplink_enslave(netcfg, &uplink, "vdibr1", &err));
	assert_ok(netcfg_uplink_release(netcfg, &uplink, "vdibr1", &err));
	/* vanished meanwhile */
	netns_run("ip link del dev b");
	assert_err(netcfg_uplink_enslave(netcfg, &uplink, "vdibr1", &err), ERR_NOT_FOUND);
	assert_err(netcfg_uplink_release(netcfg, &uplink, "vdibr1", &err), ERR_NOT_FOUND);

	/* more than fits, and several gateways */
	netns_run("ip link add up0 type veth peer name up1; ip link set up0 up; for i in $(seq "
		  "17); do ip addr add 192.0.2.$i/24 dev up0; done");
	assert_err(netcfg_uplink_capture(netcfg, "up0", &uplink, &err), ERR_LIMIT);
	netns_run("ip addr flush dev up0; ip addr add 192.0.2.1/24 dev up0; ip route add default "
		  "nexthop via 192.0.2.2 nexthop via 192.0.2.3");
	assert_err(netcfg_uplink_capture(netcfg, "up0", &uplink, &err), ERR_UNSUPPORTED);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		netns_test(test_there_and_back),
		netns_test(test_released_without_its_bridge),
		netns_test(test_failure_puts_back),
		netns_test(test_refused),
	};
	netns_require();
	return cmocka_run_group_tests(tests, NULL, NULL);
}
