#include "netcfg/port.h"

#include <errno.h>
#include <linux/if_bridge.h>
#include <linux/if_link.h>
#include <linux/neighbour.h>
#include <linux/rtnetlink.h>
#include <net/if.h>
#include <stdio.h>

#include "netcfg/internal.h"

int netcfg_port_check(const struct netcfg_port *port, struct err *err)
{
	if (port->fixed && !netcfg_mac_is_valid(port->mac))
		return err_set(err, ERR_INVALID, "a port with a fixed MAC needs a unicast one");
	if (port->pvid > 4094)
		return err_set(err, ERR_INVALID, "VLAN %u is not in 1 to 4094", port->pvid);
	return 0;
}

static void vlan_add(struct netcfg_batch *batch, int index, int type, uint16_t vid, uint16_t flags)
{
	const struct ifinfomsg head = {.ifi_family = AF_BRIDGE, .ifi_index = index};
	const struct bridge_vlan_info vlan = {.flags = flags, .vid = vid};
	struct nl_msg *msg = netcfg_batch_add(batch, "set its VLAN (bridge VLAN filtering)", type,
					      0, &head, sizeof(head));
	struct nlattr *spec = netcfg_nest(msg, IFLA_AF_SPEC);
	netcfg_put(msg, IFLA_BRIDGE_VLAN_INFO, &vlan, sizeof(vlan));
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
	if (port->pvid) {
		const uint16_t tagged = port->trunk ? 0 : BRIDGE_VLAN_INFO_UNTAGGED;
		if (port->pvid != 1)
			vlan_add(batch, index, RTM_DELLINK, 1, 0);
		vlan_add(batch, index, RTM_SETLINK, port->pvid,
			 (uint16_t)(tagged | (port->trunk ? 0 : BRIDGE_VLAN_INFO_PVID)));
	}
}

int netcfg_port_attach(struct netcfg *netcfg, const char *name, const char *bridge,
		       const struct netcfg_port *port, struct err *err)
{
	struct netcfg_link master, link;
	struct netcfg_batch batch = {.n = 0};
	char subject[40];
	if (netcfg_uplink_check("port", name, err) < 0 ||
	    netcfg_name_check("bridge", bridge, err) < 0 || netcfg_port_check(port, err) < 0 ||
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
