/* A network's bridge, what is a port of it, and its firewall: names are made here from slots. */
#include <arpa/inet.h>
#include <string.h>

#include "base/mem.h"
#include "netcfg/bridge.h"
#include "netcfg/firewall.h"
#include "netcfg/join.h"
#include "netcfg/link.h"
#include "netcfg/port.h"
#include "netcfg/vlan.h"
#include "netcfg/vxlan.h"
#include "vdi-hostd/priv/network_names.h"

int network_check_slot(uint32_t slot, const char *field, struct err *err)
{
	if (slot >= 1 && slot <= PRIV_SLOT_MAX)
		return 0;
	return err_set_field(err, field, "slot %u is not in 1 to %d", slot, PRIV_SLOT_MAX);
}

int network_check_address(const struct netcfg_addr *addr, bool optional, const char *field,
			  struct err *err)
{
	if ((addr->family == AF_INET && addr->prefix <= 32) ||
	    (addr->family == AF_INET6 && addr->prefix <= 128) || (addr->family == 0 && optional))
		return 0;
	return err_set_field(err, field, "family %u with prefix %u is no address", addr->family,
			     addr->prefix);
}

int network_check_uplink(const char name[NETCFG_NAME_MAX + 1], struct err *err)
{
	if (!memchr(name, '\0', NETCFG_NAME_MAX + 1) || !netcfg_name_is_uplink(name))
		return err_set_field(err, "uplink", "an uplink's name is none");
	if (strcmp(name, "lo") == 0 || strncmp(name, "vdi", 3) == 0)
		return err_set_field(err, "uplink", "%s is no uplink", name);
	return 0;
}

int network_need_netcfg(const struct verbs *verbs, struct err *err)
{
	if (verbs->netcfg)
		return 0;
	return err_set(err, ERR_UNSUPPORTED, "the kernel's networking cannot be reached");
}

bool network_has_address6(const uint8_t address[16])
{
	static const uint8_t none[16];
	return memcmp(address, none, sizeof(none)) != 0;
}

static int check_openings(const struct priv_network *network, struct err *err)
{
	if (network->n_openings > NETCFG_FIREWALL_OPENINGS_MAX)
		return err_set_field(err, "n_openings", "%u openings are over %d",
				     network->n_openings, NETCFG_FIREWALL_OPENINGS_MAX);
	for (size_t i = 0; i < network->n_openings; i++) {
		const struct netcfg_opening *opening = &network->openings[i];
		if (opening->protocol != NETCFG_TCP && opening->protocol != NETCFG_UDP)
			return err_set_field(err, "openings", "protocol %d has no ports",
					     (int)opening->protocol);
		if (opening->port_first == 0 || opening->port_last < opening->port_first)
			return err_set_field(err, "openings", "ports %u to %u are no range",
					     opening->port_first, opening->port_last);
	}
	return 0;
}

static int check_range(const struct priv_network *network, struct err *err)
{
	if (network->prefix < 8 || network->prefix > 30)
		return err_set_field(err, "prefix", "prefix %u is not in 8 to 30", network->prefix);
	const uint32_t address = ntohl(network->address), mask = netcfg_mask(network->prefix);
	if (!netcfg_ipv4_is_unicast((struct in_addr){network->address}))
		return err_set_field(err, "address", "a bridge's address must be a unicast one");
	if ((address & ~mask) == 0 || (address & ~mask) == ~mask)
		return err_set_field(err, "address",
				     "the network's own and its broadcast address are no host's");
	if (network->uplink[0] || network->vlan || network->joined)
		return err_set_field(err, "uplink", "only kind bridged has an uplink");
	if (network->hears_dhcp)
		return err_set_field(err, "hears_dhcp",
				     "only kind bridged has DHCP servers of others");
	if (network->address6[0] == 0xff)
		return err_set_field(err, "address6", "a bridge's address must be a unicast one");
	return check_openings(network, err);
}

