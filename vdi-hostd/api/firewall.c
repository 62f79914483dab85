#include <string.h>

#include "base/mem.h"
#include "base/str.h"
#include "vdi-hostd/api/api.h"
#include "vdi-hostd/network/network.h"

static const char *const directions[] = {"in", "out", NULL};
static const char *const protocols[] = {"any", "tcp", "udp", "icmp", NULL};

struct rule_params {
	int direction, protocol;
	const char *ports, *remote, *remote_group;
};

static const struct json_field rule_fields[] = {
	{"direction", JSON_FIELD_ENUM, JSON_FIELD_REQUIRED, offsetof(struct rule_params, direction),
	 .values = directions, .doc = "in: to the desktop; out: from it"},
	{"protocol", JSON_FIELD_ENUM, 0, offsetof(struct rule_params, protocol),
	 .values = protocols, .doc = "any of them, or one"},
	{"ports", JSON_FIELD_STRING, JSON_FIELD_NULLABLE, offsetof(struct rule_params, ports),
	 .max = 11, .doc = "tcp and udp: the port, or a range as 8000-8010; null: all"},
	{"remote", JSON_FIELD_STRING, JSON_FIELD_NULLABLE, offsetof(struct rule_params, remote),
	 .max = DB_FIREWALL_REMOTE_MAX, .doc = "the other end, such as 10.0.0.0/8; null: anyone"},
	{"remote_group", JSON_FIELD_REF, JSON_FIELD_NULLABLE,
	 offsetof(struct rule_params, remote_group), .doc = "or the desktops that have this group"},
	{0},
};

static const struct json_field group_fields[] = {
	{"id", JSON_FIELD_STRING, .doc = "UUID"},
	{"name", JSON_FIELD_NAME, .doc = "unique among firewall groups"},
	{"description", JSON_FIELD_STRING, .doc = "for people"},
	{"builtin", JSON_FIELD_BOOL, .doc = "came with the daemon, and stays as it is"},
	{"rules", JSON_FIELD_ARRAY, .fields = rule_fields,
	 .doc = "what is let through, and its answers; all else is not"},
	{"created_at", JSON_FIELD_TIME, .doc = "when it was made"},
	{0},
};

static json_t *rule_to_json(struct networks *networks, const struct db_firewall_rule *rule)
{
	const struct db_firewall_group *group =
		rule->remote_group[0] ? networks_find_group(networks, rule->remote_group, NULL)
				      : NULL;
	return json_pack("{s:s, s:s, s:o, s:s?, s:s?}", "direction", directions[rule->direction],
			 "protocol", protocols[rule->protocol], "ports",
			 networks_ports_to_json(rule->port_first, rule->port_last), "remote",
			 rule->remote[0] ? rule->remote : NULL, "remote_group",
			 group ? group->name : NULL);
}

static json_t *group_to_json(struct networks *networks, const struct db_firewall_group *row)
{
	char created[STR_TIME_MAX];
	json_t *rules = json_array();
	str_format_time(row->created_at, created);
	for (size_t i = 0; i < row->n_rules; i++)
		json_array_append_new(rules, rule_to_json(networks, &row->rules[i]));
	return json_pack("{s:s, s:s, s:s, s:b, s:o, s:s}", "id", row->id, "name", row->name,
			 "description", row->description, "builtin", row->builtin, "rules", rules,
			 "created_at", created);
}

static int parse_remote(const char *text, struct db_firewall_rule *rule, struct err *err)
{
	struct netcfg_addr addr;
	if (netcfg_addr_parse(text, &addr, NULL) < 0 ||
	    str_copy(rule->remote, sizeof(rule->remote), text) < 0)
		return err_set_field(err, "remote",
				     "'%.50s' is neither an address nor a range; write it as "
				     "10.0.0.0/8 or fd00::/8",
				     text);
	return 0;
}

static int parse_rule(struct networks *networks, json_t *json, struct db_firewall_rule *ret,
		      struct err *err)
{
	struct rule_params params;
	struct db_firewall_rule rule = {.port_first = 0};
	if (json_fields_read(rule_fields, json, &params, 0, err) < 0)
		return -1;
	rule.direction = (enum db_direction)params.direction;
	rule.protocol = (enum db_protocol)params.protocol;
	if (params.ports && rule.protocol != DB_PROTOCOL_TCP && rule.protocol != DB_PROTOCOL_UDP)
		return err_set_field(err, "ports", "only tcp and udp have ports");
	if (params.remote && params.remote_group)
		return err_set_field(err, "remote", "name a range or a group, not both");
	if ((params.ports &&
	     networks_parse_ports(params.ports, &rule.port_first, &rule.port_last, err) < 0) ||
	    (params.remote && parse_remote(params.remote, &rule, err) < 0))
		return -1;
	if (params.remote_group) {
		const struct db_firewall_group *group =
			networks_find_group(networks, params.remote_group, err);
		if (!group)
			return -1;
		memcpy(rule.remote_group, group->id, sizeof(rule.remote_group));
	}
	*ret = rule;
	return 0;
}

static int parse_rules(struct networks *networks, const json_t *rules,
		       struct db_firewall_group *row, struct err *err)
{
	size_t i;
	json_t *rule;
	if (json_array_size(rules) > DB_FIREWALL_RULES_MAX)
		return err_set_field(err, "rules", "a group has at most %d rules",
				     DB_FIREWALL_RULES_MAX);
	row->n_rules = json_array_size(rules);
	json_array_foreach(rules, i, rule)
	{
		if (parse_rule(networks, rule, &row->rules[i], err) < 0)
			return err_prefix(err, "rule %zu", i + 1);
	}
	return 0;
}

