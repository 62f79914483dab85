#include "vdi-hostd/network/network.h"

#include <arpa/inet.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <utlist.h>

#include "base/log.h"
#include "vdi-hostd/db/event.h"
#include "vdi-hostd/network/private.h"

struct network *network_add(struct networks *all, const struct db_network *row)
{
	struct network *network = mem_new(struct network);
	network->all = all;
	network->row = *row;
	network->pidfd = -1;
	HASH_ADD(by_id, all->by_id, row.id, strlen(network->row.id), network);
	HASH_ADD(by_name, all->by_name, row.name, strlen(network->row.name), network);
	return network;
}

static void on_timer_closed(uv_handle_t *handle)
{
	free(handle);
}

uv_timer_t *network_timer(struct network *network, uint64_t ms, uv_timer_cb cb)
{
	uv_timer_t *timer = mem_new(uv_timer_t);
	timer->data = network;
	uv_timer_init(network->all->loop, timer);
	uv_timer_start(timer, cb, ms, 0);
	return timer;
}

void network_timer_stop(uv_timer_t **timer)
{
	if (*timer)
		uv_close((uv_handle_t *)TAKE_PTR(*timer), on_timer_closed);
}

/* struct network_call - a request under way; @network is NULL once that is gone */
struct network_call {
	struct network *network;
	network_call_cb cb;
	bool of_plan;
	unsigned int plan_nth;
	struct network_call *next, *prev;
};

static void on_answer(void *data, const struct priv_reply *reply, int *fds, const struct err *err)
{
	_cleanup_free_ struct network_call *call = data;
	struct network *network = call->network;
	if (!network)
		return;
	DL_DELETE(network->calls, call);
	if (call->of_plan && (!network->plan || network->plan_nth != call->plan_nth))
		return;
	/* cancelled: the daemon ends, and its next start finds what is to do */
	if (!err || err->code != ERR_CANCELLED)
		call->cb(network, reply, fds, err);
}

void network_call(struct network *network, const struct priv_request *req, bool of_plan,
		  network_call_cb cb)
{
	struct network_call *call = mem_new(struct network_call);
	call->network = network;
	call->cb = cb;
	call->of_plan = of_plan;
	call->plan_nth = network->plan_nth;
	DL_APPEND(network->calls, call);
	priv_call(network->all->priv, req, NULL, 0, on_answer, call);
}

static void drop_calls(struct network *network)
{
	struct network_call *call, *next;
	DL_FOREACH_SAFE(network->calls, call, next)
	{
		DL_DELETE(network->calls, call);
		call->network = NULL;
	}
}

void network_remove(struct network *network)
{
	struct networks *all = network->all;
	dnsmasq_release(network);
	network_timer_stop(&network->retry);
	network_timer_stop(&network->settling);
	network_timer_stop(&network->confirm);
	drop_calls(network);
	look_cancel_all(network);
	forwards_free(network);
	reservations_free(network);
	HASH_DELETE(by_id, all->by_id, network);
	HASH_DELETE(by_name, all->by_name, network);
	free(network);
}

static int load_row(void *data, const struct db_network *row)
{
	network_add(data, row);
	return 0;
}

int networks_new(uv_loop_t *loop, struct db *db, struct priv *priv, const char *runtime_dir,
		 struct networks **ret, struct err *err)
{
	struct networks *all = mem_new(struct networks);
	all->loop = loop;
	all->db = db;
	all->priv = priv;
	if (str_copy(all->runtime_dir, sizeof(all->runtime_dir), runtime_dir) < 0 ||
	    proc_boot_id(all->boot_id, err) < 0 || db_network_each(db, load_row, all, err) < 0 ||
	    forwards_load(all, err) < 0 || reservations_load(all, err) < 0 ||
	    firewall_load(all, err) < 0) {
		networks_free(all);
		return -1;
	}
	*ret = all;
	return 0;
}

/* End what is under way and leave all as it is; the intent in its row says what is to be done. */
static void abandon(struct network *network)
{
	drop_calls(network);
	if (!network->plan)
		return;
	if (plan_is_undoing(network->plan))
		plan_undone(network->plan); /* the answer that it waits for never comes */
	else
		plan_cancel(network->plan, NULL);
}

void networks_free(struct networks *all)
{
	if (!all)
		return;
	all->closing = true;
	watch_free(TAKE_PTR(all->watch));
	liveness_free(TAKE_PTR(all->liveness));
	hearing_free(TAKE_PTR(all->hearing));
	struct network *network, *next;
	HASH_ITER (by_id, all->by_id, network, next) {
		abandon(network);
		network_remove(network);
	}
	firewall_free(all);
	free(all);
}

