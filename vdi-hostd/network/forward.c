/*
 * Port forwards. Each leads to a NIC, known by its MAC; the rules in the kernel lead to the address
 * that it has now, which is written into the row before they are made.
 */
#include <arpa/inet.h>
#include <stdio.h>
#include <string.h>
#include <utlist.h>

#include "base/log.h"
#include "vdi-hostd/network/ports.h"
#include "vdi-hostd/network/private.h"

static struct forward *forward_add(struct network *network, const struct db_forward *row)
{
	struct forward *forward = mem_new(struct forward);
	forward->row = *row;
	DL_APPEND(network->forwards, forward);
	return forward;
}

static void forward_remove(struct network *network, struct forward *forward)
{
	DL_DELETE(network->forwards, forward);
	free(forward);
}

static int load_row(void *data, const struct db_forward *row)
{
	struct network *network = network_find(data, row->network_id, NULL);
	if (network)
		forward_add(network, row);
	return 0;
}

int forwards_load(struct networks *all, struct err *err)
{
	return db_forward_each(all->db, load_row, all, err);
}

void forwards_free(struct network *network)
{
	struct forward *forward, *next;
	DL_FOREACH_SAFE(network->forwards, forward, next)
	{
		forward_remove(network, forward);
	}
}

void forwards_forget_told(struct network *network)
{
	struct forward *forward;
	DL_FOREACH (network->forwards, forward) {
		forward->told = false;
	}
}

/* ---- where a MAC is ---- */

struct lookup {
	const char *mac;
	uint32_t ip;
	char name[STR_NAME_MAX + 1];
};

static void look(void *out, const struct network_host *host)
{
	struct lookup *lookup = out;
	if (strcasecmp(host->mac, lookup->mac) != 0)
		return;
	lookup->ip = host->ip;
	snprintf(lookup->name, sizeof(lookup->name), "%s", host->name);
}

static struct lookup find_nic(const struct networks *all, const char *network_id, const char *mac)
{
	struct lookup lookup = {.mac = mac};
	if (all->each_host)
		all->each_host(all->each_host_data, network_id, look, &lookup);
	return lookup;
}

/* ---- the kernel's part ---- */

struct priv_request forward_request(const struct db_forward *row, enum priv_verb verb)
{
	struct priv_request req = {.verb = verb};
	req.u.forward = (struct netcfg_forward){
		.protocol = row->protocol == DB_PROTOCOL_TCP ? NETCFG_TCP : NETCFG_UDP,
		.port_first = (uint16_t)row->host_port,
		.port_last = (uint16_t)(row->host_port + row->count - 1),
		.guest = netcfg_addr_v4((struct in_addr){htonl(row->ip)}, 32),
		.guest_port = (uint16_t)row->port,
	};
	if (row->host_address)
		req.u.forward.host = netcfg_addr_v4((struct in_addr){htonl(row->host_address)}, 32);
	return req;
}

static void settle_next(struct network *network);

static void settled(struct network *network, const struct err *err)
{
	void (*cb)(struct network *, const struct err *) = network->forwards_settled;
	network->forwards_settled = NULL;
	network->forward_now = NULL;
	if (cb)
		cb(network, err);
}

static struct forward *find_forward(const struct network *network, const struct forward *wanted)
{
	struct forward *forward;
	DL_FOREACH (network->forwards, forward) {
		if (forward == wanted)
			return forward;
	}
	return NULL;
}

static void on_told(struct network *network, const struct priv_reply *reply, int *fds,
		    const struct err *err)
{
	struct forward *forward = find_forward(network, network->forward_now);
	if (err) {
		settled(network, err);
		return;
	}
	if (forward)
		forward->told = true;
	settle_next(network);
}

/* It leads elsewhere than its NIC is now, or its NIC is gone: away with the rules first. */
static void on_taken_away(struct network *network, const struct priv_reply *reply, int *fds,
			  const struct err *error)
{
	struct forward *forward = find_forward(network, network->forward_now);
	struct db *db = network->all->db;
	struct err err;
	if (error) {
		settled(network, error);
		return;
	}
	if (!forward) {
		settle_next(network);
		return;
	}
	forward->told = false;
	struct lookup nic = find_nic(network->all, network->row.id, forward->row.mac);
	if (nic.ip == 0) {
		if (db_forward_delete(db, forward->row.id, &err) < 0 && err.code != ERR_NOT_FOUND) {
			settled(network, &err);
			return;
		}
		log_info("network %s: a port forward went with its desktop", network->row.name);
		forward_remove(network, forward);
	} else {
		forward->row.ip = 0;
	}
	settle_next(network);
}

static void tell(struct network *network, struct forward *forward, enum priv_verb verb,
		 network_call_cb cb)
{
	struct priv_request req = forward_request(&forward->row, verb);
	network->forward_now = forward;
	network_call(network, &req, false, cb);
}

