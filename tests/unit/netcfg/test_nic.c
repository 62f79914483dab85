#include "netcfg/nic.h"

#include <unistd.h>

#include "netcfg/firewall.h"
#include "netcfg/group.h"
#include "tests/unit/netcfg/nics.h"

static struct net net_guarded(struct netcfg *netcfg)
{
	struct err err;
	struct net net = net_make(netcfg);
	const struct netcfg_nic nics[] = {nic_a(), nic_b()};
	assert_ok(netcfg_nics_ensure(netcfg, nics, 2, &err));
	return net;
}

static void honest_traffic(struct net *with)
{
	struct net net = *with;
	PASSES(frame_arp(mac_all, mac_a, 1, mac_a, A4, B4));
	PASSES(frame_arp(mac_b, mac_a, 2, mac_a, A4, B4));
	PASSES(frame_arp(mac_all, mac_a, 1, mac_a, "0.0.0.0", A4));
	PASSES(frame_udp(mac_b, mac_a, A4, 4000, B4, 4000));
	PASSES(frame_tcp(mac_b, mac_a, A4, 4000, B4, 80, TCP_SYN));
	PASSES(frame_echo(mac_b, mac_a, A4, B4, 8, 7));
	PASSES(frame_udp(mac_b, mac_a, A6, 4000, B6, 4000));
	PASSES(frame_udp(mac_b, mac_a, AL, 4000, B6, 4000));
	PASSES(frame_echo(mac_b, mac_a, A6, B6, 128, 7));
	PASSES(frame_dhcp(mac_a, "0.0.0.0", "255.255.255.255", "0.0.0.0", mac_a));
	PASSES(frame_dhcp(mac_a, A4, "10.9.8.1", "0.0.0.0", mac_a));
	PASSES(frame_udp(mac_b, mac_a, AL, 546, "ff02::1:2", 547));
	/* neighbour discovery: probing, asking, answering, looking for routers */
	PASSES(frame_nd(mac_a, "::", 135, A6, 0, NULL));
	PASSES(frame_nd(mac_a, "::", 135, AL, 0, NULL));
	PASSES(frame_nd(mac_a, A6, 135, B6, 1, mac_a));
	PASSES(frame_nd(mac_a, AL, 135, B6, 0, NULL));
	PASSES(frame_nd(mac_a, A6, 136, A6, 2, mac_a));
	PASSES(frame_nd(mac_a, AL, 136, A6, 0, NULL));
	PASSES(frame_nd(mac_a, AL, 133, NULL, 1, mac_a));
	PASSES(frame_nd(mac_a, "::", 133, NULL, 0, NULL));
}

static void test_honest_traffic_passes(void **state)
{
	struct net net = net_guarded(*state);
	honest_traffic(&net);
	assert_false(netns_shows("nft list set bridge vdi-hostd drops", "elements"));
	net_done(&net);
}

static void test_spoofed_mac_and_frames(void **state)
{
	struct net net = net_guarded(*state);
	DROPPED(NETCFG_DROP_MAC, frame_udp(mac_b, mac_x, A4, 1, B4, 1));
	DROPPED(NETCFG_DROP_MAC, frame_udp(mac_all, mac_b, B4, 1, "10.9.8.255", 1));
	DROPPED(NETCFG_DROP_MAC, frame_arp(mac_all, mac_x, 1, mac_a, A4, B4));
	const struct frame inner = frame_udp(mac_b, mac_a, A4, 1, B4, 1);
	DROPPED(NETCFG_DROP_VLAN, frame_tagged(&inner, ETH_P_8021Q, 5));
	DROPPED(NETCFG_DROP_VLAN, frame_tagged(&inner, ETH_P_8021Q, 0));
	DROPPED(NETCFG_DROP_VLAN, frame_tagged(&inner, ETH_P_8021AD, 5));
	const struct frame inner6 = frame_udp(mac_b, mac_a, A6, 1, B6, 1);
	DROPPED(NETCFG_DROP_VLAN, frame_tagged(&inner6, ETH_P_8021Q, 5));
	const struct frame once = frame_tagged(&inner, ETH_P_8021Q, 6);
	DROPPED(NETCFG_DROP_VLAN, frame_tagged(&once, ETH_P_8021AD, 5));
	struct frame odd = frame_ether(mac_b, mac_a, 0x88cc);
	frame_put(&odd, "lldp", 4);
	DROPPED(NETCFG_DROP_ETHERTYPE, odd);
	struct frame length = frame_ether(mac_b, mac_a, 38);
	frame_put(&length, "\x42\x42\x03", 3);
	DROPPED(NETCFG_DROP_ETHERTYPE, length);
	/* what was forged is not learned either: what is for b still goes to b alone */
	assert_false(netns_shows("bridge fdb show dev vdi1n0", "52:54:00:00:00:66"));
	assert_false(netns_shows("bridge fdb show dev vdi1n0", "52:54:00:00:00:0b"));
	PASSES(frame_udp(mac_b, mac_a, A4, 1, B4, 1));
	net_done(&net);
}

