/* Packets in pieces, which the host puts together in a memory that all guests share. */
#include <errno.h>
#include <sys/socket.h>
#include <unistd.h>

#include "netcfg/bridge.h"
#include "netcfg/firewall.h"
#include "netcfg/nic.h"
#include "netcfg/tap.h"
#include "tests/unit/netcfg/frames.h"

#define HOST4 "10.9.8.1"
#define HOST6 "fd00:9::1"
#define A4    "10.9.8.10"
#define A6    "fd00:9::a"
#define B4    "10.9.8.11"
#define B6    "fd00:9::b"
#define PORT  4000
#define BODY  1200
#define HALF  (8 + BODY / 2)
#define LARGE 65000

static const uint8_t mac_host[6] = {0x52, 0x54, 0, 0, 0, 1};

/* Two guests and the host, which has a service for them; a is the one that misbehaves. */
struct net {
	struct netcfg *netcfg;
	int a, b, service;
};

static void nic_make(struct netcfg *netcfg, const char *tap, const uint8_t *mac, const char *v4,
		     const char *v6, int *ret)
{
	struct err err;
	struct netcfg_nic nic = {.tap = tap, .n_addresses = 2};
	struct netcfg_tap wish = {.bridge = "vdibr1", .port = {.fixed = true}};
	nic.addresses[0] = netns_addr(v4);
	nic.addresses[1] = netns_addr(v6);
	memcpy(nic.mac, mac, 6);
	memcpy(wish.port.mac, mac, 6);
	assert_ok(netcfg_nics_ensure(netcfg, &nic, 1, &err));
	assert_ok(netcfg_tap_create(netcfg, tap, &wish, ret, &err));
}

/* A datagram of BODY bytes. */
static struct frame whole_of(const uint8_t *to, const uint8_t *from, const char *source,
			     const char *target)
{
	static const uint8_t body[BODY];
	struct frame udp = {.n = 0};
	frame_u16(&udp, PORT);
	frame_u16(&udp, PORT);
	frame_u16(&udp, 8 + BODY);
	frame_u16(&udp, 0);
	frame_put(&udp, body, BODY);
	return frame_packet(to, from, source, target, IPPROTO_UDP, &udp);
}

static bool hears(const struct net *net)
{
	struct pollfd ready = {.fd = net->service, .events = POLLIN};
	uint8_t body[BODY + 1];
	return poll(&ready, 1, 500) == 1 && recv(net->service, body, sizeof(body), 0) == BODY;
}

/* The kernel takes up to a second to see that a link has come up, and its addresses with it. */
static void await(const struct net *net, int guest, const struct frame *frame)
{
	bool up = false;
	for (int i = 0; i < 50 && !up; i++) {
		frame_send(guest, frame);
		up = hears(net);
	}
	assert_true(up);
}