static void settle_next(struct network *network)
{
	struct forward *forward;
	struct err err;
	DL_FOREACH (network->forwards, forward) {
		struct lookup nic = find_nic(network->all, network->row.id, forward->row.mac);
		if (nic.ip != forward->row.ip && forward->row.ip != 0) {
			tell(network, forward, PRIV_FORWARD_DELETE, on_taken_away);
			return;
		}
		if (nic.ip == 0) {
			network->forward_now = forward;
			on_taken_away(network, NULL, NULL, NULL);
			return;
		}
		if (forward->told)
			continue;
		if (db_forward_set_ip(network->all->db, forward->row.id, nic.ip, &err) < 0) {
			settled(network, &err);
			return;
		}
		forward->row.ip = nic.ip;
		tell(network, forward, PRIV_FORWARD_ENSURE, on_told);
		return;
	}
	settled(network, NULL);
}

void forwards_settle(struct network *network,
		     void (*cb)(struct network *network, const struct err *err))
{
	bool running = network->forward_now != NULL;
	network->forwards_settled = cb;
	if (!running)
		settle_next(network);
}

/* ---- add ---- */

struct change_forward {
	struct network_change change;
	struct db_forward row;
	forward_cb cb;
	void *data;
};

static struct forward *find_row(const struct network *network, const char *id)
{
	struct forward *forward;
	DL_FOREACH (network->forwards, forward) {
		if (strcmp(forward->row.id, id) == 0)
			return forward;
	}
	return NULL;
}

static int wish_forward(struct network *network, struct network_change *change, struct err *err)
{
	struct change_forward *add = container_of(change, struct change_forward, change);
	if (db_forward_insert(network->all->db, &add->row, err) < 0)
		return -1;
	forward_add(network, &add->row);
	return 0;
}

static void revert_forward(struct network *network, struct network_change *change)
{
	struct change_forward *add = container_of(change, struct change_forward, change);
	struct forward *forward = find_row(network, add->row.id);
	struct err err;
	if (forward)
		forward_remove(network, forward);
	if (db_forward_delete(network->all->db, add->row.id, &err) < 0 && err.code != ERR_NOT_FOUND)
		log_err("network %s: %s", network->row.name, err.msg);
}

static void forward_done(struct network *network, struct network_change *change,
			 const struct err *err)
{
	_cleanup_free_ struct change_forward *add =
		container_of(change, struct change_forward, change);
	struct forward *forward = err ? NULL : find_row(network, add->row.id);
	add->cb(add->data, forward ? &forward->row : NULL, err);
}

static bool collide(const struct db_forward *a, const struct db_forward *b)
{
	return a->protocol == b->protocol && a->host_port < b->host_port + b->count &&
	       b->host_port < a->host_port + a->count &&
	       (!a->host_address || !b->host_address || a->host_address == b->host_address);
}

static int check_others(struct networks *all, const struct db_forward *row, struct err *err)
{
	for (struct network *n = all->by_id; n; n = n->by_id.next) {
		struct forward *forward;
		DL_FOREACH (n->forwards, forward) {
			if (!collide(&forward->row, row))
				continue;
			struct lookup nic = find_nic(all, n->row.id, forward->row.mac);
			return err_set(err, ERR_CONFLICT,
				       "port %lld leads to desktop '%s' already; choose "
				       "another, or delete that forward",
				       (long long)forward->row.host_port, nic.name);
		}
	}
	return ports_check_free(row->protocol == DB_PROTOCOL_TCP, row->host_address,
				(uint16_t)row->host_port, (uint16_t)row->count, err);
}

static int fill_row(struct networks *all, const struct network *network,
		    const struct network_forward *forward, struct db_forward *row, struct err *err)
{
	if (!network_has_dnsmasq(network))
		return err_set(err, ERR_UNSUPPORTED,
			       "addresses on network '%s' are not given by this host, so no port "
			       "can be forwarded to them",
			       network->row.name);
	if (find_nic(all, network->row.id, forward->mac).ip == 0)
		return err_set(err, ERR_NOT_FOUND, "nobody on network '%s' has the MAC %.17s",
			       network->row.name, forward->mac);
	if (forward->host_port + forward->count - 1 > 65535 ||
	    forward->port + forward->count - 1 > 65535)
		return err_set_field(err, "host_port", "the range goes beyond port 65535");
	str_uuid_new(row->id);
	snprintf(row->network_id, sizeof(row->network_id), "%s", network->row.id);
	snprintf(row->mac, sizeof(row->mac), "%s", forward->mac);
	row->protocol = forward->protocol;
	row->host_address = forward->host_address;
	row->host_port = forward->host_port;
	row->port = forward->port;
	row->count = forward->count;
	row->created_at = str_now_ms();
	return check_others(all, row, err);
}