/* Frames to 01:80:c2:00:00:0x pass no hook, and would be learned from. */
static void test_link_local_frames_teach_nothing(void **state)
{
	static const uint8_t lldp[6] = {1, 0x80, 0xc2, 0, 0, 0xe};
	struct net net = net_guarded(*state);
	struct frame forged = frame_ether(lldp, mac_b, 0x88cc);
	frame_put(&forged, "poison", 6);
	assert_false(frame_passes(net.a, net.b, &forged));
	assert_false(netns_shows("bridge fdb show dev vdi1n0", "52:54:00:00:00:0b"));
	net_done(&net);
}

static void test_spoofed_addresses(void **state)
{
	struct net net = net_guarded(*state);
	DROPPED(NETCFG_DROP_IPV4, frame_udp(mac_b, mac_a, "10.9.8.12", 1, B4, 1));
	DROPPED(NETCFG_DROP_IPV4, frame_udp(mac_b, mac_a, "10.9.8.1", 53, B4, 1));
	DROPPED(NETCFG_DROP_IPV4, frame_dhcp(mac_a, "0.0.0.0", B4, "0.0.0.0", mac_a));
	DROPPED(NETCFG_DROP_IPV4,
		frame_dhcp(mac_a, "10.9.8.12", "255.255.255.255", "0.0.0.0", mac_a));
	DROPPED(NETCFG_DROP_IPV4, frame_udp(mac_b, mac_a, "127.0.0.1", 1, B4, 1));
	DROPPED(NETCFG_DROP_IPV6, frame_udp(mac_b, mac_a, B6, 1, B6, 1));
	DROPPED(NETCFG_DROP_IPV6, frame_udp(mac_b, mac_a, "fe80::1", 1, B6, 1));
	DROPPED(NETCFG_DROP_IPV6, frame_udp(mac_b, mac_a, "::", 1, B6, 1));
	DROPPED(NETCFG_DROP_IPV6, frame_echo(mac_b, mac_a, "fd00:9::1", B6, 128, 1));
	net_done(&net);
}

static void test_poisoning(void **state)
{
	struct net net = net_guarded(*state);
	DROPPED(NETCFG_DROP_ARP, frame_arp(mac_all, mac_a, 2, mac_a, B4, "10.9.8.1"));
	DROPPED(NETCFG_DROP_ARP, frame_arp(mac_b, mac_a, 2, mac_a, "10.9.8.1", B4));
	DROPPED(NETCFG_DROP_ARP, frame_arp(mac_b, mac_a, 2, mac_x, A4, B4));
	DROPPED(NETCFG_DROP_ARP, frame_arp(mac_b, mac_a, 2, mac_a, "0.0.0.0", B4));
	DROPPED(NETCFG_DROP_ARP, frame_arp(mac_b, mac_a, 1, mac_x, "0.0.0.0", B4));
	struct frame odd = frame_arp(mac_b, mac_a, 2, mac_a, A4, B4);
	odd.data[ETH_HLEN + 1] = 6;
	DROPPED(NETCFG_DROP_ARP, odd);
	/* answers and questions that speak for another */
	DROPPED(NETCFG_DROP_ND, frame_nd(mac_a, A6, 136, B6, 2, mac_a));
	DROPPED(NETCFG_DROP_ND, frame_nd(mac_a, A6, 136, "fd00:9::1", 0, NULL));
	DROPPED(NETCFG_DROP_ND, frame_nd(mac_a, A6, 136, A6, 2, mac_x));
	DROPPED(NETCFG_DROP_ND, frame_nd(mac_a, A6, 135, B6, 1, mac_x));
	DROPPED(NETCFG_DROP_ND, frame_nd(mac_a, A6, 133, NULL, 1, mac_x));
	DROPPED(NETCFG_DROP_IPV6, frame_nd(mac_a, B6, 136, A6, 2, mac_a));
	DROPPED(NETCFG_DROP_IPV6, frame_nd(mac_a, "fe80::1", 135, B6, 1, mac_a));
	net_done(&net);
}