static int check_bridged(const struct priv_network *network, struct err *err)
{
	if (network->address || network->prefix || network_has_address6(network->address6))
		return err_set_field(err, "address", "a bridged network has no range of its own");
	if (network->n_openings)
		return err_set_field(err, "openings", "a bridged network guards nothing");
	if (network->vlan > 4094)
		return err_set_field(err, "vlan", "VLAN %u is not in 1 to 4094", network->vlan);
	if (network->joined > 1 || (network->joined && network->vlan))
		return err_set_field(err, "joined", "a VLAN is joined as its uplink allows");
	if (network->hears_dhcp > 1)
		return err_set_field(err, "hears_dhcp", "%u is neither yes nor no",
				     network->hears_dhcp);
	return network_check_uplink(network->uplink, err);
}

static int check_vxlan(const struct priv_network *network, struct err *err)
{
	if (network->n_peers > PRIV_PEERS_MAX)
		return err_set_field(err, "n_peers", "%u peers are over %d", network->n_peers,
				     PRIV_PEERS_MAX);
	if (network->vni == 0)
		return 0;
	if (network->kind == PRIV_NETWORK_BRIDGED || network->vni > 0xffffff ||
	    network->n_peers == 0 || !netcfg_ipv4_is_unicast((struct in_addr){network->underlay}))
		return err_set_field(err, "vni", "VXLAN %u cannot be one of this network's",
				     network->vni);
	for (size_t i = 0; i < network->n_peers; i++)
		if (!netcfg_ipv4_is_unicast((struct in_addr){network->peers[i]}))
			return err_set_field(err, "peers",
					     "a peer's address must be a unicast one");
	return 0;
}

int verb_network_check(const struct priv_request *req, const int *fds, size_t n_fds,
		       struct err *err)
{
	const struct priv_network *network = &req->u.network;

	if (network_check_slot(network->slot, "slot", err) < 0)
		return -1;
	if (network->mtu && (network->mtu < PRIV_MTU_MIN || network->mtu > PRIV_MTU_MAX))
		return err_set_field(err, "mtu", "MTU %u is not in %d to %d", network->mtu,
				     PRIV_MTU_MIN, PRIV_MTU_MAX);
	switch ((enum priv_network_kind)network->kind) {
	case PRIV_NETWORK_NAT:
	case PRIV_NETWORK_ISOLATED:
	case PRIV_NETWORK_ROUTED:
		if (check_range(network, err) < 0)
			return -1;
		return check_vxlan(network, err);
	case PRIV_NETWORK_BRIDGED:
		if (req->verb == PRIV_DNSMASQ_SPAWN)
			return err_set_field(err, "kind",
					     "a bridged network's addresses are not ours to give");
		if (check_bridged(network, err) < 0)
			return -1;
		return check_vxlan(network, err);
	}
	return err_set_field(err, "kind", "there is no kind %u of network", network->kind);
}

static enum netcfg_firewall_kind firewall_kind(const struct priv_network *network)
{
	switch ((enum priv_network_kind)network->kind) {
	case PRIV_NETWORK_NAT:
		return NETCFG_FIREWALL_NAT;
	case PRIV_NETWORK_ROUTED:
		return NETCFG_FIREWALL_ROUTED;
	case PRIV_NETWORK_BRIDGED:
		return NETCFG_FIREWALL_BRIDGED;
	case PRIV_NETWORK_ISOLATED:
		break;
	}
	return NETCFG_FIREWALL_ISOLATED;
}

static unsigned int own_addresses(const struct priv_network *network, struct netcfg_addr *ret)
{
	unsigned int n = 0;
	struct in6_addr v6;
	if (network->address)
		ret[n++] = netcfg_addr_v4((struct in_addr){network->address}, network->prefix);
	memcpy(&v6, network->address6, sizeof(v6));
	if (network_has_address6(network->address6))
		ret[n++] = netcfg_addr_v6(&v6, 64);
	return n;
}

