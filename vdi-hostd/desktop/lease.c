/*
 * Addresses that DHCP servers of others give to NICs on networks with source guard: the NIC sends
 * from no other. The row is written first and the kernel told then, so that the next daemon, which
 * hears nothing of it before the guest asks again, tells the kernel the same.
 */
#include <arpa/inet.h>
#include <stdio.h>
#include <string.h>

#include "base/log.h"
#include "vdi-hostd/desktop/private.h"

/* A guest can have its server answer as often as it asks, and each answer is a row to be written.
 */
#define PAUSE_MS 1000
/* The guest counts from when it asked; a renewal at the last moment may be under way. */
#define GRACE_MAX_S 60

static void on_timer(uv_timer_t *timer);

static bool ends_some_day(const struct nic *nic)
{
	return nic->row.learned_ip && nic->row.lease_s;
}

/* What was renewed while no daemon ran was not heard: the whole lease is ahead of it again. */
static void count_from_now(struct desktop *desktop, struct nic *nic)
{
	const int64_t s = nic->row.lease_s, grace_s = s < GRACE_MAX_S ? s : GRACE_MAX_S;
	nic->lease.ends = uv_now(desktop->all->env.loop) + (uint64_t)(s + grace_s) * 1000;
	nic->row.learned_until = str_now_ms() + s * 1000;
}

void desktop_leases_watch(struct desktops *all)
{
	const uint64_t now = uv_now(all->env.loop);
	uint64_t next = UINT64_MAX;
	for (struct desktop *d = all->by_id; d; d = d->by_id.next)
		for (struct nic *nic = NULL; (nic = desktop_nic_next(d, nic));) {
			if (nic->lease.waits && nic->lease.settled + PAUSE_MS < next)
				next = nic->lease.settled + PAUSE_MS;
			if (!ends_some_day(nic))
				continue;
			if (!nic->lease.ends)
				count_from_now(d, nic);
			if (nic->lease.ends < next)
				next = nic->lease.ends;
		}
	desktop_timer_stop(&all->lease);
	if (next == UINT64_MAX)
		return;
	all->lease = mem_new(uv_timer_t);
	all->lease->data = all;
	uv_timer_init(all->env.loop, all->lease);
	uv_timer_start(all->lease, on_timer, next > now ? next - now : 0, 0);
}

static void on_told(void *data, const struct priv_reply *reply, int *fds, const struct err *err)
{
	/* it may have ended, or have no tap yet, which gets the address when it is made */
	if (err && err->code != ERR_NOT_FOUND && err->code != ERR_CANCELLED)
		log_warn("the kernel does not know a desktop's new address; it is told again when "
			 "its network is looked at: %s",
			 err->msg);
}

/* @row: the NIC's, with another address or end of it */
static void take_over(struct desktop *desktop, struct nic *nic, const struct db_nic *row)
{
	const bool is_other = desktop_nic_address(row) != desktop_nic_address(&nic->row);
	struct err err;
	/* it counts in any case, and is gone after a restart only */
	if (db_nic_update(desktop->all->env.db, row, &err) < 0)
		log_err("desktop %s: %s", desktop->row.name, err.msg);
	nic->row = *row;
	nic->lease.ends = 0;
	desktop_nic_learned(desktop, row);
	desktop_forget_json(desktop);
	if (is_other && (desktop->row.pid || desktop->plan))
		desktop_tap_attach(desktop, nic, on_told);
}

static void take_away(struct desktop *desktop, struct nic *nic, const char *why)
{
	struct db_nic row = nic->row;
	row.learned_ip = 0;
	row.learned_until = row.lease_s = 0;
	take_over(desktop, nic, &row);
	desktop_note(desktop, "NIC %d has no address from DHCP any more: %s", (int)row.number, why);
}

static void format(struct in_addr in, char ret[INET_ADDRSTRLEN])
{
	inet_ntop(AF_INET, &in, ret, INET_ADDRSTRLEN);
}

/* What is another NIC's by the administrator's word stays with that one; what a server once gave to
 * another is that one's no more. */