/* The option that matters behind another, an extension header in front, a piece too short. */
static void test_poisoning_in_disguise(void **state)
{
	struct net net = net_guarded(*state);
	struct frame icmp = {.n = 0};
	frame_put(&icmp, "\x88\0\0\0\0\0\0\0", 8);
	frame_ip(&icmp, A6);
	frame_put(&icmp, "\x0e\x01\1\2\3\4\5\6", 8); /* a nonce */
	frame_put(&icmp, "\x02\x01", 2);
	frame_put(&icmp, mac_x, 6);
	DROPPED(NETCFG_DROP_ND, frame_packet(mac_b, mac_a, A6, "ff02::1", IPPROTO_ICMPV6, &icmp));

	const struct frame whole = frame_nd(mac_a, A6, 136, B6, 2, mac_a);
	struct frame behind = {.n = 0};
	frame_put(&behind, "\x3a\0\x01\x04\0\0\0\0", 8); /* destination options, padded */
	frame_put(&behind, whole.data + ETH_HLEN + 40, whole.n - ETH_HLEN - 40);
	DROPPED(NETCFG_DROP_ND,
		frame_packet(mac_b, mac_a, A6, "ff02::1", IPPROTO_DSTOPTS, &behind));
	struct frame piece = {.n = 0};
	frame_put(&piece, "\x3a\0\0\x01\0\0\0\x07", 8); /* the first of more */
	frame_put(&piece, whole.data + ETH_HLEN + 40, 32);
	DROPPED(NETCFG_DROP_ND,
		frame_packet(mac_b, mac_a, A6, "ff02::1", IPPROTO_FRAGMENT, &piece));
	piece.n = 8;
	DROPPED(NETCFG_DROP_ND,
		frame_packet(mac_b, mac_a, A6, "ff02::1", IPPROTO_FRAGMENT, &piece));
	net_done(&net);
}

static struct frame frame_igmp(unsigned int type)
{
	struct frame igmp = {.n = 0};
	frame_u8(&igmp, type);
	frame_put(&igmp, "\0\0\0", 3);
	frame_ip(&igmp, "239.1.2.3");
	const uint16_t sum = htons(sum_fold(sum_of(0, igmp.data, igmp.n)));
	memcpy(igmp.data + 2, &sum, 2);
	return frame_packet((const uint8_t[]){1, 0, 0x5e, 0, 0, 1}, mac_a, A4, "224.0.0.1",
			    IPPROTO_IGMP, &igmp);
}

/* behind the option that routers shall look at it (RFC 2711), as all of them are */
static struct frame frame_mld(unsigned int type)
{
	struct frame icmp = {.n = 0}, packet;
	frame_u8(&icmp, type);
	frame_put(&icmp, "\0\0\0\0\0\0\0", 7);
	frame_ip(&icmp, "ff02::7");
	packet = frame_packet(mac_x, mac_a, AL, "ff02::1", IPPROTO_ICMPV6, &icmp);
	struct frame options = {.n = 0};
	frame_put(&options, "\x3a\0\5\2\0\0\1\0", 8);
	frame_put(&options, packet.data + ETH_HLEN + 40, packet.n - ETH_HLEN - 40);
	return frame_packet((const uint8_t[]){0x33, 0x33, 0, 0, 0, 1}, mac_a, AL, "ff02::1",
			    IPPROTO_HOPOPTS, &options);
}

