/* A network as the control API shows it. */
#include <arpa/inet.h>
#include <stdio.h>
#include <string.h>

#include "vdi-hostd/network/private.h"

static const char *const kind_names[] = {
	[DB_NETWORK_NAT] = "nat",         [DB_NETWORK_ISOLATED] = "isolated",
	[DB_NETWORK_BRIDGED] = "bridged", [DB_NETWORK_USER] = "user",
	[DB_NETWORK_ROUTED] = "routed",
};

static json_t *cidr_of(const struct db_network *row)
{
	char text[16];
	if (!row->address)
		return json_null();
	address_format(row->address & netcfg_mask((unsigned int)row->prefix), text);
	return json_sprintf("%s/%u", text, (unsigned int)row->prefix);
}

static json_t *cidr6_of(const struct db_network *row)
{
	uint8_t address[16];
	char text[INET6_ADDRSTRLEN];
	if (inet_pton(AF_INET6, row->address6, address) != 1)
		return json_null();
	memset(address + 8, 0, 8);
	inet_ntop(AF_INET6, address, text, sizeof(text));
	return json_sprintf("%s/64", text);
}

static json_t *range_of(const struct db_network *row)
{
	char first[16], last[16];
	if (!row->range_first)
		return json_null();
	address_format(row->range_first, first);
	address_format(row->range_last, last);
	return json_sprintf("%s-%s", first, last);
}

static json_t *number_or_null(int64_t value)
{
	return value ? json_integer(value) : json_null();
}

static json_t *text_or_null(const char *text)
{
	return text[0] ? json_string(text) : json_null();
}

static json_t *peers_of(const struct db_network *row)
{
	json_t *peers = json_array();
	for (const char *at = row->peers; *at;) {
		size_t len = strcspn(at, ",");
		json_array_append_new(peers, json_stringn(at, len));
		at += len + (at[len] == ',');
	}
	return peers;
}

static json_t *openings_of(const struct db_openings *openings)
{
	json_t *list = json_array();
	for (size_t i = 0; i < openings->n; i++) {
		const struct db_opening *opening = &openings->opening[i];
		json_array_append_new(
			list,
			json_pack("{s:s, s:o}", "protocol",
				  opening->protocol == DB_PROTOCOL_TCP ? "tcp" : "udp", "ports",
				  networks_ports_to_json(opening->port_first, opening->port_last)));
	}
	return list;
}

static const char *state_of(const struct network *network)
{
	if (network->plan)
		return "changing";
	if (network->degraded[0])
		return "degraded";
	return network->row.confirm_until ? "unconfirmed" : "active";
}

static void add_settings(json_t *json, const struct network *network)
{
	const struct db_network *row = &network->row;
	char until[STR_TIME_MAX];
	str_format_time(row->confirm_until, until);
	json_object_set_new(json, "range", range_of(row));
	json_object_set_new(json, "cidr6", cidr6_of(row));
	json_object_set_new(json, "gateway6", text_or_null(row->address6));
	json_object_set_new(json, "dns", json_boolean(network_has_dnsmasq(network) && row->dns));
	json_object_set_new(json, "isolate_ports", json_boolean(row->isolate_ports));
	json_object_set_new(json, "source_guard",
			    row->kind == DB_NETWORK_BRIDGED ? json_boolean(row->source_guard)
							    : json_null());
	json_t *groups = json_array();
	for (size_t i = 0; i < network->n_groups; i++)
		json_array_append_new(groups, json_string(network->groups[i]->row.name));
	json_object_set_new(json, "firewall", groups);
	json_object_set_new(json, "openings", openings_of(&row->openings));
	json_object_set_new(json, "mtu", number_or_null(row->mtu));
	json_object_set_new(json, "uplink", text_or_null(row->uplink));
	json_object_set_new(json, "vlan", number_or_null(row->vlan));
	json_object_set_new(json, "vni", number_or_null(row->vni));
	json_object_set_new(json, "underlay", text_or_null(row->underlay));
	json_object_set_new(json, "vxlan_port", number_or_null(row->vxlan_port));
	json_object_set_new(json, "peers", peers_of(row));
	json_object_set_new(json, "confirm_until",
			    row->confirm_until ? json_string(until) : json_null());
}

json_t *networks_to_json(struct networks *all, const struct db_network *row)
{
	struct network *network = network_find(all, row->id, NULL);
	char created[STR_TIME_MAX], gateway[16], bridge[16];
	str_format_time(row->created_at, created);
	address_format(row->address, gateway);
	network_bridge_name(network, bridge);
	json_t *json =
		json_pack("{s:s, s:s, s:s, s:s, s:s?, s:o, s:s?, s:s?, s:s}", "id", row->id, "name",
			  row->name, "kind", kind_names[row->kind], "state", state_of(network),
			  "state_reason", network->degraded[0] ? network->degraded : NULL, "cidr",
			  cidr_of(row), "gateway", row->address ? gateway : NULL, "bridge",
			  network_has_kernel_part(network) ? bridge : NULL, "created_at", created);
	add_settings(json, network);
	return json;
}
