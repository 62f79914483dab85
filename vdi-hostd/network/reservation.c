/* Addresses that are kept for somebody: a MAC, which gets it by DHCP, or a desktop yet to be made.
 */
#include <stdio.h>
#include <string.h>
#include <utlist.h>

#include "base/log.h"
#include "vdi-hostd/network/private.h"

static struct reservation *reservation_add(struct network *network,
					   const struct db_reservation *row)
{
	struct reservation *reservation = mem_new(struct reservation);
	reservation->row = *row;
	DL_APPEND(network->reservations, reservation);
	return reservation;
}

static int load_row(void *data, const struct db_reservation *row)
{
	struct network *network = network_find(data, row->network_id, NULL);
	if (network)
		reservation_add(network, row);
	return 0;
}

int reservations_load(struct networks *all, struct err *err)
{
	return db_reservation_each(all->db, load_row, all, err);
}

void reservations_free(struct network *network)
{
	struct reservation *reservation, *next;
	DL_FOREACH_SAFE(network->reservations, reservation, next)
	{
		DL_DELETE(network->reservations, reservation);
		free(reservation);
	}
}

/* who among the NICs has one of these; each "" or 0 is not looked for */
struct claim {
	const char *mac, *name;
	uint32_t ip;
	bool found, same_ip;
	char who[STR_NAME_MAX + 1];
};

static void match(void *out, const struct network_host *host)
{
	struct claim *claim = out;
	bool same_ip = claim->ip && host->ip == claim->ip;
	if (!same_ip && (!claim->mac[0] || strcasecmp(host->mac, claim->mac) != 0) &&
	    (!claim->name[0] || strcmp(host->name, claim->name) != 0))
		return;
	claim->found = true;
	claim->same_ip = claim->same_ip || same_ip;
	snprintf(claim->who, sizeof(claim->who), "%s", host->name);
}

static struct claim find_claim(const struct network *network, const char *mac, const char *name,
			       uint32_t ip)
{
	const struct networks *all = network->all;
	struct claim claim = {.mac = mac, .name = name, .ip = ip};
	if (all->each_host)
		all->each_host(all->each_host_data, network->row.id, match, &claim);
	return claim;
}

void reservations_each_host(struct network *network,
			    void (*emit)(void *out, const struct network_host *host), void *out)
{
	const struct networks *all = network->all;
	struct reservation *r;
	if (all->each_host)
		all->each_host(all->each_host_data, network->row.id, emit, out);
	DL_FOREACH (network->reservations, r) {
		if (r->row.mac[0] && !find_claim(network, r->row.mac, r->row.name, r->row.ip).found)
			emit(out, &(struct network_host){r->row.name, r->row.mac, r->row.ip});
	}
}

static int check_free(struct network *network, const struct db_reservation *row, struct err *err)
{
	struct claim claim = find_claim(network, row->mac, row->name, row->ip);
	struct reservation *r;
	char ip[16];
	if (claim.found && claim.same_ip)
		return err_set(err, ERR_CONFLICT, "that address is desktop '%s''s; choose another",
			       claim.who);
	if (claim.found)
		return err_set(err, ERR_CONFLICT,
			       "desktop '%s' has an address already, and keeps it for life",
			       claim.who);
	DL_FOREACH (network->reservations, r) {
		address_format(r->row.ip, ip);
		if (r->row.ip == row->ip ||
		    (row->mac[0] && strcasecmp(r->row.mac, row->mac) == 0) ||
		    (row->name[0] && strcmp(r->row.name, row->name) == 0))
			return err_set(err, ERR_CONFLICT,
				       "%s is reserved for %s already; give that up first", ip,
				       r->row.name[0] ? r->row.name : r->row.mac);
	}
	return 0;
}

static bool in_range(const struct db_network *row, uint32_t ip)
{
	uint32_t mask = netcfg_mask((unsigned int)row->prefix);
	return ((ip ^ row->address) & mask) == 0 && (ip & ~mask) != 0 && (ip & ~mask) != ~mask &&
	       ip != row->address;
}