static void test_rogue_servers_and_routers(void **state)
{
	struct net net = net_guarded(*state);
	DROPPED(NETCFG_DROP_DHCP, frame_udp(mac_b, mac_a, A4, 67, B4, 68));
	DROPPED(NETCFG_DROP_DHCP, frame_udp(mac_all, mac_a, A4, 67, "255.255.255.255", 68));
	DROPPED(NETCFG_DROP_DHCP, frame_udp(mac_b, mac_a, AL, 547, B6, 546));
	/* asking in another's name, as a relay, or without saying for whom */
	DROPPED(NETCFG_DROP_DHCP,
		frame_dhcp(mac_a, "0.0.0.0", "255.255.255.255", "0.0.0.0", mac_b));
	DROPPED(NETCFG_DROP_DHCP, frame_dhcp(mac_a, A4, "10.9.8.1", "0.0.0.0", mac_b));
	DROPPED(NETCFG_DROP_DHCP, frame_dhcp(mac_a, A4, "10.9.8.1", A4, mac_a));
	DROPPED(NETCFG_DROP_DHCP, frame_udp(mac_b, mac_a, A4, 68, B4, 67));
	struct frame piece = frame_dhcp(mac_a, A4, "10.9.8.1", "0.0.0.0", mac_a);
	piece.data[ETH_HLEN + 6] = 0x20; /* the first of more */
	piece.data[ETH_HLEN + 3] = 20 + 32;
	piece.n = ETH_HLEN + 20 + 32;
	DROPPED(NETCFG_DROP_DHCP, piece);
	DROPPED(NETCFG_DROP_RA, frame_nd(mac_a, AL, 134, A6, 1, mac_a));
	DROPPED(NETCFG_DROP_RA, frame_nd(mac_a, AL, 137, A6, 2, mac_a));
	DROPPED(NETCFG_DROP_RA, frame_nd(mac_a, "fe80::1", 134, A6, 1, mac_a));
	/* listeners tell what they listen to; only a router asks */
	PASSES(frame_igmp(0x16));
	DROPPED(NETCFG_DROP_RA, frame_igmp(0x11));
	PASSES(frame_mld(131));
	DROPPED(NETCFG_DROP_RA, frame_mld(130));
	net_done(&net);
}

static void test_any_address(void **state)
{
	struct err err;
	struct net net = net_make(*state);
	struct netcfg_nic nic = nic_a();
	nic.any_address = true;
	nic.n_addresses = 0;
	assert_ok(netcfg_nics_ensure(net.netcfg, &nic, 1, &err));
	honest_traffic(&net);
	PASSES(frame_udp(mac_b, mac_a, "192.168.7.7", 1, B4, 1));
	PASSES(frame_arp(mac_all, mac_a, 1, mac_a, "192.168.7.7", B4));
	PASSES(frame_nd(mac_a, "fd00:77::1", 136, "fd00:77::1", 2, mac_a));
	/* but for MACs, servers and routers */
	DROPPED(NETCFG_DROP_MAC, frame_udp(mac_b, mac_x, "192.168.7.7", 1, B4, 1));
	DROPPED(NETCFG_DROP_ARP, frame_arp(mac_all, mac_a, 2, mac_x, "192.168.7.7", B4));
	DROPPED(NETCFG_DROP_ND, frame_nd(mac_a, "fd00:77::1", 136, "fd00:77::1", 2, mac_x));
	DROPPED(NETCFG_DROP_DHCP, frame_udp(mac_b, mac_a, "192.168.7.7", 67, B4, 68));
	DROPPED(NETCFG_DROP_RA, frame_nd(mac_a, AL, 134, A6, 1, mac_a));
	net_done(&net);
}

/* ---- the calls ---- */