/*
 * All hosts of a VXLAN have a bridge on it, under one name at that. Each needs a MAC of its own,
 * which follows from the host's address among them.
 */
static void vxlan_mac(const struct priv_network *network, uint8_t ret[6])
{
	static const uint8_t prefix[] = {0x02, 0x76};
	memcpy(ret, prefix, sizeof(prefix));
	memcpy(ret + sizeof(prefix), &network->underlay, sizeof(network->underlay));
}

static struct netcfg_firewall firewall_of(const struct priv_network *network,
					  const struct link_name *bridge)
{
	struct netcfg_firewall ret = {.bridge = bridge->text,
				      .kind = firewall_kind(network),
				      .n_openings = network->n_openings,
				      .hears_dhcp = network->hears_dhcp};
	if (network->vni)
		vxlan_mac(network, ret.mac);
	ret.n_addresses = own_addresses(network, ret.addresses);
	memcpy(ret.openings, network->openings, sizeof(ret.openings));
	return ret;
}

static int ensure_vxlan(struct verbs *verbs, const struct priv_network *network, const char *bridge,
			struct err *err)
{
	const struct link_name name = vxlan_name(network->slot);
	const struct netcfg_port port = {.isolated = false};
	struct netcfg_vxlan vxlan = {
		.vni = network->vni,
		.local = netcfg_addr_v4((struct in_addr){network->underlay}, 32),
		.port = network->vxlan_port,
		.n_peers = network->n_peers,
		.mtu = network->mtu,
	};
	for (size_t i = 0; i < network->n_peers; i++)
		vxlan.peers[i] = netcfg_addr_v4((struct in_addr){network->peers[i]}, 32);
	if (netcfg_vxlan_ensure(verbs->netcfg, name.text, &vxlan, err) < 0)
		return -1;
	return netcfg_port_attach(verbs->netcfg, name.text, bridge, &port, err);
}

static int ensure_join(struct verbs *verbs, const struct priv_network *network, const char *bridge,
		       struct err *err)
{
	const struct link_name near = near_name(network->slot), far = far_name(network->slot);
	const struct netcfg_join join = {.bridge = bridge,
					 .other = network->uplink,
					 .near = near.text,
					 .far = far.text,
					 .vlan = network->vlan};
	return netcfg_join_ensure(verbs->netcfg, &join, err);
}

static int delete_join(struct verbs *verbs, uint32_t slot, struct err *err)
{
	return netcfg_join_delete(verbs->netcfg, near_name(slot).text, far_name(slot).text, err);
}

/*
 * By the uplink's own filter where it is a bridge that has one, which may be turned on and off at
 * any time. Never both ways at once: they would be a loop.
 */
static int ensure_vlan(struct verbs *verbs, const struct priv_network *network, const char *bridge,
		       struct err *err)
{
	const struct link_name name = vlan_name(network->slot);
	const struct netcfg_port port = {.isolated = false};
	struct netcfg_link uplink;
	if (netcfg_link_get(verbs->netcfg, network->uplink, &uplink, err) < 0)
		return err_prefix(err, "uplink %s", network->uplink);
	if (uplink.vlan_filtering) {
		if (netcfg_vlan_delete(verbs->netcfg, name.text, err) < 0)
			return -1;
		return ensure_join(verbs, network, bridge, err);
	}
	if (delete_join(verbs, network->slot, err) < 0)
		return -1;
	if (netcfg_vlan_ensure(verbs->netcfg, name.text, network->uplink, network->vlan, err) < 0)
		return -1;
	return netcfg_port_attach(verbs->netcfg, name.text, bridge, &port, err);
}