static bool is_free_for(struct desktop *desktop, struct nic *nic, uint32_t ip, const char *text)
{
	struct desktop *whose;
	struct nic *other;
	while ((other = desktop_nic_find_address(desktop->all, desktop_nic_network(desktop, nic),
						 ip, nic->row.mac, &whose))) {
		if (other->row.ip == ip) {
			desktop_warn(desktop,
				     "a DHCP server gave the fixed address of desktop '%s', %s, to "
				     "NIC %d, which may not send from it",
				     whose->row.name, text, (int)nic->row.number);
			return false;
		}
		take_away(whose, other, "its server gave it to another desktop");
	}
	return true;
}

static void settle(struct desktop *desktop, struct nic *nic)
{
	const struct netcfg_lease *heard = &nic->lease.heard;
	const uint32_t ip = ntohl(heard->address.s_addr);
	const bool is_other = ip != nic->row.learned_ip;
	char text[INET_ADDRSTRLEN], server[INET_ADDRSTRLEN];
	format(heard->address, text);
	format(heard->server, server);
	nic->lease.waits = false;
	nic->lease.settled = uv_now(desktop->all->env.loop);
	if (is_other && !is_free_for(desktop, nic, ip, text))
		return;
	struct db_nic row = nic->row;
	row.learned_ip = ip;
	row.lease_s = heard->seconds == NETCFG_LEASE_FOREVER ? 0 : heard->seconds;
	row.learned_until = row.lease_s ? str_now_ms() + row.lease_s * 1000 : 0;
	take_over(desktop, nic, &row);
	if (is_other)
		desktop_note(desktop, "NIC %d has the address %s from the DHCP server %s",
			     (int)row.number, text, server);
}

static void on_timer(uv_timer_t *timer)
{
	struct desktops *all = timer->data;
	const uint64_t now = uv_now(all->env.loop);
	for (struct desktop *d = all->by_id; d; d = d->by_id.next)
		for (struct nic *nic = NULL; (nic = desktop_nic_next(d, nic));) {
			if (nic->lease.waits && now >= nic->lease.settled + PAUSE_MS)
				settle(d, nic);
			if (ends_some_day(nic) && nic->lease.ends && now >= nic->lease.ends)
				take_away(d, nic, "its lease has ended");
		}
	desktop_leases_watch(all);
}

static struct nic *find_mac(struct desktops *all, const uint8_t mac[6], struct desktop **ret_whose)
{
	char text[NETCFG_MAC_TEXT_MAX];
	netcfg_mac_format(mac, text);
	for (struct desktop *d = all->by_id; d; d = d->by_id.next)
		for (struct nic *nic = NULL; (nic = desktop_nic_next(d, nic));)
			if (strcmp(nic->row.mac, text) == 0) {
				*ret_whose = d;
				return nic;
			}
	return NULL;
}

void desktops_learn(void *data, const struct netcfg_lease *lease)
{
	struct desktops *all = data;
	struct desktop *desktop;
	struct nic *nic = find_mac(all, lease->mac, &desktop);
	const struct db_network *network = nic ? desktop_nic_network(desktop, nic) : NULL;
	if (!network || network->kind != DB_NETWORK_BRIDGED || !network->source_guard)
		return;
	nic->lease.heard = *lease;
	nic->lease.waits = true;
	if (!nic->lease.settled || uv_now(all->env.loop) >= nic->lease.settled + PAUSE_MS)
		settle(desktop, nic);
	desktop_leases_watch(all);
}

json_t *desktops_leases(struct desktops *all, const char *network_id)
{
	json_t *leases = json_array();
	for (struct desktop *d = all->by_id; d; d = d->by_id.next)
		for (struct nic *nic = NULL; (nic = desktop_nic_next(d, nic));) {
			const struct db_nic *row = &nic->row;
			char ip[INET_ADDRSTRLEN], until[STR_TIME_MAX];
			if (!row->learned_ip || strcmp(row->network_id, network_id) != 0)
				continue;
			format((struct in_addr){htonl(row->learned_ip)}, ip);
			str_format_time(row->learned_until, until);
			json_array_append_new(leases, json_pack("{s:s, s:s, s:s, s:s?}", "mac",
								row->mac, "ip", ip, "hostname",
								d->row.name, "expires_at",
								row->learned_until ? until : NULL));
		}
	return leases;
}
