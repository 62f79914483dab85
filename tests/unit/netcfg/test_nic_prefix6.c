/* Source guard where others announce prefixes: the identifier alone is a NIC's own. */
#include <arpa/inet.h>
#include <linux/netfilter.h>

#include "netcfg/nft.h"
#include "tests/unit/netcfg/nics.h"

/* The identifier of a's MAC, under prefixes that hosts have. */
#define A6_EUI "2001:db8:7::5054:ff:fe00:a"
#define A6_ULA "fd77:1:2:3:5054:ff:fe00:a"

static struct net net_of_others(struct netcfg *netcfg, const uint8_t *mac)
{
	struct err err;
	struct net net = net_make(netcfg);
	struct netcfg_nic nic = {.tap = "vdi1n0", .any_prefix6 = true, .n_addresses = 1};
	nic.addresses[0] = netns_addr(A4);
	memcpy(nic.mac, mac, 6);
	assert_ok(netcfg_nics_ensure(netcfg, &nic, 1, &err));
	return net;
}

static void test_any_prefix6(void **state)
{
	struct net net = net_of_others(*state, mac_a);
	static const char *const own[] = {A6_EUI,
					  A6_ULA,
					  AL,
					  "2000::5054:ff:fe00:a",
					  "3fff:ffff:ffff:ffff:5054:ff:fe00:a",
					  "fc00::5054:ff:fe00:a",
					  "fdff:ffff:ffff:ffff:5054:ff:fe00:a"};
	for (size_t i = 0; i < ARRAY_LEN(own); i++) {
		PASSES(frame_udp(mac_b, mac_a, own[i], 4000, B6, 4000));
		PASSES(frame_echo(mac_b, mac_a, own[i], B6, 128, 7));
		PASSES(frame_nd(mac_a, "::", 135, own[i], 0, NULL));
		PASSES(frame_nd(mac_a, own[i], 135, B6, 1, mac_a));
		PASSES(frame_nd(mac_a, own[i], 136, own[i], 2, mac_a));
		PASSES(frame_nd(mac_a, AL, 136, own[i], 0, NULL));
	}
	PASSES(frame_udp(mac_b, mac_a, A4, 1, B4, 1));
	PASSES(frame_arp(mac_all, mac_a, 1, mac_a, A4, B4));
	/* nothing else is any */
	DROPPED(NETCFG_DROP_IPV4, frame_udp(mac_b, mac_a, B4, 1, B4, 1));
	DROPPED(NETCFG_DROP_ARP, frame_arp(mac_all, mac_a, 2, mac_a, B4, "10.9.8.1"));
	DROPPED(NETCFG_DROP_MAC, frame_udp(mac_b, mac_x, A6_EUI, 1, B6, 1));
	DROPPED(NETCFG_DROP_DHCP, frame_udp(mac_b, mac_a, A6_EUI, 547, B6, 546));
	DROPPED(NETCFG_DROP_RA, frame_nd(mac_a, AL, 134, A6_EUI, 1, mac_a));
	DROPPED(NETCFG_DROP_RA, frame_nd(mac_a, A6_EUI, 134, A6_EUI, 1, mac_a));
	DROPPED(NETCFG_DROP_ND, frame_nd(mac_a, A6_EUI, 136, A6_EUI, 2, mac_x));
	DROPPED(NETCFG_DROP_ND, frame_nd(mac_a, A6_EUI, 135, B6, 1, mac_x));
	net_done(&net);
}

static void test_any_prefix6_is_no_other_identifier(void **state)
{
	struct net net = net_of_others(*state, mac_a);
	static const char *const others[] = {
		B6,
		"2001:db8:7::5054:ff:fe00:b",   /* b's */
		"2001:db8:7::5054:ff:fe00:1",   /* a router's, perhaps */
		"2001:db8:7::1",                /* one at random */
		"2001:db8:7::5054:ff:fe00:a0a", /* one that has some bytes of it */
		"2001:db8:7::5054:ff:fe00",     /* in the wrong place */
		"2001:db8:7:5054:ff:fe00:a:0",  /* at the wrong place */
		"2001:db8:7::5254:ff:fe00:a",   /* the MAC's own bit as it is */
		"5054:ff:fe00:a::",             /* in front */
		"fe80::1",
	};
	for (size_t i = 0; i < ARRAY_LEN(others); i++) {
		DROPPED(NETCFG_DROP_IPV6, frame_udp(mac_b, mac_a, others[i], 1, B6, 1));
		DROPPED(NETCFG_DROP_IPV6, frame_echo(mac_b, mac_a, others[i], B6, 128, 1));
		DROPPED(NETCFG_DROP_IPV6, frame_nd(mac_a, others[i], 135, B6, 1, mac_a));
		DROPPED(NETCFG_DROP_ND, frame_nd(mac_a, AL, 136, others[i], 2, mac_a));
		DROPPED(NETCFG_DROP_ND, frame_nd(mac_a, A6_EUI, 136, others[i], 0, NULL));
		/* asked for, as somebody who is about to take it */
		DROPPED(NETCFG_DROP_IPV6, frame_nd(mac_a, "::", 135, others[i], 0, NULL));
	}
	net_done(&net);
}