/* A bridge that has the host's addresses keeps its uplink's MAC: leases hang on it. */
static int bridge_of(struct verbs *verbs, const struct priv_network *network,
		     const struct netcfg_firewall *firewall, struct netcfg_bridge *ret,
		     struct err *err)
{
	struct netcfg_link uplink;
	*ret = (struct netcfg_bridge){.mtu = network->mtu};
	ret->n_addresses = own_addresses(network, ret->addresses);
	memcpy(ret->mac, firewall->mac, sizeof(ret->mac));
	if (network->kind != PRIV_NETWORK_BRIDGED || network->vlan || network->joined)
		return 0;
	if (netcfg_link_get(verbs->netcfg, network->uplink, &uplink, err) < 0)
		return err_prefix(err, "uplink %s", network->uplink);
	ret->keep_addresses = true;
	memcpy(ret->mac, uplink.mac, sizeof(ret->mac));
	return 0;
}

int verb_bridge_ensure(struct verbs *verbs, const struct priv_request *req, const int *fds,
		       struct priv_reply *reply, int *reply_fds, struct err *err)
{
	const struct priv_network *network = &req->u.network;
	const struct link_name name = bridge_name(network->slot);
	const struct netcfg_firewall firewall = firewall_of(network, &name);
	struct netcfg_bridge bridge;

	if (network_need_netcfg(verbs, err) < 0 ||
	    bridge_of(verbs, network, &firewall, &bridge, err) < 0)
		return -1;
	/* the rules first: not a moment without them */
	if (netcfg_firewall_ensure(verbs->netcfg, &firewall, err) < 0 ||
	    netcfg_bridge_ensure(verbs->netcfg, name.text, &bridge, err) < 0)
		return -1;
	if (network->vni)
		return ensure_vxlan(verbs, network, name.text, err);
	if (network->vlan)
		return ensure_vlan(verbs, network, name.text, err);
	if (network->joined)
		return ensure_join(verbs, network, name.text, err);
	return 0;
}

int verb_bridge_delete(struct verbs *verbs, const struct priv_request *req, const int *fds,
		       struct priv_reply *reply, int *reply_fds, struct err *err)
{
	const uint32_t slot = req->u.slot;

	if (network_need_netcfg(verbs, err) < 0 ||
	    netcfg_vxlan_delete(verbs->netcfg, vxlan_name(slot).text, err) < 0 ||
	    netcfg_vlan_delete(verbs->netcfg, vlan_name(slot).text, err) < 0 ||
	    delete_join(verbs, slot, err) < 0 ||
	    netcfg_bridge_delete(verbs->netcfg, bridge_name(slot).text, err) < 0)
		return -1;
	return netcfg_firewall_delete(verbs->netcfg, bridge_name(slot).text, err);
}

static int look_mac(struct verbs *verbs, const struct priv_network *network,
		    const struct netcfg_firewall *firewall, bool *ret, struct err *err)
{
	struct netcfg_bridge bridge;
	struct err why = {0};
	if (bridge_of(verbs, network, firewall, &bridge, &why) == 0)
		return netcfg_bridge_has_mac(verbs->netcfg, firewall->bridge, bridge.mac, ret, err);
	/* an uplink that is gone is seen without us, and has no MAC to go by */
	*ret = true;
	if (why.code == ERR_NOT_FOUND)
		return 0;
	*err = why;
	return -1;
}

int verb_network_look(struct verbs *verbs, const struct priv_request *req, const int *fds,
		      struct priv_reply *reply, int *reply_fds, struct err *err)
{
	const struct link_name name = bridge_name(req->u.network.slot);
	const struct netcfg_firewall firewall = firewall_of(&req->u.network, &name);
	bool guarded, mac;

	if (network_need_netcfg(verbs, err) < 0 ||
	    netcfg_firewall_has(verbs->netcfg, &firewall, &guarded, err) < 0 ||
	    look_mac(verbs, &req->u.network, &firewall, &mac, err) < 0)
		return -1;
	reply->missing = (guarded ? 0 : PRIV_MISSING_FIREWALL) | (mac ? 0 : PRIV_MISSING_MAC);
	return 0;
}
