/* Two guests on one bridge, of which one sends what it may and what it may not. */
#pragma once

#include <unistd.h>

#include "netcfg/bridge.h"
#include "netcfg/nic.h"
#include "netcfg/tap.h"
#include "tests/unit/netcfg/frames.h"

#define LIST "nft list table bridge vdi-hostd"
#define A4   "10.9.8.10"
#define A6   "fd00:9::a"
#define AL   "fe80::5054:ff:fe00:a"
#define B4   "10.9.8.11"
#define B6   "fd00:9::b"

/* Two guests on one bridge: a is the one that misbehaves. */
struct net {
	struct netcfg *netcfg;
	int a, b;
};

static inline struct netcfg_nic nic_a(void)
{
	struct netcfg_nic nic = {.tap = "vdi1n0", .n_addresses = 2};
	nic.addresses[0] = netns_addr(A4);
	nic.addresses[1] = netns_addr(A6);
	memcpy(nic.mac, mac_a, 6);
	return nic;
}

static inline struct netcfg_nic nic_b(void)
{
	struct netcfg_nic nic = {.tap = "vdi2n0", .n_addresses = 2};
	nic.addresses[0] = netns_addr(B4);
	nic.addresses[1] = netns_addr(B6);
	memcpy(nic.mac, mac_b, 6);
	return nic;
}

static inline struct net net_make(struct netcfg *netcfg)
{
	struct err err;
	struct net net = {.netcfg = netcfg};
	struct netcfg_bridge bridge = {.n_addresses = 2};
	bridge.addresses[0] = netns_addr("10.9.8.1/24");
	bridge.addresses[1] = netns_addr("fd00:9::1/64");
	struct netcfg_tap tap = {.bridge = "vdibr1", .port = {.fixed = true}};
	assert_ok(netcfg_bridge_ensure(netcfg, "vdibr1", &bridge, &err));
	memcpy(tap.port.mac, mac_a, 6);
	assert_ok(netcfg_tap_create(netcfg, "vdi1n0", &tap, &net.a, &err));
	memcpy(tap.port.mac, mac_b, 6);
	assert_ok(netcfg_tap_create(netcfg, "vdi2n0", &tap, &net.b, &err));
	return net;
}

static inline void net_done(struct net *net)
{
	close(net->a);
	close(net->b);
}

static inline uint64_t dropped(struct netcfg *netcfg, enum netcfg_drop why)
{
	struct err err;
	struct netcfg_nic_drops drops;
	assert_ok(netcfg_nic_drops(netcfg, "vdi1n0", &drops, &err));
	return drops.packets[why];
}

static inline void check_dropped(struct net *net, const struct frame *frame, enum netcfg_drop why,
				 const char *what)
{
	const uint64_t before = dropped(net->netcfg, why);
	if (frame_passes(net->a, net->b, frame))
		fail_msg("%s: it passed", what);
	if (dropped(net->netcfg, why) != before + 1)
		fail_msg("%s: not counted as %s: %s", what, netcfg_drop_name(why),
			 netns_output("nft list set bridge vdi-hostd drops"));
}

static inline void check_passes(struct net *net, const struct frame *frame, const char *what)
{
	if (!frame_passes(net->a, net->b, frame))
		fail_msg("%s did not pass: %s", what,
			 netns_output("nft list set bridge vdi-hostd drops"));
}

#define DROPPED(why, ...)                                                                          \
	do {                                                                                       \
		const struct frame frame_ = __VA_ARGS__;                                           \
		check_dropped(&net, &frame_, why, #__VA_ARGS__);                                   \
	} while (0)

#define PASSES(...)                                                                                \
	do {                                                                                       \
		const struct frame frame_ = __VA_ARGS__;                                           \
		check_passes(&net, &frame_, #__VA_ARGS__);                                         \
	} while (0)
