/* Requests that no honest half sends: each ends the privileged one, without an answer. */
#include "vdi-hostd/priv/verbs.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/mem.h"
#include "guest.h"
#include "half.h"
#include "vdi-hostd/priv/wire.h"

static void send_bad(const struct priv_request *req, const int *fds, size_t n_fds)
{
	struct half half;
	half_open(&half);
	assert_int_equal(wire_send(half.fd, req, sizeof(*req), fds, n_fds), 0);
	half_assert_aborted(&half);
}

static void test_wrong_fd_counts(void **state)
{
	struct priv_request req = {.verb = PRIV_PROBE};
	const int fds[] = {0, 1, 2, 0, 1};

	send_bad(&req, fds, 1); /* says none, brings one */
	req.n_fds = 1;
	send_bad(&req, NULL, 0); /* says one, brings none */
	send_bad(&req, fds, 1);  /* takes none */
	req = (struct priv_request){.verb = PRIV_IMG_SPAWN, .n_fds = 5};
	req.u.img = (struct priv_img){PRIV_IMG_RAW, PRIV_IMG_QCOW2, 0};
	send_bad(&req, fds, 5); /* two sources, of which neither is qcow2 */
	req.n_fds = 3;
	send_bad(&req, fds, 3);
	req.n_fds = UINT32_MAX;
	send_bad(&req, fds, 4);
}

static void bad_network(const struct priv_network *network)
{
	struct priv_request req = {.verb = PRIV_BRIDGE_ENSURE};
	req.u.network = *network;
	send_bad(&req, NULL, 0);
}

/* each is a network that is fine but for one field */
static void test_networks_out_of_range(void **state)
{
	struct priv_network nat = {1, PRIV_NETWORK_NAT, 24, htonl(0x0a010101)}, bad = nat;
	struct priv_network bridged = {1, PRIV_NETWORK_BRIDGED, .uplink = "eth0"};

	bad.mtu = PRIV_MTU_MIN - 1;
	bad_network(&bad);
	bad.mtu = PRIV_MTU_MAX + 1;
	bad_network(&bad);
	bad = nat;
	bad.address6[0] = 0xff;
	bad_network(&bad);
	bad = nat;
	bad.vlan = 1;
	bad_network(&bad);
	bad = nat;
	memcpy(bad.uplink, "eth0", 4);
	bad_network(&bad);
	nat.vni = 5;
	nat.n_peers = 1;
	nat.underlay = nat.peers[0] = htonl(0x0a000001);
	bad = nat;
	bad.vni = 1 << 24;
	bad_network(&bad);
	bad = nat;
	bad.n_peers = 0;
	bad_network(&bad);
	bad.n_peers = PRIV_PEERS_MAX + 1;
	bad_network(&bad);
	bad = nat;
	bad.peers[0] = UINT32_MAX;
	bad_network(&bad);
	bad = nat;
	bad.underlay = 0;
	bad_network(&bad);
	bad = nat;
	bad.n_openings = NETCFG_FIREWALL_OPENINGS_MAX + 1;
	bad_network(&bad);
	const struct netcfg_opening openings[] = {
		{NETCFG_ICMP, 1, 1}, {NETCFG_PROTOCOL_ANY, 1, 1}, {77, 1, 1},
		{NETCFG_TCP, 0, 1},  {NETCFG_UDP, 2, 1},
	};
	for (size_t i = 0; i < ARRAY_LEN(openings); i++) {
		/* the last of several */
		bad = nat;
		bad.n_openings = NETCFG_FIREWALL_OPENINGS_MAX;
		for (size_t k = 0; k < NETCFG_FIREWALL_OPENINGS_MAX; k++)
			bad.openings[k] = (struct netcfg_opening){NETCFG_TCP, 1, 65535};
		bad.openings[NETCFG_FIREWALL_OPENINGS_MAX - 1] = openings[i];
		bad_network(&bad);
	}
	bad = bridged;
	bad.n_openings = 1;
	bad.openings[0] = (struct netcfg_opening){NETCFG_TCP, 22, 22};
	bad_network(&bad);
	bad = bridged;
	bad.vlan = 4095;
	bad_network(&bad);
	bad = bridged;
	bad.joined = 2;
	bad_network(&bad);
	bad.joined = 1;
	bad.vlan = 7;
	bad_network(&bad);
	bad = nat;
	bad.joined = 1;
	bad_network(&bad);
	bad = nat;
	bad.hears_dhcp = 1;
	bad_network(&bad);
	bad = bridged;
	bad.hears_dhcp = 2;
	bad_network(&bad);
	bad = bridged;
	bad.prefix = 24;
	bad_network(&bad);
	bad = bridged;
	bad.vni = 5;
	bad_network(&bad);
	const char *const names[] = {"", "lo", "vdibr1", "a/b", "..", "a b", "a\"b"};
	for (size_t i = 0; i < ARRAY_LEN(names); i++) {
		bad = bridged;
		memset(bad.uplink, 0, sizeof(bad.uplink));
		memcpy(bad.uplink, names[i], strlen(names[i]));
		bad_network(&bad);
	}
	memset(bad.uplink, 'x', sizeof(bad.uplink));
	bad_network(&bad);
	struct priv_request req = {.verb = PRIV_DNSMASQ_SPAWN};
	req.u.network = bridged;
	send_bad(&req, NULL, 0);
}

