/* What a network is asked to be like, checked, as a row. */
#include <arpa/inet.h>
#include <inttypes.h>
#include <sodium.h>
#include <stdio.h>
#include <string.h>

#include "netcfg/link.h"
#include "vdi-hostd/network/private.h"

#define CONFIRM_S_DEFAULT 60
#define VXLAN_PORT        4789

static int parse_ip(const char *text, const char *field, uint32_t *ret, struct err *err)
{
	struct in_addr in;
	if (inet_pton(AF_INET, text, &in) != 1 || !netcfg_ipv4_is_unicast(in))
		return err_set_field(err, field, "'%.40s' is no IPv4 address of a host", text);
	*ret = ntohl(in.s_addr);
	return 0;
}

static bool in_network(const struct db_network *row, uint32_t ip)
{
	uint32_t mask = netcfg_mask((unsigned int)row->prefix);
	return ((ip ^ row->address) & mask) == 0 && (ip & ~mask) != 0 && (ip & ~mask) != ~mask;
}

int settings_parse_range(const char *text, struct db_network *row, struct err *err)
{
	char first[16];
	const char *dash = strchr(text, '-');
	size_t len = dash ? (size_t)(dash - text) : 0;
	uint32_t from, to;
	if (!dash || len >= sizeof(first))
		return err_set_field(err, "range",
				     "'%.40s' is no range; write it as 10.1.2.100-10.1.2.199",
				     text);
	memcpy(first, text, len);
	first[len] = '\0';
	if (parse_ip(first, "range", &from, err) < 0 || parse_ip(dash + 1, "range", &to, err) < 0)
		return -1;
	if (!in_network(row, from) || !in_network(row, to) || to < from)
		return err_set_field(err, "range", "%s is no part of the network's range", text);
	row->range_first = from;
	row->range_last = to;
	return 0;
}

static int fill_range(struct networks *all, const struct network_create *create,
		      struct db_network *row, struct err *err)
{
	uint32_t base;
	row->prefix = 24;
	if (!create->cidr && address_pick_range(all, row->slot, &base, err) < 0)
		return -1;
	if (create->cidr && (address_parse_cidr(create->cidr, &base, &row->prefix, err) < 0 ||
			     address_check_free(all, row->slot, base, row->prefix, err) < 0))
		return -1;
	row->address = base + 1;
	if (create->gateway) {
		uint32_t own;
		if (parse_ip(create->gateway, "gateway", &own, err) < 0)
			return -1;
		if (!in_network(row, own))
			return err_set_field(err, "gateway",
					     "%s is no address of a host in the network's range",
					     create->gateway);
		row->address = own;
	}
	return create->range ? settings_parse_range(create->range, row, err) : 0;
}

/* Which parameter asks for a range, where it is not for us to give any; NULL: none does. */
static const char *range_field(const struct network_create *create)
{
	return create->cidr      ? "cidr"
	       : create->cidr6   ? "cidr6"
	       : create->range   ? "range"
	       : create->gateway ? "gateway"
				 : NULL;
}

/* RFC 4193: fd and 40 random bits; the first subnet of it */
static void random_ula(uint8_t ret[16])
{
	memset(ret, 0, 16);
	ret[0] = 0xfd;
	randombytes_buf(ret + 1, 5);
	ret[15] = 1;
}

static int parse_cidr6(const char *text, uint8_t ret[16], struct err *err)
{
	struct netcfg_addr addr;
	uint8_t rest[8];
	if (strcmp(text, "auto") == 0) {
		random_ula(ret);
		return 0;
	}
	if (netcfg_addr_parse(text, &addr, NULL) < 0 || addr.family != AF_INET6 ||
	    addr.prefix != 64)
		return err_set_field(err, "cidr6",
				     "'%.50s' is no IPv6 /64; write it as fd00:1:2:3::/64, or "
				     "auto",
				     text);
	memcpy(ret, &addr.v6, 16);
	memcpy(rest, ret + 8, sizeof(rest));
	if (!sodium_is_zero(rest, sizeof(rest)))
		return err_set_field(err, "cidr6", "%s is inside a /64 and not its beginning",
				     text);
	if ((ret[0] & 0xfe) != 0xfc && (ret[0] & 0xe0) != 0x20)
		return err_set_field(err, "cidr6",
				     "%s is no range for hosts; choose one of fc00::/7, or a "
				     "global one that is routed to this host",
				     text);
	ret[15] = 1;
	return 0;
}

static int fill_ipv6(struct networks *all, const struct network_create *create,
		     struct db_network *row, struct err *err)
{
	uint8_t address[16];
	if (!create->cidr6)
		return 0;
	if (parse_cidr6(create->cidr6, address, err) < 0 ||
	    address6_check_free(all, row->slot, address, err) < 0)
		return -1;
	inet_ntop(AF_INET6, address, row->address6, sizeof(row->address6));
	return 0;
}