void networks_set_features(struct networks *all, uint32_t features)
{
	all->features = features;
}

bool network_has_kernel_part(const struct network *network)
{
	return network->row.kind != DB_NETWORK_USER;
}

bool network_has_dnsmasq(const struct network *network)
{
	return network_has_kernel_part(network) && network->row.kind != DB_NETWORK_BRIDGED;
}

bool network_is_guarded(const struct db_network *row)
{
	return row->kind == DB_NETWORK_BRIDGED && row->source_guard;
}

void network_bridge_name(const struct network *network, char ret[16])
{
	snprintf(ret, 16, "vdibr%u", (unsigned int)network->row.slot & 0xffff);
}

static enum priv_network_kind priv_kind(enum db_network_kind kind)
{
	switch (kind) {
	case DB_NETWORK_NAT:
		return PRIV_NETWORK_NAT;
	case DB_NETWORK_ROUTED:
		return PRIV_NETWORK_ROUTED;
	case DB_NETWORK_BRIDGED:
		return PRIV_NETWORK_BRIDGED;
	case DB_NETWORK_ISOLATED:
	case DB_NETWORK_USER: /* never asked for */
		break;
	}
	return PRIV_NETWORK_ISOLATED;
}

/* "192.0.2.2,192.0.2.3" */
static uint8_t parse_peers(const char *text, uint32_t ret[PRIV_PEERS_MAX])
{
	uint8_t n = 0;
	while (*text && n < PRIV_PEERS_MAX) {
		char one[16];
		struct in_addr in;
		size_t len = strcspn(text, ",");
		snprintf(one, sizeof(one), "%.*s", (int)len, text);
		if (inet_pton(AF_INET, one, &in) == 1)
			ret[n++] = in.s_addr;
		text += len + (text[len] == ',');
	}
	return n;
}

static uint8_t openings_of(const struct db_openings *openings,
			   struct netcfg_opening ret[NETCFG_FIREWALL_OPENINGS_MAX])
{
	_Static_assert(DB_OPENINGS_MAX <= NETCFG_FIREWALL_OPENINGS_MAX, "all fit");
	for (size_t i = 0; i < openings->n; i++) {
		const struct db_opening *opening = &openings->opening[i];
		ret[i].protocol = opening->protocol == DB_PROTOCOL_TCP ? NETCFG_TCP : NETCFG_UDP;
		ret[i].port_first = (uint16_t)opening->port_first;
		ret[i].port_last = (uint16_t)opening->port_last;
	}
	return (uint8_t)openings->n;
}

struct priv_request network_request(const struct network *network, enum priv_verb verb)
{
	struct priv_request req = {.verb = verb};
	const struct db_network *row = &network->row;
	struct priv_network *wish = &req.u.network;
	struct in_addr in = {0};
	*wish = (struct priv_network){
		.slot = (uint32_t)row->slot,
		.kind = (uint8_t)priv_kind(row->kind),
		.prefix = (uint8_t)row->prefix,
		.address = htonl(row->address),
		.no_dns = !row->dns,
		.mtu = (uint16_t)row->mtu,
		.vlan = (uint16_t)row->vlan,
		.joined = row->joined,
		.hears_dhcp = network_is_guarded(row),
		.vni = (uint32_t)row->vni,
		.vxlan_port = (uint16_t)row->vxlan_port,
	};
	wish->n_peers = parse_peers(row->peers, wish->peers);
	wish->n_openings = openings_of(&row->openings, wish->openings);
	if (inet_pton(AF_INET, row->underlay, &in) == 1)
		wish->underlay = in.s_addr;
	if (row->address6[0] && inet_pton(AF_INET6, row->address6, wish->address6) != 1)
		memset(wish->address6, 0, sizeof(wish->address6));
	memcpy(wish->uplink, row->uplink, sizeof(wish->uplink));
	return req;
}

static void tell(struct network *network, const char *what, const char *reason)
{
	struct err err;
	json_t *data = json_pack("{s:s, s:s, s:s?}", "name", network->row.name, "state", what,
				 "reason", reason[0] ? reason : NULL);
	if (db_event_append(network->all->db, "network", network->row.id, data, &err) < 0)
		log_err("network %s: its event is lost: %s", network->row.name, err.msg);
	json_decref(data);
}

void network_tell(struct network *network, const char *what)
{
	tell(network, what, network->degraded);
}

void network_set_degraded(struct network *network, const char *why)
{
	if (strcmp(network->degraded, why) == 0)
		return;
	snprintf(network->degraded, sizeof(network->degraded), "%s", why);
	if (why[0])
		log_warn("network %s: degraded: %s", network->row.name, why);
	else
		log_info("network %s: active", network->row.name);
	network_tell(network, why[0] ? "degraded" : "active");
}

