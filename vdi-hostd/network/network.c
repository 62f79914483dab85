#include "vdi-hostd/network/network.h"

#include <arpa/inet.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <utlist.h>

#include "base/log.h"
#include "vdi-hostd/db/event.h"
#include "vdi-hostd/network/private.h"

static const char *const kind_names[] = {
	[DB_NETWORK_NAT] = "nat",
	[DB_NETWORK_ISOLATED] = "isolated",
	[DB_NETWORK_BRIDGED] = "bridged",
	[DB_NETWORK_USER] = "user",
};

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
	drop_calls(network);
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
	    proc_boot_id(all->boot_id, err) < 0 || db_network_each(db, load_row, all, err) < 0) {
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
	struct network *network, *next;
	HASH_ITER (by_id, all->by_id, network, next) {
		abandon(network);
		network_remove(network);
	}
	free(all);
}

bool network_has_kernel_part(const struct network *network)
{
	return network->row.kind != DB_NETWORK_USER;
}

struct priv_request network_request(const struct network *network, enum priv_verb verb)
{
	struct priv_request req = {.verb = verb};
	req.u.network = (struct priv_network){
		.slot = (uint32_t)network->row.slot,
		.kind = network->row.kind == DB_NETWORK_NAT ? PRIV_NETWORK_NAT
							    : PRIV_NETWORK_ISOLATED,
		.prefix = (uint8_t)network->row.prefix,
		.address = htonl(network->row.address),
	};
	return req;
}

void network_tell(struct network *network, const char *what)
{
	struct err err;
	json_t *data = json_pack("{s:s, s:s, s:s?}", "name", network->row.name, "state", what,
				 "reason", network->degraded[0] ? network->degraded : NULL);
	if (db_event_append(network->all->db, "network", network->row.id, data, &err) < 0)
		log_err("network %s: its event is lost: %s", network->row.name, err.msg);
	json_decref(data);
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

static struct network *find(struct networks *all, const char *ref, struct err *err)
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
	struct network *network = find(all, ref, err);
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

json_t *networks_to_json(struct networks *all, const struct db_network *row)
{
	struct network *network = find(all, row->id, NULL);
	char created[STR_TIME_MAX], gateway[16], cidr[24], bridge[16];
	str_format_time(row->created_at, created);
	address_format(row->address, gateway);
	address_format(row->address & (row->prefix ? ~0u << (32 - row->prefix) : 0), cidr);
	size_t len = strlen(cidr);
	snprintf(cidr + len, sizeof(cidr) - len, "/%" PRId64, row->prefix);
	snprintf(bridge, sizeof(bridge), "vdibr%" PRId64, row->slot);
	bool kernel = network_has_kernel_part(network);
	const char *state = network->plan          ? "changing"
			    : network->degraded[0] ? "degraded"
						   : "active";
	return json_pack("{s:s, s:s, s:s, s:s, s:s?, s:s?, s:s?, s:s?, s:s}", "id", row->id, "name",
			 row->name, "kind", kind_names[row->kind], "state", state, "state_reason",
			 network->degraded[0] ? network->degraded : NULL, "cidr",
			 kernel ? cidr : NULL, "gateway", kernel ? gateway : NULL, "bridge",
			 kernel ? bridge : NULL, "created_at", created);
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

int networks_hosts_changed(struct networks *all, const char *network_id, struct err *err)
{
	struct network *network = find(all, network_id, err);
	if (!network)
		return -1;
	if (!network_has_kernel_part(network))
		return 0;
	if (files_write_hosts(network, err) < 0)
		return -1;
	dnsmasq_reload(network);
	return 0;
}

static int fill_range(struct networks *all, const char *cidr, struct db_network *row,
		      struct err *err)
{
	uint32_t base;
	row->prefix = 24;
	if (!cidr && address_pick_range(all, row->slot, &base, err) < 0)
		return -1;
	if (cidr && (address_parse_cidr(cidr, &base, &row->prefix, err) < 0 ||
		     address_check_free(all, row->slot, base, row->prefix, err) < 0))
		return -1;
	row->address = base + 1;
	return 0;
}

static int fill_row(struct networks *all, const char *name, enum db_network_kind kind,
		    const char *cidr, struct db_network *row, struct err *err)
{
	if (find(all, name, NULL))
		return err_set(err, ERR_EXISTS, "there is a network '%s' already", name);
	if (kind == DB_NETWORK_BRIDGED)
		return err_set(err, ERR_UNSUPPORTED,
			       "this version offers networks of kind nat, isolated and user");
	if (kind != DB_NETWORK_USER && priv_is_rootless(all->priv))
		return err_set(err, ERR_UNSUPPORTED,
			       "a daemon without root offers networks of kind user only; run it as "
			       "root for the others");
	if (kind == DB_NETWORK_USER && cidr)
		return err_set_field(err, "cidr", "a network of kind user has no range of its own");
	str_uuid_new(row->id);
	snprintf(row->name, sizeof(row->name), "%s", name);
	row->kind = kind;
	row->intent = DB_INTENT_CREATE;
	row->created_at = str_now_ms();
	if (db_network_free_slot(all->db, &row->slot, err) < 0)
		return -1;
	return kind == DB_NETWORK_USER ? 0 : fill_range(all, cidr, row, err);
}

void networks_create(struct networks *all, const char *name, enum db_network_kind kind,
		     const char *cidr, network_cb cb, void *data)
{
	struct db_network row = {0};
	struct err err;
	if (fill_row(all, name, kind, cidr, &row, &err) < 0) {
		cb(data, NULL, &err);
		return;
	}
	network_begin_create(network_add(all, &row), cb, data);
}

void networks_delete(struct networks *all, const char *ref,
		     const char *(*in_use)(void *data, const char *network_id), void *in_use_data,
		     network_cb cb, void *data)
{
	struct err err;
	struct network *network = find(all, ref, &err);
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