static void test_ensure_is_idempotent_and_changes(void **state)
{
	struct err err;
	struct net net = net_make(*state);
	struct netcfg_nic nic = nic_a();
	bool has = true;
	assert_ok(netcfg_nic_has(net.netcfg, &nic, &has, &err));
	assert_false(has);
	assert_ok(netcfg_nics_ensure(net.netcfg, &nic, 1, &err));
	assert_ok(netcfg_nic_has(net.netcfg, &nic, &has, &err));
	assert_true(has);
	_cleanup_free_ char *before = netns_output(LIST);
	assert_ok(netcfg_nics_ensure(net.netcfg, &nic, 1, &err));
	_cleanup_free_ char *after = netns_output(LIST);
	assert_string_equal(before, after);

	/* another address: the old one is no more */
	nic.addresses[0] = netns_addr("10.9.8.20");
	assert_ok(netcfg_nic_has(net.netcfg, &nic, &has, &err));
	assert_false(has);
	assert_ok(netcfg_nics_ensure(net.netcfg, &nic, 1, &err));
	assert_ok(netcfg_nic_has(net.netcfg, &nic, &has, &err));
	assert_true(has);
	DROPPED(NETCFG_DROP_IPV4, frame_udp(mac_b, mac_a, A4, 1, B4, 1));
	PASSES(frame_udp(mac_b, mac_a, "10.9.8.20", 1, B4, 1));

	/* gone, with its counters, and nothing of it is left */
	const char *const taps[] = {"vdi1n0", "vdi9n0"};
	assert_ok(netcfg_nics_delete(net.netcfg, taps, 2, &err));
	assert_ok(netcfg_nics_delete(net.netcfg, taps, 2, &err));
	assert_false(netns_shows(LIST, "vdi1n0"));
	assert_false(netns_shows("nft list table inet vdi-hostd", "vdi1n0"));
	assert_int_equal(dropped(net.netcfg, NETCFG_DROP_IPV4), 0);
	PASSES(frame_udp(mac_b, mac_x, "1.2.3.4", 1, B4, 1));
	net_done(&net);
}

static void test_another_hand(void **state)
{
	struct err err;
	struct net net = net_guarded(*state);
	const struct netcfg_nic nic = nic_a();
	const char *const tap = "vdi1n0";
	bool has = true;
	_cleanup_free_ char *before = netns_output(LIST);
	netns_run("nft flush set bridge vdi-hostd source4");
	assert_ok(netcfg_nic_has(net.netcfg, &nic, &has, &err));
	assert_false(has);
	const struct netcfg_nic nics[] = {nic_a(), nic_b()};
	assert_ok(netcfg_nics_ensure(net.netcfg, nics, 2, &err));
	assert_ok(netcfg_nic_has(net.netcfg, &nic, &has, &err));
	assert_true(has);
	_cleanup_free_ char *mended = netns_output(LIST);
	assert_string_equal(before, mended);

	/* the rules that all share are mended with any network's */
	const struct netcfg_firewall network = {.bridge = "vdibr1",
						.kind = NETCFG_FIREWALL_BRIDGED};
	netns_run("nft flush chain bridge vdi-hostd from-arp; nft flush chain bridge vdi-hostd "
		  "prerouting");
	assert_ok(netcfg_firewall_has(net.netcfg, &network, &has, &err));
	assert_false(has);
	assert_ok(netcfg_firewall_ensure(net.netcfg, &network, &err));
	assert_ok(netcfg_firewall_has(net.netcfg, &network, &has, &err));
	assert_true(has);
	_cleanup_free_ char *shared = netns_output(LIST);
	assert_string_equal(before, shared);
	netns_run("nft flush chain bridge vdi-hostd prerouting");
	assert_ok(netcfg_firewall_has(net.netcfg, &network, &has, &err));
	assert_false(has);
	assert_ok(netcfg_firewall_ensure(net.netcfg, &network, &err));

	netns_run("nft flush set bridge vdi-hostd source6");
	assert_ok(netcfg_nics_delete(net.netcfg, &tap, 1, &err));
	assert_false(netns_shows(LIST, "vdi1n0"));
	assert_ok(netcfg_nics_ensure(net.netcfg, nics, 2, &err));
	netns_run("nft flush ruleset");
	assert_ok(netcfg_nics_delete(net.netcfg, &tap, 1, &err));
	assert_ok(netcfg_nics_ensure(net.netcfg, nics, 2, &err));
	_cleanup_free_ char *again = netns_output(LIST);
	assert_string_equal(before, again);
	net_done(&net);
}

