#include "netcfg/vlan.h"

#include <errno.h>
#include <linux/if_link.h>
#include <linux/rtnetlink.h>
#include <net/if.h>
#include <stdio.h>
#include <string.h>

#include "netcfg/internal.h"
#include "netcfg/link.h"

struct twin {
	int uplink;
	unsigned int tag;
	char name[NETCFG_NAME_MAX + 1];
};

static int twin_look(void *data, const struct netcfg_link *link)
{
	struct twin *twin = data;
	if (link->lower != twin->uplink || link->vlan != twin->tag)
		return 0;
	memcpy(twin->name, link->name, sizeof(twin->name));
	return 1;
}

static int vlan_create(struct netcfg *netcfg, const char *name, const struct netcfg_link *uplink,
		       unsigned int tag, struct err *err)
{
	struct netcfg_batch batch = {.n = 0};
	struct nl_msg *msg = netcfg_link_add(&batch, "make it (VLAN)", RTM_NEWLINK,
					     NLM_F_CREATE | NLM_F_EXCL, 0, 0, 0);
	netcfg_put_str(msg, IFLA_IFNAME, name);
	netcfg_put_u32(msg, IFLA_LINK, (uint32_t)uplink->index);
	struct nlattr *info = netcfg_nest(msg, IFLA_LINKINFO);
	netcfg_put_str(msg, IFLA_INFO_KIND, "vlan");
	struct nlattr *data = netcfg_nest(msg, IFLA_INFO_DATA);
	netcfg_put_u16(msg, IFLA_VLAN_ID, (uint16_t)tag);
	nla_nest_end(msg, data);
	nla_nest_end(msg, info);
	if (netcfg_batch_send(netcfg, &batch, name, (const int[]){EEXIST, EOPNOTSUPP, 0}, err) < 0)
		return -1;
	if (batch.sys[0] == EOPNOTSUPP)
		return err_set(err, ERR_UNSUPPORTED,
			       "VLAN %s: this kernel has no 802.1Q devices (CONFIG_VLAN_8021Q)",
			       name);
	struct twin twin = {.uplink = uplink->index, .tag = tag};
	if (batch.sys[0] == EEXIST && netcfg_links_each(netcfg, twin_look, &twin, err) < 0)
		return -1;
	if (batch.sys[0] == EEXIST)
		return err_set(err, ERR_CONFLICT, "%s has VLAN %u already, as link %s",
			       uplink->name, tag, twin.name);
	return 0;
}

int netcfg_vlan_ensure(struct netcfg *netcfg, const char *name, const char *uplink,
		       unsigned int tag, struct err *err)
{
	struct netcfg_link lower, vlan;
	struct netcfg_batch batch = {.n = 0};
	if (netcfg_name_check("VLAN", name, err) < 0 ||
	    netcfg_uplink_check("uplink", uplink, err) < 0)
		return -1;
	if (tag < 1 || tag > 4094)
		return err_set(err, ERR_INVALID, "VLAN %u is not in 1 to 4094", tag);
	if (netcfg_link_find(netcfg, uplink, NULL, &lower, err) < 0 ||
	    netcfg_link_find(netcfg, name, "vlan", &vlan, err) < 0)
		return -1;
	if (lower.index == 0)
		return err_set(err, ERR_NOT_FOUND, "VLAN %u: there is no uplink %s", tag, uplink);
	if (vlan.index && (vlan.lower != lower.index || vlan.vlan != tag)) {
		if (netcfg_link_delete(netcfg, name, "vlan", err) < 0)
			return -1;
		vlan.index = 0;
	}
	if (vlan.index == 0 && vlan_create(netcfg, name, &lower, tag, err) < 0)
		return -1;
	/* it is a bridge's port and has no business of its own */
	netcfg_ipv6_set(name, false);
	struct nl_msg *msg =
		netcfg_link_add(&batch, "bring it up", RTM_NEWLINK, 0, 0, IFF_UP, IFF_UP);
	netcfg_put_str(msg, IFLA_IFNAME, name);
	if (netcfg_batch_send(netcfg, &batch, name, (const int[]){ENETDOWN, 0}, err) < 0)
		return -1;
	/* the kernel brings it up and down together with the uplink */
	if (batch.sys[0] == ENETDOWN)
		return err_set(err, ERR_CONFLICT,
			       "VLAN %u: its uplink %s is down; bring that up: ip link set %s up",
			       tag, uplink, uplink);
	return 0;
}

int netcfg_vlan_delete(struct netcfg *netcfg, const char *name, struct err *err)
{
	return netcfg_link_delete(netcfg, name, "vlan", err);
}