/* What is no host's address stays none, whatever it ends in. */
static void test_any_prefix6_is_of_hosts(void **state)
{
	struct net net = net_of_others(*state, mac_a);
	static const char *const none[] = {
		"ff02::5054:ff:fe00:a",
		"ff0e::5054:ff:fe00:a",
		"ff3e:40:2001:db8:5054:ff:fe00:a",
		"::5054:ff:fe00:a",
		"0:0:0:1:5054:ff:fe00:a",
		"64:ff9b:1:0:5054:ff:fe00:a",
		"fe80:0:0:1:5054:ff:fe00:a",
		"fec0::5054:ff:fe00:a",
		"1fff::5054:ff:fe00:a",
		"4000::5054:ff:fe00:a",
		"fb00::5054:ff:fe00:a",
		"fe00::5054:ff:fe00:a",
	};
	for (size_t i = 0; i < ARRAY_LEN(none); i++) {
		DROPPED(NETCFG_DROP_IPV6, frame_udp(mac_b, mac_a, none[i], 1, B6, 1));
		DROPPED(NETCFG_DROP_IPV6, frame_echo(mac_b, mac_a, none[i], B6, 128, 1));
		DROPPED(NETCFG_DROP_IPV6, frame_nd(mac_a, none[i], 136, A6_EUI, 2, mac_a));
		DROPPED(NETCFG_DROP_ND, frame_nd(mac_a, AL, 136, none[i], 2, mac_a));
		DROPPED(NETCFG_DROP_IPV6, frame_nd(mac_a, "::", 135, none[i], 0, NULL));
	}
	net_done(&net);
}

/* An address whose giving was not heard can be confirmed: so, and not used otherwise. */
static void test_asks_dhcp_from_any_address(void **state)
{
	struct net net = net_of_others(*state, mac_a);
	PASSES(frame_dhcp(mac_a, "0.0.0.0", "255.255.255.255", "0.0.0.0", mac_a));
	PASSES(frame_dhcp(mac_a, "192.168.7.7", "255.255.255.255", "0.0.0.0", mac_a));
	PASSES(frame_dhcp(mac_a, A4, "10.9.8.1", "0.0.0.0", mac_a));
	DROPPED(NETCFG_DROP_IPV4, frame_dhcp(mac_a, "192.168.7.7", "10.9.8.1", "0.0.0.0", mac_a));
	DROPPED(NETCFG_DROP_IPV4, frame_dhcp(mac_a, "192.168.7.7", "10.9.8.255", "0.0.0.0", mac_a));
	DROPPED(NETCFG_DROP_DHCP,
		frame_dhcp(mac_a, "192.168.7.7", "255.255.255.255", "0.0.0.0", mac_b));
	DROPPED(NETCFG_DROP_DHCP,
		frame_dhcp(mac_a, "192.168.7.7", "255.255.255.255", "192.168.7.7", mac_a));
	/* other ports, a piece, another's MAC */
	struct frame odd = frame_dhcp(mac_a, "192.168.7.7", "255.255.255.255", "0.0.0.0", mac_a);
	odd.data[ETH_HLEN + 21] = 69;
	DROPPED(NETCFG_DROP_IPV4, odd);
	odd.data[ETH_HLEN + 21] = 67;
	DROPPED(NETCFG_DROP_IPV4, odd);
	odd.data[ETH_HLEN + 21] = 68;
	odd.data[ETH_HLEN + 23] = 68;
	DROPPED(NETCFG_DROP_IPV4, odd);
	odd.data[ETH_HLEN + 23] = 67;
	odd.data[ETH_HLEN + 6] = 0x20;
	DROPPED(NETCFG_DROP_IPV4, odd);
	DROPPED(NETCFG_DROP_MAC,
		frame_dhcp(mac_x, "192.168.7.7", "255.255.255.255", "0.0.0.0", mac_a));
	net_done(&net);
}