static int fill(struct networks *all, struct network *network,
		const struct network_reserve *reserve, struct db_reservation *row, struct err *err)
{
	if (!network_has_dnsmasq(network))
		return err_set(err, ERR_UNSUPPORTED,
			       "addresses on network '%s' are not given by this host",
			       network->row.name);
	row->ip = reserve->ip;
	if (!row->ip && networks_pick_address(all, &network->row, NULL, &row->ip, err) < 0)
		return -1;
	if (!in_range(&network->row, row->ip))
		return err_set_field(err, "ip", "that is no address of network '%s' to be given",
				     network->row.name);
	str_uuid_new(row->id);
	snprintf(row->network_id, sizeof(row->network_id), "%s", network->row.id);
	snprintf(row->mac, sizeof(row->mac), "%s", reserve->mac ? reserve->mac : "");
	snprintf(row->name, sizeof(row->name), "%s", reserve->name ? reserve->name : "");
	row->created_at = str_now_ms();
	return check_free(network, row, err);
}

/* dnsmasq is told; one that does not hear it yet reads the file as it starts */
static void tell(struct network *network)
{
	struct err err;
	if (files_write_hosts(network, &err) < 0)
		log_warn("network %s: %s", network->row.name, err.msg);
	else
		dnsmasq_reload(network);
}

int networks_reserve(struct networks *all, const struct network_reserve *reserve,
		     const struct db_reservation **ret, struct err *err)
{
	struct db_reservation row = {.ip = 0};
	struct network *network = network_find(all, reserve->network, err);
	if (!network || network_refuse_busy(network, err) < 0 ||
	    fill(all, network, reserve, &row, err) < 0 ||
	    db_reservation_insert(all->db, &row, err) < 0)
		return -1;
	*ret = &reservation_add(network, &row)->row;
	tell(network);
	return 0;
}

int networks_unreserve(struct networks *all, const char *id, struct err *err)
{
	for (struct network *n = all->by_id; n; n = n->by_id.next) {
		struct reservation *r;
		DL_FOREACH (n->reservations, r) {
			char ip[16];
			address_format(r->row.ip, ip);
			if (strcmp(r->row.id, id) != 0 && strcmp(ip, id) != 0)
				continue;
			if (db_reservation_delete(all->db, r->row.id, err) < 0)
				return -1;
			DL_DELETE(n->reservations, r);
			free(r);
			tell(n);
			return 0;
		}
	}
	return err_set(err, ERR_NOT_FOUND,
		       "there is no reservation '%.40s'; `vdictl network reservations` shows those "
		       "there are",
		       id);
}

void networks_each_reservation(struct networks *all, const struct db_network *row,
			       void (*cb)(void *data, const struct db_reservation *row), void *data)
{
	struct network *network = network_find(all, row->id, NULL);
	struct reservation *r;
	DL_FOREACH (network->reservations, r) {
		cb(data, &r->row);
	}
}

json_t *networks_reservation_to_json(struct networks *all, const struct db_reservation *row)
{
	const struct network *network = network_find(all, row->network_id, NULL);
	struct claim claim = find_claim(network, row->mac, row->name, row->ip);
	char created[STR_TIME_MAX], ip[16], ip6[46];
	str_format_time(row->created_at, created);
	address_format(row->ip, ip);
	address6_of(&network->row, row->ip, ip6);
	return json_pack("{s:s, s:s, s:s, s:s?, s:s?, s:s?, s:s?, s:s}", "id", row->id, "network",
			 network->row.name, "ip", ip, "ip6", ip6[0] ? ip6 : NULL, "mac",
			 row->mac[0] ? row->mac : NULL, "name", row->name[0] ? row->name : NULL,
			 "desktop", claim.found ? claim.who : NULL, "created_at", created);
}
