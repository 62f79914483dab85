#include <arpa/inet.h>
#include <string.h>

#include "base/mem.h"
#include "vdi-hostd/api/api.h"
#include "vdi-hostd/network/network.h"

static const struct json_field reservation_fields[] = {
	{"id", JSON_FIELD_STRING, .doc = "UUID"},
	{"network", JSON_FIELD_STRING, .doc = "where the address is"},
	{"ip", JSON_FIELD_STRING, .doc = "the address"},
	{"ip6", JSON_FIELD_STRING, JSON_FIELD_NULLABLE, .doc = "and the IPv6 address with it"},
	{"mac", JSON_FIELD_STRING, JSON_FIELD_NULLABLE, .doc = "who gets it by DHCP"},
	{"name", JSON_FIELD_STRING, JSON_FIELD_NULLABLE,
	 .doc = "the desktop that gets it when it is made"},
	{"desktop", JSON_FIELD_STRING, JSON_FIELD_NULLABLE, .doc = "who has taken it up"},
	{"created_at", JSON_FIELD_TIME, .doc = "when it was made"},
	{0},
};

struct reserve_params {
	const char *network, *ip, *mac, *name;
};

static const struct json_field reserve_fields[] = {
	{"network", JSON_FIELD_REF, JSON_FIELD_REQUIRED, offsetof(struct reserve_params, network),
	 .doc = "name or id"},
	{"ip", JSON_FIELD_STRING, 0, offsetof(struct reserve_params, ip), .max = 15,
	 .doc = "the address; without it the lowest free one"},
	{"mac", JSON_FIELD_STRING, 0, offsetof(struct reserve_params, mac), .min = 17, .max = 17,
	 .doc = "who gets it by DHCP, such as 52:54:00:12:34:56"},
	{"name", JSON_FIELD_NAME, 0, offsetof(struct reserve_params, name),
	 .doc = "of the desktop that gets it when it is made, or of whoever has the MAC"},
	{0},
};

/* as dnsmasq and we write them: six pairs, lower case */
static int check_mac(const char *text, char ret[18], struct err *err)
{
	uint8_t mac[6];
	if (networks_parse_mac(text, mac) < 0 || !netcfg_mac_is_valid(mac))
		return err_set_field(err, "mac", "'%.20s' is no MAC of a NIC", text);
	netcfg_mac_format(mac, ret);
	return 0;
}

static struct api_token network_reserve(struct api_call *call, const void *data)
{
	const struct reserve_params *params = data;
	struct networks *networks = api_call_host(call)->networks;
	const struct db_reservation *row;
	struct in_addr in = {0};
	char mac[18];
	struct err err;
	if (params->ip && inet_pton(AF_INET, params->ip, &in) != 1) {
		err_set_field(&err, "ip", "'%.40s' is no IPv4 address", params->ip);
		return api_fail(call, &err);
	}
	if (!params->mac && !params->name) {
		err_set_field(&err, "mac", "say for whom: mac, name, or both");
		return api_fail(call, &err);
	}
	if (params->mac && check_mac(params->mac, mac, &err) < 0)
		return api_fail(call, &err);
	const struct network_reserve reserve = {
		.network = params->network,
		.ip = ntohl(in.s_addr),
		.mac = params->mac ? mac : NULL,
		.name = params->name,
	};
	if (networks_reserve(networks, &reserve, &row, &err) < 0)
		return api_fail(call, &err);
	return api_reply(call, networks_reservation_to_json(networks, row));
}

struct unreserve_params {
	const char *reservation;
};

static const struct json_field unreserve_fields[] = {
	{"reservation", JSON_FIELD_STRING, JSON_FIELD_REQUIRED,
	 offsetof(struct unreserve_params, reservation), .max = 36,
	 .doc = "its id, or the address"},
	{0},
};

static struct api_token network_unreserve(struct api_call *call, const void *data)
{
	const struct unreserve_params *params = data;
	struct err err;
	if (networks_unreserve(api_call_host(call)->networks, params->reservation, &err) < 0)
		return api_fail(call, &err);
	return api_reply(call, json_object());
}

struct list_params {
	const char *network;
};

static const struct json_field list_fields[] = {
	{"network", JSON_FIELD_REF, JSON_FIELD_REQUIRED, offsetof(struct list_params, network),
	 .doc = "name or id"},
	{0},
};

struct lister {
	struct networks *networks;
	json_t *items;
};

static void add_to_list(void *data, const struct db_reservation *row)
{
	struct lister *lister = data;
	json_array_append_new(lister->items, networks_reservation_to_json(lister->networks, row));
}

static struct api_token network_reservations(struct api_call *call, const void *data)
{
	const struct list_params *params = data;
	struct lister lister = {api_call_host(call)->networks, NULL};
	struct err err;
	const struct db_network *network = networks_find(lister.networks, params->network, &err);
	if (!network)
		return api_fail(call, &err);
	lister.items = json_array();
	networks_each_reservation(lister.networks, network, add_to_list, &lister);
	return api_reply(call, lister.items);
}

const struct api_method api_reservation_methods[] = {
	{"network.reserve", API_ROLE_ADMIN, API_MUTATES | API_NAMED, reserve_fields,
	 sizeof(struct reserve_params), reservation_fields, network_reserve,
	 "Keep an address for a MAC, or for a desktop yet to be made."},
	{"network.reservations", API_ROLE_OPERATOR, API_LIST | API_NAMED, list_fields,
	 sizeof(struct list_params), reservation_fields, network_reservations,
	 "List the addresses that are kept for somebody."},
	{"network.unreserve", API_ROLE_ADMIN, API_MUTATES | API_NAMED, unreserve_fields,
	 sizeof(struct unreserve_params), NULL, network_unreserve, "Give up a reservation."},
	{0},
};
