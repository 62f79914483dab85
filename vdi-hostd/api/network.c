#include "vdi-hostd/network/network.h"

#include "base/mem.h"
#include "base/str.h"
#include "vdi-hostd/api/api.h"
#include "vdi-hostd/desktop/desktop.h"

static const char *const kinds[] = {"nat", "isolated", "bridged", "user", "routed", NULL};
static const char *const states[] = {"active", "degraded", "changing", "unconfirmed", NULL};

static const char *const protocols[] = {"tcp", "udp", NULL};

struct opening_params {
	int protocol;
	const char *ports;
};

static const struct json_field opening_fields[] = {
	{"protocol", JSON_FIELD_ENUM, 0, offsetof(struct opening_params, protocol),
	 .values = protocols, .doc = "tcp or udp"},
	{"ports", JSON_FIELD_STRING, JSON_FIELD_REQUIRED, offsetof(struct opening_params, ports),
	 .max = 11, .doc = "the port, or a range as 8000-8010"},
	{0},
};

#define NETWORK_FIELDS                                                                              \
	{"id", JSON_FIELD_STRING, .doc = "UUID"},                                                   \
		{"name", JSON_FIELD_NAME, .doc = "unique among networks"},                          \
		{"kind", JSON_FIELD_ENUM, .values = kinds, .doc = "what it reaches"},               \
		{"state", JSON_FIELD_ENUM, .values = states,                                        \
		 .doc = "degraded: something of it is missing on the host, and is being put back; " \
			"unconfirmed: taken back unless network.confirm comes in time"},            \
		{"state_reason", JSON_FIELD_STRING, JSON_FIELD_NULLABLE,                            \
		 .doc = "what is missing"},                                                         \
		{"cidr", JSON_FIELD_STRING, JSON_FIELD_NULLABLE, .doc = "its range of addresses"},  \
		{"gateway", JSON_FIELD_STRING, JSON_FIELD_NULLABLE,                                 \
		 .doc = "the host's address on it"},                                                \
		{"bridge", JSON_FIELD_STRING, JSON_FIELD_NULLABLE, .doc = "the kernel's link"},     \
		{"range", JSON_FIELD_STRING, JSON_FIELD_NULLABLE,                                   \
		 .doc = "what desktops get of the addresses; null: all"},                           \
		{"cidr6", JSON_FIELD_STRING, JSON_FIELD_NULLABLE,                                   \
		 .doc = "its range of IPv6 addresses"},                                             \
		{"gateway6", JSON_FIELD_STRING, JSON_FIELD_NULLABLE,                                \
		 .doc = "the host's IPv6 address on it"},                                           \
		{"dns", JSON_FIELD_BOOL, .doc = "the host answers names on it"},                    \
		{"isolate_ports", JSON_FIELD_BOOL, .doc = "its desktops do not reach each other"},  \
		{"source_guard", JSON_FIELD_BOOL, JSON_FIELD_NULLABLE,                              \
		 .doc = "kind bridged: its desktops send only from addresses that the LAN's DHCP "  \
			"gave to them, or that are fixed; null: guarded in any case"},              \
		{"firewall", JSON_FIELD_STRINGS,                                                    \
		 .doc = "the firewall groups that its desktops have"},                              \
		{"openings", JSON_FIELD_ARRAY, .fields = opening_fields,                            \
		 .doc = "what its desktops may reach on the host, besides DHCP and DNS"},           \
		{"mtu", JSON_FIELD_INT, JSON_FIELD_NULLABLE, .doc = "null: the kernel's choice"},   \
		{"uplink", JSON_FIELD_STRING, JSON_FIELD_NULLABLE,                                  \
		 .doc = "the host's link or bridge that it is on"},                                 \
		{"vlan", JSON_FIELD_INT, JSON_FIELD_NULLABLE, .doc = "802.1Q tag on the uplink"},   \
		{"vni", JSON_FIELD_INT, JSON_FIELD_NULLABLE, .doc = "its VXLAN"},                   \
		{"underlay", JSON_FIELD_STRING, JSON_FIELD_NULLABLE,                                \
		 .doc = "this host's address towards its peers"},                                   \
		{"vxlan_port", JSON_FIELD_INT, JSON_FIELD_NULLABLE,                                 \
		 .doc = "UDP port of the VXLAN"},                                                   \
		{"peers", JSON_FIELD_STRINGS,                                                       \
		 .doc = "addresses of the hosts that it spans, but this one"},                      \
		{"confirm_until", JSON_FIELD_TIME, JSON_FIELD_NULLABLE,                             \
		 .doc = "when it is taken back unless confirmed"},                                  \
	{                                                                                           \
		"created_at", JSON_FIELD_TIME, .doc = "when it was made"                            \
	}

