/*
 * What a guest's NIC may send: anti-spoofing at the bridge's door, before any MAC is learned.
 *
 * Each NIC is a few elements of sets and maps in `table bridge vdi-hostd`; the rules are the same
 * for all. See docs/decisions/anti-spoofing.md.
 */
#pragma once

#include "netcfg/netcfg.h"

#define NETCFG_NIC_ADDRS_MAX  8
#define NETCFG_NIC_GROUPS_MAX 4

/**
 * struct netcfg_nic - one tap and what is behind it
 * @tap:         need not exist yet: put the rules first
 * @mac:         the only source MAC
 * @addresses:   the only source addresses, ARP senders and ND targets (prefixes are not looked
 *               at); the link-local address that derives from the MAC, the unspecified address of
 *               DHCP, DAD and ARP probes come by themselves
 * @any_address: a bridged network where others give addresses out: only MACs are checked, in
 *               Ethernet, ARP and ND, and the guest is still no DHCP server and no router
 * @any_prefix6: a network where others give addresses out and announce prefixes: also sources and
 *               ND targets under any prefix of global or unique local addresses (2000::/3,
 *               fc00::/7), as long as the interface identifier is the one that derives from the MAC
 *               (EUI-64); what DHCP servers give to the NIC is heard (dhcp.h), and it may ask them,
 *               all of them at once, from any address: for one that was not heard of
 * @groups:      firewall groups by id, which netcfg_groups_ensure() made; the first rule of them,
 * in this order, that matches counts
 *
 * From a NIC pass only IPv4, ARP and IPv6 without VLAN tags.
 */
struct netcfg_nic {
	const char *tap;
	uint8_t mac[6];
	bool any_address, any_prefix6;
	struct netcfg_addr addresses[NETCFG_NIC_ADDRS_MAX];
	unsigned int n_addresses;
	uint32_t groups[NETCFG_NIC_GROUPS_MAX];
	unsigned int n_groups;
};

/**
 * netcfg_nics_ensure() - these NICs are guarded so; one transaction for all of them
 * Others stay as they are. Also moves NICs between groups; their open connections go on. What is
 * missing of a NIC is put back; the rules that all NICs share are made where there are none, and
 * mended by netcfg_firewall_ensure() of any network. Errors:
 * ERR_NOT_FOUND for a group that is not there; ERR_CONFLICT when two of @nics have one tap;
 * ERR_UNSUPPORTED without nftables' bridge family.
 */
int netcfg_nics_ensure(struct netcfg *netcfg, const struct netcfg_nic *nics, size_t n,
		       struct err *err) warn_unused;

/** netcfg_nics_delete() - nothing of these taps is left, counters neither; one transaction */
int netcfg_nics_delete(struct netcfg *netcfg, const char *const *taps, size_t n,
		       struct err *err) warn_unused;

/** netcfg_nic_has() - is the NIC guarded exactly so? */
int netcfg_nic_has(struct netcfg *netcfg, const struct netcfg_nic *nic, bool *ret,
		   struct err *err) warn_unused;

/* why a packet was dropped; the order is that of the checks */
enum netcfg_drop {
	NETCFG_DROP_MAC = 1,   /* another's MAC, in the Ethernet header */
	NETCFG_DROP_VLAN,      /* a VLAN tag */
	NETCFG_DROP_ETHERTYPE, /* not IPv4, ARP or IPv6 */
	NETCFG_DROP_ARP,       /* another's MAC or address in ARP */
	NETCFG_DROP_IPV4,      /* another's source address */
	NETCFG_DROP_IPV6,
	NETCFG_DROP_DHCP,      /* a server's answer, either family; a question for another MAC */
	NETCFG_DROP_RA,        /* a router's advertisement, redirect or multicast query */
	NETCFG_DROP_ND,        /* another's address or MAC in neighbour discovery */
	NETCFG_DROP_GROUP_OUT, /* by a firewall group, from the guest */
	NETCFG_DROP_GROUP_IN,  /* by a firewall group, to the guest */
	NETCFG_DROP_FLOOD_OUT, /* more exchanges than a NIC with groups may begin */
	NETCFG_DROP_FLOOD_IN,  /* more than may be begun with one */
	/* by the host, where packets are for it or are passed on by it */
	NETCFG_DROP_FLOOD_HOST, /* more connections than one NIC may begin or have */
	NETCFG_DROP_DETOUR,     /* to a neighbour, by way of the host */
	NETCFG_DROP_END,
};

/** netcfg_drop_name() - "vlan", "ethertype", "mac", ... */
const char *netcfg_drop_name(enum netcfg_drop drop);

/* struct netcfg_nic_drops - packets and bytes by enum netcfg_drop */
struct netcfg_nic_drops {
	uint64_t packets[NETCFG_DROP_END], bytes[NETCFG_DROP_END];
};

/** netcfg_nic_drops() - what one NIC lost; zeros when there is nothing of it */
int netcfg_nic_drops(struct netcfg *netcfg, const char *tap, struct netcfg_nic_drops *ret,
		     struct err *err) warn_unused;

/**
 * netcfg_nics_drops() - the same of all NICs in one request; @cb is called once a NIC that lost
 * something: 0 to go on, anything else ends the walk
 */
int netcfg_nics_drops(struct netcfg *netcfg,
		      int (*cb)(void *data, const char *tap, const struct netcfg_nic_drops *drops),
		      void *data, struct err *err) warn_unused;
