/*
 * Firewall groups of single NICs, besides those of their network. The kernel is told of them with
 * the tap that has them.
 */
#include <string.h>

#include "base/log.h"
#include "vdi-hostd/network/private.h"

static bool has_group(const struct network *network, const struct group *group)
{
	for (size_t i = 0; i < network->n_groups; i++)
		if (network->groups[i] == group)
			return true;
	return false;
}

static int check_room(const struct network *network, const struct db_nic_groups *groups,
		      struct err *err)
{
	size_t n = network->n_groups;
	for (size_t i = 0; i < groups->n; i++) {
		struct group *group = firewall_find(network->all, groups->id[i], err);
		if (!group)
			return -1;
		n += !has_group(network, group);
	}
	if (n > DB_NIC_GROUPS_MAX)
		return err_set(err, ERR_LIMIT,
			       "a NIC has at most %d firewall groups, with those of its network; "
			       "network '%s' has %zu",
			       DB_NIC_GROUPS_MAX, network->row.name, network->n_groups);
	return 0;
}

int nic_groups_fill_tap(const struct network *network, const struct db_nic_groups *groups,
			struct priv_tap *tap, struct err *err)
{
	if (check_room(network, groups, err) < 0)
		return -1;
	for (size_t i = 0; i < network->n_groups; i++)
		tap->groups[tap->n_groups++] = firewall_id(network->groups[i]);
	for (size_t i = 0; i < groups->n; i++) {
		const struct group *group = firewall_find(network->all, groups->id[i], err);
		if (!has_group(network, group))
			tap->groups[tap->n_groups++] = firewall_id(group);
	}
	if (tap->n_groups)
		tap->groups[tap->n_groups++] = firewall_id(NULL);
	return 0;
}

static void on_told(void *data, const struct priv_reply *reply, int *fds, const struct err *err)
{
	if (err && err->code != ERR_CANCELLED)
		log_err("a firewall group of a NIC: %s", err->msg);
}

void nic_groups_tell(const struct network *network, const struct db_nic_groups *groups)
{
	for (size_t i = 0; groups->n && i <= groups->n; i++) {
		const struct group *group =
			i < groups->n ? firewall_find(network->all, groups->id[i], NULL) : NULL;
		struct priv_request req = firewall_request(network->all, group);
		priv_call(network->all->priv, &req, NULL, 0, on_told, NULL);
	}
}

struct search {
	const struct group *group;
	bool found;
};

static void compare(void *out, const struct network_tap *tap)
{
	struct search *search = out;
	for (size_t i = 0; i < tap->groups.n; i++)
		if (strcmp(tap->groups.id[i], search->group->row.id) == 0)
			search->found = true;
}

bool nic_groups_use(struct networks *all, const struct group *group)
{
	struct search search = {.group = group};
	for (struct network *n = all->by_id; n && all->each_tap; n = n->by_id.next)
		all->each_tap(all->each_tap_data, n->row.id, compare, &search);
	return search.found;
}

int networks_fit_groups(struct networks *all, const struct db_network *row,
			const struct db_nic_groups *groups, struct err *err)
{
	const struct network *network = network_find(all, row->id, err);
	if (!network)
		return -1;
	if (groups->n && !network_has_kernel_part(network))
		return err_set(err, ERR_UNSUPPORTED,
			       "a network of kind user is QEMU's own: no firewall groups there");
	return check_room(network, groups, err);
}

int networks_read_groups(struct networks *all, const json_t *names, struct db_nic_groups *ret,
			 struct err *err)
{
	struct db_nic_groups groups = {.n = 0};
	size_t i;
	json_t *name;
	if (json_array_size(names) > DB_NIC_GROUPS_MAX)
		return err_set_field(err, "firewall", "a NIC has at most %d firewall groups",
				     DB_NIC_GROUPS_MAX);
	json_array_foreach(names, i, name)
	{
		const struct group *group = firewall_find(all, json_string_value(name), err);
		if (!group)
			return -1;
		for (size_t j = 0; j < i; j++)
			if (strcmp(groups.id[j], group->row.id) == 0)
				return err_set_field(err, "firewall", "group '%s' is named twice",
						     group->row.name);
		memcpy(groups.id[groups.n++], group->row.id, sizeof(group->row.id));
	}
	*ret = groups;
	return 0;
}