struct create_params {
	const char *name, *description;
	json_t *rules;
};

static const struct json_field create_fields[] = {
	{"name", JSON_FIELD_NAME, JSON_FIELD_REQUIRED, offsetof(struct create_params, name),
	 .doc = "unique among firewall groups"},
	{"description", JSON_FIELD_STRING, 0, offsetof(struct create_params, description),
	 .max = 255, .doc = "for people"},
	{"rules", JSON_FIELD_ARRAY, 0, offsetof(struct create_params, rules), .max = 64,
	 .fields = rule_fields, .doc = "what is let through, and its answers; all else is not"},
	{0},
};

static struct api_token firewall_create(struct api_call *call, const void *data)
{
	const struct create_params *params = data;
	struct networks *networks = api_call_host(call)->networks;
	_cleanup_free_ struct db_firewall_group *row = mem_new(struct db_firewall_group);
	const struct db_firewall_group *made;
	struct err err;
	snprintf(row->name, sizeof(row->name), "%s", params->name);
	snprintf(row->description, sizeof(row->description), "%s",
		 params->description ? params->description : "");
	if (parse_rules(networks, params->rules, row, &err) < 0 ||
	    networks_create_group(networks, row, &made, &err) < 0)
		return api_fail(call, &err);
	return api_reply(call, group_to_json(networks, made));
}

struct lister {
	struct networks *networks;
	json_t *items;
};

static void add_to_list(void *data, const struct db_firewall_group *row)
{
	struct lister *lister = data;
	json_array_append_new(lister->items, group_to_json(lister->networks, row));
}

static struct api_token firewall_list(struct api_call *call, const void *data)
{
	struct lister lister = {api_call_host(call)->networks, json_array()};
	networks_each_group(lister.networks, add_to_list, &lister);
	return api_reply(call, lister.items);
}

struct ref_params {
	const char *firewall;
};

static const struct json_field ref_fields[] = {
	{"firewall", JSON_FIELD_REF, JSON_FIELD_REQUIRED, offsetof(struct ref_params, firewall),
	 .doc = "name or id of the group"},
	{0},
};

static struct api_token firewall_get(struct api_call *call, const void *data)
{
	const struct ref_params *params = data;
	struct networks *networks = api_call_host(call)->networks;
	struct err err;
	const struct db_firewall_group *row = networks_find_group(networks, params->firewall, &err);
	return row ? api_reply(call, group_to_json(networks, row)) : api_fail(call, &err);
}

struct update_params {
	const char *firewall, *description;
	json_t *rules;
};

static const struct json_field update_fields[] = {
	{"firewall", JSON_FIELD_REF, JSON_FIELD_REQUIRED, offsetof(struct update_params, firewall),
	 .doc = "name or id of the group"},
	{"description", JSON_FIELD_STRING, 0, offsetof(struct update_params, description),
	 .max = 255, .doc = "for people"},
	{"rules", JSON_FIELD_ARRAY, 0, offsetof(struct update_params, rules), .max = 64,
	 .fields = rule_fields, .doc = "in place of those that it has"},
	{0},
};

static void answer_group(void *data, const struct db_firewall_group *row, const struct err *err)
{
	struct api_call *call = data;
	if (err || !row)
		api_fail(call, err);
	else
		api_reply(call, group_to_json(api_call_host(call)->networks, row));
}

static struct api_token firewall_update(struct api_call *call, const void *data)
{
	const struct update_params *params = data;
	struct networks *networks = api_call_host(call)->networks;
	_cleanup_free_ struct db_firewall_group *row = mem_new(struct db_firewall_group);
	struct err err;
	const struct db_firewall_group *now = networks_find_group(networks, params->firewall, &err);
	if (!now)
		return api_fail(call, &err);
	*row = *now;
	if (params->description)
		snprintf(row->description, sizeof(row->description), "%s", params->description);
	if (now->builtin) {
		err_set(&err, ERR_CONFLICT,
			"firewall group '%s' came with the daemon and stays as it is; make another",
			now->name);
		return api_fail(call, &err);
	}
	if (params->rules && parse_rules(networks, params->rules, row, &err) < 0)
		return api_fail(call, &err);
	struct api_token token = api_pending(call);
	networks_update_group(networks, row, answer_group, call);
	return token;
}

static struct api_token firewall_delete(struct api_call *call, const void *data)
{
	const struct ref_params *params = data;
	struct err err;
	if (networks_delete_group(api_call_host(call)->networks, params->firewall, &err) < 0)
		return api_fail(call, &err);
	return api_reply(call, json_object());
}

const struct api_method api_firewall_methods[] = {
	{"firewall.create", API_ROLE_ADMIN, API_MUTATES | API_NAMED, create_fields,
	 sizeof(struct create_params), group_fields, firewall_create, "Make a firewall group."},
	{"firewall.list", API_ROLE_OPERATOR, API_LIST, NULL, 0, group_fields, firewall_list,
	 "List the firewall groups."},
	{"firewall.get", API_ROLE_OPERATOR, API_NAMED, ref_fields, sizeof(struct ref_params),
	 group_fields, firewall_get, "Show one firewall group."},
	{"firewall.update", API_ROLE_ADMIN, API_MUTATES | API_NAMED, update_fields,
	 sizeof(struct update_params), group_fields, firewall_update,
	 "Change a firewall group, at once for all desktops that have it."},
	{"firewall.delete", API_ROLE_ADMIN, API_MUTATES | API_NAMED, ref_fields,
	 sizeof(struct ref_params), NULL, firewall_delete,
	 "Delete a firewall group that nobody has."},
	{0},
};
