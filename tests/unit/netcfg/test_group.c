#include "netcfg/group.h"

#include <unistd.h>

#include "netcfg/bridge.h"
#include "netcfg/nic.h"
#include "netcfg/tap.h"
#include "tests/unit/netcfg/frames.h"

#define LIST "nft list table bridge vdi-hostd"
#define A4   "10.9.8.10"
#define A6   "fd00:9::a"
#define B4   "10.9.8.11"
#define B6   "fd00:9::b"

/* a carries no group, b those of the test; both on one bridge */
struct net {
	struct netcfg *netcfg;
	int a, b;
};

static struct netcfg_nic nic_of(const char *tap, const uint8_t *mac, const char *v4, const char *v6)
{
	struct netcfg_nic nic = {.tap = tap, .n_addresses = 2};
	nic.addresses[0] = netns_addr(v4);
	nic.addresses[1] = netns_addr(v6);
	memcpy(nic.mac, mac, 6);
	return nic;
}

static void carry(struct net *net, const char *tap, size_t n, const uint32_t *groups)
{
	struct err err;
	const bool is_a = strcmp(tap, "vdi1n0") == 0;
	struct netcfg_nic nic = nic_of(tap, is_a ? mac_a : mac_b, is_a ? A4 : B4, is_a ? A6 : B6);
	for (; nic.n_groups < n; nic.n_groups++)
		nic.groups[nic.n_groups] = groups[nic.n_groups];
	assert_ok(netcfg_nics_ensure(net->netcfg, &nic, 1, &err));
}

static struct net net_make(struct netcfg *netcfg)
{
	struct err err;
	struct net net = {.netcfg = netcfg};
	const struct netcfg_bridge bridge = {.n_addresses = 0};
	struct netcfg_tap tap = {.bridge = "vdibr1", .port = {.fixed = true}};
	assert_ok(netcfg_bridge_ensure(netcfg, "vdibr1", &bridge, &err));
	/* so that the host's own IP has nothing to say here, whatever modules it has */
	netns_run("for f in /proc/sys/net/bridge/bridge-nf-call-*tables; do "
		  "[ ! -e $f ] || echo 0 > $f; done");
	memcpy(tap.port.mac, mac_a, 6);
	assert_ok(netcfg_tap_create(netcfg, "vdi1n0", &tap, &net.a, &err));
	memcpy(tap.port.mac, mac_b, 6);
	assert_ok(netcfg_tap_create(netcfg, "vdi2n0", &tap, &net.b, &err));
	return net;
}

static void net_done(struct net *net)
{
	close(net->a);
	close(net->b);
}

static void group_set(struct net *net, uint32_t id, bool drop_in, bool drop_out, size_t n,
		      const struct netcfg_rule *rules)
{
	struct err err;
	const struct netcfg_group group = {
		.id = id, .drop_in = drop_in, .drop_out = drop_out, .rules = rules, .n_rules = n};
	assert_ok(netcfg_groups_ensure(net->netcfg, &group, 1, false, &err));
}

static bool a_to_b(struct net *net, struct frame frame)
{
	return frame_passes(net->a, net->b, &frame);
}

static bool b_to_a(struct net *net, struct frame frame)
{
	return frame_passes(net->b, net->a, &frame);
}

#define TCP_TO_B(port, from, flags) frame_tcp(mac_b, mac_a, A4, from, B4, port, flags)
#define TCP_TO_A(port, from, flags) frame_tcp(mac_a, mac_b, B4, from, A4, port, flags)
#define UDP_TO_B(port, from)        frame_udp(mac_b, mac_a, A4, from, B4, port)
#define UDP_TO_A(port, from)        frame_udp(mac_a, mac_b, B4, from, A4, port)
#define UDP6_TO_B(port, from)       frame_udp(mac_b, mac_a, A6, from, B6, port)
#define UDP6_TO_A(port, from)       frame_udp(mac_a, mac_b, B6, from, A6, port)

