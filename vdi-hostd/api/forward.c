#include <string.h>

#include "base/mem.h"
#include "vdi-hostd/api/api.h"
#include "vdi-hostd/desktop/desktop.h"
#include "vdi-hostd/network/network.h"

static const char *const protocols[] = {"tcp", "udp", NULL};

static const struct json_field forward_fields[] = {
	{"id", JSON_FIELD_STRING, .doc = "UUID"},
	{"network", JSON_FIELD_STRING, JSON_FIELD_NULLABLE, .doc = "that the desktop is on"},
	{"desktop", JSON_FIELD_STRING, JSON_FIELD_NULLABLE, .doc = "that it leads to"},
	{"mac", JSON_FIELD_STRING, .doc = "of the NIC that it leads to"},
	{"ip", JSON_FIELD_STRING, JSON_FIELD_NULLABLE, .doc = "the IPv4 address that it leads to"},
	{"ip6", JSON_FIELD_STRING, JSON_FIELD_NULLABLE, .doc = "the IPv6 address that it leads to"},
	{"protocol", JSON_FIELD_ENUM, .values = protocols, .doc = "tcp or udp"},
	{"host_address", JSON_FIELD_STRING, JSON_FIELD_NULLABLE,
	 .doc = "of the host's addresses; null: all but loopback, of both families"},
	{"host_port", JSON_FIELD_INT, .doc = "first port on the host"},
	{"port", JSON_FIELD_INT, .doc = "first port on the desktop"},
	{"count", JSON_FIELD_INT, .doc = "how many ports, one to one"},
	{"created_at", JSON_FIELD_TIME, .doc = "when it was made"},
	{0},
};

static void answer(void *data, const struct db_forward *row, const struct err *err)
{
	struct api_call *call = data;
	if (err)
		api_fail(call, err);
	else
		api_reply(call, row ? networks_forward_to_json(api_call_host(call)->networks, row)
				    : json_object());
}

struct add_params {
	const char *desktop, *host_address;
	int protocol;
	int64_t host_port, port, count, nic;
};

#define AT(member) offsetof(struct add_params, member)

static const struct json_field add_fields[] = {
	{"desktop", JSON_FIELD_REF, JSON_FIELD_REQUIRED, AT(desktop), .doc = "name or id"},
	{"protocol", JSON_FIELD_ENUM, 0, AT(protocol), .values = protocols, .doc = "tcp or udp"},
	{"host_address", JSON_FIELD_STRING, 0, AT(host_address), .max = 45,
	 .doc = "one of the host's addresses, IPv4 or IPv6; without it all but loopback, of both "
		"families where the network has both"},
	{"host_port", JSON_FIELD_INT, JSON_FIELD_REQUIRED, AT(host_port), .min = 1, .max = 65535,
	 .doc = "first port on the host"},
	{"port", JSON_FIELD_INT, JSON_FIELD_REQUIRED, AT(port), .min = 1, .max = 65535,
	 .doc = "first port on the desktop"},
	{"count", JSON_FIELD_INT, 0, AT(count), .min = 1, .max = 1024, .def = 1,
	 .doc = "how many ports, one to one"},
	{"nic", JSON_FIELD_INT, 0, AT(nic), .min = 0, .max = QEMU_NICS_MAX - 1,
	 .doc = "which of the desktop's NICs"},
	{0},
};

#undef AT

static struct api_token forward_add(struct api_call *call, const void *data)
{
	const struct add_params *params = data;
	const struct api_host *host = api_call_host(call);
	struct err err;
	const struct desktop *desktop = desktops_find(host->desktops, params->desktop, &err);
	if (!desktop)
		return api_fail(call, &err);
	const struct db_nic *nic = desktop_nic_row(desktop, params->nic);
	if (!nic)
		err_set(&err, ERR_CONFLICT, "desktop '%s' has no NIC %lld",
			desktop_row(desktop)->name, (long long)params->nic);
	else {
		const struct network_forward forward = {
			.network_id = nic->network_id,
			.mac = nic->mac,
			.protocol = params->protocol ? DB_PROTOCOL_UDP : DB_PROTOCOL_TCP,
			.host_address = params->host_address,
			.host_port = params->host_port,
			.port = params->port,
			.count = params->count,
		};
		struct api_token token = api_pending(call);
		networks_forward_add(host->networks, &forward, answer, call);
		return token;
	}
	return api_fail(call, &err);
}

struct list_params {
	const char *network;
};

static const struct json_field list_fields[] = {
	{"network", JSON_FIELD_REF, 0, offsetof(struct list_params, network),
	 .doc = "only those of this network"},
	{0},
};

struct lister {
	struct networks *networks;
	json_t *items;
};

static void add_to_list(void *data, const struct db_forward *row)
{
	struct lister *lister = data;
	json_array_append_new(lister->items, networks_forward_to_json(lister->networks, row));
}

static struct api_token forward_list(struct api_call *call, const void *data)
{
	const struct list_params *params = data;
	struct lister lister = {api_call_host(call)->networks, NULL};
	const struct db_network *network = NULL;
	struct err err;
	if (params->network) {
		network = networks_find(lister.networks, params->network, &err);
		if (!network)
			return api_fail(call, &err);
	}
	lister.items = json_array();
	networks_forward_each(lister.networks, network ? network->id : NULL, add_to_list, &lister);
	return api_reply(call, lister.items);
}

struct delete_params {
	const char *forward;
};

static const struct json_field delete_fields[] = {
	{"forward", JSON_FIELD_STRING, JSON_FIELD_REQUIRED, offsetof(struct delete_params, forward),
	 .max = 36, .doc = "its id"},
	{0},
};

static struct api_token forward_delete(struct api_call *call, const void *data)
{
	const struct delete_params *params = data;
	struct api_token token = api_pending(call);
	networks_forward_delete(api_call_host(call)->networks, params->forward, answer, call);
	return token;
}

const struct api_method api_forward_methods[] = {
	{"network.forward.add", API_ROLE_ADMIN, API_MUTATES | API_NAMED, add_fields,
	 sizeof(struct add_params), forward_fields, forward_add,
	 "Let ports of the host lead to a desktop."},
	{"network.forward.list", API_ROLE_OPERATOR, API_LIST, list_fields,
	 sizeof(struct list_params), forward_fields, forward_list, "List the port forwards."},
	{"network.forward.delete", API_ROLE_ADMIN, API_MUTATES | API_NAMED, delete_fields,
	 sizeof(struct delete_params), NULL, forward_delete, "Take a port forward away."},
	{0},
};
