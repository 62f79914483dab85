#include "netcfg/join.h"

#include <linux/rtnetlink.h>
#include <net/if.h>
#include <string.h>

#include "netcfg/internal.h"
#include "netcfg/link.h"
#include "netcfg/port.h"

/* struct sides - all links that have to do with it; index 0: not there */
struct sides {
	struct netcfg_link bridge, other, near, far;
};

static int join_check(const struct netcfg_join *join, struct err *err)
{
	if (netcfg_name_check("bridge", join->bridge, err) < 0 ||
	    netcfg_uplink_check("bridge", join->other, err) < 0 ||
	    netcfg_name_check("link", join->near, err) < 0 ||
	    netcfg_name_check("link", join->far, err) < 0)
		return -1;
	if (strcmp(join->bridge, join->other) == 0)
		return err_set(err, ERR_INVALID, "bridge %s cannot be joined to itself",
			       join->bridge);
	if (join->vlan > 4094)
		return err_set(err, ERR_INVALID, "VLAN %u is not in 1 to 4094", join->vlan);
	return 0;
}

static int ends_find(struct netcfg *netcfg, const struct netcfg_join *join, struct sides *sides,
		     struct err *err)
{
	if (netcfg_link_find(netcfg, join->near, "veth", &sides->near, err) < 0)
		return -1;
	return netcfg_link_find(netcfg, join->far, "veth", &sides->far, err);
}

/* One that is down lets nothing pass; the end there is down with it, as a VLAN of a link is. */
static int other_check(struct netcfg *netcfg, const struct netcfg_join *join,
		       const struct sides *sides, struct err *err)
{
	if (sides->other.index == 0)
		return err_set(err, ERR_NOT_FOUND, "there is no bridge %s", join->other);
	if (strcmp(sides->other.kind, "bridge") != 0)
		return err_set(err, ERR_CONFLICT, "%s is no bridge that %s could be joined to",
			       join->other, join->bridge);
	if (join->vlan && !sides->other.vlan_filtering)
		return err_set(err, ERR_CONFLICT,
			       "bridge %s filters no VLANs, so no port of it can be in VLAN %u",
			       join->other, join->vlan);
	if (sides->other.up)
		return 0;
	if (sides->far.index && netcfg_link_set_up(netcfg, join->far, false, err) < 0)
		return -1;
	return err_set(err, ERR_CONFLICT, "bridge %s is down; bring that up: ip link set %s up",
		       join->other, join->other);
}

/* ---- another way ---- */

/* struct ways - ports of the bridge that have a link below them, or an other end */
struct ways {
	const struct sides *sides;
	const struct netcfg_join *join;
	struct netcfg_link *port;
	size_t n;
	char found[NETCFG_NAME_MAX + 1];
};

static int way_collect(void *data, const struct netcfg_link *link)
{
	struct ways *ways = data;
	if (link->master != ways->sides->bridge.index || link->lower == 0 ||
	    strcmp(link->name, ways->join->near) == 0 || strcmp(link->name, ways->join->far) == 0)
		return 0;
	ways->port = mem_realloc(ways->port, ways->n + 1, sizeof(*ways->port));
	ways->port[ways->n++] = *link;
	return 0;
}

/* Is this link the other bridge, or a port of it, and one of those stands on it? */
static int way_match(void *data, const struct netcfg_link *link)
{
	struct ways *ways = data;
	const int other = ways->sides->other.index;
	for (size_t i = 0; i < ways->n; i++) {
		const bool leads =
			link->index == other ||
			(link->master == other && strcmp(ways->port[i].kind, "veth") == 0);
		if (!leads || ways->port[i].lower != link->index)
			continue;
		memcpy(ways->found, ways->port[i].name, sizeof(ways->found));
		return 1;
	}
	return 0;
}

static int refuse_another_way(struct netcfg *netcfg, const struct netcfg_join *join,
			      const struct sides *sides, struct err *err)
{
	struct ways ways = {.sides = sides, .join = join};
	int rc = netcfg_links_each(netcfg, way_collect, &ways, err);
	if (rc == 0 && ways.n)
		rc = netcfg_links_each(netcfg, way_match, &ways, err);
	free(ways.port);
	if (rc < 0 || !ways.found[0])
		return rc;
	return err_set(err, ERR_CONFLICT,
		       "link %s leads from bridge %s to %s already, and two ways are a loop; "
		       "delete it: ip link delete %s",
		       ways.found, join->bridge, join->other, ways.found);
}