static uint64_t dropped(struct net *net, enum netcfg_drop why)
{
	struct err err;
	struct netcfg_nic_drops drops;
	assert_ok(netcfg_nic_drops(net->netcfg, "vdi2n0", &drops, &err));
	return drops.packets[why];
}

static void test_rules_and_defaults(void **state)
{
	struct net net = net_make(*state);
	const struct netcfg_rule rules[] = {
		{.direction = NETCFG_IN,
		 .protocol = NETCFG_TCP,
		 .port_first = 22,
		 .port_last = 22,
		 .accept = true},
		{.direction = NETCFG_IN,
		 .protocol = NETCFG_UDP,
		 .port_first = 5000,
		 .port_last = 5010,
		 .accept = true},
		{.direction = NETCFG_OUT,
		 .protocol = NETCFG_TCP,
		 .port_first = 25,
		 .port_last = 25},
	};
	const uint32_t one = 1;
	group_set(&net, 1, true, false, ARRAY_LEN(rules), rules);
	carry(&net, "vdi2n0", 1, &one);
	assert_true(a_to_b(&net, TCP_TO_B(22, 4000, TCP_SYN)));
	assert_false(a_to_b(&net, TCP_TO_B(23, 4000, TCP_SYN)));
	assert_false(a_to_b(&net, UDP_TO_B(22, 4000)));
	assert_true(a_to_b(&net, UDP_TO_B(5000, 4000)));
	assert_true(a_to_b(&net, UDP6_TO_B(5010, 4000)));
	assert_false(a_to_b(&net, UDP6_TO_B(5011, 4000)));
	assert_false(a_to_b(&net, frame_echo(mac_b, mac_a, A4, B4, 8, 1)));
	assert_false(a_to_b(&net, frame_echo(mac_b, mac_a, A6, B6, 128, 1)));
	assert_int_equal(dropped(&net, NETCFG_DROP_GROUP_IN), 5);
	/* the other way all but mail */
	assert_true(b_to_a(&net, TCP_TO_A(80, 4000, TCP_SYN)));
	assert_false(b_to_a(&net, TCP_TO_A(25, 4000, TCP_SYN)));
	assert_int_equal(dropped(&net, NETCFG_DROP_GROUP_OUT), 1);
	/* a NIC without groups is not filtered, and one that no more has any */
	assert_true(b_to_a(&net, UDP_TO_A(23, 99)));
	carry(&net, "vdi2n0", 0, NULL);
	assert_true(a_to_b(&net, TCP_TO_B(23, 4000, TCP_SYN)));
	net_done(&net);
}