static const struct json_field network_fields[] = {NETWORK_FIELDS, {0}};

static const struct json_field get_result[] = {
	NETWORK_FIELDS,
	{"actual", JSON_FIELD_OBJECT,
	 .doc = "what the kernel has: exists, up, mtu, mac, addresses, counters of the bridge; its ports "
		"with their counters (rx: from the guest); peers of a VXLAN"},
	{"differences", JSON_FIELD_STRINGS,
	 .doc = "what of it is not as wished; it is put back as soon as it is seen"},
	{0},
};

static void answer_network(void *data, const struct db_network *row, const struct err *err)
{
	struct api_call *call = data;
	if (err)
		api_fail(call, err);
	else
		api_reply(call, row ? networks_to_json(api_call_host(call)->networks, row)
				    : json_object());
}

struct create_params {
	const char *name, *cidr, *gateway, *range, *cidr6, *uplink, *underlay;
	int kind;
	int64_t vlan, mtu, vni, vxlan_port, confirm_timeout_s;
	json_t *peers, *openings;
	bool dns, isolate_ports, source_guard;
};

#define AT(member) offsetof(struct create_params, member)

#define GUARD_DOC                                                                                   \
	"kind bridged: its desktops send only from addresses that the LAN's DHCP gave to them, or " \
	"that are fixed"

static const struct json_field create_fields[] = {
	{"name", JSON_FIELD_NAME, JSON_FIELD_REQUIRED, AT(name), .doc = "unique among networks"},
	{"kind", JSON_FIELD_ENUM, 0, AT(kind), .values = kinds,
	 .doc = "nat: out through the host's address; isolated: no way out; routed: out and in with "
		"addresses of its own; bridged: on a link of the host's, where others give "
		"addresses; user: QEMU's own, for daemons without root"},
	{"cidr", JSON_FIELD_STRING, 0, AT(cidr), .max = 32,
	 .doc = "its range, such as 10.1.2.0/24; without it a free one is chosen"},
	{"gateway", JSON_FIELD_STRING, 0, AT(gateway), .max = 15,
	 .doc = "the host's own address in it; without it the first"},
	{"range", JSON_FIELD_STRING, 0, AT(range), .max = 40,
	 .doc = "what desktops get of it, such as 10.1.2.100-10.1.2.199; without it all"},
	{"cidr6", JSON_FIELD_STRING, 0, AT(cidr6), .max = 48,
	 .doc = "its IPv6 range, such as fd00:1:2:3::/64, or auto"},
	{"uplink", JSON_FIELD_STRING, 0, AT(uplink), .max = 15,
	 .doc = "kind bridged: the host's link to the outside, whose addresses move to the network's "
		"bridge; or a bridge that the host has, which keeps all and gets one more port"},
	{"vlan", JSON_FIELD_INT, 0, AT(vlan), .min = 0, .max = 4094,
	 .doc = "kind bridged: this VLAN of the uplink, which keeps its addresses"},
	{"confirm_timeout_s", JSON_FIELD_INT, 0, AT(confirm_timeout_s), .min = 1, .max = 3600,
	 .def = 60,
	 .doc = "kind bridged, where the uplink's addresses move: all is put back unless "
		"network.confirm comes by then"},
	{"mtu", JSON_FIELD_INT, 0, AT(mtu), .min = 0, .max = 9216,
	 .doc = "576 to 9216; 0: the kernel's choice"},
	{"vni", JSON_FIELD_INT, 0, AT(vni), .min = 0, .max = 16777215,
	 .doc = "spans hosts, as this VXLAN; needs underlay and peers"},
	{"underlay", JSON_FIELD_STRING, 0, AT(underlay), .max = 15,
	 .doc = "this host's address towards the peers"},
	{"peers", JSON_FIELD_STRINGS, 0, AT(peers), .max = 16, .doc = "the other hosts' addresses"},
	{"vxlan_port", JSON_FIELD_INT, 0, AT(vxlan_port), .min = 0, .max = 65535, .def = 4789,
	 .doc = "UDP port of the VXLAN, the same on all hosts"},
	{"dns", JSON_FIELD_BOOL, 0, AT(dns), .def = 1, .doc = "answer names on it"},
	{"isolate_ports", JSON_FIELD_BOOL, 0, AT(isolate_ports),
	 .doc = "its desktops do not reach each other"},
	{"source_guard", JSON_FIELD_BOOL, 0, AT(source_guard), .def = 1,
	 .doc = GUARD_DOC "; by default where the kernel can"},
	{"openings", JSON_FIELD_ARRAY, 0, AT(openings), .max = DB_OPENINGS_MAX,
	 .fields = opening_fields,
	 .doc = "what its desktops may reach on the host, besides DHCP and DNS, each as "
		"{\"protocol\": \"tcp\", \"ports\": \"8000-8010\"}; not for kinds bridged and user"},
	{0},
};

