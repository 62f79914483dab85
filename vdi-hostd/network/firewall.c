/*
 * Firewall groups: named sets of what is let through, which networks give to all their NICs, and
 * NICs may have of their own. The kernel knows those that some network or running NIC has. A NIC
 * with groups gets one more at the end, which drops what none of them lets through.
 */
#include <stdio.h>
#include <string.h>
#include <utlist.h>

#include "base/log.h"
#include "vdi-hostd/network/private.h"

#define END_ID 1 /* groups are one up from their row's number */

#define ANY DB_PROTOCOL_ANY, 0, 0
#define ROW(direction, ...)                                                                        \
	{                                                                                          \
		DB_DIRECTION_##direction, __VA_ARGS__                                              \
	}

/* what ships with the daemon */
static const struct db_firewall_group builtins[] = {
	{.name = "open",
	 .description = "everything, both ways",
	 .rules = {ROW(IN, ANY), ROW(OUT, ANY)},
	 .n_rules = 2},
	{.name = "closed",
	 .description = "out to everything; nobody gets in",
	 .rules = {ROW(OUT, ANY)},
	 .n_rules = 1},
	{.name = "desktop",
	 .description = "out to everything; in: ping and remote desktop",
	 .rules = {ROW(OUT, ANY), ROW(IN, DB_PROTOCOL_ICMP, 0, 0),
		   ROW(IN, DB_PROTOCOL_TCP, 3389, 3389), ROW(IN, DB_PROTOCOL_UDP, 3389, 3389)},
	 .n_rules = 4},
	{.name = "web",
	 .description = "out to the web and to name servers, no further; nobody gets in",
	 .rules = {ROW(OUT, DB_PROTOCOL_TCP, 80, 80), ROW(OUT, DB_PROTOCOL_TCP, 443, 443),
		   ROW(OUT, DB_PROTOCOL_UDP, 443, 443), ROW(OUT, DB_PROTOCOL_UDP, 53, 53),
		   ROW(OUT, DB_PROTOCOL_TCP, 53, 53), ROW(OUT, DB_PROTOCOL_ICMP, 0, 0)},
	 .n_rules = 6},
};

struct group *firewall_find(struct networks *all, const char *ref, struct err *err)
{
	struct group *group;
	DL_FOREACH (all->groups, group) {
		if (strcmp(group->row.name, ref) == 0 || strcmp(group->row.id, ref) == 0)
			return group;
	}
	err_set(err, ERR_NOT_FOUND,
		"there is no firewall group '%.63s'; `vdictl firewall list` shows those there are",
		ref);
	return NULL;
}

static struct group *add_group(struct networks *all, const struct db_firewall_group *row)
{
	struct group *group = mem_new(struct group);
	group->row = *row;
	DL_APPEND(all->groups, group);
	return group;
}

static int load_group(void *data, const struct db_firewall_group *row)
{
	add_group(data, row);
	return 0;
}

static int load_network(void *data, const char *network_id, const char *group_id)
{
	struct network *network = network_find(data, network_id, NULL);
	struct group *group = firewall_find(data, group_id, NULL);
	if (network && group && network->n_groups < DB_FIREWALL_GROUPS_MAX)
		network->groups[network->n_groups++] = group;
	return 0;
}

static int add_builtin(struct networks *all, const struct db_firewall_group *builtin,
		       struct err *err)
{
	struct db_firewall_group row = *builtin;
	if (firewall_find(all, builtin->name, NULL))
		return 0;
	str_uuid_new(row.id);
	row.builtin = true;
	row.created_at = str_now_ms();
	if (db_firewall_free_number(all->db, &row.number, err) < 0 ||
	    db_firewall_insert(all->db, &row, err) < 0)
		return -1;
	add_group(all, &row);
	return 0;
}

int firewall_load(struct networks *all, struct err *err)
{
	if (db_firewall_each(all->db, load_group, all, err) < 0)
		return -1;
	for (size_t i = 0; i < ARRAY_LEN(builtins); i++)
		if (add_builtin(all, &builtins[i], err) < 0)
			return -1;
	return db_firewall_each_network(all->db, load_network, all, err);
}

void firewall_free(struct networks *all)
{
	struct group *group, *next;
	DL_FOREACH_SAFE(all->groups, group, next)
	{
		DL_DELETE(all->groups, group);
		free(group);
	}
}

/* ---- the kernel's part ---- */

static bool is_used(struct networks *all, const struct group *group)
{
	for (struct network *n = all->by_id; n; n = n->by_id.next)
		for (size_t i = 0; i < n->n_groups; i++)
			if (n->groups[i] == group)
				return true;
	return nic_groups_use(all, group);
}

uint32_t firewall_id(const struct group *group)
{
	return group ? (uint32_t)group->row.number + END_ID : END_ID;
}