/* What began from inside is answered, and only that; what was let in answers back. */
static void test_stateful(void **state)
{
	struct net net = net_make(*state);
	const struct netcfg_rule in = {.direction = NETCFG_IN,
				       .protocol = NETCFG_TCP,
				       .port_first = 22,
				       .port_last = 22,
				       .accept = true};
	const struct netcfg_rule out = {.direction = NETCFG_OUT,
					.protocol = NETCFG_UDP,
					.port_first = 53,
					.port_last = 53,
					.accept = true};
	const struct netcfg_rule echo = {
		.direction = NETCFG_OUT, .protocol = NETCFG_ICMP, .accept = true};
	const struct netcfg_rule rules[] = {in, out, echo};
	const uint32_t one = 1;
	group_set(&net, 1, true, true, ARRAY_LEN(rules), rules);
	carry(&net, "vdi2n0", 1, &one);
	/* from outside in: the answer may leave */
	assert_false(b_to_a(&net, TCP_TO_A(4000, 22, TCP_SYN | TCP_ACK)));
	assert_true(a_to_b(&net, TCP_TO_B(22, 4000, TCP_SYN)));
	assert_true(b_to_a(&net, TCP_TO_A(4000, 22, TCP_SYN | TCP_ACK)));
	assert_true(a_to_b(&net, TCP_TO_B(22, 4000, TCP_ACK)));
	assert_true(b_to_a(&net, TCP_TO_A(4000, 22, TCP_ACK)));
	assert_false(b_to_a(&net, TCP_TO_A(4001, 22, TCP_ACK)));
	assert_false(b_to_a(&net, TCP_TO_A(4000, 23, TCP_ACK)));
	/* from inside out, both families */
	assert_false(a_to_b(&net, UDP_TO_B(4000, 53)));
	assert_true(b_to_a(&net, UDP_TO_A(53, 4000)));
	assert_true(a_to_b(&net, UDP_TO_B(4000, 53)));
	assert_true(a_to_b(&net, UDP_TO_B(4000, 53)));
	assert_false(a_to_b(&net, UDP_TO_B(4001, 53)));
	assert_false(a_to_b(&net, UDP_TO_B(4000, 54)));
	assert_false(a_to_b(&net, UDP6_TO_B(4000, 53)));
	assert_true(b_to_a(&net, UDP6_TO_A(53, 4000)));
	assert_true(a_to_b(&net, UDP6_TO_B(4000, 53)));
	/* echo */
	assert_false(a_to_b(&net, frame_echo(mac_b, mac_a, A4, B4, 0, 7)));
	assert_true(b_to_a(&net, frame_echo(mac_a, mac_b, B4, A4, 8, 7)));
	assert_true(a_to_b(&net, frame_echo(mac_b, mac_a, A4, B4, 0, 7)));
	assert_false(a_to_b(&net, frame_echo(mac_b, mac_a, A4, B4, 0, 8)));
	assert_false(a_to_b(&net, frame_echo(mac_b, mac_a, A6, B6, 129, 7)));
	assert_true(b_to_a(&net, frame_echo(mac_a, mac_b, B6, A6, 128, 7)));
	assert_true(a_to_b(&net, frame_echo(mac_b, mac_a, A6, B6, 129, 7)));
	assert_false(a_to_b(&net, frame_echo(mac_b, mac_a, A4, B4, 8, 7)));
	/* what always passes: addresses must be found, errors be told, leases be kept */
	assert_true(a_to_b(&net, frame_arp(mac_b, mac_a, 2, mac_a, A4, B4)));
	assert_true(b_to_a(&net, frame_arp(mac_a, mac_b, 1, mac_b, B4, A4)));
	assert_true(a_to_b(&net, frame_nd(mac_a, A6, 135, B6, 1, mac_a)));
	assert_true(b_to_a(&net, frame_nd(mac_b, B6, 136, B6, 2, mac_b)));
	assert_true(a_to_b(&net, frame_echo(mac_b, mac_a, A4, B4, 3, 0)));
	assert_true(
		b_to_a(&net, frame_dhcp(mac_b, "0.0.0.0", "255.255.255.255", "0.0.0.0", mac_b)));
	assert_true(b_to_a(&net, frame_dhcp(mac_b, B4, "10.9.8.1", "0.0.0.0", mac_b)));
	net_done(&net);
}

static void test_remote_networks_and_groups(void **state)
{
	struct err err;
	struct net net = net_make(*state);
	const struct netcfg_rule rules[] = {
		{.direction = NETCFG_IN, .accept = true, .remote = netns_addr("10.9.8.8/30")},
		{.direction = NETCFG_IN,
		 .protocol = NETCFG_UDP,
		 .accept = true,
		 .port_first = 7,
		 .port_last = 7,
		 .remote = netns_addr("fd00:9::/64")},
		{.direction = NETCFG_OUT, .accept = true, .remote_group = 2},
	};
	const uint32_t one = 1, two = 2;
	bool has = true;
	assert_ok(netcfg_group_has(net.netcfg, 1, &has, &err));
	assert_false(has);
	group_set(&net, 1, true, true, ARRAY_LEN(rules), rules);
	group_set(&net, 2, false, false, 0, NULL);
	assert_ok(netcfg_group_has(net.netcfg, 1, &has, &err));
	assert_true(has);
	carry(&net, "vdi1n0", 0, NULL);
	carry(&net, "vdi2n0", 1, &one);
	assert_true(a_to_b(&net, UDP_TO_B(1, 1)));
	assert_true(a_to_b(&net, UDP6_TO_B(7, 1)));
	assert_false(a_to_b(&net, UDP6_TO_B(8, 1)));
	/* to members of group 2: nobody, then a, then nobody */
	assert_false(b_to_a(&net, UDP_TO_A(2, 2)));
	carry(&net, "vdi1n0", 1, &two);
	assert_true(b_to_a(&net, UDP_TO_A(2, 2)));
	assert_true(b_to_a(&net, UDP6_TO_A(2, 2)));
	carry(&net, "vdi1n0", 0, NULL);
	assert_false(b_to_a(&net, UDP_TO_A(3, 3)));
	assert_false(b_to_a(&net, UDP6_TO_A(3, 3)));
	/* one that is carried or named is not deleted */
	assert_err(netcfg_group_delete(net.netcfg, 1, &err), ERR_BUSY);
	assert_err(netcfg_group_delete(net.netcfg, 2, &err), ERR_BUSY);
	carry(&net, "vdi2n0", 0, NULL);
	assert_ok(netcfg_group_delete(net.netcfg, 1, &err));
	assert_ok(netcfg_group_delete(net.netcfg, 2, &err));
	assert_ok(netcfg_group_delete(net.netcfg, 2, &err));
	assert_false(netns_shows(LIST, "group-1"));
	assert_false(netns_shows(LIST, "members-2"));
	net_done(&net);
}

