#include "vdi-hostd/network/network.h"

#include "base/mem.h"
#include "vdi-hostd/api/api.h"
#include "vdi-hostd/desktop/desktop.h"

static const char *const kinds[] = {"nat", "isolated", "bridged", "user", NULL};
static const char *const states[] = {"active", "degraded", "changing", NULL};

static const struct json_field network_fields[] = {
	{"id", JSON_FIELD_STRING, .doc = "UUID"},
	{"name", JSON_FIELD_NAME, .doc = "unique among networks"},
	{"kind", JSON_FIELD_ENUM, .values = kinds, .doc = "what it reaches"},
	{"state", JSON_FIELD_ENUM, .values = states,
	 .doc = "degraded: something of it is missing on the host, and is being put back"},
	{"state_reason", JSON_FIELD_STRING, JSON_FIELD_NULLABLE, .doc = "what is missing"},
	{"cidr", JSON_FIELD_STRING, JSON_FIELD_NULLABLE, .doc = "its range of addresses"},
	{"gateway", JSON_FIELD_STRING, JSON_FIELD_NULLABLE, .doc = "the host's address on it"},
	{"bridge", JSON_FIELD_STRING, JSON_FIELD_NULLABLE, .doc = "the kernel's link"},
	{"created_at", JSON_FIELD_TIME, .doc = "when it was made"},
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
	const char *name, *cidr;
	int kind;
};

static const struct json_field create_fields[] = {
	{"name", JSON_FIELD_NAME, JSON_FIELD_REQUIRED, offsetof(struct create_params, name),
	 .doc = "unique among networks"},
	{"kind", JSON_FIELD_ENUM, 0, offsetof(struct create_params, kind), .values = kinds,
	 .doc = "nat: out through the host's address; isolated: no way out; user: QEMU's own, for "
		"daemons without root; bridged is not offered yet"},
	{"cidr", JSON_FIELD_STRING, 0, offsetof(struct create_params, cidr), .max = 32,
	 .doc = "its range, such as 10.1.2.0/24; without it a free one is chosen"},
	{0},
};

static struct api_token network_create(struct api_call *call, const void *data)
{
	const struct create_params *params = data;
	struct api_token token = api_pending(call);
	networks_create(api_call_host(call)->networks, params->name,
			(enum db_network_kind)params->kind, params->cidr, answer_network, call);
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

static struct api_token network_get(struct api_call *call, const void *data)
{
	const struct ref_params *params = data;
	struct networks *networks = api_call_host(call)->networks;
	struct err err;
	const struct db_network *row = networks_find(networks, params->network, &err);
	return row ? api_reply(call, networks_to_json(networks, row)) : api_fail(call, &err);
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
	 .doc = "what was handed out: mac, ip, hostname, expires_at of each"},
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
	return api_reply(call, json_pack("{s:o}", "leases", networks_leases(networks, row, &err)));
}

const struct api_method api_network_methods[] = {
	{"network.create", API_ROLE_ADMIN, API_MUTATES | API_NAMED, create_fields,
	 sizeof(struct create_params), network_fields, network_create,
	 "Make a network; answers when it is there."},
	{"network.list", API_ROLE_OPERATOR, API_LIST, NULL, 0, network_fields, network_list,
	 "List the networks."},
	{"network.get", API_ROLE_OPERATOR, API_NAMED, ref_fields, sizeof(struct ref_params),
	 network_fields, network_get, "Show one network."},
	{"network.delete", API_ROLE_ADMIN, API_MUTATES | API_NAMED, ref_fields,
	 sizeof(struct ref_params), NULL, network_delete,
	 "Delete a network that no desktop is on."},
	{"network.leases", API_ROLE_OPERATOR, API_NAMED, ref_fields, sizeof(struct ref_params),
	 leases_result, network_leases, "Show the addresses that a network has handed out."},
	{0},
};
