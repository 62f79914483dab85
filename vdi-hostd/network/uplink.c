/*
 * An uplink that is a port of a bridge: what it had before is written down first, so that it can be
 * put back by whoever comes after us.
 */
#include <stdio.h>
#include <string.h>

#include "base/json_line.h"
#include "base/log.h"
#include "netcfg/link.h"
#include "vdi-hostd/network/private.h"

static json_t *addr_to_json(const struct netcfg_addr *addr)
{
	char text[NETCFG_ADDR_TEXT_MAX];
	return addr->family ? json_string(netcfg_addr_format(addr, text)) : json_null();
}

static json_t *route_to_json(const struct netcfg_route *route)
{
	return json_pack("{s:o, s:o, s:o, s:I, s:I, s:i, s:i, s:b}", "to", addr_to_json(&route->to),
			 "gateway", addr_to_json(&route->gateway), "source",
			 addr_to_json(&route->source), "table", (json_int_t)route->table, "metric",
			 (json_int_t)route->metric, "protocol", route->protocol, "scope",
			 route->scope, "onlink", route->onlink);
}

char *uplink_to_text(const struct netcfg_uplink *uplink)
{
	char mac[NETCFG_MAC_TEXT_MAX];
	json_t *addresses = json_array(), *routes = json_array();
	netcfg_mac_format(uplink->mac, mac);
	for (size_t i = 0; i < uplink->n_addresses; i++)
		json_array_append_new(addresses, addr_to_json(&uplink->addresses[i]));
	for (size_t i = 0; i < uplink->n_routes; i++)
		json_array_append_new(routes, route_to_json(&uplink->routes[i]));
	_cleanup_json_ json_t *all =
		json_pack("{s:s, s:s, s:I, s:b, s:o, s:o}", "name", uplink->name, "mac", mac, "mtu",
			  (json_int_t)uplink->mtu, "was_up", uplink->was_up, "addresses", addresses,
			  "routes", routes);
	return json_dumps(all, JSON_COMPACT);
}

static int addr_from_json(const json_t *json, struct netcfg_addr *ret)
{
	*ret = (struct netcfg_addr){.family = 0};
	if (!json || json_is_null(json))
		return 0;
	return json_is_string(json) ? netcfg_addr_parse(json_string_value(json), ret, NULL) : -1;
}

static int route_from_json(json_t *json, struct netcfg_route *ret)
{
	json_int_t table, metric;
	json_t *to, *gateway, *source;
	int protocol, scope, onlink;
	if (json_unpack(json, "{s:o, s:o, s:o, s:I, s:I, s:i, s:i, s:b}", "to", &to, "gateway",
			&gateway, "source", &source, "table", &table, "metric", &metric, "protocol",
			&protocol, "scope", &scope, "onlink", &onlink) < 0)
		return -1;
	ret->table = (uint32_t)table;
	ret->metric = (uint32_t)metric;
	ret->protocol = (uint8_t)protocol;
	ret->scope = (uint8_t)scope;
	ret->onlink = onlink != 0;
	if (addr_from_json(to, &ret->to) < 0 || addr_from_json(gateway, &ret->gateway) < 0)
		return -1;
	return addr_from_json(source, &ret->source);
}

static int read_lists(const json_t *addresses, const json_t *routes, struct netcfg_uplink *ret)
{
	if (json_array_size(addresses) > NETCFG_UPLINK_ADDRS_MAX ||
	    json_array_size(routes) > NETCFG_UPLINK_ROUTES_MAX)
		return -1;
	for (size_t i = 0; i < json_array_size(addresses); i++)
		if (addr_from_json(json_array_get(addresses, i), &ret->addresses[i]) < 0)
			return -1;
	for (size_t i = 0; i < json_array_size(routes); i++)
		if (route_from_json(json_array_get(routes, i), &ret->routes[i]) < 0)
			return -1;
	ret->n_addresses = (uint8_t)json_array_size(addresses);
	ret->n_routes = (uint8_t)json_array_size(routes);
	return 0;
}

