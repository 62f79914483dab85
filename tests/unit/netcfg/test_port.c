/* Ports and taps with options, seen by packets. */
#include "netcfg/port.h"

#include <fcntl.h>
#include <linux/if.h>
#include <linux/if_tun.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "netcfg/bridge.h"
#include "netcfg/link.h"
#include "netcfg/tap.h"
#include "tests/unit/netcfg/frames.h"

static void bridge_make(struct netcfg *netcfg, const char *name, uint32_t mtu)
{
	struct err err;
	const struct netcfg_bridge bridge = {.mtu = mtu, .ageing_s = 60};
	assert_ok(netcfg_bridge_ensure(netcfg, name, &bridge, &err));
}

static int tap_make(struct netcfg *netcfg, const char *name, const struct netcfg_tap *tap)
{
	struct err err;
	int fd = -1;
	assert_ok(netcfg_tap_create(netcfg, name, tap, &fd, &err));
	return fd;
}

static void test_isolated_ports_do_not_meet(void **state)
{
	struct netcfg *netcfg = *state;
	struct err err;
	struct netcfg_link link;
	struct netcfg_tap tap = {.bridge = "vdibr1", .port = {.isolated = true}};
	const struct netcfg_tap open = {.bridge = "vdibr1"};
	bridge_make(netcfg, "vdibr1", 0);
	int a = tap_make(netcfg, "vdi1n0", &tap), b = tap_make(netcfg, "vdi2n0", &tap);
	int c = tap_make(netcfg, "vdi3n0", &open);
	const struct frame all = frame_udp(mac_all, mac_a, "10.0.0.1", 1, "10.0.0.255", 1);
	const struct frame one = frame_udp(mac_b, mac_a, "10.0.0.1", 1, "10.0.0.2", 1);
	assert_ok(netcfg_link_get(netcfg, "vdi1n0", &link, &err));
	assert_true(link.isolated);
	assert_string_equal(link.master_name, "vdibr1");
	frame_send(a, &all);
	assert_true(frame_heard(c, &all, 30));
	assert_false(frame_heard(b, &all, 30));
	assert_false(frame_passes(a, b, &one));
	/* no longer, live */
	tap.port.isolated = false;
	assert_ok(netcfg_tap_attach(netcfg, "vdi2n0", &tap, &err));
	assert_ok(netcfg_link_get(netcfg, "vdi2n0", &link, &err));
	assert_false(link.isolated);
	assert_true(frame_passes(a, b, &one));
	close(a);
	close(b);
	close(c);
}

/* Another's MAC is not taken over, and what is for others is not overheard. */
static void test_fixed_mac(void **state)
{
	struct netcfg *netcfg = *state;
	struct err err;
	struct netcfg_link link;
	struct netcfg_tap tap = {.bridge = "vdibr1", .port = {.fixed = true}};
	const struct netcfg_tap plain = {.bridge = "vdibr1"};
	bridge_make(netcfg, "vdibr1", 0);
	memcpy(tap.port.mac, mac_a, 6);
	int a = tap_make(netcfg, "vdi1n0", &tap);
	memcpy(tap.port.mac, mac_b, 6);
	int b = tap_make(netcfg, "vdi2n0", &tap);
	int c = tap_make(netcfg, "vdi3n0", &plain);
	const struct frame to_b = frame_udp(mac_b, mac_x, "10.0.0.3", 1, "10.0.0.2", 1);
	const struct frame forged = frame_udp(mac_all, mac_b, "10.0.0.2", 1, "10.0.0.255", 1);
	const struct frame to_none = frame_udp(mac_x, mac_b, "10.0.0.3", 1, "10.0.0.2", 2);
	frame_send(a, &forged);
	frame_send(c, &to_b);
	assert_true(frame_heard(b, &to_b, 30));
	assert_false(frame_heard(a, &to_b, 30));
	close(c);
	c = tap_make(netcfg, "vdi3n0", &plain);
	/* a MAC that nobody has goes where ports still learn, not to guests */
	frame_send(b, &to_none);
	assert_true(frame_heard(c, &to_none, 30));
	assert_false(frame_heard(a, &to_none, 30));
	assert_ok(netcfg_link_get(netcfg, "vdi1n0", &link, &err));
	assert_false(link.learning);
	assert_false(link.flood);
	tap.port.mac[0] = 1;
	assert_err(netcfg_tap_attach(netcfg, "vdi2n0", &tap, &err), ERR_INVALID);
	close(a);
	close(b);
	close(c);
}