static enum netcfg_protocol protocol_of(enum db_protocol protocol)
{
	switch (protocol) {
	case DB_PROTOCOL_TCP:
		return NETCFG_TCP;
	case DB_PROTOCOL_UDP:
		return NETCFG_UDP;
	case DB_PROTOCOL_ICMP:
		return NETCFG_ICMP;
	case DB_PROTOCOL_ANY:
		break;
	}
	return NETCFG_PROTOCOL_ANY;
}

static struct netcfg_rule rule_of(struct networks *all, const struct db_firewall_rule *rule)
{
	struct group *remote =
		rule->remote_group[0] ? firewall_find(all, rule->remote_group, NULL) : NULL;
	struct netcfg_rule ret = {
		.direction = rule->direction == DB_DIRECTION_IN ? NETCFG_IN : NETCFG_OUT,
		.protocol = protocol_of(rule->protocol),
		.accept = true,
		.port_first = (uint16_t)rule->port_first,
		.port_last = (uint16_t)rule->port_last,
		.remote_group = remote ? firewall_id(remote) : 0,
	};
	if (rule->remote[0] && netcfg_addr_parse(rule->remote, &ret.remote, NULL) < 0)
		ret.remote = (struct netcfg_addr){.family = 0};
	return ret;
}

struct priv_request firewall_request(struct networks *all, const struct group *group)
{
	struct priv_request req = {.verb = PRIV_GROUP_ENSURE};
	struct priv_group *wish = &req.u.group;
	if (!group) {
		*wish = (struct priv_group){.id = END_ID, .drop_in = 1, .drop_out = 1};
		return req;
	}
	wish->id = firewall_id(group);
	wish->revoke = 1;
	wish->n_rules = (uint8_t)group->row.n_rules;
	for (size_t i = 0; i < group->row.n_rules; i++)
		wish->rules[i] = rule_of(all, &group->row.rules[i]);
	return req;
}

static void on_told(struct network *network, const struct priv_reply *reply, int *fds,
		    const struct err *err)
{
	void (*cb)(struct network *, const struct err *) = network->groups_settled;
	if (err && !network->groups_err.code)
		network->groups_err = *err;
	if (--network->groups_left > 0)
		return;
	network->groups_settled = NULL;
	struct err failed = network->groups_err;
	if (cb)
		cb(network, failed.code ? &failed : NULL);
}

void firewall_settle(struct network *network,
		     void (*cb)(struct network *network, const struct err *err))
{
	network->groups_settled = cb;
	if (network->groups_left)
		return; /* begun by a plan that ran out of time: its answers still come */
	if (network->n_groups == 0) {
		network->groups_settled = NULL;
		cb(network, NULL);
		return;
	}
	network->groups_err = (struct err){0};
	network->groups_left = network->n_groups + 1;
	for (size_t i = 0; i <= network->n_groups; i++) {
		struct group *group = i < network->n_groups ? network->groups[i] : NULL;
		struct priv_request req = firewall_request(network->all, group);
		network_call(network, &req, false, on_told);
	}
}

void firewall_sweep(struct networks *all)
{
	struct priv_request req = {.verb = PRIV_GROUP_DELETE};
	struct group *group;
	bool any_used = false;
	if (priv_is_rootless(all->priv))
		return;
	/* twice: one that a rule of another names goes after that; one in use is refused, rightly
	 */
	for (int round = 0; round < 2; round++) {
		DL_FOREACH (all->groups, group) {
			bool used = is_used(all, group);
			any_used = any_used || used;
			req.u.group.id = firewall_id(group);
			if (!used)
				priv_call(all->priv, &req, NULL, 0, NULL, NULL);
		}
	}
	req.u.group.id = END_ID;
	if (!any_used)
		priv_call(all->priv, &req, NULL, 0, NULL, NULL);
}

/* ---- which a network has ---- */

struct change_groups {
	struct network_change change;
	struct group *before[DB_FIREWALL_GROUPS_MAX], *after[DB_FIREWALL_GROUPS_MAX];
	size_t n_before, n_after;
	network_cb cb;
	void *data;
};

static int put_groups(struct network *network, struct group *const *groups, size_t n,
		      struct err *err)
{
	const char *ids[DB_FIREWALL_GROUPS_MAX] = {NULL};
	for (size_t i = 0; i < n; i++)
		ids[i] = groups[i]->row.id;
	if (db_firewall_set_network(network->all->db, network->row.id, ids, n, err) < 0)
		return -1;
	for (size_t i = 0; i < n; i++)
		network->groups[i] = groups[i];
	network->n_groups = n;
	return 0;
}

static int wish_groups(struct network *network, struct network_change *change, struct err *err)
{
	struct change_groups *groups = container_of(change, struct change_groups, change);
	return put_groups(network, groups->after, groups->n_after, err);
}

static void revert_groups(struct network *network, struct network_change *change)
{
	struct change_groups *groups = container_of(change, struct change_groups, change);
	struct err err;
	if (put_groups(network, groups->before, groups->n_before, &err) < 0)
		log_err("network %s: %s", network->row.name, err.msg);
}