/* ---- the pair ---- */

static int pair_ensure(struct netcfg *netcfg, const struct netcfg_join *join, struct sides *sides,
		       struct err *err)
{
	const bool is_pair = sides->near.index && sides->near.lower == sides->far.index;
	/* half of what was a pair may still join the bridges, by a name of somebody's */
	if (!is_pair && netcfg_join_delete(netcfg, join->near, join->far, err) < 0)
		return -1;
	if (refuse_another_way(netcfg, join, sides, err) < 0)
		return -1;
	if (!is_pair && netcfg_veth_create(netcfg, join->near, join->far, err) < 0)
		return -1;
	return ends_find(netcfg, join, sides, err);
}

/* Is the far end a port as wished? What else was made of it is the administrator's business. */
static int far_is_port(struct netcfg *netcfg, const struct netcfg_join *join,
		       const struct sides *sides, bool *ret, struct err *err)
{
	*ret = sides->far.master == sides->other.index;
	if (!*ret || !join->vlan)
		return 0;
	return netcfg_port_has_pvid(netcfg, join->far, join->vlan, ret, err);
}

static int ends_attach(struct netcfg *netcfg, const struct netcfg_join *join,
		       const struct sides *sides, struct err *err)
{
	const struct netcfg_port near = {.pvid = 0}, far = {.pvid = join->vlan};
	struct netcfg_batch batch = {.n = 0};
	uint8_t mac[6];
	bool is_port;
	if (far_is_port(netcfg, join, sides, &is_port, err) < 0)
		return -1;
	/* they are ports and have no business of their own */
	netcfg_ipv6_set(join->near, false);
	netcfg_ipv6_set(join->far, false);
	struct nl_msg *msg =
		netcfg_link_add(&batch, "set its MTU", RTM_NEWLINK, 0, sides->near.index, 0, 0);
	netcfg_put_u32(msg, IFLA_MTU, sides->bridge.mtu);
	/* down, or it would be in the bridge's own VLAN until it is in its one */
	msg = netcfg_link_add(&batch, "set its MTU and MAC", RTM_NEWLINK, 0, sides->far.index, 0,
			      is_port ? 0 : IFF_UP);
	netcfg_put_u32(msg, IFLA_MTU, sides->other.mtu);
	if (!is_port) {
		netcfg_mac_of_name(join->far, mac);
		/* above those of virtual machines' ports, which begin with fe as well */
		mac[0] = 0xfe;
		mac[1] = 0xff;
		netcfg_put(msg, IFLA_ADDRESS, mac, sizeof(mac));
	}
	if (netcfg_batch_send(netcfg, &batch, join->far, NULL, err) < 0 ||
	    netcfg_port_attach(netcfg, join->near, join->bridge, &near, err) < 0)
		return -1;
	return is_port ? netcfg_link_set_up(netcfg, join->far, true, err)
		       : netcfg_port_attach(netcfg, join->far, join->other, &far, err);
}

int netcfg_join_ensure(struct netcfg *netcfg, const struct netcfg_join *join, struct err *err)
{
	struct sides sides;
	if (join_check(join, err) < 0 ||
	    netcfg_link_find(netcfg, join->bridge, "bridge", &sides.bridge, err) < 0 ||
	    netcfg_link_find(netcfg, join->other, NULL, &sides.other, err) < 0 ||
	    ends_find(netcfg, join, &sides, err) < 0)
		return -1;
	if (sides.bridge.index == 0)
		return err_set(err, ERR_NOT_FOUND, "there is no bridge %s", join->bridge);
	if (other_check(netcfg, join, &sides, err) < 0 ||
	    pair_ensure(netcfg, join, &sides, err) < 0)
		return -1;
	return ends_attach(netcfg, join, &sides, err);
}

int netcfg_join_delete(struct netcfg *netcfg, const char *near, const char *far, struct err *err)
{
	if (netcfg_link_delete(netcfg, near, "veth", err) < 0)
		return -1;
	return netcfg_link_delete(netcfg, far, "veth", err);
}