static void test_several_groups(void **state)
{
	struct net net = net_make(*state);
	const struct netcfg_rule ssh = {.direction = NETCFG_IN,
					.protocol = NETCFG_TCP,
					.port_first = 22,
					.port_last = 22,
					.accept = true};
	const struct netcfg_rule no_dns = {
		.direction = NETCFG_IN, .protocol = NETCFG_UDP, .port_first = 53, .port_last = 53};
	const uint32_t groups[] = {3, 1, 2, 9};
	group_set(&net, 3, false, false, 1, &ssh);
	group_set(&net, 1, false, false, 1, &no_dns);
	group_set(&net, 2, false, false, 0, NULL);
	group_set(&net, 9, true, false, 0, NULL);
	carry(&net, "vdi2n0", 3, groups);
	assert_true(a_to_b(&net, TCP_TO_B(22, 1, TCP_SYN)));
	assert_false(a_to_b(&net, UDP_TO_B(53, 1)));
	assert_true(a_to_b(&net, UDP_TO_B(54, 1)));
	carry(&net, "vdi2n0", 4, groups);
	assert_true(a_to_b(&net, TCP_TO_B(22, 2, TCP_SYN)));
	assert_false(a_to_b(&net, UDP_TO_B(54, 2)));
	/* one that drops by default may stand before one that opens a port */
	const uint32_t other_way[] = {9, 3};
	carry(&net, "vdi2n0", 2, other_way);
	assert_true(a_to_b(&net, TCP_TO_B(22, 3, TCP_SYN)));
	assert_false(a_to_b(&net, UDP_TO_B(54, 3)));
	net_done(&net);
}