#undef AT

static int parse_openings(const json_t *list, struct db_openings *ret, struct err *err)
{
	struct opening_params params;
	size_t i;
	json_t *item;
	*ret = (struct db_openings){.n = 0};
	json_array_foreach(list, i, item)
	{
		struct db_opening *opening = &ret->opening[ret->n++];
		if (json_fields_read(opening_fields, item, &params, 0, err) < 0 ||
		    networks_parse_ports(params.ports, &opening->port_first, &opening->port_last,
					 err) < 0)
			return err_prefix(err, "opening %zu", i + 1);
		opening->protocol = params.protocol ? DB_PROTOCOL_UDP : DB_PROTOCOL_TCP;
	}
	return 0;
}

static int check_mtu(int64_t mtu, struct err *err)
{
	if (mtu <= 0 || mtu >= PRIV_MTU_MIN)
		return 0;
	return err_set_field(err, "mtu", "an MTU is %d to %d", PRIV_MTU_MIN, PRIV_MTU_MAX);
}

static int bool_if_there(struct api_call *call, const char *name, bool value)
{
	return json_object_get(api_call_params(call), name) ? value : -1;
}

static struct api_token network_create(struct api_call *call, const void *data)
{
	const struct create_params *params = data;
	const int guard = bool_if_there(call, "source_guard", params->source_guard);
	struct db_openings openings;
	struct err err;
	const struct network_create create = {
		.name = params->name,
		.kind = (enum db_network_kind)params->kind,
		.cidr = params->cidr,
		.gateway = params->gateway,
		.range = params->range,
		.cidr6 = params->cidr6,
		.uplink = params->uplink,
		.vlan = params->vlan,
		.mtu = params->mtu,
		.vni = params->vni,
		.vxlan_port = params->vxlan_port,
		.underlay = params->underlay,
		.peers = params->peers,
		.no_dns = !params->dns,
		.isolate_ports = params->isolate_ports,
		.source_guard = guard < 0 ? NETWORK_GUARD_DEFAULT
				: guard   ? NETWORK_GUARD_ON
					  : NETWORK_GUARD_OFF,
		.openings = &openings,
		.confirm_timeout_s = params->confirm_timeout_s,
	};
	if (check_mtu(params->mtu, &err) < 0 ||
	    parse_openings(params->openings, &openings, &err) < 0)
		return api_fail(call, &err);
	struct api_token token = api_pending(call);
	networks_create(api_call_host(call)->networks, &create, answer_network, call);
	return token;
}

