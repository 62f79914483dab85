#include "netcfg/port.h"

#include <errno.h>
#include <linux/if_bridge.h>
#include <linux/if_link.h>
#include <linux/neighbour.h>
#include <linux/rtnetlink.h>
#include <net/if.h>
#include <stdio.h>
#include <string.h>

#include "netcfg/internal.h"

int netcfg_port_check(const struct netcfg_port *port, struct err *err)
{
	if (port->fixed && !netcfg_mac_is_valid(port->mac))
		return err_set(err, ERR_INVALID, "a port with a fixed MAC needs a unicast one");
	if (port->pvid > 4094)
		return err_set(err, ERR_INVALID, "VLAN %u is not in 1 to 4094", port->pvid);
	return 0;
}

static struct nl_msg *vlans_begin(struct netcfg_batch *batch, int index, int type,
				  struct nlattr **ret_spec)
{
	const struct ifinfomsg head = {.ifi_family = AF_BRIDGE, .ifi_index = index};
	struct nl_msg *msg = netcfg_batch_add(batch, "set its VLAN (bridge VLAN filtering)", type,
					      0, &head, sizeof(head));
	*ret_spec = netcfg_nest(msg, IFLA_AF_SPEC);
	return msg;
}

static void vlan_put(struct nl_msg *msg, unsigned int vid, unsigned int flags)
{
	const struct bridge_vlan_info vlan = {.flags = (uint16_t)flags, .vid = (uint16_t)vid};
	netcfg_put(msg, IFLA_BRIDGE_VLAN_INFO, &vlan, sizeof(vlan));
}

static void vlan_add(struct netcfg_batch *batch, int index, unsigned int vid, unsigned int flags)
{
	struct nlattr *spec;
	struct nl_msg *msg = vlans_begin(batch, index, RTM_SETLINK, &spec);
	vlan_put(msg, vid, flags);
	nla_nest_end(msg, spec);
}

/* None of these, whichever there are; an empty range is fine. */
static void vlans_remove(struct netcfg_batch *batch, int index, unsigned int first,
			 unsigned int last)
{
	struct nlattr *spec;
	if (first > last)
		return;
	struct nl_msg *msg = vlans_begin(batch, index, RTM_DELLINK, &spec);
	if (first < last)
		vlan_put(msg, first, BRIDGE_VLAN_INFO_RANGE_BEGIN);
	vlan_put(msg, last, first < last ? BRIDGE_VLAN_INFO_RANGE_END : 0);
	nla_nest_end(msg, spec);
}

void netcfg_port_add(struct netcfg_batch *batch, int index, int bridge,
		     const struct netcfg_port *port)
{
	struct nl_msg *msg =
		netcfg_link_add(batch, "make it a bridge's port", RTM_NEWLINK, 0, index, 0, 0);
	netcfg_put_u32(msg, IFLA_MASTER, (uint32_t)bridge);
	msg = netcfg_link_add(batch, "set what the bridge does with it", RTM_NEWLINK, 0, index, 0,
			      0);
	struct nlattr *info = netcfg_nest(msg, IFLA_LINKINFO);
	netcfg_put_str(msg, IFLA_INFO_SLAVE_KIND, "bridge");
	struct nlattr *data = netcfg_nest(msg, IFLA_INFO_SLAVE_DATA);
	netcfg_put_u8(msg, IFLA_BRPORT_ISOLATED, port->isolated);
	netcfg_put_u8(msg, IFLA_BRPORT_MODE, port->hairpin);
	netcfg_put_u8(msg, IFLA_BRPORT_LEARNING, !port->fixed);
	netcfg_put_u8(msg, IFLA_BRPORT_UNICAST_FLOOD, !port->fixed);
	nla_nest_end(msg, data);
	nla_nest_end(msg, info);
	if (port->fixed) {
		const struct ndmsg head = {.ndm_family = AF_BRIDGE,
					   .ndm_ifindex = index,
					   .ndm_state = NUD_NOARP,
					   .ndm_flags = NTF_MASTER};
		msg = netcfg_batch_add(batch, "tell the bridge its MAC", RTM_NEWNEIGH,
				       NLM_F_CREATE | NLM_F_REPLACE, &head, sizeof(head));
		netcfg_put(msg, NDA_LLADDR, port->mac, sizeof(port->mac));
	}
	if (port->pvid && port->trunk) {
		vlan_add(batch, index, port->pvid, 0);
		/* the kernel's own, in which untagged traffic would be */
		if (port->pvid != 1)
			vlans_remove(batch, index, 1, 1);
	} else if (port->pvid) {
		vlan_add(batch, index, port->pvid,
			 BRIDGE_VLAN_INFO_PVID | BRIDGE_VLAN_INFO_UNTAGGED);
		/* what it was in before would still be sent to it */
		vlans_remove(batch, index, 1, port->pvid - 1U);
		vlans_remove(batch, index, port->pvid + 1U, 4094);
	}
}