static void bad_tap(const struct priv_tap *tap)
{
	struct priv_request req = {.verb = PRIV_TAP_CREATE};
	req.u.tap = *tap;
	send_bad(&req, NULL, 0);
}

static void bad_forward(const struct netcfg_forward *forward)
{
	struct priv_request req = {.verb = PRIV_FORWARD_ENSURE};
	req.u.forward = *forward;
	send_bad(&req, NULL, 0);
	req.verb = PRIV_FORWARD_DELETE;
	send_bad(&req, NULL, 0);
}

static void bad_rule(const struct netcfg_rule *rule)
{
	struct priv_request req = {.verb = PRIV_GROUP_ENSURE};
	req.u.group = (struct priv_group){.id = 1, .n_rules = 1, .rules = {*rule}};
	send_bad(&req, NULL, 0);
}

static void test_taps_and_rules_out_of_range(void **state)
{
	const struct priv_tap tap = {1, 0, 1, .mac = {0x52, 0x54, 0, 0, 0, 1}};
	const struct netcfg_addr host = {.family = AF_INET, .prefix = 32};
	const struct netcfg_forward forward = {
		.protocol = NETCFG_TCP,
		.port_first = 80,
		.port_last = 80,
		.guest = host,
		.guest_port = 80,
	};
	const struct netcfg_rule rule = {.direction = NETCFG_IN};
	struct priv_tap t = tap;
	struct netcfg_forward f = forward;
	struct netcfg_rule r = rule;

	t.mac[0] = 0x53;
	bad_tap(&t);
	t = tap;
	t.mtu = 10;
	bad_tap(&t);
	t = tap;
	t.n_groups = NETCFG_NIC_GROUPS_MAX + 1;
	bad_tap(&t);
	t.n_groups = 1;
	bad_tap(&t);
	t = tap;
	t.queues = QEMU_QUEUES_MAX + 1;
	bad_tap(&t);
	t = tap;
	t.any_prefix6 = 2;
	bad_tap(&t);

	f.protocol = NETCFG_ICMP;
	bad_forward(&f);
	f = forward;
	f.port_first = 0;
	bad_forward(&f);
	f.port_first = 81;
	bad_forward(&f);
	f.port_last = UINT16_MAX;
	bad_forward(&f);
	f = forward;
	f.guest_port = UINT16_MAX;
	f.port_last = 81;
	bad_forward(&f);
	f = forward;
	f.guest.family = 0;
	bad_forward(&f);
	f.guest.family = AF_UNIX;
	bad_forward(&f);
	f = forward;
	f.host.family = AF_INET;
	f.host.prefix = 33;
	bad_forward(&f);

	r.direction = 0;
	bad_rule(&r);
	r = rule;
	r.protocol = NETCFG_ICMP + 1;
	bad_rule(&r);
	r = rule;
	r.port_last = 5;
	bad_rule(&r);
	r.port_first = 6;
	bad_rule(&r);
	r = rule;
	r.remote.family = AF_INET6;
	r.remote.prefix = 129;
	bad_rule(&r);
	r = rule;
	memset(&r.accept, 2, 1);
	bad_rule(&r);
	struct priv_request req = {.verb = PRIV_GROUP_ENSURE};
	send_bad(&req, NULL, 0);
	req.u.group.id = 1;
	req.u.group.n_rules = PRIV_RULES_MAX + 1;
	send_bad(&req, NULL, 0);
}