static void test_mtu_and_link_down(void **state)
{
	struct netcfg *netcfg = *state;
	struct err err;
	struct netcfg_link link;
	struct netcfg_tap tap = {.bridge = "vdibr1", .down = true};
	bridge_make(netcfg, "vdibr1", 9000);
	int a = tap_make(netcfg, "vdi1n0", &tap);
	assert_ok(netcfg_link_get(netcfg, "vdi1n0", &link, &err));
	assert_int_equal(link.mtu, 9000);
	assert_false(link.up);
	tap.down = false;
	tap.mtu = 1400;
	assert_ok(netcfg_tap_attach(netcfg, "vdi1n0", &tap, &err));
	assert_ok(netcfg_link_get(netcfg, "vdi1n0", &link, &err));
	assert_int_equal(link.mtu, 1400);
	assert_true(link.up);
	/* a small port does not make the bridge smaller */
	assert_ok(netcfg_link_get(netcfg, "vdibr1", &link, &err));
	assert_int_equal(link.mtu, 9000);
	assert_ok(netcfg_link_set_up(netcfg, "vdi1n0", false, &err));
	assert_ok(netcfg_link_get(netcfg, "vdi1n0", &link, &err));
	assert_false(link.up);
	assert_err(netcfg_link_set_up(netcfg, "vdi9n0", true, &err), ERR_NOT_FOUND);
	tap.mtu = 67;
	assert_err(netcfg_tap_attach(netcfg, "vdi1n0", &tap, &err), ERR_INVALID);
	close(a);
}

static void test_several_queues(void **state)
{
	struct netcfg *netcfg = *state;
	struct err err;
	bool there;
	int fds[NETCFG_TAP_QUEUES_MAX];
	struct netcfg_tap tap = {.bridge = "vdibr1", .queues = 4};
	bridge_make(netcfg, "vdibr1", 0);
	assert_ok(netcfg_tap_create(netcfg, "vdi1n0", &tap, fds, &err));
	for (int i = 0; i < 4; i++) {
		struct ifreq req = {0};
		assert_int_equal(ioctl(fds[i], TUNGETIFF, &req), 0);
		assert_string_equal(req.ifr_name, "vdi1n0");
		assert_true(req.ifr_flags & IFF_MULTI_QUEUE);
		assert_true(fcntl(fds[i], F_GETFD) & FD_CLOEXEC);
	}
	for (int i = 0; i < 4; i++) {
		assert_ok(netcfg_link_exists(netcfg, "vdi1n0", &there, &err));
		assert_true(there);
		close(fds[i]);
	}
	assert_ok(netcfg_link_exists(netcfg, "vdi1n0", &there, &err));
	assert_false(there);
	tap.queues = NETCFG_TAP_QUEUES_MAX + 1;
	assert_err(netcfg_tap_create(netcfg, "vdi1n0", &tap, fds, &err), ERR_INVALID);
}