int netcfg_port_attach(struct netcfg *netcfg, const char *name, const char *bridge,
		       const struct netcfg_port *port, struct err *err)
{
	struct netcfg_link master, link;
	struct netcfg_batch batch = {.n = 0};
	char subject[40];
	if (netcfg_uplink_check("port", name, err) < 0 ||
	    netcfg_uplink_check("bridge", bridge, err) < 0 || netcfg_port_check(port, err) < 0 ||
	    netcfg_link_find(netcfg, bridge, "bridge", &master, err) < 0 ||
	    netcfg_link_find(netcfg, name, NULL, &link, err) < 0)
		return -1;
	if (master.index == 0)
		return err_set(err, ERR_NOT_FOUND, "port %s: there is no bridge %s", name, bridge);
	if (link.index == 0)
		return err_set(err, ERR_NOT_FOUND, "there is no link %s for bridge %s", name,
			       bridge);
	snprintf(subject, sizeof(subject), "port %s", name);
	netcfg_port_add(&batch, link.index, master.index, port);
	netcfg_link_add(&batch, "bring it up", RTM_NEWLINK, 0, link.index, IFF_UP, IFF_UP);
	if (netcfg_batch_send(netcfg, &batch, subject, NULL, err) < 0)
		return -1;
	/* kernels before 4.18 take the attribute and do nothing */
	if (port->isolated && (netcfg_link_find(netcfg, name, NULL, &link, err) < 0 ||
			       (link.index && !link.isolated)))
		return err_set(err, ERR_UNSUPPORTED, "%s: this kernel cannot isolate bridge ports",
			       subject);
	return 0;
}

struct vlans {
	int index;
	unsigned int n; /* or ranges of them */
	struct bridge_vlan_info one;
	uint16_t pvid;
};

static void vlans_parse(void *data, struct nlmsghdr *answer)
{
	struct vlans *vlans = data;
	struct nlattr *attr[IFLA_MAX + 1], *vlan;
	const struct ifinfomsg *head = nlmsg_data(answer);
	int rest;
	if (answer->nlmsg_type != RTM_NEWLINK ||
	    nlmsg_parse(answer, sizeof(*head), attr, IFLA_MAX, NULL) < 0 ||
	    head->ifi_index != vlans->index || !attr[IFLA_AF_SPEC])
		return;
	nla_for_each_nested(vlan, attr[IFLA_AF_SPEC], rest)
	{
		if (nla_type(vlan) != IFLA_BRIDGE_VLAN_INFO ||
		    nla_len(vlan) < (int)sizeof(vlans->one))
			continue;
		vlans->n++;
		memcpy(&vlans->one, nla_data(vlan), sizeof(vlans->one));
		if (vlans->one.flags & BRIDGE_VLAN_INFO_PVID)
			vlans->pvid = vlans->one.vid;
	}
}

static int vlans_list(struct netcfg *netcfg, const char *name, struct vlans *ret, struct err *err)
{
	const struct ifinfomsg head = {.ifi_family = AF_BRIDGE};
	struct netcfg_link link;
	int sys;
	if (netcfg_uplink_check("port", name, err) < 0 ||
	    netcfg_link_find(netcfg, name, NULL, &link, err) < 0)
		return -1;
	do {
		struct nl_msg *msg = netcfg_msg(RTM_GETLINK, NLM_F_DUMP, &head, sizeof(head));
		netcfg_put_u32(msg, IFLA_EXT_MASK, RTEXT_FILTER_BRVLAN_COMPRESSED);
		*ret = (struct vlans){.index = link.index};
		sys = netcfg_ask(netcfg->sock, msg, vlans_parse, ret);
	} while (sys == EINTR);
	if (sys != 0)
		return netcfg_err_sys(err, sys, "port %s: cannot list its VLANs", name);
	return 0;
}

int netcfg_port_has_pvid(struct netcfg *netcfg, const char *name, uint16_t pvid, bool *ret,
			 struct err *err)
{
	struct vlans vlans;
	if (vlans_list(netcfg, name, &vlans, err) < 0)
		return -1;
	*ret = vlans.n == 1 && vlans.one.vid == pvid &&
	       vlans.one.flags == (BRIDGE_VLAN_INFO_PVID | BRIDGE_VLAN_INFO_UNTAGGED);
	return 0;
}

int netcfg_port_pvid(struct netcfg *netcfg, const char *name, uint16_t *ret, struct err *err)
{
	struct vlans vlans;
	if (vlans_list(netcfg, name, &vlans, err) < 0)
		return -1;
	*ret = vlans.pvid;
	return 0;
}

int netcfg_port_detach(struct netcfg *netcfg, const char *name, struct err *err)
{
	static const int gone[] = {ENODEV, 0};
	struct netcfg_link link;
	struct netcfg_batch batch = {.n = 0};
	if (netcfg_uplink_check("port", name, err) < 0 ||
	    netcfg_link_find(netcfg, name, NULL, &link, err) < 0)
		return -1;
	if (link.index == 0 || link.master == 0)
		return 0;
	struct nl_msg *msg = netcfg_link_add(&batch, "detach it from its bridge", RTM_NEWLINK, 0,
					     link.index, 0, 0);
	netcfg_put_u32(msg, IFLA_MASTER, 0);
	return netcfg_batch_send(netcfg, &batch, name, gone, err);
}
