/* The NICs of desktops as rows: what networks and callers see of them. */
#include <arpa/inet.h>
#include <sodium.h>
#include <stdio.h>
#include <string.h>

#include "base/log.h"
#include "vdi-hostd/desktop/private.h"

static int load_row(void *data, const struct db_nic *row)
{
	struct desktops *all = data;
	struct desktop *desktop = desktops_find(all, row->desktop_id, NULL);
	if (desktop)
		desktop_nic_set(desktop, row);
	return 0;
}

int desktop_nics_load(struct desktops *all, struct err *err)
{
	return db_nic_each(all->env.db, load_row, all, err);
}

struct nic *desktop_nic(struct desktop *desktop, int64_t number)
{
	return desktop_nic_row(desktop, number) ? &desktop->nics[number] : NULL;
}

const struct db_nic *desktop_nic_row(const struct desktop *desktop, int64_t number)
{
	bool in_range = number >= 0 && number < QEMU_NICS_MAX;
	return in_range && desktop->nics[number].row.mac[0] ? &desktop->nics[number].row : NULL;
}

struct nic *desktop_nic_next(struct desktop *desktop, const struct nic *nic)
{
	for (const struct nic *at = nic ? nic + 1 : desktop->nics;
	     at < desktop->nics + QEMU_NICS_MAX; at++)
		if (at->row.mac[0])
			return &desktop->nics[at - desktop->nics];
	return NULL;
}

void desktop_nic_set(struct desktop *desktop, const struct db_nic *row)
{
	struct nic *nic = &desktop->nics[row->number];
	if (strcmp(nic->row.network_id, row->network_id) != 0)
		nic->lease = (struct nic_lease){0};
	nic->row = *row;
	desktop->nics_changed++;
	desktop_forget_json(desktop);
	if (row->learned_ip)
		desktop_leases_watch(desktop->all);
}

void desktop_nic_unset(struct desktop *desktop, int64_t number)
{
	desktop->nics[number] = (struct nic){0};
	desktop->nics_changed++;
	desktop_forget_json(desktop);
}

int desktop_nic_fill(struct desktops *all, const char *network_ref, const char *name,
		     struct db_nic *row, struct err *err)
{
	const struct db_network *network = networks_find(all->env.networks, network_ref, err);
	if (!network)
		return -1;
	snprintf(row->network_id, sizeof(row->network_id), "%s", network->id);
	row->ip = row->learned_ip = 0;
	row->learned_until = row->lease_s = 0;
	if (network->kind == DB_NETWORK_USER || network->kind == DB_NETWORK_BRIDGED)
		return 0;
	return networks_pick_address(all->env.networks, network, name, &row->ip, err);
}

/* Locally administered, and the same for the NIC's whole life: guests tie their settings to it. */
void desktop_nic_make_mac(char ret[18])
{
	unsigned char random[4];
	randombytes_buf(random, sizeof(random));
	snprintf(ret, 18, "52:54:%02x:%02x:%02x:%02x", random[0], random[1], random[2], random[3]);
}

const struct db_network *desktop_nic_network(const struct desktop *desktop, const struct nic *nic)
{
	return networks_find(desktop->all->env.networks, nic->row.network_id, NULL);
}

bool desktop_nic_has_tap(const struct desktop *desktop, const struct nic *nic)
{
	const struct db_network *network = desktop_nic_network(desktop, nic);
	return network && network->kind != DB_NETWORK_USER;
}

struct network_tap desktop_nic_tap(const struct desktop *desktop, const struct nic *nic)
{
	const int64_t queues = nic->row.queues, vcpus = desktop->row.vcpus;
	return (struct network_tap){
		.desktop = (uint32_t)desktop->row.slot,
		.nic = (uint32_t)nic->row.number,
		.pid = desktop->row.pid,
		.start_time = desktop->row.start_time,
		.mac = nic->row.mac,
		.ip = desktop_nic_address(&nic->row),
		.down = !nic->row.link_up,
		.ending = desktop->state == DESKTOP_STOPPING,
		.queues = (unsigned int)(queues < vcpus ? queues : vcpus),
		.to_guest = nic->row.to_guest,
		.from_guest = nic->row.from_guest,
		.groups = nic->row.groups,
	};
}

uint32_t desktop_nic_address(const struct db_nic *row)
{
	return row->ip ? row->ip : row->learned_ip;
}

/* Several networks may be on one bridge or VLAN of the host's. */
static bool is_same_lan(const struct db_network *a, const struct db_network *b)
{
	return a == b || (a->uplink[0] && strcmp(a->uplink, b->uplink) == 0 && a->vlan == b->vlan);
}