static struct net net_make(struct netcfg *netcfg)
{
	struct err err;
	struct net net = {.netcfg = netcfg};
	struct netcfg_bridge bridge = {.n_addresses = 2};
	struct netcfg_firewall rules = {.bridge = "vdibr1",
					.kind = NETCFG_FIREWALL_ISOLATED,
					.n_addresses = 2,
					.openings = {{NETCFG_UDP, PORT, PORT}},
					.n_openings = 1};
	bridge.addresses[0] = rules.addresses[0] = netns_addr(HOST4 "/24");
	bridge.addresses[1] = rules.addresses[1] = netns_addr(HOST6 "/64");
	memcpy(bridge.mac, mac_host, 6);
	memcpy(rules.mac, mac_host, 6);
	assert_ok(netcfg_firewall_ensure(netcfg, &rules, &err));
	assert_ok(netcfg_bridge_ensure(netcfg, "vdibr1", &bridge, &err));
	nic_make(netcfg, "vdi1n0", mac_a, A4, A6, &net.a);
	nic_make(netcfg, "vdi2n0", mac_b, B4, B6, &net.b);
	const struct sockaddr_in6 any = {.sin6_family = AF_INET6, .sin6_port = htons(PORT)};
	net.service = socket(AF_INET6, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	assert_int_equal(bind(net.service, (const struct sockaddr *)&any, sizeof(any)), 0);
	const struct frame from_a = whole_of(mac_host, mac_a, A4, HOST4);
	const struct frame from_b = whole_of(mac_host, mac_b, B6, HOST6);
	await(&net, net.a, &from_a);
	await(&net, net.b, &from_b);
	return net;
}

static void net_done(struct net *net)
{
	close(net->a);
	close(net->b);
	close(net->service);
}

static uint64_t dropped(struct net *net, const char *tap, enum netcfg_drop why)
{
	struct err err;
	struct netcfg_nic_drops drops;
	assert_ok(netcfg_nic_drops(net->netcfg, tap, &drops, &err));
	return drops.packets[why];
}

/*
 * The header in front of a piece of @n bytes at @at: in IPv4's own, in one of IPv6's behind it;
 * @protocol: what stands behind IPv6's own header
 */
static struct frame head_of(const struct frame *whole, unsigned int id, size_t at, size_t n,
			    bool more, unsigned int protocol)
{
	const bool v4 = whole->data[13] == (ETH_P_IP & 0xff);
	const unsigned int offset = (unsigned int)at / 8;
	struct frame frame = {.n = 0};
	if (!v4) {
		const unsigned int left = (unsigned int)(n + 8 + (protocol ? 8 : 0));
		frame_put(&frame, whole->data, ETH_HLEN + 40);
		memcpy(frame.data + ETH_HLEN + 4, (uint8_t[]){(uint8_t)(left >> 8), (uint8_t)left},
		       2);
		frame.data[ETH_HLEN + 6] = protocol ? (uint8_t)protocol : IPPROTO_FRAGMENT;
		if (protocol)
			frame_put(&frame, "\x2c\0\x01\x04\0\0\0\0", 8); /* padding */
		frame_u8(&frame, whole->data[ETH_HLEN + 6]);
		frame_u8(&frame, 0);
		frame_u16(&frame, offset << 3 | more);
		frame_u16(&frame, 0);
		frame_u16(&frame, id);
		return frame;
	}
	frame_put(&frame, whole->data, ETH_HLEN + 2);
	frame_u16(&frame, 20 + (unsigned int)n);
	frame_u16(&frame, id);
	frame_u16(&frame, (more ? 0x2000 : 0) | offset);
	frame_put(&frame, whole->data + ETH_HLEN + 8, 2);
	frame_u16(&frame, 0);
	frame_put(&frame, whole->data + ETH_HLEN + 12, 8);
	const uint16_t sum = htons(sum_fold(sum_of(0, frame.data + ETH_HLEN, 20)));
	memcpy(frame.data + ETH_HLEN + 10, &sum, 2);
	return frame;
}

static struct frame piece_of(const struct frame *whole, unsigned int id, size_t at, size_t n,
			     bool more)
{
	const size_t head = whole->data[13] == (ETH_P_IP & 0xff) ? 20 : 40;
	struct frame frame = head_of(whole, id, at, n, more, 0);
	frame_put(&frame, whole->data + ETH_HLEN + head + at, n);
	return frame;
}

/* Does it come to the host whole, when it is sent in two pieces? */
static bool arrives(struct net *net, int guest, const struct frame *whole, unsigned int id)
{
	const struct frame first = piece_of(whole, id, 0, HALF, true);
	const struct frame last = piece_of(whole, id, HALF, 8 + BODY - HALF, false);
	frame_send(guest, &first);
	frame_send(guest, &last);
	return hears(net);
}

/* First halves alone, of so many bytes each. */
static void flood(int guest, const struct frame *whole, size_t size, unsigned int n)
{
	static uint8_t buf[sizeof(struct virtio_net_hdr) + ETH_HLEN + 48 + LARGE];
	for (unsigned int i = 0; i < n; i++) {
		const struct frame head = head_of(whole, 1000 + i, 0, size, true, 0);
		memcpy(buf + sizeof(struct virtio_net_hdr), head.data, head.n);
		const size_t all = sizeof(struct virtio_net_hdr) + head.n + size;
		assert_int_equal(write(guest, buf, all), (ssize_t)all);
	}
}

static unsigned long number_after(const char *command, const char *word)
{
	_cleanup_free_ char *text = netns_output(command);
	const char *at = strstr(text, word);
	assert_non_null(at);
	return strtoul(at + strlen(word), NULL, 10);
}

/* Of what size ever: it uses up what is its own, in either family, and nothing but pieces. */
static void check_flood(struct net *net, const char *a, const char *b, const char *host,
			size_t size)
{
	const struct frame from_a = whole_of(mac_host, mac_a, a, host);
	const struct frame from_b = whole_of(mac_host, mac_b, b, host);
	const struct frame between = frame_udp(mac_b, mac_a, a, 1, b, 1);
	const uint64_t before = dropped(net, "vdi1n0", NETCFG_DROP_FLOOD_OUT);
	netns_run("nft flush set bridge vdi-hostd pieces; "
		  "nft flush set bridge vdi-hostd piece-bytes");
	assert_true(arrives(net, net->a, &from_a, 1));
	flood(net->a, &from_a, size, 5000);
	assert_in_range(dropped(net, "vdi1n0", NETCFG_DROP_FLOOD_OUT) - before, 1000, 4990);
	assert_true(frame_passes(net->a, net->b, &between));
	/* all goes on for the other */
	for (unsigned int id = 1; id < 50; id++)
		assert_true(arrives(net, net->b, &from_b, id));
	assert_int_equal(dropped(net, "vdi2n0", NETCFG_DROP_FLOOD_OUT), 0);
	/* and for itself before long */
	bool again = false;
	for (unsigned int id = 2; id < 50 && !again; id++)
		again = arrives(net, net->a, &from_a, id);
	assert_true(again);
}

static void test_flood_of_halves(void **state)
{
	struct net net = net_make(*state);
	check_flood(&net, A4, B4, HOST4, 8);
	check_flood(&net, A4, B4, HOST4, LARGE);
	/* three times what a NIC may take at once is far from what there is */
	const unsigned long all = number_after("cat /proc/sys/net/ipv4/ipfrag_high_thresh", "");
	assert_in_range(number_after("cat /proc/net/sockstat", "memory "), 1 << 20, all / 8);
	check_flood(&net, A6, B6, HOST6, 8);
	check_flood(&net, A6, B6, HOST6, LARGE);
	net_done(&net);
}

/* A ping of 64 KiB each second is lawful, and so is what comes all at once. */
static void test_lawful_pieces(void **state)
{
	struct net net = net_make(*state);
	const struct frame whole[] = {whole_of(mac_host, mac_a, A4, HOST4),
				      whole_of(mac_host, mac_a, A6, HOST6)};
	for (unsigned int id = 1; id <= 400; id++)
		assert_true(arrives(&net, net.a, &whole[id % 2], id));
	assert_int_equal(dropped(&net, "vdi1n0", NETCFG_DROP_FLOOD_OUT), 0);
	net_done(&net);
}

/* Is it counted among those that are over? Meanwhile some may pass. */
static void check_counted(struct net *net, const struct frame *frame)
{
	const uint64_t before = dropped(net, "vdi1n0", NETCFG_DROP_FLOOD_OUT);
	for (int i = 0; i < 500; i++)
		frame_send(net->a, frame);
	assert_in_range(dropped(net, "vdi1n0", NETCFG_DROP_FLOOD_OUT) - before, 100, 500);
}

#define DROPPED(why, frame)                                                                        \
	do {                                                                                       \
		const uint64_t before_ = dropped(&net, "vdi1n0", why);                             \
		assert_false(frame_passes(net.a, net.b, frame));                                   \
		assert_int_equal(dropped(&net, "vdi1n0", why), before_ + 1);                       \
	} while (0)

/* Pieces that look like something else are counted among the others, or not let through at all. */
static void test_pieces_in_disguise(void **state)
{
	static const uint8_t to_routers[6] = {0x33, 0x33, 0, 0, 0, 0x16};
	struct net net = net_make(*state);
	const struct frame small = whole_of(mac_b, mac_a, A4, B4);
	const struct frame whole = whole_of(mac_b, mac_a, A6, B6);
	flood(net.a, &small, 8, 5000);
	/* the last ones, without a first; behind a header of another kind, of another protocol */
	struct frame piece = piece_of(&small, 7, HALF, 8, false);
	check_counted(&net, &piece);
	piece = piece_of(&whole, 7, HALF, 8, false);
	check_counted(&net, &piece);
	piece = head_of(&whole, 7, 0, 8, true, IPPROTO_DSTOPTS);
	frame_put(&piece, "12345678", 8);
	check_counted(&net, &piece);
	const struct frame echo = frame_echo(mac_b, mac_a, A6, B6, 128, 7);
	piece = piece_of(&echo, 7, 0, 8, true);
	check_counted(&net, &piece);
	/* what a guest may send before it has an address is small */
	const struct frame dhcp = frame_dhcp(mac_a, "0.0.0.0", "255.255.255.255", "0.0.0.0", mac_a);
	piece = piece_of(&dhcp, 7, 0, 48, true);
	DROPPED(NETCFG_DROP_IPV4, &piece);
	struct frame report = {.n = 0};
	frame_put(&report, "\x8f\0\0\0\0\0\0\0", 8);
	report = frame_packet(to_routers, mac_a, "::", "ff02::16", IPPROTO_ICMPV6, &report);
	piece = piece_of(&report, 7, 0, 8, true);
	DROPPED(NETCFG_DROP_IPV6, &piece);
	assert_true(frame_passes(net.a, net.b, &dhcp));
	assert_true(frame_passes(net.a, net.b, &report));
	net_done(&net);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		netns_test(test_flood_of_halves),
		netns_test(test_lawful_pieces),
		netns_test(test_pieces_in_disguise),
	};
	netns_require();
	return cmocka_run_group_tests(tests, NULL, NULL);
}