static void test_changed_live(void **state)
{
	struct err err;
	struct net net = net_make(*state);
	struct netcfg_rule rule = {.direction = NETCFG_IN,
				   .protocol = NETCFG_TCP,
				   .port_first = 22,
				   .port_last = 22,
				   .accept = true};
	const struct netcfg_group group = {.id = 1, .drop_in = true, .rules = &rule, .n_rules = 1};
	const uint32_t one = 1;
	group_set(&net, 1, true, false, 1, &rule);
	carry(&net, "vdi2n0", 1, &one);
	_cleanup_free_ char *before = netns_output(LIST);
	group_set(&net, 1, true, false, 1, &rule);
	_cleanup_free_ char *after = netns_output(LIST);
	assert_string_equal(before, after);
	assert_true(a_to_b(&net, TCP_TO_B(22, 4000, TCP_SYN)));
	assert_true(b_to_a(&net, TCP_TO_A(4000, 22, TCP_SYN | TCP_ACK)));
	/* another port: what is open stays open, unless it is to be revoked */
	rule.port_first = rule.port_last = 80;
	assert_ok(netcfg_groups_ensure(net.netcfg, &group, 1, false, &err));
	assert_true(a_to_b(&net, TCP_TO_B(22, 4000, TCP_ACK)));
	assert_false(a_to_b(&net, TCP_TO_B(22, 4001, TCP_SYN)));
	assert_true(a_to_b(&net, TCP_TO_B(80, 4001, TCP_SYN)));
	assert_ok(netcfg_groups_ensure(net.netcfg, &group, 1, true, &err));
	assert_false(a_to_b(&net, TCP_TO_B(22, 4000, TCP_ACK)));
	assert_true(a_to_b(&net, TCP_TO_B(80, 4001, TCP_ACK)));
	/* several in one go, or none of them */
	struct netcfg_rule bad = rule;
	bad.port_first = 90;
	const struct netcfg_group both[] = {{.id = 1, .drop_in = true},
					    {.id = 2, .rules = &bad, .n_rules = 1}};
	_cleanup_free_ char *good = netns_output("nft list chain bridge vdi-hostd group-1-in");
	assert_err(netcfg_groups_ensure(net.netcfg, both, 2, false, &err), ERR_INVALID);
	_cleanup_free_ char *still = netns_output("nft list chain bridge vdi-hostd group-1-in");
	assert_string_equal(good, still);
	net_done(&net);
}

/* A piece that has no ports belongs to one that was looked at. */
static void test_fragments(void **state)
{
	struct net net = net_make(*state);
	const uint32_t one = 1;
	group_set(&net, 1, true, true, 0, NULL);
	carry(&net, "vdi2n0", 1, &one);
	struct frame body = {.n = 0};
	frame_put(&body, "\x11\0\0\x08\0\0\0\x07", 8);
	frame_put(&body, "the rest", 8);
	assert_true(a_to_b(&net, frame_packet(mac_b, mac_a, A6, B6, IPPROTO_FRAGMENT, &body)));
	memcpy(body.data, "\x11\0\0\x01\0\0\0\x07", 8); /* the first of more */
	assert_false(a_to_b(&net, frame_packet(mac_b, mac_a, A6, B6, IPPROTO_FRAGMENT, &body)));
	struct frame first = UDP_TO_B(9, 9), later = first;
	first.data[ETH_HLEN + 6] = 0x20;
	later.data[ETH_HLEN + 7] = 0x01;
	assert_false(a_to_b(&net, first));
	assert_true(a_to_b(&net, later));
	net_done(&net);
}

/* ---- one that means harm ---- */

#define C4 "10.9.8.12"

static const uint8_t mac_c[6] = {0x52, 0x54, 0, 0, 0, 0xc};

#define SET(name) "nft list set bridge vdi-hostd " name

/* b and c carry a group that lets out everything and in what is for port 22; a has none. */
static struct net net_of_three(struct netcfg *netcfg, int *ret_c)
{
	struct err err;
	struct net net = net_make(netcfg);
	const struct netcfg_rule ssh = {.direction = NETCFG_IN,
					.protocol = NETCFG_TCP,
					.port_first = 22,
					.port_last = 22,
					.accept = true};
	const uint32_t one = 1;
	struct netcfg_tap tap = {.bridge = "vdibr1", .port = {.fixed = true}};
	memcpy(tap.port.mac, mac_c, 6);
	assert_ok(netcfg_tap_create(netcfg, "vdi3n0", &tap, ret_c, &err));
	group_set(&net, 1, true, false, 1, &ssh);
	carry(&net, "vdi2n0", 1, &one);
	struct netcfg_nic nic = nic_of("vdi3n0", mac_c, C4, "fd00:9::c");
	nic.n_groups = 1;
	nic.groups[0] = 1;
	assert_ok(netcfg_nics_ensure(netcfg, &nic, 1, &err));
	return net;
}

static unsigned int known_of(const char *tap, const char *list)
{
	_cleanup_free_ char *text = netns_output(list);
	unsigned int n = 0;
	for (const char *at = text; (at = strstr(at, tap)); at++)
		n++;
	return n;
}

