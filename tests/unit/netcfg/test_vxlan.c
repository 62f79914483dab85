#include "netcfg/vxlan.h"

#include "netcfg/bridge.h"
#include "netcfg/link.h"
#include "netcfg/port.h"
#include "tests/unit/netcfg/guests.h"

static struct netcfg_vxlan vxlan_of(const char *local, const char *peer)
{
	struct netcfg_vxlan ret = {.vni = 42, .n_peers = 1};
	ret.local = netns_addr(local);
	ret.peers[0] = netns_addr(peer);
	return ret;
}

/* One host with a bridge, a guest on it and a VXLAN to the other. */
struct host {
	struct guest ns, guest;
	struct netcfg *netcfg;
};

static struct host host_new(const char *local, const char *peer, const char *address4,
			    const char *address6)
{
	struct err err;
	struct host host;
	const struct netcfg_bridge bridge = {.n_addresses = 0};
	const struct netcfg_port port = {.isolated = false};
	const struct netcfg_vxlan vxlan = vxlan_of(local, peer);
	host.ns = guest_new("host");
	host.guest = guest_new("guest");
	_cleanup_close_ int here = ns_here();
	char command[128];
	/* the two hosts' cable is in place by now: see below */
	snprintf(command, sizeof(command), "ip link set cable%s netns /proc/%d/fd/%d",
		 strstr(local, "::2") || strstr(local, ".2") ? "2" : "1", (int)getpid(),
		 host.ns.ns);
	netns_run(command);
	assert_int_equal(setns(host.ns.ns, CLONE_NEWNET), 0);
	snprintf(command, sizeof(command),
		 "ip link set cable%s name eth0 up; ip addr add %s/%s "
		 "dev eth0 %s",
		 strstr(local, "::2") || strstr(local, ".2") ? "2" : "1", local,
		 strchr(local, ':') ? "64" : "24", strchr(local, ':') ? "nodad" : "");
	netns_run(command);
	assert_ok(netcfg_open(&host.netcfg, &err));
	assert_ok(netcfg_bridge_ensure(host.netcfg, "vdibr1", &bridge, &err));
	assert_ok(netcfg_vxlan_ensure(host.netcfg, "vdivx1", &vxlan, &err));
	assert_ok(netcfg_port_attach(host.netcfg, "vdivx1", "vdibr1", &port, &err));
	guest_link(&host.guest, "vdi1n0",
		   strstr(address4, ".1/") ? "52:54:00:00:00:01" : "52:54:00:00:00:02", address4,
		   address6);
	assert_ok(netcfg_port_attach(host.netcfg, "vdi1n0", "vdibr1", &port, &err));
	assert_int_equal(setns(here, CLONE_NEWNET), 0);
	return host;
}

static void host_done(struct host *host)
{
	netcfg_close(host->netcfg);
	guest_done(&host->guest);
	guest_done(&host->ns);
}

static void two_hosts(const char *one, const char *two, const char *mtu)
{
	struct err err;
	netns_run("ip link add cable1 type veth peer name cable2");
	struct host a = host_new(one, two, "10.5.0.1/24", "fd00:5::1/64");
	struct host b = host_new(two, one, "10.5.0.2/24", "fd00:5::2/64");
	int tcp = guest_serves(&b.guest, SOCK_STREAM, 80);
	_cleanup_close_ int udp = guest_serves(&b.guest, SOCK_DGRAM, 81);
	/* broadcast (ARP), unicast, and packets as large as fit */
	assert_true(guest_reaches_soon(&a.guest, "10.5.0.2", 80));
	assert_true(guest_reaches_soon(&a.guest, "fd00:5::2", 80));
	assert_true(guest_exchanges(&a.guest, "10.5.0.2", 81, udp));
	char command[96];
	snprintf(command, sizeof(command),
		 "ip link set eth0 mtu %s; busybox ping -qc1 -W1 -s %d "
		 "10.5.0.2 >/dev/null",
		 mtu, atoi(mtu) - 28);
	guest_run(&a.guest, command);
	/* a peer taken away is no longer reached, and put back it is */
	struct netcfg_vxlan vxlan = vxlan_of(one, two);
	struct netcfg_addr peers[NETCFG_VXLAN_PEERS_MAX];
	size_t n = 0;
	vxlan.n_peers = 0;
	_cleanup_close_ int here = ns_here();
	assert_int_equal(setns(a.ns.ns, CLONE_NEWNET), 0);
	_cleanup_free_ char *before = netns_output("ip -o link show vdivx1 | cut -d: -f1");
	assert_ok(netcfg_vxlan_ensure(a.netcfg, "vdivx1", &vxlan, &err));
	assert_ok(netcfg_vxlan_peers(a.netcfg, "vdivx1", peers, &n, &err));
	assert_int_equal(n, 0);
	/* what was learned of the other's guest as well */
	netns_run("ip link set vdivx1 down; ip link set vdivx1 up");
	guest_run(&a.guest, "ip neigh flush all");
	assert_false(guest_reaches(&a.guest, "10.5.0.2", 80));
	vxlan.n_peers = 1;
	assert_ok(netcfg_vxlan_ensure(a.netcfg, "vdivx1", &vxlan, &err));
	assert_ok(netcfg_vxlan_ensure(a.netcfg, "vdivx1", &vxlan, &err));
	assert_ok(netcfg_vxlan_peers(a.netcfg, "vdivx1", peers, &n, &err));
	assert_int_equal(n, 1);
	_cleanup_free_ char *after = netns_output("ip -o link show vdivx1 | cut -d: -f1");
	assert_string_equal(before, after);
	assert_int_equal(setns(here, CLONE_NEWNET), 0);
	guest_run(&a.guest, "ip neigh flush all");
	assert_true(guest_reaches_soon(&a.guest, "10.5.0.2", 80));
	close(tcp);
	host_done(&a);
	host_done(&b);
}