int settings_parse_peers(const json_t *peers, struct db_network *row, struct err *err)
{
	size_t i, len = 0;
	json_t *peer;
	char text[sizeof(row->peers)] = "";
	if (json_array_size(peers) == 0 || json_array_size(peers) > PRIV_PEERS_MAX)
		return err_set_field(err, "peers", "a VXLAN has 1 to %d peers", PRIV_PEERS_MAX);
	json_array_foreach(peers, i, peer)
	{
		uint32_t ip;
		char one[16];
		if (parse_ip(json_string_value(peer), "peers", &ip, err) < 0)
			return -1;
		address_format(ip, one);
		if (strcmp(one, row->underlay) == 0)
			return err_set_field(err, "peers", "%s is this host itself", one);
		/* 16 of 16 characters fit */
		len += (size_t)snprintf(text + len, sizeof(text) - len, "%s%s", i ? "," : "", one);
	}
	memcpy(row->peers, text, sizeof(row->peers));
	return 0;
}

static int fill_vxlan(const struct network_create *create, struct db_network *row, struct err *err)
{
	uint32_t own;
	if (!create->vni) {
		if (create->peers || create->underlay)
			return err_set_field(err, "vni", "peers and underlay are a VXLAN's");
		return 0;
	}
	if (!create->underlay || !create->peers)
		return err_set_field(err, create->underlay ? "peers" : "underlay",
				     "a VXLAN needs underlay, this host's address towards the "
				     "others, and peers, theirs");
	if (parse_ip(create->underlay, "underlay", &own, err) < 0)
		return -1;
	address_format(own, row->underlay);
	row->vni = create->vni;
	row->vxlan_port = create->vxlan_port ? create->vxlan_port : VXLAN_PORT;
	return settings_parse_peers(create->peers, row, err);
}

/* One of our own bridges leads to no outside, whosever network it is. */
static int refuse_own(const struct networks *all, const char *uplink, struct err *err)
{
	char bridge[16];
	for (const struct network *n = all->by_id; n; n = n->by_id.next) {
		network_bridge_name(n, bridge);
		if (strcmp(bridge, uplink) == 0)
			return err_set_field(err, "uplink",
					     "%s is the bridge of network '%s'; put desktops on "
					     "that network, or name a link or bridge of the host's",
					     uplink, n->row.name);
	}
	return err_set_field(err, "uplink",
			     "%s has a name that links of networks have; name a link or bridge of "
			     "the host's, `ip link` shows them",
			     uplink);
}

static int find_uplink(struct netcfg *netcfg, const struct db_network *row, struct netcfg_link *ret,
		       struct err *err)
{
	struct err why = {0};
	if (netcfg_link_get(netcfg, row->uplink, ret, &why) < 0) {
		if (why.code != ERR_NOT_FOUND) {
			if (err)
				*err = why;
			return -1;
		}
		return err_set_field(err, "uplink",
				     "there is no link %s; `ip link` shows those there are",
				     row->uplink);
	}
	if (ret->loopback)
		return err_set_field(err, "uplink", "%s leads nowhere but to this host",
				     row->uplink);
	return 0;
}

/* Is the uplink there, and free to be one? The same port cannot be of two bridges; a bridge can
 * have as many ports as there are networks. */
static int check_uplink(struct networks *all, struct db_network *row, struct err *err)
{
	_cleanup_(netcfg_closep) struct netcfg *netcfg = NULL;
	struct netcfg_link link, master;
	if (!netcfg_name_is_uplink(row->uplink))
		return err_set_field(err, "uplink", "'%s' is no link's name", row->uplink);
	if (strncmp(row->uplink, "vdi", 3) == 0)
		return refuse_own(all, row->uplink, err);
	if (netcfg_open(&netcfg, err) < 0 || find_uplink(netcfg, row, &link, err) < 0)
		return -1;
	row->joined = !row->vlan && strcmp(link.kind, "bridge") == 0;
	for (struct network *n = all->by_id; n && !row->joined; n = n->by_id.next)
		if (strcmp(n->row.uplink, row->uplink) == 0 && n->row.vlan == row->vlan)
			return err_set(err, ERR_CONFLICT,
				       "network '%s' has that uplink%s; put desktops on that one",
				       n->row.name, row->vlan ? " and VLAN" : "");
	if (!link.master || row->vlan || row->joined)
		return 0;
	if (netcfg_link_get(netcfg, link.master_name, &master, NULL) == 0 &&
	    strcmp(master.kind, "bridge") == 0)
		return err_set(err, ERR_CONFLICT,
			       "link %s is a port of the bridge %s; make that the uplink: %s",
			       row->uplink, master.name, master.name);
	return err_set(err, ERR_CONFLICT,
		       "link %s is a port of %s already; take it out there first", row->uplink,
		       link.master_name[0] ? link.master_name : "another");
}