/* All at once, and what arrives is thrown away: a tap holds no more than a thousand. */
static void flood(int from, int to, const struct frame *frame)
{
	static unsigned int n;
	static const struct frame none = {.n = FRAME_MAX};
	frame_send(from, frame);
	if (++n % 256 == 0)
		frame_heard(to, &none, 0);
}

/* Begins an exchange of UDP with a, and a answers. */
static bool is_answered(struct net *net, int guest, const uint8_t *mac, const char *ip,
			unsigned int port)
{
	const struct frame question = frame_udp(mac_a, mac, ip, port, A4, 53);
	const struct frame answer = frame_udp(mac, mac_a, A4, 53, ip, port);
	return frame_passes(guest, net->a, &question) && frame_passes(net->a, guest, &answer);
}

/* A NIC uses up what is its own, and nobody else's; it may go on when it stops. */
static void test_flood_of_one(void **state)
{
	enum { N = 6000 };
	int c;
	struct net net = net_of_three(*state, &c);
	assert_true(is_answered(&net, net.b, mac_b, B4, 1));
	assert_true(is_answered(&net, c, mac_c, C4, 1));
	for (unsigned int i = 0; i < N; i++) {
		const struct frame frame =
			i % 2 ? UDP_TO_A(9, 2000 + i) : TCP_TO_A(9, 2000 + i, TCP_SYN);
		flood(net.b, net.a, &frame);
	}
	const uint64_t over = dropped(&net, NETCFG_DROP_FLOOD_OUT);
	assert_in_range(over, 1, N - 2000);
	assert_int_equal(known_of("vdi2n0", SET("udp4")) + known_of("vdi2n0", SET("tcp4")),
			 N - over + 1);
	/* what it had goes on; all goes on for others, and begins */
	assert_true(b_to_a(&net, UDP_TO_A(53, 1)));
	assert_true(a_to_b(&net, UDP_TO_B(1, 53)));
	for (unsigned int port = 1000; port < 1500; port++)
		assert_true(is_answered(&net, c, mac_c, C4, port));
	struct err err;
	struct netcfg_nic_drops drops;
	assert_ok(netcfg_nic_drops(net.netcfg, "vdi3n0", &drops, &err));
	assert_int_equal(drops.packets[NETCFG_DROP_FLOOD_OUT], 0);
	/* within its rate, it begins as before */
	bool again = false;
	for (unsigned int i = 0; i < 100 && !again; i++)
		again = is_answered(&net, net.b, mac_b, B4, 60000 + i);
	assert_true(again);
	close(c);
	net_done(&net);
}

/* What is begun with a NIC has a bucket of its own, which one neighbour with groups cannot empty.
 */
static void test_flood_at_one(void **state)
{
	enum { N = 12000 };
	int c;
	struct net net = net_of_three(*state, &c);
	for (unsigned int i = 0; i < N; i++) {
		const struct frame frame = frame_tcp(mac_b, mac_c, C4, 2 + i, B4, 22, TCP_SYN);
		flood(c, net.b, &frame);
	}
	assert_int_equal(dropped(&net, NETCFG_DROP_FLOOD_IN), 0);
	assert_true(a_to_b(&net, TCP_TO_B(22, 1, TCP_SYN)));
	/* one without groups can */
	for (unsigned int i = 0; i < N; i++) {
		const struct frame frame = TCP_TO_B(22, 2 + i, TCP_SYN);
		flood(net.a, net.b, &frame);
	}
	assert_in_range(dropped(&net, NETCFG_DROP_FLOOD_IN), 1, N);
	assert_true(a_to_b(&net, TCP_TO_B(22, 1, TCP_ACK)));
	assert_true(is_answered(&net, net.b, mac_b, B4, 7));
	close(c);
	net_done(&net);
}