static void test_two_hosts(void **state)
{
	two_hosts("198.51.100.1", "198.51.100.2", "1450");
}

static void test_two_hosts_over_ipv6(void **state)
{
	two_hosts("fd00:b::1", "fd00:b::2", "1430");
}

static void test_ensure_and_delete(void **state)
{
	struct netcfg *netcfg = *state;
	struct err err;
	struct netcfg_link link, again;
	struct netcfg_vxlan vxlan = vxlan_of("198.51.100.1", "198.51.100.2");
	assert_err(netcfg_vxlan_ensure(netcfg, "vdivx1", &vxlan, &err), ERR_NOT_FOUND);
	assert_non_null(strstr(err.msg, "198.51.100.1"));
	netns_run("ip link add up0 mtu 9000 type veth peer name up1; ip link set up0 up; "
		  "ip addr add 198.51.100.1/24 dev up0");
	assert_ok(netcfg_vxlan_ensure(netcfg, "vdivx1", &vxlan, &err));
	assert_ok(netcfg_link_get(netcfg, "vdivx1", &link, &err));
	assert_string_equal(link.kind, "vxlan");
	assert_int_equal(link.vni, 42);
	assert_int_equal(link.mtu, 8950);
	assert_true(link.up);
	assert_true(netns_shows("ip -d link show vdivx1", "dstport 4789"));
	vxlan.mtu = 1400;
	assert_ok(netcfg_vxlan_ensure(netcfg, "vdivx1", &vxlan, &err));
	assert_ok(netcfg_link_get(netcfg, "vdivx1", &again, &err));
	assert_int_equal(again.index, link.index);
	assert_int_equal(again.mtu, 1400);
	/* the same VNI twice */
	assert_err(netcfg_vxlan_ensure(netcfg, "vdivx2", &vxlan, &err), ERR_CONFLICT);
	vxlan.port = 8472;
	assert_ok(netcfg_vxlan_ensure(netcfg, "vdivx1", &vxlan, &err));
	assert_true(netns_shows("ip -d link show vdivx1", "dstport 8472"));
	assert_ok(netcfg_vxlan_delete(netcfg, "vdivx1", &err));
	assert_ok(netcfg_vxlan_delete(netcfg, "vdivx1", &err));
	assert_err(netcfg_vxlan_delete(netcfg, "up0", &err), ERR_CONFLICT);
	assert_err(netcfg_vxlan_ensure(netcfg, "up0", &vxlan, &err), ERR_CONFLICT);
	/* what cannot be */
	struct netcfg_vxlan bad = vxlan;
	bad.vni = 1 << 24;
	assert_err(netcfg_vxlan_ensure(netcfg, "vdivx1", &bad, &err), ERR_INVALID);
	bad = vxlan;
	bad.peers[0] = netns_addr("fd00::1");
	assert_err(netcfg_vxlan_ensure(netcfg, "vdivx1", &bad, &err), ERR_INVALID);
	bad.n_peers = NETCFG_VXLAN_PEERS_MAX + 1;
	assert_err(netcfg_vxlan_ensure(netcfg, "vdivx1", &bad, &err), ERR_INVALID);
	bad = vxlan;
	bad.local.family = 0;
	assert_err(netcfg_vxlan_ensure(netcfg, "vdivx1", &bad, &err), ERR_INVALID);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		netns_test(test_ensure_and_delete),
		netns_test(test_two_hosts),
		netns_test(test_two_hosts_over_ipv6),
	};
	netns_require();
	if (system("ip link add probe type vxlan id 1 dstport 4789 2>/dev/null") != 0) {
		printf("skipped: this kernel has no VXLAN devices\n");
		return NETNS_SKIP;
	}
	return cmocka_run_group_tests(tests, NULL, NULL);
}