static void bad_uplink(const struct priv_uplink *uplink)
{
	struct priv_request req = {.verb = PRIV_UPLINK_ENSLAVE};
	req.u.uplink = *uplink;
	send_bad(&req, NULL, 0);
	req.verb = PRIV_UPLINK_RELEASE;
	send_bad(&req, NULL, 0);
}

static void test_uplinks_out_of_range(void **state)
{
	const struct priv_uplink uplink = {.slot = 1, .before.name = "eth0"};
	struct priv_uplink bad = uplink;

	bad.slot = 0;
	bad_uplink(&bad);
	bad = uplink;
	bad.timeout_s = PRIV_CONFIRM_MAX_S + 1;
	bad_uplink(&bad);
	bad = uplink;
	bad.before.n_addresses = NETCFG_UPLINK_ADDRS_MAX + 1;
	bad_uplink(&bad);
	bad.before.n_addresses = 1; /* of no family */
	bad_uplink(&bad);
	bad = uplink;
	bad.before.n_routes = NETCFG_UPLINK_ROUTES_MAX + 1;
	bad_uplink(&bad);
	bad.before.n_routes = 1;
	bad.before.routes[0].gateway.family = 77;
	bad_uplink(&bad);
	bad = uplink;
	memset(bad.before.name, 'x', sizeof(bad.before.name));
	bad_uplink(&bad);
	memcpy(bad.before.name, "vdi1n0", 7);
	bad_uplink(&bad);
}

static void test_out_of_range(void **state)
{
	const uint32_t address = htonl(0x0a010101);
	const struct {
		uint32_t verb;
		struct priv_network network;
	} networks[] = {
		{PRIV_BRIDGE_ENSURE, {0, PRIV_NETWORK_NAT, 24, address}},
		{PRIV_BRIDGE_ENSURE, {PRIV_SLOT_MAX + 1, PRIV_NETWORK_NAT, 24, address}},
		{PRIV_BRIDGE_ENSURE, {1, 0, 24, address}},
		{PRIV_BRIDGE_ENSURE, {1, 5, 24, address}},
		{PRIV_BRIDGE_ENSURE, {1, PRIV_NETWORK_NAT, 7, address}},
		{PRIV_BRIDGE_ENSURE, {1, PRIV_NETWORK_NAT, 31, address}},
		{PRIV_BRIDGE_ENSURE, {1, PRIV_NETWORK_NAT, 24, 0}},
		{PRIV_BRIDGE_ENSURE, {1, PRIV_NETWORK_NAT, 24, htonl(0x7f000001)}},
		{PRIV_BRIDGE_ENSURE, {1, PRIV_NETWORK_NAT, 24, htonl(0xe0000001)}},
		{PRIV_BRIDGE_ENSURE, {1, PRIV_NETWORK_NAT, 24, htonl(0x0a010100)}},
		{PRIV_BRIDGE_ENSURE, {1, PRIV_NETWORK_NAT, 24, htonl(0x0a0101ff)}},
		{PRIV_DNSMASQ_SPAWN, {0, PRIV_NETWORK_NAT, 24, address}},
		{PRIV_BRIDGE_DELETE, {0, 0, 0, 0}},
		{PRIV_BRIDGE_DELETE, {PRIV_SLOT_MAX + 1, 0, 0, 0}},
		{PRIV_CGROUP_DELETE, {0, 0, 0, 0}},
	};
	const struct priv_tap taps[] = {
		{0, 0, 1},
		{PRIV_SLOT_MAX + 1, 0, 1},
		{1, QEMU_NICS_MAX, 1},
		{1, 0, 0},
		{1, 0, 1, .pid = 1, .start_time = 5},
		{1, 0, 1, .pid = -500, .start_time = 5},
		{1, 0, 1, .pid = 500},
	};
	const struct {
		uint32_t verb;
		struct priv_process process;
	} processes[] = {
		{PRIV_QEMU_SIGNAL, {1, 1, 5, SIGTERM}},
		{PRIV_QEMU_SIGNAL, {1, -1, 5, SIGKILL}},
		{PRIV_QEMU_SIGNAL, {1, 0, 5, SIGKILL}},
		{PRIV_QEMU_SIGNAL, {1, 500, 0, SIGKILL}},
		{PRIV_QEMU_SIGNAL, {0, 500, 5, SIGKILL}},
		{PRIV_QEMU_SIGNAL, {1, 500, 5, SIGHUP}},
		{PRIV_QEMU_SIGNAL, {1, 500, 5, 0}},
		{PRIV_QEMU_SIGNAL, {1, 500, 5, SIGSTOP}},
		{PRIV_IMG_SIGNAL, {1, 500, 5, SIGHUP}},
		{PRIV_DNSMASQ_SIGNAL, {1, 500, 5, SIGINT}},
		{PRIV_DNSMASQ_SIGNAL, {0, 500, 5, SIGHUP}},
		{PRIV_REAP, {1, 0, 5, 0}},
	};

	for (size_t i = 0; i < ARRAY_LEN(networks); i++) {
		struct priv_request req = {.verb = networks[i].verb};
		req.u.network = networks[i].network;
		send_bad(&req, NULL, 0);
	}
	for (size_t i = 0; i < ARRAY_LEN(taps); i++) {
		struct priv_request req = {.verb = PRIV_TAP_CREATE};
		req.u.tap = taps[i];
		send_bad(&req, NULL, 0);
		req.verb = PRIV_TAP_ATTACH;
		send_bad(&req, NULL, 0);
	}
	for (size_t i = 0; i < ARRAY_LEN(processes); i++) {
		struct priv_request req = {.verb = processes[i].verb};
		req.u.process = processes[i].process;
		send_bad(&req, NULL, 0);
	}
}