int settings_set_guard(struct networks *all, bool wished, struct db_network *row, struct err *err)
{
	if (row->kind != DB_NETWORK_BRIDGED)
		return err_set_field(err, "source_guard",
				     "only a bridged network has a source_guard; where the daemon "
				     "gives the addresses they are guarded in any case");
	if (wished && !row->source_guard && hearing_check(all, err) < 0)
		return -1;
	row->source_guard = wished;
	return 0;
}

static int fill_bridged(struct networks *all, const struct network_create *create,
			struct db_network *row, struct err *err)
{
	if (!create->uplink)
		return err_set_field(err, "uplink",
				     "a bridged network needs an uplink: the link that leads to "
				     "the outside");
	if (str_copy(row->uplink, sizeof(row->uplink), create->uplink) < 0)
		return err_set_field(err, "uplink", "a link's name has at most %d characters",
				     DB_NETWORK_LINK_MAX);
	if (range_field(create))
		return err_set_field(err, range_field(create),
				     "a bridged network's addresses are given by others");
	if (create->vni)
		return err_set_field(err, "vni", "a bridged network is no VXLAN");
	row->vlan = create->vlan;
	row->source_guard =
		create->source_guard == NETWORK_GUARD_DEFAULT && hearing_check(all, NULL) == 0;
	if (check_uplink(all, row, err) < 0)
		return -1;
	/* a VLAN of the uplink, and one more port of a bridge, take nothing away from the host */
	if (!row->vlan && !row->joined)
		row->confirm_until =
			str_now_ms() + 1000 * (create->confirm_timeout_s ? create->confirm_timeout_s
									 : CONFIRM_S_DEFAULT);
	return 0;
}

static int refuse(const struct network_create *create, struct err *err)
{
	if (create->uplink)
		return err_set_field(err, "uplink", "only a bridged network has an uplink");
	if (create->vlan)
		return err_set_field(err, "vlan",
				     "only a bridged network has a VLAN, on its uplink");
	return 0;
}

static int refuse_user(const struct network_create *create, struct err *err)
{
	if (range_field(create))
		return err_set_field(err, range_field(create),
				     "a network of kind user has no range of its own");
	if (create->vni)
		return err_set_field(err, "vni", "a network of kind user is QEMU's own");
	return refuse(create, err);
}

static int fill_by_kind(struct networks *all, const struct network_create *create,
			struct db_network *row, struct err *err)
{
	switch (create->kind) {
	case DB_NETWORK_USER:
		return refuse_user(create, err);
	case DB_NETWORK_BRIDGED:
		return fill_bridged(all, create, row, err);
	case DB_NETWORK_NAT:
	case DB_NETWORK_ISOLATED:
	case DB_NETWORK_ROUTED:
		break;
	}
	if (refuse(create, err) < 0 || fill_vxlan(create, row, err) < 0 ||
	    fill_range(all, create, row, err) < 0)
		return -1;
	return fill_ipv6(all, create, row, err);
}

int settings_set_openings(struct db_network *row, const struct db_openings *openings,
			  struct err *err)
{
	if (!openings)
		return 0;
	if (openings->n && row->kind == DB_NETWORK_USER)
		return err_set_field(err, "openings",
				     "a network of kind user is QEMU's own, and the host is not "
				     "closed to it");
	if (openings->n && row->kind == DB_NETWORK_BRIDGED)
		return err_set_field(err, "openings",
				     "a bridged network's desktops come to the host as the others "
				     "on that LAN do; the host's own firewall has to let them in");
	row->openings = *openings;
	return 0;
}

int settings_check_mtu(const struct db_network *row, int64_t mtu, struct err *err)
{
	if (mtu && row->address6[0] && mtu < 1280)
		return err_set_field(err, "mtu", "IPv6 needs an MTU of 1280 or more");
	return 0;
}

int settings_fill(struct networks *all, const struct network_create *create, struct db_network *row,
		  struct err *err)
{
	if (networks_find(all, create->name, NULL))
		return err_set(err, ERR_EXISTS, "there is a network '%s' already", create->name);
	if (create->kind != DB_NETWORK_USER && priv_is_rootless(all->priv))
		return err_set(err, ERR_UNSUPPORTED,
			       "a daemon without root offers networks of kind user only; run it as "
			       "root for the others");
	str_uuid_new(row->id);
	snprintf(row->name, sizeof(row->name), "%s", create->name);
	row->kind = create->kind;
	row->intent = DB_INTENT_CREATE;
	row->created_at = str_now_ms();
	row->dns = !create->no_dns;
	row->isolate_ports = create->isolate_ports;
	row->mtu = create->mtu;
	if (db_network_free_slot(all->db, &row->slot, err) < 0 ||
	    fill_by_kind(all, create, row, err) < 0 ||
	    (create->source_guard != NETWORK_GUARD_DEFAULT &&
	     settings_set_guard(all, create->source_guard == NETWORK_GUARD_ON, row, err) < 0) ||
	    settings_set_openings(row, create->openings, err) < 0)
		return -1;
	return settings_check_mtu(row, row->mtu, err);
}