struct nic *desktop_nic_find_address(struct desktops *all, const struct db_network *network,
				     uint32_t ip, const char *but, struct desktop **ret_whose)
{
	for (struct desktop *d = all->by_id; d; d = d->by_id.next)
		for (struct nic *nic = NULL; (nic = desktop_nic_next(d, nic));) {
			const struct db_network *its = desktop_nic_network(d, nic);
			if ((nic->row.ip != ip && nic->row.learned_ip != ip) || !its ||
			    !is_same_lan(its, network) || strcmp(nic->row.mac, but) == 0)
				continue;
			*ret_whose = d;
			return nic;
		}
	return NULL;
}

int desktop_nics_hosts_changed(struct desktop *desktop, struct err *err)
{
	for (struct nic *nic = NULL; (nic = desktop_nic_next(desktop, nic));)
		if (nic->row.ip && networks_hosts_changed(desktop->all->env.networks,
							  nic->row.network_id, err) < 0)
			return -1;
	return 0;
}

const char *desktops_use_network(void *data, const char *network_id)
{
	struct desktops *all = data;
	for (struct desktop *d = all->by_id; d; d = d->by_id.next)
		for (struct nic *nic = NULL; (nic = desktop_nic_next(d, nic));)
			if (strcmp(nic->row.network_id, network_id) == 0)
				return d->row.name;
	return NULL;
}

void desktops_each_address(void *data, const char *network_id,
			   void (*emit)(void *out, const struct network_host *host), void *out)
{
	struct desktops *all = data;
	const struct db_network *network = networks_find(all->env.networks, network_id, NULL);
	/* fixed ones where others give addresses out are none of ours to serve */
	if (!network || network->kind == DB_NETWORK_BRIDGED)
		return;
	for (struct desktop *d = all->by_id; d; d = d->by_id.next)
		for (struct nic *nic = NULL; (nic = desktop_nic_next(d, nic));)
			if (nic->row.ip && strcmp(nic->row.network_id, network_id) == 0)
				emit(out, &(struct network_host){.name = d->row.name,
								 .mac = nic->row.mac,
								 .ip = nic->row.ip});
}

void desktops_each_tap(void *data, const char *network_id,
		       void (*emit)(void *out, const struct network_tap *tap), void *out)
{
	struct desktops *all = data;
	for (struct desktop *d = all->by_id; d; d = d->by_id.next) {
		if (d->row.pid == 0)
			continue;
		for (struct nic *nic = NULL; (nic = desktop_nic_next(d, nic));) {
			const struct network_tap tap = desktop_nic_tap(d, nic);
			if (strcmp(nic->row.network_id, network_id) == 0)
				emit(out, &tap);
		}
	}
}

static json_t *address_json(uint32_t ip)
{
	struct in_addr in = {.s_addr = htonl(ip)};
	char text[INET_ADDRSTRLEN];
	return ip ? json_string(inet_ntop(AF_INET, &in, text, sizeof(text))) : json_null();
}

static json_t *groups_json(const struct desktop *desktop, const struct db_nic_groups *groups)
{
	json_t *ret = json_array();
	for (size_t i = 0; i < groups->n; i++) {
		const struct db_firewall_group *group =
			networks_find_group(desktop->all->env.networks, groups->id[i], NULL);
		if (group)
			json_array_append_new(ret, json_string(group->name));
	}
	return ret;
}

static json_t *nic_json(const struct desktop *desktop, const struct nic *nic)
{
	const struct db_network *network = desktop_nic_network(desktop, nic);
	const struct db_nic *row = &nic->row;
	const bool has_guest = desktop_has_guest(desktop);
	const bool has_tap = desktop_nic_has_tap(desktop, nic);
	return json_pack(
		"{s:I, s:s?, s:s, s:o, s:s, s:I, s:I, s:I, s:I, s:I, s:o, s:o, s:o}", "nic",
		(json_int_t)row->number, "network", network ? network->name : NULL, "mac", row->mac,
		"ip", address_json(desktop_nic_address(row)), "link", row->link_up ? "up" : "down",
		"to_guest_kbit", (json_int_t)row->to_guest.kbit_per_s, "to_guest_burst_kib",
		(json_int_t)row->to_guest.burst_kib, "from_guest_kbit",
		(json_int_t)row->from_guest.kbit_per_s, "from_guest_burst_kib",
		(json_int_t)row->from_guest.burst_kib, "queues", (json_int_t)row->queues,
		"queues_in_use",
		has_guest ? json_integer(has_tap ? row->given_queues : 1) : json_null(), "vhost",
		has_guest ? json_boolean(has_tap && row->given_vhost) : json_null(), "firewall",
		groups_json(desktop, &row->groups));
}

json_t *desktop_nics_to_json(struct desktop *desktop)
{
	json_t *ret = json_array();
	for (struct nic *nic = NULL; (nic = desktop_nic_next(desktop, nic));)
		json_array_append_new(ret, nic_json(desktop, nic));
	return ret;
}