/* a descriptor of the wrong kind at each place */
static void test_fd_kinds(void **state)
{
	struct guest guest;
	int null = open("/dev/null", O_RDWR | O_CLOEXEC);

	guest_setup(&guest);
	for (size_t i = 0; i < GUEST_FDS; i++) {
		int fds[GUEST_FDS];
		memcpy(fds, guest.fds, sizeof(fds));
		fds[i] = null;
		send_bad(&guest.req, fds, GUEST_FDS);
	}
	const struct {
		size_t place, with;
	} swaps[] = {
		{GUEST_TOP, GUEST_BASE},    /* read-only where QEMU writes */
		{GUEST_BASE, GUEST_TOP},    /* writable where it must not */
		{GUEST_CONSOLE, GUEST_TOP}, /* open both ways */
		{GUEST_QMP, GUEST_LOG},
	};
	for (size_t i = 0; i < ARRAY_LEN(swaps); i++) {
		int fds[GUEST_FDS];
		memcpy(fds, guest.fds, sizeof(fds));
		fds[swaps[i].place] = guest.fds[swaps[i].with];
		send_bad(&guest.req, fds, GUEST_FDS);
	}
	int with_tap[GUEST_FDS + 2];
	memcpy(with_tap, guest.fds, sizeof(guest.fds));
	with_tap[GUEST_FDS] = null;
	guest.req.u.qemu.nics[0].queues = 1;
	guest.req.u.qemu.nics[0].tap_fd[0] = GUEST_FDS;
	guest.req.n_fds = GUEST_FDS + 1;
	send_bad(&guest.req, with_tap, GUEST_FDS + 1);
	/* a tap is no vhost-net */
	with_tap[GUEST_FDS] = with_tap[GUEST_FDS + 1] = open("/dev/net/tun", O_RDWR | O_CLOEXEC);
	guest.req.u.qemu.nics[0].vhost = 1;
	guest.req.u.qemu.nics[0].vhost_fd[0] = GUEST_FDS + 1;
	guest.req.n_fds = GUEST_FDS + 2;
	send_bad(&guest.req, with_tap, GUEST_FDS + 2);
	close(with_tap[GUEST_FDS]);
	guest_teardown(&guest);
	close(null);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_wrong_fd_counts),
		cmocka_unit_test(test_networks_out_of_range),
		cmocka_unit_test(test_taps_and_rules_out_of_range),
		cmocka_unit_test(test_uplinks_out_of_range),
		cmocka_unit_test(test_out_of_range),
		cmocka_unit_test(test_fd_kinds),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
