/* From what is wished of a NIC to its row. */
#include <arpa/inet.h>
#include <stdio.h>
#include <string.h>

#include "vdi-hostd/desktop/private.h"

static int set_limits(struct db_nic *row, const struct desktop_nic_wish *wish, struct err *err)
{
	const struct {
		int64_t wished, *to;
	} limits[] = {
		{wish->to_guest_kbit, &row->to_guest.kbit_per_s},
		{wish->to_guest_burst_kib, &row->to_guest.burst_kib},
		{wish->from_guest_kbit, &row->from_guest.kbit_per_s},
		{wish->from_guest_burst_kib, &row->from_guest.burst_kib},
	};
	for (size_t i = 0; i < ARRAY_LEN(limits); i++)
		if (limits[i].wished >= 0)
			*limits[i].to = limits[i].wished;
	if ((row->to_guest.kbit_per_s && row->to_guest.kbit_per_s < 8) ||
	    (row->from_guest.kbit_per_s && row->from_guest.kbit_per_s < 8))
		return err_set_field(err, "to_guest_kbit",
				     "a limit under 8 kbit/s lets nothing through");
	return 0;
}

static bool mac_is_taken(struct desktops *all, const char *mac)
{
	for (struct desktop *d = all->by_id; d; d = d->by_id.next)
		for (struct nic *nic = NULL; (nic = desktop_nic_next(d, nic));)
			if (strcmp(nic->row.mac, mac) == 0)
				return true;
	return false;
}

static int set_mac(struct desktops *all, const char *wish, char ret[18], struct err *err)
{
	uint8_t mac[6];
	if (!wish) {
		desktop_nic_make_mac(ret);
		return 0;
	}
	if (strlen(wish) != 17 || networks_parse_mac(wish, mac) < 0 || (mac[0] & 1))
		return err_set_field(err, "mac", "'%.20s' is no address for a NIC", wish);
	netcfg_mac_format(mac, ret);
	if (mac_is_taken(all, ret))
		return err_set(err, ERR_EXISTS, "another NIC has the MAC %s", ret);
	return 0;
}

/* Those of its network, where it may be new, count as well. */
static int set_groups(struct desktop *desktop, const struct desktop_nic_wish *wish,
		      struct db_nic *row, struct err *err)
{
	struct networks *networks = desktop->all->env.networks;
	const struct db_network *network = networks_find(networks, row->network_id, err);
	if (!network || (wish->firewall &&
			 networks_read_groups(networks, wish->firewall, &row->groups, err) < 0))
		return -1;
	return networks_fit_groups(networks, network, &row->groups, err);
}

static int parse_ip(const char *text, uint32_t *ret, struct err *err)
{
	struct in_addr in;
	if (inet_pton(AF_INET, text, &in) != 1)
		return err_set_field(err, "ip", "'%.40s' is no IPv4 address", text);
	if (!netcfg_ipv4_is_unicast(in))
		return err_set_field(err, "ip", "%s is no address of a host", text);
	*ret = ntohl(in.s_addr);
	return 0;
}

int desktop_nic_fix(struct desktops *all, const char *ip, struct db_nic *row, struct err *err)
{
	const struct db_network *network = networks_find(all->env.networks, row->network_id, err);
	struct desktop *whose;
	uint32_t address = 0;
	if (!network)
		return -1;
	if (network->kind != DB_NETWORK_BRIDGED)
		return err_set_field(err, "ip",
				     "only a NIC on a bridged network has a fixed address; those "
				     "on network '%s' are given by the daemon%s",
				     network->name,
				     network->kind == DB_NETWORK_USER
					     ? ""
					     : ", and can be kept: `vdictl network reserve`");
	if (ip[0] && parse_ip(ip, &address, err) < 0)
		return -1;
	if (address && desktop_nic_find_address(all, network, address, row->mac, &whose))
		return err_set(err, ERR_CONFLICT,
			       "%s is the address of desktop '%s'; choose another, or take it away "
			       "there",
			       ip, whose->row.name);
	row->ip = address;
	return 0;
}

int desktop_nic_new(struct desktop *desktop, const struct desktop_nic_wish *wish,
		    struct db_nic *row, struct err *err)
{
	while (row->number < QEMU_NICS_MAX && desktop_nic(desktop, row->number))
		row->number++;
	if (row->number == QEMU_NICS_MAX)
		return err_set(err, ERR_LIMIT, "desktop '%s' has %d NICs, which is the most",
			       desktop->row.name, QEMU_NICS_MAX);
	memcpy(row->desktop_id, desktop->row.id, sizeof(row->desktop_id));
	row->link_up = wish->link_up != 0;
	row->queues = wish->queues > 0 ? wish->queues : 1;
	if (desktop_nic_fill(desktop->all, wish->network, desktop->row.name, row, err) < 0 ||
	    set_mac(desktop->all, wish->mac, row->mac, err) < 0 ||
	    (wish->ip && desktop_nic_fix(desktop->all, wish->ip, row, err) < 0) ||
	    set_groups(desktop, wish, row, err) < 0)
		return -1;
	return set_limits(row, wish, err);
}

static int move(struct desktop *desktop, const struct desktop_nic_wish *wish, struct db_nic *row,
		struct err *err)
{
	struct networks *networks = desktop->all->env.networks;
	const struct db_network *to = networks_find(networks, wish->network, err);
	const struct db_network *from = networks_find(networks, row->network_id, NULL);
	if (!to)
		return -1;
	if (to == from)
		return 0;
	bool user = to->kind == DB_NETWORK_USER || (from && from->kind == DB_NETWORK_USER);
	if (user && desktop_has_guest(desktop))
		return err_set(err, ERR_CONFLICT,
			       "a NIC moves to or from a network of kind user only while its "
			       "desktop is stopped");
	return desktop_nic_fill(desktop->all, wish->network, desktop->row.name, row, err);
}

int desktop_nic_changed(struct desktop *desktop, const struct desktop_nic_wish *wish,
			struct db_nic *row, struct err *err)
{
	if (wish->link_up >= 0)
		row->link_up = wish->link_up;
	if (wish->queues > 0)
		row->queues = wish->queues;
	if (set_limits(row, wish, err) < 0 ||
	    (wish->network && move(desktop, wish, row, err) < 0) ||
	    (wish->ip && desktop_nic_fix(desktop->all, wish->ip, row, err) < 0))
		return -1;
	return wish->network || wish->firewall ? set_groups(desktop, wish, row, err) : 0;
}