int uplink_from_text(const char *text, struct netcfg_uplink *ret, struct err *err)
{
	_cleanup_json_ json_t *all = NULL;
	struct netcfg_uplink uplink = {.mtu = 0};
	const char *name, *mac;
	json_int_t mtu;
	int was_up;
	json_t *addresses, *routes;
	if (json_line_parse(text, strlen(text), JSON_LINE_DEPTH_MAX, &all, err) < 0)
		return -1;
	if (json_unpack(all, "{s:s, s:s, s:I, s:b, s:o, s:o}", "name", &name, "mac", &mac, "mtu",
			&mtu, "was_up", &was_up, "addresses", &addresses, "routes", &routes) < 0 ||
	    str_copy(uplink.name, sizeof(uplink.name), name) < 0 ||
	    sscanf(mac, "%2hhx:%2hhx:%2hhx:%2hhx:%2hhx:%2hhx", &uplink.mac[0], &uplink.mac[1],
		   &uplink.mac[2], &uplink.mac[3], &uplink.mac[4], &uplink.mac[5]) != 6 ||
	    read_lists(addresses, routes, &uplink) < 0)
		return err_set(err, ERR_CORRUPT, "what an uplink had before cannot be read");
	uplink.mtu = (uint32_t)mtu;
	uplink.was_up = was_up != 0;
	*ret = uplink;
	return 0;
}

static bool has_address(struct netcfg *netcfg, const char *link)
{
	struct netcfg_addr addrs[NETCFG_LINK_ADDRS_MAX];
	size_t n = 0;
	if (netcfg_link_addresses(netcfg, link, addrs, &n, NULL) < 0)
		return false;
	for (size_t i = 0; i < n; i++)
		if (addrs[i].family != AF_INET6 || !IN6_IS_ADDR_LINKLOCAL(&addrs[i].v6))
			return true;
	return false;
}

/*
 * Has the bridge what the uplink had? Then what was written down counts: it may be the bridge's
 * port no more, by somebody else's hand, and have nothing of its own.
 */
static int is_taken_over(struct netcfg *netcfg, const struct network *network, bool *ret,
			 struct err *err)
{
	struct netcfg_link link;
	char bridge[16];
	network_bridge_name(network, bridge);
	if (netcfg_link_get(netcfg, network->row.uplink, &link, err) < 0)
		return err_prefix(err, "uplink %s", network->row.uplink);
	*ret = strcmp(link.master_name, bridge) == 0 || has_address(netcfg, bridge);
	return 0;
}

static int read_kept(const struct network *network, struct netcfg_uplink *ret, struct err *err)
{
	_cleanup_free_ char *text = NULL;
	if (db_network_get_uplink(network->all->db, network->row.id, &text, err) < 0)
		return -1;
	return uplink_from_text(text, ret, err);
}

static int keep(const struct network *network, const struct netcfg_uplink *uplink, struct err *err)
{
	_cleanup_free_ char *text = uplink_to_text(uplink);
	return db_network_set_uplink(network->all->db, network->row.id, text, err);
}

bool uplink_is_needed(const struct network *network)
{
	return network->row.kind == DB_NETWORK_BRIDGED && !network->row.vlan &&
	       !network->row.joined;
}

int uplink_request(const struct network *network, struct priv_request *ret, struct err *err)
{
	_cleanup_(netcfg_closep) struct netcfg *netcfg = NULL;
	struct priv_request req = {.verb = PRIV_UPLINK_ENSLAVE};
	struct priv_uplink *uplink = &req.u.uplink;
	bool taken_over = false;
	if (netcfg_open(&netcfg, err) < 0 || is_taken_over(netcfg, network, &taken_over, err) < 0)
		return -1;
	if (!taken_over || read_kept(network, &uplink->before, NULL) < 0) {
		if (netcfg_uplink_capture(netcfg, network->row.uplink, &uplink->before, err) < 0 ||
		    keep(network, &uplink->before, err) < 0)
			return -1;
	}
	uplink->slot = (uint32_t)network->row.slot;
	if (network->row.confirm_until) {
		int64_t left_s = (network->row.confirm_until - str_now_ms() + 999) / 1000;
		uplink->timeout_s = left_s < 1 ? 1 : (uint32_t)left_s;
	}
	*ret = req;
	return 0;
}

int uplink_release_request(const struct network *network, struct priv_request *ret, struct err *err)
{
	struct priv_request req = {.verb = PRIV_UPLINK_RELEASE};
	if (read_kept(network, &req.u.uplink.before, err) < 0)
		return -1;
	req.u.uplink.slot = (uint32_t)network->row.slot;
	*ret = req;
	return 0;
}