static void test_many_at_once(void **state)
{
	enum { N = 300 };
	struct err err;
	struct netcfg *netcfg = *state;
	static struct netcfg_nic nics[N];
	static char names[N][16];
	const char *taps[N];
	bool has = false;
	for (unsigned int i = 0; i < N; i++) {
		snprintf(names[i], sizeof(names[i]), "vdi%un0", i);
		nics[i] = nic_a();
		nics[i].tap = taps[i] = names[i];
		nics[i].mac[4] = (uint8_t)(i >> 8);
		nics[i].mac[5] = (uint8_t)i;
		nics[i].addresses[0].v4.s_addr = htonl(0x0a000002 + i);
	}
	assert_ok(netcfg_nics_ensure(netcfg, nics, N, &err));
	for (unsigned int i = 0; i < N; i += 37) {
		assert_ok(netcfg_nic_has(netcfg, &nics[i], &has, &err));
		assert_true(has);
	}
	/* one that is wrong, and none of them changes */
	_cleanup_free_ char *before = netns_output(LIST);
	for (unsigned int i = 0; i < N; i++)
		nics[i].any_address = true;
	nics[N - 1].groups[0] = 77;
	nics[N - 1].n_groups = 1;
	assert_err(netcfg_nics_ensure(netcfg, nics, N, &err), ERR_NOT_FOUND);
	assert_non_null(strstr(err.msg, "77"));
	assert_non_null(strstr(err.msg, "vdi299n0"));
	_cleanup_free_ char *after = netns_output(LIST);
	assert_string_equal(before, after);
	assert_ok(netcfg_nics_delete(netcfg, taps, N, &err));
	assert_false(netns_shows(LIST, "n0\""));
}

static int count_drops(void *data, const char *tap, const struct netcfg_nic_drops *drops)
{
	if (strcmp(tap, "vdi1n0") == 0)
		*(uint64_t *)data += drops->packets[NETCFG_DROP_MAC];
	return 0;
}

static void test_counters_of_all(void **state)
{
	struct err err;
	struct net net = net_guarded(*state);
	uint64_t seen = 0;
	for (int i = 0; i < 5; i++) {
		const struct frame frame = frame_udp(mac_b, mac_x, A4, 1, B4, 1);
		frame_send(net.a, &frame);
	}
	assert_ok(netcfg_nics_drops(net.netcfg, count_drops, &seen, &err));
	assert_int_equal(seen, 5);
	struct netcfg_nic_drops drops;
	assert_ok(netcfg_nic_drops(net.netcfg, "vdi1n0", &drops, &err));
	assert_true(drops.bytes[NETCFG_DROP_MAC] > 5 * 20);
	assert_ok(netcfg_nic_drops(net.netcfg, "vdi2n0", &drops, &err));
	assert_int_equal(drops.packets[NETCFG_DROP_MAC], 0);
	net_done(&net);
}

static void test_bad_input(void **state)
{
	struct netcfg *netcfg = *state;
	struct err err;
	struct netcfg_nic nic = nic_a();
	const char *const bad[] = {"", "vdi1234567890123", "a\" }; flush ruleset;", "A"};
	for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
		nic.tap = bad[i];
		assert_err(netcfg_nics_ensure(netcfg, &nic, 1, &err), ERR_INVALID);
		assert_err(netcfg_nics_delete(netcfg, &bad[i], 1, &err), ERR_INVALID);
	}
	nic = nic_a();
	nic.mac[0] = 1;
	assert_err(netcfg_nics_ensure(netcfg, &nic, 1, &err), ERR_INVALID);
	nic = nic_a();
	nic.n_addresses = NETCFG_NIC_ADDRS_MAX + 1;
	assert_err(netcfg_nics_ensure(netcfg, &nic, 1, &err), ERR_INVALID);
	nic = nic_a();
	nic.addresses[0].family = 77;
	assert_err(netcfg_nics_ensure(netcfg, &nic, 1, &err), ERR_INVALID);
	nic = nic_a();
	nic.n_groups = 1;
	assert_err(netcfg_nics_ensure(netcfg, &nic, 1, &err), ERR_INVALID);
	nic = nic_a();
	const struct netcfg_nic twice[] = {nic, nic};
	assert_err(netcfg_nics_ensure(netcfg, twice, 2, &err), ERR_CONFLICT);
	assert_false(netns_shows("nft list tables", "vdi-hostd"));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		netns_test(test_honest_traffic_passes),
		netns_test(test_spoofed_mac_and_frames),
		netns_test(test_link_local_frames_teach_nothing),
		netns_test(test_spoofed_addresses),
		netns_test(test_poisoning),
		netns_test(test_poisoning_in_disguise),
		netns_test(test_rogue_servers_and_routers),
		netns_test(test_any_address),
		netns_test(test_ensure_is_idempotent_and_changes),
		netns_test(test_another_hand),
		netns_test(test_many_at_once),
		netns_test(test_counters_of_all),
		netns_test(test_bad_input),
	};
	netns_require();
	return cmocka_run_group_tests(tests, NULL, NULL);
}