void networks_forward_add(struct networks *all, const struct network_forward *forward,
			  forward_cb cb, void *data)
{
	struct err err;
	struct db_forward row = {0};
	struct network *network = network_find(all, forward->network_id, &err);
	if (!network || network_refuse_busy(network, &err) < 0 ||
	    fill_row(all, network, forward, &row, &err) < 0) {
		cb(data, NULL, &err);
		return;
	}
	struct change_forward *add = mem_new(struct change_forward);
	add->change = (struct network_change){wish_forward, revert_forward, forward_done};
	add->row = row;
	add->cb = cb;
	add->data = data;
	network_begin_change(network, &add->change);
}

/* ---- delete: the rules, then the row; what is interrupted in between comes back ---- */

static void unforward(struct plan *plan, void *ctx);
static void erase(struct plan *plan, void *ctx);

static const struct plan_step unforward_plan[] = {
	{"rules", unforward, NULL},
	{"row", erase, NULL},
};

static void on_unforwarded(struct network *network, const struct priv_reply *reply, int *fds,
			   const struct err *err)
{
	if (err)
		plan_fail(network->plan, err);
	else
		plan_next(network->plan);
}

static struct change_forward *deletion(const struct network *network)
{
	return container_of(network->change, struct change_forward, change);
}

static void unforward(struct plan *plan, void *ctx)
{
	struct network *network = ctx;
	struct forward *forward = find_row(network, deletion(network)->row.id);
	if (!forward || forward->row.ip == 0) {
		plan_next(plan);
		return;
	}
	forward->told = false;
	struct priv_request req = forward_request(&forward->row, PRIV_FORWARD_DELETE);
	network_call(network, &req, true, on_unforwarded);
}

static void erase(struct plan *plan, void *ctx)
{
	struct network *network = ctx;
	const char *id = deletion(network)->row.id;
	struct forward *forward = find_row(network, id);
	struct err err;
	if (db_forward_delete(network->all->db, id, &err) < 0) {
		plan_fail(plan, &err);
		return;
	}
	if (forward)
		forward_remove(network, forward);
	plan_next(plan);
}

static void on_deleted(void *ctx, const struct err *err)
{
	struct network *network = ctx;
	_cleanup_free_ struct change_forward *change = deletion(network);
	network->plan = NULL;
	network->change = NULL;
	if (err && !network->all->closing)
		network_repair_later(network, true);
	change->cb(change->data, NULL, err);
}

void networks_forward_delete(struct networks *all, const char *id, forward_cb cb, void *data)
{
	struct err err;
	struct network *network = all->by_id;
	while (network && !find_row(network, id))
		network = network->by_id.next;
	if (!network)
		err_set(&err, ERR_NOT_FOUND,
			"there is no port forward '%.40s'; `vdictl network forward list` shows "
			"those there are",
			id);
	if (!network || network_refuse_busy(network, &err) < 0) {
		cb(data, NULL, &err);
		return;
	}
	struct change_forward *change = mem_new(struct change_forward);
	change->row = find_row(network, id)->row;
	change->cb = cb;
	change->data = data;
	network->change = &change->change;
	network->plan_nth++;
	network->plan = plan_start(all->loop, "network-unforward", unforward_plan,
				   ARRAY_LEN(unforward_plan), network, on_deleted);
}

/* ---- show ---- */

void networks_forward_each(struct networks *all, const char *network_id,
			   void (*cb)(void *data, const struct db_forward *row), void *data)
{
	for (struct network *n = all->by_id; n; n = n->by_id.next) {
		struct forward *forward;
		if (network_id && strcmp(n->row.id, network_id) != 0)
			continue;
		DL_FOREACH (n->forwards, forward) {
			cb(data, &forward->row);
		}
	}
}

json_t *networks_forward_to_json(struct networks *all, const struct db_forward *row)
{
	const struct network *network = network_find(all, row->network_id, NULL);
	struct lookup nic = find_nic(all, row->network_id, row->mac);
	char created[STR_TIME_MAX], host[16], ip[16];
	str_format_time(row->created_at, created);
	address_format(row->host_address, host);
	address_format(nic.ip, ip);
	return json_pack("{s:s, s:s?, s:s?, s:s, s:s?, s:s, s:s?, s:I, s:I, s:I, s:s}", "id",
			 row->id, "network", network ? network->row.name : NULL, "desktop",
			 nic.name[0] ? nic.name : NULL, "mac", row->mac, "ip", nic.ip ? ip : NULL,
			 "protocol", row->protocol == DB_PROTOCOL_TCP ? "tcp" : "udp",
			 "host_address", row->host_address ? host : NULL, "host_port",
			 (json_int_t)row->host_port, "port", (json_int_t)row->port, "count",
			 (json_int_t)row->count, "created_at", created);
}
