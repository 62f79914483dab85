#include "vdi-hostd/api/api.h"
#include "vdi-hostd/api/private.h"
#include "vdi-hostd/desktop/desktop.h"

static const char *const link_states[] = {"down", "up", NULL};
static const char *const link_wishes[] = {"unchanged", "down", "up", NULL};

#define KBIT_MAX INT64_C(400000000)
#define KIB_MAX  (INT64_C(1) << 20)

#define QUEUES_DOC                                                                                 \
	"queues, each served by a processor of its own; no more are made than the desktop has "    \
	"processors"

const struct json_field desktop_nic_fields[] = {
	{"nic", JSON_FIELD_INT, .doc = "its number, from 0"},
	{"network", JSON_FIELD_STRING, JSON_FIELD_NULLABLE, .doc = "what it is connected to"},
	{"mac", JSON_FIELD_STRING, .doc = "its address, for its whole life"},
	{"ip", JSON_FIELD_STRING, JSON_FIELD_NULLABLE,
	 .doc = "the address kept for it; on a bridged network the fixed one, or what the LAN's DHCP "
		"gave to it; null while that is not known"},
	{"link", JSON_FIELD_ENUM, .values = link_states, .doc = "is the cable plugged in?"},
	{"to_guest_kbit", JSON_FIELD_INT, .doc = "the most a second, in 1000 bits; 0: no limit"},
	{"to_guest_burst_kib", JSON_FIELD_INT, .doc = "what may pass at once; 0: what suits it"},
	{"from_guest_kbit", JSON_FIELD_INT, .doc = "the same for what the guest sends"},
	{"from_guest_burst_kib", JSON_FIELD_INT, .doc = "the same for what the guest sends"},
	{"queues", JSON_FIELD_INT, .doc = QUEUES_DOC},
	{"queues_in_use", JSON_FIELD_INT, JSON_FIELD_NULLABLE,
	 .doc = "those of the guest that runs"},
	{"vhost", JSON_FIELD_BOOL, JSON_FIELD_NULLABLE,
	 .doc = "does the kernel move its packets, instead of QEMU? null while no guest runs"},
	{"firewall", JSON_FIELD_STRINGS,
	 .doc = "its own firewall groups, besides those of its network"},
	{0},
};

struct nic_params {
	const char *desktop, *network, *mac, *ip;
	int64_t nic, to_guest_kbit, to_guest_burst_kib, from_guest_kbit, from_guest_burst_kib;
	int64_t queues;
	int link;
	const json_t *firewall;
};

#define AT(member) offsetof(struct nic_params, member)

#define DESKTOP_FIELD                                                                              \
	{                                                                                          \
		"desktop", JSON_FIELD_REF, JSON_FIELD_REQUIRED, AT(desktop), .doc = "name or id"   \
	}
#define NIC_FIELD                                                                                  \
	{                                                                                          \
		"nic", JSON_FIELD_INT, JSON_FIELD_REQUIRED, AT(nic),                               \
			.min = 0, .max = QEMU_NICS_MAX - 1, .doc = "its number"                    \
	}
#define LIMIT_FIELDS                                                                               \
	{"to_guest_kbit",                                                                          \
	 JSON_FIELD_INT,                                                                           \
	 0,                                                                                        \
	 AT(to_guest_kbit),                                                                        \
	 .min = 0,                                                                                 \
	 .max = KBIT_MAX,                                                                          \
	 .def = -1,                                                                                \
	 .doc = "the most a second, in 1000 bits; 0: no limit"},                                   \
		{"to_guest_burst_kib",                                                             \
		 JSON_FIELD_INT,                                                                   \
		 0,                                                                                \
		 AT(to_guest_burst_kib),                                                           \
		 .min = 0,                                                                         \
		 .max = KIB_MAX,                                                                   \
		 .def = -1,                                                                        \
		 .doc = "what may pass at once; 0: what suits it"},                                \
		{"from_guest_kbit",                                                                \
		 JSON_FIELD_INT,                                                                   \
		 0,                                                                                \
		 AT(from_guest_kbit),                                                              \
		 .min = 0,                                                                         \
		 .max = KBIT_MAX,                                                                  \
		 .def = -1,                                                                        \
		 .doc = "the same for what the guest sends"},                                      \
	{                                                                                          \
		"from_guest_burst_kib", JSON_FIELD_INT, 0, AT(from_guest_burst_kib),               \
			.min = 0, .max = KIB_MAX, .def = -1,                                       \
			.doc = "the same for what the guest sends"                                 \
	}

#define FIREWALL_FIELD                                                                             \
	{                                                                                          \
		"firewall", JSON_FIELD_STRINGS, 0, AT(firewall),                                   \
			.max = DB_NIC_GROUPS_MAX,                                                  \
			.doc = "its own firewall groups, besides those of its network; what one "  \
			       "of them all lets through passes"                                   \
	}

#define IP_DOC "its fixed address, on a bridged network: with source_guard it sends from no other"

static const struct json_field list_fields[] = {DESKTOP_FIELD, {0}};