struct update_params {
	const char *network, *cidr, *range;
	int64_t mtu;
	json_t *peers, *openings;
	bool dns, isolate_ports, source_guard;
};

#define AT(member) offsetof(struct update_params, member)

static const struct json_field update_fields[] = {
	{"network", JSON_FIELD_REF, JSON_FIELD_REQUIRED, AT(network), .doc = "name or id"},
	{"cidr", JSON_FIELD_STRING, 0, AT(cidr), .max = 32,
	 .doc = "grow or shrink its range around the gateway and the addresses in use"},
	{"range", JSON_FIELD_STRING, 0, AT(range), .max = 40,
	 .doc = "what new desktops get of it, such as 10.1.2.100-10.1.2.199"},
	{"mtu", JSON_FIELD_INT, 0, AT(mtu), .min = 0, .max = 9216, .def = -1,
	 .doc = "576 to 9216; 0: the kernel's choice"},
	{"peers", JSON_FIELD_STRINGS, 0, AT(peers), .max = 16,
	 .doc = "the other hosts of its VXLAN; replaces the list"},
	{"dns", JSON_FIELD_BOOL, 0, AT(dns), .doc = "answer names on it"},
	{"isolate_ports", JSON_FIELD_BOOL, 0, AT(isolate_ports),
	 .doc = "its desktops do not reach each other"},
	{"source_guard", JSON_FIELD_BOOL, 0, AT(source_guard),
	 .doc = GUARD_DOC "; turned on, a desktop that runs has to ask for its address again"},
	{"openings", JSON_FIELD_ARRAY, 0, AT(openings), .max = DB_OPENINGS_MAX,
	 .fields = opening_fields,
	 .doc = "what its desktops may reach on the host, each as {\"protocol\": \"tcp\", \"ports\": "
		"\"8000-8010\"}; replaces the list, and ends connections that it no longer "
		"allows"},
	{0},
};

#undef AT

static struct api_token network_update(struct api_call *call, const void *data)
{
	const struct update_params *params = data;
	struct db_openings openings;
	struct err err;
	const struct network_update update = {
		.cidr = params->cidr,
		.range = params->range,
		.mtu = params->mtu,
		.peers = params->peers,
		.dns = bool_if_there(call, "dns", params->dns),
		.isolate_ports = bool_if_there(call, "isolate_ports", params->isolate_ports),
		.source_guard = bool_if_there(call, "source_guard", params->source_guard),
		.openings = params->openings ? &openings : NULL,
	};
	if (check_mtu(params->mtu, &err) < 0 ||
	    parse_openings(params->openings, &openings, &err) < 0)
		return api_fail(call, &err);
	struct api_token token = api_pending(call);
	networks_update(api_call_host(call)->networks, params->network, &update, answer_network,
			call);
	return token;
}

struct lister {
	struct networks *networks;
	json_t *items;
};

static void add_to_list(void *data, const struct db_network *row)
{
	struct lister *lister = data;
	json_array_append_new(lister->items, networks_to_json(lister->networks, row));
}

static struct api_token network_list(struct api_call *call, const void *data)
{
	struct lister lister = {api_call_host(call)->networks, json_array()};
	networks_each(lister.networks, add_to_list, &lister);
	return api_reply(call, lister.items);
}

struct ref_params {
	const char *network;
};

static const struct json_field ref_fields[] = {
	{"network", JSON_FIELD_REF, JSON_FIELD_REQUIRED, offsetof(struct ref_params, network),
	 .doc = "name or id"},
	{0},
};

static void answer_look(void *data, json_t *json, const struct err *err)
{
	struct api_call *call = data;
	if (err)
		api_fail(call, err);
	else
		api_reply(call, json);
}

