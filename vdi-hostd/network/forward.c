/*
 * What the kernel has of port forwards. Each leads to a NIC, known by its MAC; the rules in the
 * kernel, of each family its own, lead to the addresses that it has now, which are written into the
 * row before they are made.
 */
#include <arpa/inet.h>
#include <stdio.h>
#include <string.h>
#include <utlist.h>

#include "base/log.h"
#include "vdi-hostd/network/private.h"

struct forward *forward_add(struct network *network, const struct db_forward *row)
{
	struct forward *forward = mem_new(struct forward);
	forward->row = *row;
	DL_APPEND(network->forwards, forward);
	return forward;
}

void forward_remove(struct network *network, struct forward *forward)
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
		memset(forward->told, 0, sizeof(forward->told));
	}
}

/* ---- where it leads to ---- */

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

struct db_addresses forward_to(const struct network *network, const struct db_forward *row,
			       char ret_name[STR_NAME_MAX + 1])
{
	const struct networks *all = network->all;
	struct lookup nic = {.mac = row->mac};
	struct db_addresses to = {.v4 = 0};
	if (all->each_host)
		all->each_host(all->each_host_data, network->row.id, look, &nic);
	if (!row->host.v6[0])
		to.v4 = nic.ip;
	if (!row->host.v4)
		address6_of(&network->row, nic.ip, to.v6);
	if (ret_name)
		memcpy(ret_name, nic.name, sizeof(nic.name));
	return to;
}

static bool has(const struct db_addresses *addresses, enum family family)
{
	return family == IPV4 ? addresses->v4 != 0 : addresses->v6[0] != '\0';
}

static bool same(const struct db_addresses *a, const struct db_addresses *b, enum family family)
{
	return family == IPV4 ? a->v4 == b->v4 : strcmp(a->v6, b->v6) == 0;
}

bool forward_leads(const struct db_forward *row, enum family family)
{
	return has(&row->to, family);
}

void forward_forget(struct db_forward *row, enum family family)
{
	if (family == IPV4)
		row->to.v4 = 0;
	else
		row->to.v6[0] = '\0';
}

/* ---- the kernel's part ---- */

static struct netcfg_addr address_of(const struct db_addresses *addresses, enum family family)
{
	struct netcfg_addr ret = {.family = 0};
	if (family == IPV4 && addresses->v4)
		ret = netcfg_addr_v4((struct in_addr){htonl(addresses->v4)}, 32);
	else if (family == IPV6 && netcfg_addr_parse(addresses->v6, &ret, NULL) < 0)
		ret.family = 0;
	return ret;
}

struct priv_request forward_request(const struct db_forward *row, enum family family,
				    enum priv_verb verb)
{
	struct priv_request req = {.verb = verb};
	req.u.forward = (struct netcfg_forward){
		.protocol = row->protocol == DB_PROTOCOL_TCP ? NETCFG_TCP : NETCFG_UDP,
		.host = address_of(&row->host, family),
		.port_first = (uint16_t)row->host_port,
		.port_last = (uint16_t)(row->host_port + row->count - 1),
		.guest = address_of(&row->to, family),
		.guest_port = (uint16_t)row->port,
	};
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

/* The one that was asked for; NULL: it was deleted meanwhile. */
static struct forward *forward_now(const struct network *network)
{
	struct forward *forward;
	DL_FOREACH (network->forwards, forward) {
		if (forward == network->forward_now)
			return forward;
	}
	return NULL;
}

static void on_told(struct network *network, const struct priv_reply *reply, int *fds,
		    const struct err *err)
{
	struct forward *forward = forward_now(network);
	if (err) {
		settled(network, err);
		return;
	}
	if (forward)
		forward->told[forward->asked] = true;
	settle_next(network);
}

static void on_taken_away(struct network *network, const struct priv_reply *reply, int *fds,
			  const struct err *err)
{
	struct forward *forward = forward_now(network);
	if (err) {
		settled(network, err);
		return;
	}
	if (forward) {
		forward->told[forward->asked] = false;
		forward_forget(&forward->row, forward->asked);
	}
	settle_next(network);
}

static bool tell(struct network *network, struct forward *forward, enum family family,
		 enum priv_verb verb, network_call_cb cb)
{
	struct priv_request req = forward_request(&forward->row, family, verb);
	network->forward_now = forward;
	forward->asked = family;
	network_call(network, &req, false, cb);
	return true;
}

/* Rules that lead elsewhere than its NIC is now go first. */
static bool take_away(struct network *network, struct forward *forward,
		      const struct db_addresses *to)
{
	for (enum family f = 0; f < FAMILIES; f++)
		if (forward_leads(&forward->row, f) && !same(&forward->row.to, to, f))
			return tell(network, forward, f, PRIV_FORWARD_DELETE, on_taken_away);
	return false;
}

static int record(struct network *network, struct forward *forward, const struct db_addresses *to,
		  struct err *err)
{
	if (same(&forward->row.to, to, IPV4) && same(&forward->row.to, to, IPV6))
		return 0;
	if (db_forward_set_to(network->all->db, forward->row.id, to, err) < 0)
		return -1;
	forward->row.to = *to;
	return 0;
}

static int erase(struct network *network, struct forward *forward, struct err *err)
{
	if (db_forward_delete(network->all->db, forward->row.id, err) < 0 &&
	    err->code != ERR_NOT_FOUND)
		return -1;
	if (!forward->unwanted)
		log_info("network %s: a port forward went with its desktop", network->row.name);
	forward_remove(network, forward);
	return 0;
}

/* The next step of one; false: it is as wished. */
static bool settle_one(struct network *network, struct forward *forward)
{
	struct db_addresses to = {.v4 = 0};
	struct err err;
	if (!forward->unwanted)
		to = forward_to(network, &forward->row, NULL);
	const bool gone = !has(&to, IPV4) && !has(&to, IPV6);
	if (take_away(network, forward, &to))
		return true;
	if ((gone ? erase(network, forward, &err) : record(network, forward, &to, &err)) < 0) {
		settled(network, &err);
		return true;
	}
	for (enum family f = 0; !gone && f < FAMILIES; f++)
		if (has(&to, f) && !forward->told[f])
			return tell(network, forward, f, PRIV_FORWARD_ENSURE, on_told);
	return false;
}

static void settle_next(struct network *network)
{
	struct forward *forward, *next;
	DL_FOREACH_SAFE(network->forwards, forward, next)
	{
		if (settle_one(network, forward))
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