static void groups_done(struct network *network, struct network_change *change,
			const struct err *err)
{
	_cleanup_free_ struct change_groups *groups =
		container_of(change, struct change_groups, change);
	if (!network->all->closing)
		firewall_sweep(network->all);
	groups->cb(groups->data, err ? NULL : &network->row, err);
}

static int read_groups(struct networks *all, const json_t *names, struct change_groups *change,
		       struct err *err)
{
	size_t i;
	json_t *name;
	if (json_array_size(names) > DB_FIREWALL_GROUPS_MAX)
		return err_set_field(err, "groups", "a network has at most %d firewall groups",
				     DB_FIREWALL_GROUPS_MAX);
	json_array_foreach(names, i, name)
	{
		struct group *group = firewall_find(all, json_string_value(name), err);
		if (!group)
			return -1;
		for (size_t j = 0; j < i; j++)
			if (change->after[j] == group)
				return err_set_field(err, "groups", "group '%s' is named twice",
						     group->row.name);
		change->after[change->n_after++] = group;
	}
	return 0;
}

void networks_set_firewall(struct networks *all, const char *ref, const json_t *groups,
			   network_cb cb, void *data)
{
	_cleanup_free_ struct change_groups *change = mem_new(struct change_groups);
	struct err err;
	struct network *network = network_find(all, ref, &err);
	if (!network || network_refuse_busy(network, &err) < 0 ||
	    read_groups(all, groups, change, &err) < 0) {
		cb(data, NULL, &err);
		return;
	}
	if (!network_has_kernel_part(network)) {
		err_set(&err, ERR_UNSUPPORTED, "a network of kind user is QEMU's own");
		cb(data, NULL, &err);
		return;
	}
	change->change = (struct network_change){wish_groups, revert_groups, groups_done};
	memcpy(change->before, network->groups, sizeof(change->before));
	change->n_before = network->n_groups;
	change->cb = cb;
	change->data = data;
	network_begin_change(network, &TAKE_PTR(change)->change);
}

/* ---- groups themselves ---- */

const struct db_firewall_group *networks_find_group(struct networks *all, const char *ref,
						    struct err *err)
{
	struct group *group = firewall_find(all, ref, err);
	return group ? &group->row : NULL;
}

void networks_each_group(struct networks *all,
			 void (*cb)(void *data, const struct db_firewall_group *row), void *data)
{
	struct group *group;
	DL_FOREACH (all->groups, group) {
		cb(data, &group->row);
	}
}

int networks_create_group(struct networks *all, struct db_firewall_group *row,
			  const struct db_firewall_group **ret, struct err *err)
{
	if (firewall_find(all, row->name, NULL))
		return err_set(err, ERR_EXISTS, "there is a firewall group '%s' already",
			       row->name);
	str_uuid_new(row->id);
	row->created_at = str_now_ms();
	if (db_firewall_free_number(all->db, &row->number, err) < 0 ||
	    db_firewall_insert(all->db, row, err) < 0)
		return -1;
	*ret = &add_group(all, row)->row;
	return 0;
}

struct update {
	struct networks *all;
	struct db_firewall_group before;
	group_cb cb;
	void *data;
};

static void on_updated(void *data, const struct priv_reply *reply, int *fds, const struct err *err)
{
	_cleanup_free_ struct update *update = data;
	struct err failed;
	/* cancelled: the daemon ends, and the next one makes it so */
	struct group *group = err && err->code == ERR_CANCELLED
				      ? NULL
				      : firewall_find(update->all, update->before.id, NULL);
	if (group && err) {
		group->row = update->before;
		if (db_firewall_update(update->all->db, &group->row, &failed) < 0)
			log_err("firewall group %s: %s", group->row.name, failed.msg);
	}
	update->cb(update->data, group && !err ? &group->row : NULL, err);
}

void networks_update_group(struct networks *all, const struct db_firewall_group *row, group_cb cb,
			   void *data)
{
	struct err err;
	struct group *group = firewall_find(all, row->id, &err);
	if (!group) {
		cb(data, NULL, &err);
		return;
	}
	struct update *update = mem_new(struct update);
	*update = (struct update){all, group->row, cb, data};
	if (db_firewall_update(all->db, row, &err) < 0) {
		free(update);
		cb(data, NULL, &err);
		return;
	}
	group->row = *row;
	if (!is_used(all, group)) {
		free(update);
		cb(data, &group->row, NULL);
		return;
	}
	struct priv_request req = firewall_request(all, group);
	priv_call(all->priv, &req, NULL, 0, on_updated, update);
}

int networks_delete_group(struct networks *all, const char *ref, struct err *err)
{
	struct group *group = firewall_find(all, ref, err);
	if (!group)
		return -1;
	if (group->row.builtin)
		return err_set(err, ERR_CONFLICT,
			       "firewall group '%s' came with the daemon and stays",
			       group->row.name);
	if (db_firewall_delete(all->db, group->row.id, err) < 0)
		return -1;
	/* a NIC may have had it since the last sweep */
	firewall_sweep(all);
	DL_DELETE(all->groups, group);
	free(group);
	return 0;
}