static void test_moved_and_detached(void **state)
{
	struct netcfg *netcfg = *state;
	struct err err;
	struct netcfg_link link;
	struct netcfg_tap tap = {.bridge = "vdibr1", .port = {.fixed = true, .isolated = true}};
	memcpy(tap.port.mac, mac_a, 6);
	bridge_make(netcfg, "vdibr1", 0);
	bridge_make(netcfg, "vdibr2", 0);
	int a = tap_make(netcfg, "vdi1n0", &tap);
	tap.bridge = "vdibr2";
	assert_ok(netcfg_tap_attach(netcfg, "vdi1n0", &tap, &err));
	assert_ok(netcfg_link_get(netcfg, "vdi1n0", &link, &err));
	assert_string_equal(link.master_name, "vdibr2");
	assert_true(link.isolated);
	assert_true(netns_shows("bridge fdb show br vdibr2", "52:54:00:00:00:0a dev vdi1n0"));
	assert_false(netns_shows("bridge fdb show br vdibr1", "52:54:00:00:00:0a"));
	assert_ok(netcfg_port_detach(netcfg, "vdi1n0", &err));
	assert_ok(netcfg_port_detach(netcfg, "vdi1n0", &err));
	assert_ok(netcfg_port_detach(netcfg, "vdi9n0", &err));
	assert_ok(netcfg_link_get(netcfg, "vdi1n0", &link, &err));
	assert_int_equal(link.master, 0);
	assert_string_equal(link.master_name, "");
	const struct netcfg_port port = {.hairpin = true};
	assert_err(netcfg_port_attach(netcfg, "vdi9n0", "vdibr1", &port, &err), ERR_NOT_FOUND);
	assert_err(netcfg_port_attach(netcfg, "vdi1n0", "vdibr9", &port, &err), ERR_NOT_FOUND);
	assert_err(netcfg_port_attach(netcfg, "vdi1n0", "vdi1n0", &port, &err), ERR_CONFLICT);
	assert_ok(netcfg_port_attach(netcfg, "vdi1n0", "vdibr1", &port, &err));
	assert_ok(netcfg_link_get(netcfg, "vdi1n0", &link, &err));
	assert_true(link.hairpin);
	assert_true(link.learning);
	close(a);
}

struct walk {
	unsigned int n, ports;
};

static int walk_one(void *data, const struct netcfg_link *link)
{
	struct walk *walk = data;
	walk->n++;
	walk->ports += strcmp(link->master_name, "vdibr1") == 0;
	return 0;
}

static void test_counters_and_walk(void **state)
{
	struct netcfg *netcfg = *state;
	struct err err;
	struct netcfg_link link;
	struct walk walk = {0};
	const struct netcfg_tap tap = {.bridge = "vdibr1"};
	bridge_make(netcfg, "vdibr1", 0);
	int a = tap_make(netcfg, "vdi1n0", &tap), b = tap_make(netcfg, "vdi2n0", &tap);
	const struct frame frame = frame_udp(mac_b, mac_a, "10.0.0.1", 1, "10.0.0.2", 1);
	for (int i = 0; i < 5; i++)
		assert_true(frame_passes(a, b, &frame));
	assert_ok(netcfg_link_get(netcfg, "vdi1n0", &link, &err));
	assert_int_equal(link.counters.rx_packets, 5);
	assert_int_equal(link.counters.rx_bytes, 5 * frame.n);
	assert_ok(netcfg_link_get(netcfg, "vdi2n0", &link, &err));
	assert_true(link.counters.tx_packets >= 5);
	assert_ok(netcfg_links_each(netcfg, walk_one, &walk, &err));
	assert_int_equal(walk.n, 4); /* lo too */
	assert_int_equal(walk.ports, 2);
	close(a);
	close(b);
}

static void test_veth_and_addresses(void **state)
{
	struct netcfg *netcfg = *state;
	struct err err;
	struct netcfg_link link;
	struct netcfg_addr found[NETCFG_LINK_ADDRS_MAX];
	size_t n = 0;
	assert_ok(netcfg_veth_ensure(netcfg, "one", "two", &err));
	assert_ok(netcfg_veth_ensure(netcfg, "one", "two", &err));
	assert_ok(netcfg_link_get(netcfg, "two", &link, &err));
	assert_true(link.up);
	assert_true(link.carrier);
	assert_err(netcfg_veth_ensure(netcfg, "one", "three", &err), ERR_CONFLICT);
	netns_run("ip addr add 10.1.2.3/24 dev one; ip addr add fd00::5/64 dev one nodad");
	assert_ok(netcfg_link_addresses(netcfg, "one", found, &n, &err));
	const struct netcfg_addr v4 = netns_addr("10.1.2.3/24"), v6 = netns_addr("fd00::5/64");
	unsigned int seen = 0;
	for (size_t i = 0; i < n; i++)
		seen += netcfg_addr_equal(&found[i], &v4) || netcfg_addr_equal(&found[i], &v6);
	assert_int_equal(seen, 2);
	assert_err(netcfg_link_addresses(netcfg, "three", found, &n, &err), ERR_NOT_FOUND);
	assert_ok(netcfg_link_delete(netcfg, "one", "veth", &err));
	assert_ok(netcfg_link_delete(netcfg, "two", "veth", &err));
}