/* With somebody outside who answers, too: what cannot be kept passes, and is forgotten sooner. */
static void test_kept(void **state)
{
	enum { OUT = 1900, IN = 1900 };
	int c;
	struct net net = net_of_three(*state, &c);
	for (unsigned int i = 0; i < OUT + IN; i++) {
		const unsigned int far = 1000 + i;
		const bool out = i < OUT;
		const struct frame begin =
			out ? TCP_TO_A(far, 7, TCP_SYN) : TCP_TO_B(22, far, TCP_SYN);
		const struct frame answer =
			out ? TCP_TO_B(7, far, TCP_ACK) : TCP_TO_A(far, 22, TCP_ACK);
		assert_true(frame_passes(out ? net.b : net.a, out ? net.a : net.b, &begin));
		assert_true(frame_passes(out ? net.a : net.b, out ? net.b : net.a, &answer));
	}
	assert_int_equal(known_of("vdi2n0", SET("tcp4")), OUT + IN);
	assert_in_range(known_of("vdi2n0", SET("tcp4-kept")), 2048, OUT + IN - 1);
	/* the other protocol and the other NIC have theirs */
	assert_true(is_answered(&net, net.b, mac_b, B4, 7));
	assert_int_equal(known_of("vdi2n0", SET("udp4-kept")), 1);
	close(c);
	net_done(&net);
}

/* A connection that ends is forgotten before long, and is not prolonged by ending again. */
static void test_ended(void **state)
{
	int c;
	struct net net = net_of_three(*state, &c);
	assert_true(b_to_a(&net, TCP_TO_A(80, 7, TCP_SYN)));
	assert_true(netns_shows(SET("tcp4"), "vdi2n0"));
	assert_false(netns_shows(SET("tcp4"), "expires 2h1"));
	assert_true(b_to_a(&net, TCP_TO_A(80, 7, TCP_FIN | TCP_ACK)));
	assert_false(netns_shows(SET("tcp4"), "expires 59s"));
	assert_true(a_to_b(&net, TCP_TO_B(7, 80, TCP_ACK)));
	assert_true(netns_shows(SET("tcp4"), "expires 2h1"));
	assert_true(netns_shows(SET("tcp4-kept"), "expires 14m"));
	assert_true(a_to_b(&net, TCP_TO_B(7, 80, TCP_FIN | TCP_ACK)));
	assert_false(netns_shows(SET("tcp4"), "expires 2h1"));
	assert_true(b_to_a(&net, TCP_TO_A(80, 7, TCP_ACK)));
	assert_false(netns_shows(SET("tcp4"), "expires 2h1"));
	close(c);
	net_done(&net);
}

static void test_bad_input(void **state)
{
	struct netcfg *netcfg = *state;
	struct err err;
	const struct netcfg_rule good = {.direction = NETCFG_IN};
	struct netcfg_rule bad[] = {good, good, good, good, good, good, good};
	bad[0].direction = 0;
	bad[1].protocol = 9;
	bad[2].protocol = NETCFG_ICMP;
	bad[2].port_first = bad[2].port_last = 7;
	bad[3].protocol = NETCFG_TCP;
	bad[3].port_first = 9;
	bad[3].port_last = 8;
	bad[4].remote.family = 99;
	bad[5].remote = netns_addr("10.0.0.0/8");
	bad[5].remote_group = 4;
	bad[6].remote = netns_addr("10.0.0.0/8");
	bad[6].remote.prefix = 33;
	for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
		const struct netcfg_group group = {.id = 1, .rules = &bad[i], .n_rules = 1};
		assert_err(netcfg_groups_ensure(netcfg, &group, 1, false, &err), ERR_INVALID);
	}
	const struct netcfg_group none = {.id = 0};
	assert_err(netcfg_groups_ensure(netcfg, &none, 1, false, &err), ERR_INVALID);
	assert_false(netns_shows("nft list tables", "vdi-hostd"));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		netns_test(test_rules_and_defaults),
		netns_test(test_stateful),
		netns_test(test_remote_networks_and_groups),
		netns_test(test_several_groups),
		netns_test(test_changed_live),
		netns_test(test_fragments),
		netns_test(test_flood_of_one),
		netns_test(test_flood_at_one),
		netns_test(test_kept),
		netns_test(test_ended),
		netns_test(test_bad_input),
	};
	netns_require();
	return cmocka_run_group_tests(tests, NULL, NULL);
}