static struct api_token network_get(struct api_call *call, const void *data)
{
	const struct ref_params *params = data;
	struct api_token token = api_pending(call);
	networks_look(api_call_host(call)->networks, params->network, answer_look, call);
	return token;
}

static struct api_token network_confirm(struct api_call *call, const void *data)
{
	const struct ref_params *params = data;
	struct api_token token = api_pending(call);
	networks_confirm(api_call_host(call)->networks, params->network, answer_network, call);
	return token;
}

struct firewall_params {
	const char *network;
	json_t *groups;
};

static const struct json_field firewall_fields[] = {
	{"network", JSON_FIELD_REF, JSON_FIELD_REQUIRED, offsetof(struct firewall_params, network),
	 .doc = "name or id"},
	{"groups", JSON_FIELD_STRINGS, JSON_FIELD_REQUIRED,
	 offsetof(struct firewall_params, groups), .max = 3,
	 .doc = "firewall groups; what one of them lets through passes; none: everything does"},
	{0},
};

static struct api_token network_firewall(struct api_call *call, const void *data)
{
	const struct firewall_params *params = data;
	struct api_token token = api_pending(call);
	networks_set_firewall(api_call_host(call)->networks, params->network, params->groups,
			      answer_network, call);
	return token;
}

static struct api_token network_delete(struct api_call *call, const void *data)
{
	const struct ref_params *params = data;
	const struct api_host *host = api_call_host(call);
	struct api_token token = api_pending(call);
	networks_delete(host->networks, params->network, desktops_use_network, host->desktops,
			answer_network, call);
	return token;
}

static const struct json_field leases_result[] = {
	{"leases", JSON_FIELD_ARRAY,
	 .doc = "what was handed out: mac, ip, hostname, expires_at of each; of kind bridged what "
		"others were heard to give to its desktops"},
	{0},
};

static struct api_token network_leases(struct api_call *call, const void *data)
{
	const struct ref_params *params = data;
	struct networks *networks = api_call_host(call)->networks;
	struct err err;
	const struct db_network *row = networks_find(networks, params->network, &err);
	if (!row)
		return api_fail(call, &err);
	json_t *leases = row->kind == DB_NETWORK_BRIDGED
				 ? desktops_leases(api_call_host(call)->desktops, row->id)
				 : networks_leases(networks, row, &err);
	return api_reply(call, json_pack("{s:o}", "leases", leases));
}

const struct api_method api_network_methods[] = {
	{"network.create", API_ROLE_ADMIN, API_MUTATES | API_NAMED, create_fields,
	 sizeof(struct create_params), network_fields, network_create,
	 "Make a network; answers when it is there."},
	{"network.list", API_ROLE_OPERATOR, API_LIST, NULL, 0, network_fields, network_list,
	 "List the networks."},
	{"network.get", API_ROLE_OPERATOR, API_NAMED, ref_fields, sizeof(struct ref_params),
	 get_result, network_get, "Show one network, as it is wished and as it is."},
	{"network.update", API_ROLE_ADMIN, API_MUTATES | API_NAMED, update_fields,
	 sizeof(struct update_params), network_fields, network_update,
	 "Change a network; desktops on it go on."},
	{"network.confirm", API_ROLE_ADMIN, API_MUTATES | API_NAMED, ref_fields,
	 sizeof(struct ref_params), network_fields, network_confirm,
	 "Keep a bridged network: its uplink is not put back."},
	{"network.firewall", API_ROLE_ADMIN, API_MUTATES | API_NAMED, firewall_fields,
	 sizeof(struct firewall_params), network_fields, network_firewall,
	 "Give all desktops of a network these firewall groups, at once."},
	{"network.delete", API_ROLE_ADMIN, API_MUTATES | API_NAMED, ref_fields,
	 sizeof(struct ref_params), NULL, network_delete,
	 "Delete a network that no desktop is on."},
	{"network.leases", API_ROLE_OPERATOR, API_NAMED, ref_fields, sizeof(struct ref_params),
	 leases_result, network_leases, "Show the addresses that were handed out on a network."},
	{0},
};