static void test_bridge_with_both_families(void **state)
{
	struct netcfg *netcfg = *state;
	struct err err;
	struct netcfg_bridge bridge = {.n_addresses = 3, .mtu = 1400};
	bridge.addresses[0] = netns_addr("10.9.8.1/24");
	bridge.addresses[1] = netns_addr("fd00:9::1/64");
	bridge.addresses[2] = netns_addr("10.9.7.1/24");
	memcpy(bridge.mac, mac_x, 6);
	assert_ok(netcfg_bridge_ensure(netcfg, "vdibr1", &bridge, &err));
	assert_true(netns_shows("ip addr show vdibr1", "inet 10.9.8.1/24"));
	assert_true(netns_shows("ip addr show vdibr1", "inet 10.9.7.1/24"));
	assert_true(netns_shows("ip addr show vdibr1", "inet6 fd00:9::1/64"));
	assert_true(netns_shows("ip link show vdibr1", "52:54:00:00:00:66"));
	assert_true(netns_shows("ip link show vdibr1", "mtu 1400"));
	/* fewer, and then none: IPv6 is off again */
	bridge.n_addresses = 2;
	netns_run("ip addr add fd00:7::1/64 dev vdibr1");
	assert_ok(netcfg_bridge_ensure(netcfg, "vdibr1", &bridge, &err));
	assert_false(netns_shows("ip addr show vdibr1", "10.9.7.1"));
	assert_false(netns_shows("ip addr show vdibr1", "fd00:7::1"));
	assert_true(netns_shows("ip addr show vdibr1", "inet6 fd00:9::1/64"));
	bridge.n_addresses = 0;
	assert_ok(netcfg_bridge_ensure(netcfg, "vdibr1", &bridge, &err));
	assert_false(netns_shows("ip addr show vdibr1", "inet"));
	/* one that keeps what others gave it */
	bridge.keep_addresses = true;
	assert_ok(netcfg_bridge_ensure(netcfg, "vdibr1", &bridge, &err));
	netns_run("ip addr add 192.0.2.1/24 dev vdibr1");
	assert_ok(netcfg_bridge_ensure(netcfg, "vdibr1", &bridge, &err));
	assert_true(netns_shows("ip addr show vdibr1", "inet 192.0.2.1/24"));
	bridge.addresses[0] = netns_addr("fd00:9::/64");
	bridge.n_addresses = 1;
	assert_err(netcfg_bridge_ensure(netcfg, "vdibr1", &bridge, &err), ERR_INVALID);
	bridge.addresses[0] = netns_addr("fd00:9::1/127");
	assert_err(netcfg_bridge_ensure(netcfg, "vdibr1", &bridge, &err), ERR_INVALID);
	bridge.n_addresses = 0;
	bridge.mtu = 10;
	assert_err(netcfg_bridge_ensure(netcfg, "vdibr1", &bridge, &err), ERR_INVALID);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		netns_test(test_isolated_ports_do_not_meet),
		netns_test(test_fixed_mac),
		netns_test(test_mtu_and_link_down),
		netns_test(test_several_queues),
		netns_test(test_moved_and_detached),
		netns_test(test_counters_and_walk),
		netns_test(test_veth_and_addresses),
		netns_test(test_bridge_with_both_families),
	};
	netns_require();
	return cmocka_run_group_tests(tests, NULL, NULL);
}