static const struct json_field add_fields[] = {
	DESKTOP_FIELD,
	{"network", JSON_FIELD_REF, JSON_FIELD_REQUIRED, AT(network), .doc = "name or id"},
	{"mac", JSON_FIELD_STRING, 0, AT(mac), .min = 17, .max = 17,
	 .doc = "as 52:54:00:12:34:56; without it a random one"},
	{"ip", JSON_FIELD_STRING, 0, AT(ip), .max = 15, .doc = IP_DOC},
	{"link", JSON_FIELD_ENUM, 0, AT(link), .values = link_wishes, .doc = "up unless down"},
	LIMIT_FIELDS,
	{"queues", JSON_FIELD_INT, 0, AT(queues), 1, QEMU_QUEUES_MAX, 1, .doc = QUEUES_DOC},
	FIREWALL_FIELD,
	{0},
};

static const struct json_field update_fields[] = {
	DESKTOP_FIELD,
	NIC_FIELD,
	{"network", JSON_FIELD_REF, 0, AT(network), .doc = "move it to this one; it gets a new IP"},
	{"ip", JSON_FIELD_STRING, 0, AT(ip), .max = 15, .doc = IP_DOC "; \"\": none"},
	{"link", JSON_FIELD_ENUM, 0, AT(link), .values = link_wishes,
	 .doc = "down pulls the cable, up plugs it in"},
	LIMIT_FIELDS,
	{"queues", JSON_FIELD_INT, 0, AT(queues), 1, QEMU_QUEUES_MAX, -1,
	 .doc = QUEUES_DOC "; counts from the next start"},
	FIREWALL_FIELD,
	{0},
};

static const struct json_field remove_fields[] = {DESKTOP_FIELD, NIC_FIELD, {0}};

static struct desktop_nic_wish wish_of(const struct nic_params *params)
{
	return (struct desktop_nic_wish){
		.network = params->network,
		.mac = params->mac,
		.ip = params->ip,
		.link_up = params->link - 1,
		.to_guest_kbit = params->to_guest_kbit,
		.to_guest_burst_kib = params->to_guest_burst_kib,
		.from_guest_kbit = params->from_guest_kbit,
		.from_guest_burst_kib = params->from_guest_burst_kib,
		.queues = params->queues,
		.firewall = params->firewall,
	};
}

static json_t *nics_json(struct desktop *desktop)
{
	json_t *all = desktop_to_json(desktop);
	json_t *nics = json_incref(json_object_get(all, "nics"));
	json_decref(all);
	return nics;
}

static void answer(void *data, struct desktop *desktop, const struct err *err)
{
	if (err)
		api_fail(data, err);
	else
		api_reply(data, json_pack("{s:o}", "nics", nics_json(desktop)));
}

static const struct json_field nics_result[] = {
	{"nics", JSON_FIELD_ARRAY, .fields = desktop_nic_fields, .doc = "all of the desktop's"},
	{0},
};

static struct desktop *find(struct api_call *call, const struct nic_params *params, struct err *err)
{
	return desktops_find(api_call_host(call)->desktops, params->desktop, err);
}

static struct api_token nic_list(struct api_call *call, const void *data)
{
	struct err err;
	struct desktop *desktop = find(call, data, &err);
	return desktop ? api_reply(call, nics_json(desktop)) : api_fail(call, &err);
}

static struct api_token nic_add(struct api_call *call, const void *data)
{
	const struct desktop_nic_wish wish = wish_of(data);
	struct err err;
	struct desktop *desktop = find(call, data, &err);
	if (!desktop)
		return api_fail(call, &err);
	struct api_token token = api_pending(call);
	desktop_nic_add(desktop, &wish, answer, call);
	return token;
}

static struct api_token nic_update(struct api_call *call, const void *data)
{
	const struct nic_params *params = data;
	const struct desktop_nic_wish wish = wish_of(params);
	struct err err;
	struct desktop *desktop = find(call, data, &err);
	if (!desktop)
		return api_fail(call, &err);
	struct api_token token = api_pending(call);
	desktop_nic_update(desktop, params->nic, &wish, answer, call);
	return token;
}

static struct api_token nic_remove(struct api_call *call, const void *data)
{
	const struct nic_params *params = data;
	struct err err;
	struct desktop *desktop = find(call, data, &err);
	if (!desktop)
		return api_fail(call, &err);
	struct api_token token = api_pending(call);
	desktop_nic_remove(desktop, params->nic, answer, call);
	return token;
}

#define CHANGES (API_MUTATES | API_NAMED)

const struct api_method api_nic_methods[] = {
	{"desktop.nic.list", API_ROLE_OPERATOR, API_LIST | API_NAMED, list_fields,
	 sizeof(struct nic_params), desktop_nic_fields, nic_list, "List a desktop's NICs."},
	{"desktop.nic.add", API_ROLE_ADMIN, CHANGES, add_fields, sizeof(struct nic_params),
	 nics_result, nic_add, "Give a desktop one more NIC, also while it runs."},
	{"desktop.nic.update", API_ROLE_ADMIN, CHANGES, update_fields, sizeof(struct nic_params),
	 nics_result, nic_update,
	 "Move a NIC to another network, fix its address, pull its cable, limit it or give it "
	 "firewall groups, "
	 "also while it runs."},
	{"desktop.nic.remove", API_ROLE_ADMIN, CHANGES, remove_fields, sizeof(struct nic_params),
	 nics_result, nic_remove, "Take a NIC out, also while the desktop runs."},
	{0},
};