struct network *network_find(struct networks *all, const char *ref, struct err *err)
{
	struct network *network = NULL;
	HASH_FIND(by_name, all->by_name, ref, strlen(ref), network);
	if (!network)
		HASH_FIND(by_id, all->by_id, ref, strlen(ref), network);
	if (!network)
		err_set(err, ERR_NOT_FOUND,
			"there is no network '%.63s'; `vdictl network list` shows those there are",
			ref);
	return network;
}

const struct db_network *networks_find(struct networks *all, const char *ref, struct err *err)
{
	struct network *network = network_find(all, ref, err);
	return network ? &network->row : NULL;
}

static int compare_names(const struct network *a, const struct network *b)
{
	return strcmp(a->row.name, b->row.name);
}

void networks_each(struct networks *all, void (*cb)(void *data, const struct db_network *row),
		   void *data)
{
	HASH_SRT(by_name, all->by_name, compare_names);
	struct network *network, *next;
	HASH_ITER (by_name, all->by_name, network, next) {
		cb(data, &network->row);
	}
}

struct get {
	struct networks *all;
	network_look_cb cb;
	void *data;
};

static void on_look(void *data, struct network *network, json_t *actual, json_t *differences,
		    const struct err *err)
{
	_cleanup_free_ struct get *get = data;
	if (!network) {
		get->cb(get->data, NULL, err);
		return;
	}
	json_t *json = networks_to_json(get->all, &network->row);
	json_object_set(json, "actual", actual);
	json_object_set(json, "differences", differences);
	get->cb(get->data, json, NULL);
}

void networks_look(struct networks *all, const char *ref, network_look_cb cb, void *data)
{
	struct err err;
	struct network *network = network_find(all, ref, &err);
	if (!network) {
		cb(data, NULL, &err);
		return;
	}
	struct get *get = mem_new(struct get);
	*get = (struct get){all, cb, data};
	look_begin(network, false, on_look, get);
}

void networks_hosts_source(struct networks *all,
			   void (*each)(void *data, const char *network_id,
					void (*emit)(void *out, const struct network_host *host),
					void *out),
			   void *data)
{
	all->each_host = each;
	all->each_host_data = data;
}

static void on_forwards(struct network *network, const struct err *err)
{
	if (!err || network->plan)
		return;
	network_set_degraded(network, err->msg);
	network_repair_later(network, false);
}

int networks_hosts_changed(struct networks *all, const char *network_id, struct err *err)
{
	struct network *network = network_find(all, network_id, err);
	if (!network)
		return -1;
	if (!network_has_dnsmasq(network))
		return 0;
	/* one under way looks at each of them again */
	if (!network->forward_now)
		forwards_settle(network, on_forwards);
	if (files_write_hosts(network, err) < 0)
		return -1;
	dnsmasq_reload(network);
	return 0;
}

/* It was to be had by default only. */
static void warn_unguarded(struct network *network, const struct err *why)
{
	char reason[ERR_MSG_MAX];
	snprintf(reason, sizeof(reason),
		 "made without source_guard, so that desktops on it may claim addresses of others: "
		 "%.150s",
		 why->msg);
	log_warn("network %s: %s", network->row.name, reason);
	tell(network, "unguarded", reason);
}

void networks_create(struct networks *all, const struct network_create *create, network_cb cb,
		     void *data)
{
	struct db_network row = {0};
	struct err err;
	if (settings_fill(all, create, &row, &err) < 0) {
		cb(data, NULL, &err);
		return;
	}
	struct network *network = network_add(all, &row);
	if (create->source_guard == NETWORK_GUARD_DEFAULT && row.kind == DB_NETWORK_BRIDGED &&
	    hearing_check(all, &err) < 0)
		warn_unguarded(network, &err);
	network_begin_create(network, cb, data);
}

void networks_delete(struct networks *all, const char *ref,
		     const char *(*in_use)(void *data, const char *network_id), void *in_use_data,
		     network_cb cb, void *data)
{
	struct err err;
	struct network *network = network_find(all, ref, &err);
	if (!network) {
		cb(data, NULL, &err);
		return;
	}
	const char *user = in_use(in_use_data, network->row.id);
	if (network->plan)
		err_set(&err, ERR_BUSY, "network '%s' is being changed; try again when it is over",
			network->row.name);
	else if (user)
		err_set(&err, ERR_CONFLICT,
			"desktop '%s' is on network '%s'; delete it first, or move it", user,
			network->row.name);
	else {
		network_begin_delete(network, cb, data);
		return;
	}
	cb(data, NULL, &err);
}
