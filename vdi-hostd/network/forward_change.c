/* Port forwards as objects: made, deleted, shown. What the kernel has of them: forward.c. */
#include <arpa/inet.h>
#include <string.h>
#include <utlist.h>

#include "base/log.h"
#include "vdi-hostd/network/ports.h"
#include "vdi-hostd/network/private.h"

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
	/* one family's rules may be there: the repair that follows takes them away, and the row */
	if (forward)
		forward->unwanted = true;
}

static void forward_done(struct network *network, struct network_change *change,
			 const struct err *err)
{
	_cleanup_free_ struct change_forward *add =
		container_of(change, struct change_forward, change);
	struct forward *forward = err ? NULL : find_row(network, add->row.id);
	add->cb(add->data, forward ? &forward->row : NULL, err);
}

/* Does it take its ports of that family? */
static bool takes(const struct network *network, const struct db_forward *row, enum family family)
{
	return family == IPV4 ? !row->host.v6[0] : !row->host.v4 && network->row.address6[0];
}

static bool is_all(const struct db_addresses *host)
{
	return !host->v4 && !host->v6[0];
}

static bool collide(const struct network *network, const struct db_forward *a,
		    const struct network *other, const struct db_forward *b)
{
	if (a->protocol != b->protocol || a->host_port >= b->host_port + b->count ||
	    b->host_port >= a->host_port + a->count)
		return false;
	for (enum family f = 0; f < FAMILIES; f++)
		if (takes(network, a, f) && takes(other, b, f) &&
		    (is_all(&a->host) || is_all(&b->host) ||
		     (f == IPV4 ? a->host.v4 == b->host.v4 : strcmp(a->host.v6, b->host.v6) == 0)))
			return true;
	return false;
}

static int check_others(const struct network *network, const struct db_forward *row,
			const struct netcfg_addr *host, struct err *err)
{
	const struct ports ports = {
		.tcp = row->protocol == DB_PROTOCOL_TCP,
		.ipv4 = takes(network, row, IPV4),
		.ipv6 = takes(network, row, IPV6),
		.host = *host,
		.first = (uint16_t)row->host_port,
		.last = (uint16_t)(row->host_port + row->count - 1),
	};
	for (struct network *n = network->all->by_id; n; n = n->by_id.next) {
		struct forward *forward;
		DL_FOREACH (n->forwards, forward) {
			char name[STR_NAME_MAX + 1];
			if (forward->unwanted || !collide(network, row, n, &forward->row))
				continue;
			(void)forward_to(n, &forward->row, name);
			return err_set(err, ERR_CONFLICT,
				       "port %lld leads to desktop '%s' already; choose "
				       "another, or delete that forward",
				       (long long)forward->row.host_port, name);
		}
	}
	return ports_check_free(&ports, err);
}

/* Could others reach the host at it? */
static bool is_reachable(const struct netcfg_addr *host)
{
	if (host->family == AF_INET)
		return netcfg_ipv4_is_unicast(host->v4);
	return !IN6_IS_ADDR_UNSPECIFIED(&host->v6) && !IN6_IS_ADDR_LOOPBACK(&host->v6) &&
	       !IN6_IS_ADDR_MULTICAST(&host->v6) && !IN6_IS_ADDR_LINKLOCAL(&host->v6) &&
	       !IN6_IS_ADDR_V4MAPPED(&host->v6);
}

static int fill_host(const struct network *network, const char *text, struct db_addresses *ret,
		     struct netcfg_addr *ret_host, struct err *err)
{
	*ret_host = (struct netcfg_addr){.family = 0};
	if (!text)
		return 0;
	if (strchr(text, '/') || netcfg_addr_parse(text, ret_host, NULL) < 0 ||
	    !is_reachable(ret_host))
		return err_set_field(err, "host_address",
				     "'%.45s' is no address at which others reach this host", text);
	if (ret_host->family == AF_INET) {
		ret->v4 = ntohl(ret_host->v4.s_addr);
		return 0;
	}
	inet_ntop(AF_INET6, &ret_host->v6, ret->v6, sizeof(ret->v6));
	if (!network->row.address6[0])
		return err_set_field(err, "host_address",
				     "desktops on network '%s' have no IPv6 addresses; choose an "
				     "IPv4 address of the host",
				     network->row.name);
	return 0;
}