/* A MAC whose identifier looks like the end of ::ffff:254.1.2.3, an IPv4 address. */
static void test_any_prefix6_is_no_ipv4(void **state)
{
	static const uint8_t mac[6] = {2, 0, 0xff, 1, 2, 3};
	struct net net = net_of_others(*state, mac);
	PASSES(frame_udp(mac_b, mac, "2001:db8::ffff:254.1.2.3", 1, B6, 1));
	DROPPED(NETCFG_DROP_IPV6, frame_udp(mac_b, mac, "::ffff:254.1.2.3", 1, B6, 1));
	DROPPED(NETCFG_DROP_ND,
		frame_nd(mac, "2001:db8::ffff:254.1.2.3", 136, "::ffff:254.1.2.3", 0, NULL));
	net_done(&net);
}

/* A NIC that the version before put there, and its frame, which had no prefixes of others. */
static void test_what_the_version_before_left(void **state)
{
	struct err err;
	struct net net = net_make(*state);
	struct netcfg_nic nic = nic_a();
	struct nft_elem known = {.family = NFPROTO_BRIDGE, .set = "nics"};
	_cleanup_(nft_batch_done) struct nft_batch batch = {.n = 0};
	uint32_t at;
	bool has;
	/* type, length, any address, so many addresses and groups, MAC, each address */
	static const uint8_t note[] = {0xfd, 31, 1, 2, 0,  0x52, 0x54, 0, 0, 0, 0xa,
				       4,    10, 9, 8, 10, 16,   0xfd, 0, 0, 9};
	nic.any_address = true;
	assert_ok(netcfg_nics_ensure(net.netcfg, &nic, 1, &err));
	nft_elem_key_name(&known, "vdi1n0");
	assert_int_equal(nft_elem_get(net.netcfg, &known), 0);
	assert_int_equal(known.note_size, 2 + note[1]);
	nft_batch_delete(&batch, &known);
	memset(known.note, 0, sizeof(known.note));
	memcpy(known.note, note, sizeof(note));
	known.note[2 + note[1] - 1] = 0xa;
	nft_batch_add(&batch, &known);
	assert_int_equal(nft_batch_commit(net.netcfg, &batch, &at), 0);
	netns_run("set -e; for c in from-ipv4 from-ipv6 solicit advert postrouting hear; do "
		  "nft flush chain bridge vdi-hostd $c; done; "
		  "for s in hosts6 hears hearing answers; do "
		  "nft delete set bridge vdi-hostd $s; done; "
		  "nft delete chain bridge vdi-hostd hear; "
		  "nft delete chain bridge vdi-hostd advert-own");
	/* it is as it was told to be */
	assert_ok(netcfg_nic_has(net.netcfg, &nic, &has, &err));
	assert_true(has);
	nic.any_address = false;
	nic.any_prefix6 = true;
	nic.n_addresses = 1;
	assert_ok(netcfg_nic_has(net.netcfg, &nic, &has, &err));
	assert_false(has);
	assert_ok(netcfg_nics_ensure(net.netcfg, &nic, 1, &err));
	assert_ok(netcfg_nic_has(net.netcfg, &nic, &has, &err));
	assert_true(has);
	PASSES(frame_udp(mac_b, mac_a, A4, 1, B4, 1));
	PASSES(frame_udp(mac_b, mac_a, A6_EUI, 1, B6, 1));
	DROPPED(NETCFG_DROP_IPV4, frame_udp(mac_b, mac_a, "192.168.7.7", 1, B4, 1));
	DROPPED(NETCFG_DROP_IPV6, frame_udp(mac_b, mac_a, A6, 1, B6, 1));
	/* and all of it can be taken away */
	const char *const tap = "vdi1n0";
	assert_ok(netcfg_nics_delete(net.netcfg, &tap, 1, &err));
	assert_false(netns_shows(LIST, "vdi1n0"));
	net_done(&net);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		netns_test(test_any_prefix6),
		netns_test(test_any_prefix6_is_no_other_identifier),
		netns_test(test_any_prefix6_is_of_hosts),
		netns_test(test_any_prefix6_is_no_ipv4),
		netns_test(test_asks_dhcp_from_any_address),
		netns_test(test_what_the_version_before_left),
	};
	netns_require();
	return cmocka_run_group_tests(tests, NULL, NULL);
}
