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
	case NETCFG_DROP_END:
		break;
	}
	return "none";
}

struct nic_drops {
	char tap[NFT_IFNAME_SIZE + 1];
	struct netcfg_nic_drops drops;
};

struct all_drops {
	struct nic_drops *nic;
	size_t n, room;
};

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

static void drops_add(void *data, const struct nft_found *found)
{
	char tap[NFT_IFNAME_SIZE + 1] = "";
	uint32_t why;
	if (found->key_size != NFT_IFNAME_SIZE + sizeof(why))
		return;
	memcpy(tap, found->key, NFT_IFNAME_SIZE);
	memcpy(&why, found->key + NFT_IFNAME_SIZE, sizeof(why));
	if (why == 0 || why >= NETCFG_DROP_END)
		return;
	struct nic_drops *nic = drops_of(data, tap);
	nic->drops.packets[why] = found->packets;
	nic->drops.bytes[why] = found->bytes;
}

static int drops_load(struct netcfg *netcfg, struct all_drops *all, struct err *err)
{
	int sys;
	do {
		all->n = 0;
		sys = nft_elems_each(netcfg, NFPROTO_BRIDGE, "drops", drops_add, all);
	} while (sys == EINTR);
	return sys == 0 ? 0 : nft_err(err, sys, "read the counters");
}

int netcfg_nic_drops(struct netcfg *netcfg, const char *tap, struct netcfg_nic_drops *ret,
		     struct err *err)
{
	struct all_drops all = {0};
	if (netcfg_name_check("tap", tap, err) < 0)
		return -1;
	int rc = drops_load(netcfg, &all, err);
	if (rc == 0)
		*ret = drops_of(&all, tap)->drops;
	free(all.nic);
	return rc;
}

int netcfg_nics_drops(struct netcfg *netcfg,
		      int (*cb)(void *data, const char *tap, const struct netcfg_nic_drops *drops),
		      void *data, struct err *err)
{
	struct all_drops all = {0};
	int rc = drops_load(netcfg, &all, err);
	_cleanup_free_ struct nic_drops *owned = all.nic;
	if (rc < 0)
		return -1;
	for (size_t i = 0; i < all.n; i++)
		if (cb(data, owned[i].tap, &owned[i].drops) != 0)
			break;
	return 0;
}