static int fill_row(const struct network *network, const struct network_forward *forward,
		    struct db_forward *row, struct err *err)
{
	struct netcfg_addr host;
	if (!network_has_dnsmasq(network))
		return err_set(err, ERR_UNSUPPORTED,
			       "addresses on network '%s' are not given by this host, so no port "
			       "can be forwarded to them",
			       network->row.name);
	if (fill_host(network, forward->host_address, &row->host, &host, err) < 0)
		return -1;
	if (forward->host_port + forward->count - 1 > 65535 ||
	    forward->port + forward->count - 1 > 65535)
		return err_set_field(err, "host_port", "the range goes beyond port 65535");
	str_uuid_new(row->id);
	snprintf(row->network_id, sizeof(row->network_id), "%s", network->row.id);
	snprintf(row->mac, sizeof(row->mac), "%s", forward->mac);
	row->protocol = forward->protocol;
	row->host_port = forward->host_port;
	row->port = forward->port;
	row->count = forward->count;
	row->created_at = str_now_ms();
	const struct db_addresses to = forward_to(network, row, NULL);
	if (!to.v4 && !to.v6[0])
		return err_set(err, ERR_NOT_FOUND, "nobody on network '%s' has the MAC %.17s",
			       network->row.name, forward->mac);
	return check_others(network, row, &host, err);
}

void networks_forward_add(struct networks *all, const struct network_forward *forward,
			  forward_cb cb, void *data)
{
	struct err err;
	struct db_forward row = {0};
	struct network *network = network_find(all, forward->network_id, &err);
	if (!network || network_refuse_busy(network, &err) < 0 ||
	    fill_row(network, forward, &row, &err) < 0) {
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

static struct change_forward *deletion(const struct network *network)
{
	return container_of(network->change, struct change_forward, change);
}

static void on_unforwarded(struct network *network, const struct priv_reply *reply, int *fds,
			   const struct err *err)
{
	struct db_forward *row = &deletion(network)->row;
	if (err) {
		plan_fail(network->plan, err);
		return;
	}
	forward_forget(row, forward_leads(row, IPV4) ? IPV4 : IPV6);
	unforward(network->plan, network);
}

/* Of one family after the other, until none is left. */
static void unforward(struct plan *plan, void *ctx)
{
	struct network *network = ctx;
	const struct db_forward *row = &deletion(network)->row;
	const bool v4 = forward_leads(row, IPV4);
	if (!v4 && !forward_leads(row, IPV6)) {
		plan_next(plan);
		return;
	}
	struct priv_request req = forward_request(row, v4 ? IPV4 : IPV6, PRIV_FORWARD_DELETE);
	network_call(network, &req, true, on_unforwarded);
}

static void erase(struct plan *plan, void *ctx)
{
	struct network *network = ctx;
	const char *id = deletion(network)->row.id;
	struct forward *forward = find_row(network, id);
	struct err err;
	if (db_forward_delete(network->all->db, id, &err) < 0 && err.code != ERR_NOT_FOUND) {
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
	struct forward *forward = find_row(network, change->row.id);
	network->plan = NULL;
	network->change = NULL;
	if (forward)
		forward->unwanted = false;
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
	struct forward *forward = find_row(network, id);
	struct change_forward *change = mem_new(struct change_forward);
	/* if it stays after all, it is told anew */
	forward->unwanted = true;
	memset(forward->told, 0, sizeof(forward->told));
	change->row = forward->row;
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
			if (!forward->unwanted)
				cb(data, &forward->row);
		}
	}
}

static json_t *address_to_json(uint32_t ip)
{
	char text[16];
	if (!ip)
		return json_null();
	address_format(ip, text);
	return json_string(text);
}

static json_t *host_to_json(const struct db_addresses *host)
{
	return host->v6[0] ? json_string(host->v6) : address_to_json(host->v4);
}

json_t *networks_forward_to_json(struct networks *all, const struct db_forward *row)
{
	const struct network *network = network_find(all, row->network_id, NULL);
	struct db_addresses to = {.v4 = 0};
	char created[STR_TIME_MAX], name[STR_NAME_MAX + 1] = "";
	str_format_time(row->created_at, created);
	if (network)
		to = forward_to(network, row, name);
	return json_pack(
		"{s:s, s:s?, s:s?, s:s, s:o, s:s?, s:s, s:o, s:I, s:I, s:I, s:s}", "id", row->id,
		"network", network ? network->row.name : NULL, "desktop", name[0] ? name : NULL,
		"mac", row->mac, "ip", address_to_json(to.v4), "ip6", to.v6[0] ? to.v6 : NULL,
		"protocol", row->protocol == DB_PROTOCOL_TCP ? "tcp" : "udp", "host_address",
		host_to_json(&row->host), "host_port", (json_int_t)row->host_port, "port",
		(json_int_t)row->port, "count", (json_int_t)row->count, "created_at", created);
}
