#include <arpa/inet.h>
#include <errno.h>
#include <linux/netfilter.h>
#include <string.h>

#include "base/mem.h"
#include "netcfg/nft.h"
#include "netcfg/nic.h"

const char *netcfg_drop_name(enum netcfg_drop drop)
{
	switch (drop) {
	case NETCFG_DROP_MAC:
		return "mac";
	case NETCFG_DROP_VLAN:
		return "vlan";
	case NETCFG_DROP_ETHERTYPE:
		return "ethertype";
	case NETCFG_DROP_ARP:
		return "arp";
	case NETCFG_DROP_IPV4:
		return "ipv4";
	case NETCFG_DROP_IPV6:
		return "ipv6";
	case NETCFG_DROP_DHCP:
		return "dhcp";
	case NETCFG_DROP_RA:
		return "ra";
	case NETCFG_DROP_ND:
		return "nd";
	case NETCFG_DROP_GROUP_OUT:
		return "group_out";
	case NETCFG_DROP_GROUP_IN:
		return "group_in";
	case NETCFG_DROP_FLOOD_OUT:
		return "flood_out";
	case NETCFG_DROP_FLOOD_IN:
		return "flood_in";
	case NETCFG_DROP_FLOOD_HOST:
		return "flood_host";
	case NETCFG_DROP_DETOUR:
		return "detour";
	case NETCFG_DROP_END:
		break;
	}
	return "none";
}

struct nic_drops {
	char tap[NFT_IFNAME_SIZE + 1];
	struct netcfg_nic_drops drops;
};

/* struct host_drop - what the host dropped itself; it knows only whose MAC that came from */
struct host_drop {
	uint8_t mac[6];
	uint32_t why;
	uint64_t packets, bytes;
};

struct all_drops {
	struct nic_drops *nic;
	size_t n, room;
	struct host_drop *host;
	size_t n_host, host_room;
};

static void all_done(struct all_drops *all)
{
	free(all->nic);
	free(all->host);
}

static struct nic_drops *drops_of(struct all_drops *all, const char *tap)
{
	/* from the end: the kernel tells them in no order, yet often in runs */
	for (size_t i = all->n; i > 0; i--)
		if (strcmp(all->nic[i - 1].tap, tap) == 0)
			return &all->nic[i - 1];
	if (all->n == all->room) {
		all->room = all->room ? 2 * all->room : 16;
		all->nic = mem_realloc(all->nic, all->room, sizeof(*all->nic));
	}
	struct nic_drops *nic = &all->nic[all->n++];
	memset(nic, 0, sizeof(*nic));
	memcpy(nic->tap, tap, strlen(tap));
	return nic;
}

/* The reason at the end of a key, behind so many bytes; 0: it is none of ours. */
static uint32_t why_of(const struct nft_found *found, size_t at)
{
	uint32_t why;
	if (found->key_size != at + sizeof(why))
		return 0;
	memcpy(&why, found->key + at, sizeof(why));
	return why < NETCFG_DROP_END ? why : 0;
}

static void drops_add(void *data, const struct nft_found *found)
{
	char tap[NFT_IFNAME_SIZE + 1] = "";
	const uint32_t why = why_of(found, NFT_IFNAME_SIZE);
	if (why == 0)
		return;
	memcpy(tap, found->key, NFT_IFNAME_SIZE);
	struct nic_drops *nic = drops_of(data, tap);
	nic->drops.packets[why] = found->packets;
	nic->drops.bytes[why] = found->bytes;
}

static void host_drops_add(void *data, const struct nft_found *found)
{
	struct all_drops *all = data;
	struct host_drop drop = {.why = why_of(found, NFT_MAC_SIZE),
				 .packets = found->packets,
				 .bytes = found->bytes};
	if (drop.why == 0)
		return;
	memcpy(drop.mac, found->key, sizeof(drop.mac));
	if (all->n_host == all->host_room) {
		all->host_room = all->host_room ? 2 * all->host_room : 16;
		all->host = mem_realloc(all->host, all->host_room, sizeof(*all->host));
	}
	all->host[all->n_host++] = drop;
}

/* Whose MAC is it? */
static void host_drops_assign(void *data, const struct nft_found *found)
{
	struct all_drops *all = data;
	char tap[NFT_IFNAME_SIZE + 1] = "";
	if (found->key_size != NFT_IFNAME_SIZE + NFT_MAC_SIZE)
		return;
	memcpy(tap, found->key, NFT_IFNAME_SIZE);
	for (size_t i = 0; i < all->n_host; i++) {
		const struct host_drop *drop = &all->host[i];
		if (memcmp(drop->mac, found->key + NFT_IFNAME_SIZE, sizeof(drop->mac)) != 0)
			continue;
		struct nic_drops *nic = drops_of(all, tap);
		nic->drops.packets[drop->why] = drop->packets;
		nic->drops.bytes[drop->why] = drop->bytes;
	}
}

static int drops_load(struct netcfg *netcfg, struct all_drops *all, struct err *err)
{
	int sys;
	do {
		all->n = all->n_host = 0;
		sys = nft_elems_each(netcfg, NFPROTO_BRIDGE, "drops", drops_add, all);
		if (sys == 0)
			sys = nft_elems_each(netcfg, NFPROTO_INET, "drops", host_drops_add, all);
		if (sys == 0 && all->n_host)
			sys = nft_elems_each(netcfg, NFPROTO_BRIDGE, "macs", host_drops_assign,
					     all);
	} while (sys == EINTR);
	return sys == 0 ? 0 : nft_err(err, sys, "read the counters");
}

int netcfg_nic_drops(struct netcfg *netcfg, const char *tap, struct netcfg_nic_drops *ret,
		     struct err *err)
{
	_cleanup_(all_done) struct all_drops all = {0};
	if (netcfg_name_check("tap", tap, err) < 0 || drops_load(netcfg, &all, err) < 0)
		return -1;
	*ret = drops_of(&all, tap)->drops;
	return 0;
}

int netcfg_nics_drops(struct netcfg *netcfg,
		      int (*cb)(void *data, const char *tap, const struct netcfg_nic_drops *drops),
		      void *data, struct err *err)
{
	_cleanup_(all_done) struct all_drops all = {0};
	if (drops_load(netcfg, &all, err) < 0)
		return -1;
	for (size_t i = 0; i < all.n; i++)
		if (cb(data, all.nic[i].tap, &all.nic[i].drops) != 0)
			break;
	return 0;
}
