#include <stdio.h>

#include "base/log.h"
#include "vdi-hostd/network/private.h"

static void on_bridge_deleted(void *data, const struct priv_reply *reply, int *fds,
			      const struct err *err);

/* create */

static void write_row(struct plan *plan, void *ctx);
static void erase_row(struct plan *plan, void *ctx);
static void make_bridge(struct plan *plan, void *ctx);
static void undo_bridge(struct plan *plan, void *ctx);
static void start_dnsmasq(struct plan *plan, void *ctx);
static void undo_dnsmasq(struct plan *plan, void *ctx);
static void settle(struct plan *plan, void *ctx);

static const struct plan_step create_plan[] = {
	{"row", write_row, erase_row},
	{"bridge", make_bridge, undo_bridge},
	{"dnsmasq", start_dnsmasq, undo_dnsmasq},
	{"settle", settle, NULL},
};

static void write_row(struct plan *plan, void *ctx)
{
	struct network *network = ctx;
	struct err err;
	if (db_network_insert(network->all->db, &network->row, &err) < 0)
		plan_fail(plan, &err);
	else
		plan_next(plan);
}

static void erase_row(struct plan *plan, void *ctx)
{
	struct network *network = ctx;
	struct err err;
	if (db_network_delete(network->all->db, network->row.id, &err) < 0 &&
	    err.code != ERR_NOT_FOUND)
		log_err("network %s: %s", network->row.name, err.msg);
	plan_undone(plan);
}

static void on_bridge(void *data, const struct priv_reply *reply, int *fds, const struct err *err)
{
	struct network *network = data;
	if (err && err->code == ERR_CANCELLED)
		return; /* the daemon ends */
	if (err)
		plan_fail(network->plan, err);
	else
		plan_next(network->plan);
}

static void make_bridge(struct plan *plan, void *ctx)
{
	struct network *network = ctx;
	if (!network_has_kernel_part(network)) {
		plan_next(plan);
		return;
	}
	struct priv_request req = network_request(network, PRIV_BRIDGE_ENSURE);
	priv_call(network->all->priv, &req, NULL, 0, on_bridge, network);
}

static void undo_bridge(struct plan *plan, void *ctx)
{
	struct network *network = ctx;
	if (!network_has_kernel_part(network)) {
		plan_undone(plan);
		return;
	}
	struct priv_request req = network_request(network, PRIV_BRIDGE_DELETE);
	priv_call(network->all->priv, &req, NULL, 0, on_bridge_deleted, network);
}

static void on_dnsmasq(struct network *network, const struct err *err)
{
	if (err)
		plan_fail(network->plan, err);
	else
		plan_next(network->plan);
}

static void start_dnsmasq(struct plan *plan, void *ctx)
{
	struct network *network = ctx;
	if (network_has_kernel_part(network))
		dnsmasq_start(network, on_dnsmasq);
	else
		plan_next(plan);
}

static void on_dnsmasq_gone(struct network *network)
{
	dnsmasq_delete_files(network);
	plan_undone(network->plan);
}

static void undo_dnsmasq(struct plan *plan, void *ctx)
{
	dnsmasq_stop(ctx, on_dnsmasq_gone);
}

static void settle(struct plan *plan, void *ctx)
{
	struct network *network = ctx;
	struct err err;
	network->row.intent = DB_INTENT_NONE;
	if (db_network_update(network->all->db, &network->row, &err) < 0)
		plan_fail(plan, &err);
	else
		plan_next(plan);
}

static void on_created(void *ctx, const struct err *err)
{
	struct network *network = ctx;
	network_cb done = TAKE_PTR(network->done);
	void *data = network->done_data;
	network->plan = NULL;
	if (err) {
		network_remove(network);
		done(data, NULL, err);
		return;
	}
	log_info("network %s: created", network->row.name);
	network_tell(network, "active");
	done(data, &network->row, NULL);
}

void network_begin_create(struct network *network, network_cb cb, void *data)
{
	network->done = cb;
	network->done_data = data;
	network->plan = plan_start(network->all->loop, "network-create", create_plan,
				   ARRAY_LEN(create_plan), network, on_created);
}

void network_create_undo(struct network *network, plan_done_cb done)
{
	network->plan = plan_undo(network->all->loop, "network-create", create_plan,
				  ARRAY_LEN(create_plan), network, done);
}

/* delete: no way back; what a crash interrupts is gone on with */

static void write_intent(struct plan *plan, void *ctx);
static void stop_dnsmasq(struct plan *plan, void *ctx);
static void delete_bridge(struct plan *plan, void *ctx);
static void delete_row(struct plan *plan, void *ctx);

static const struct plan_step delete_plan[] = {
	{"intent", write_intent, NULL},
	{"dnsmasq", stop_dnsmasq, NULL},
	{"bridge", delete_bridge, NULL},
	{"row", delete_row, NULL},
};

static void write_intent(struct plan *plan, void *ctx)
{
	struct network *network = ctx;
	struct err err;
	network->row.intent = DB_INTENT_DELETE;
	if (db_network_update(network->all->db, &network->row, &err) < 0)
		plan_fail(plan, &err);
	else
		plan_next(plan);
}

static void on_dnsmasq_stopped(struct network *network)
{
	dnsmasq_delete_files(network);
	plan_next(network->plan);
}

static void stop_dnsmasq(struct plan *plan, void *ctx)
{
	dnsmasq_stop(ctx, on_dnsmasq_stopped);
}

/* Of the way back of a create as well as of a delete; a bridge that is gone already is as wished.
 */
static void on_bridge_deleted(void *data, const struct priv_reply *reply, int *fds,
			      const struct err *err)
{
	struct network *network = data;
	if (err && err->code == ERR_CANCELLED)
		return;
	bool failed = err && err->code != ERR_NOT_FOUND;
	if (plan_is_undoing(network->plan)) {
		if (failed)
			log_err("network %s: %s", network->row.name, err->msg);
		plan_undone(network->plan);
	} else if (failed) {
		plan_fail(network->plan, err);
	} else {
		plan_next(network->plan);
	}
}

static void delete_bridge(struct plan *plan, void *ctx)
{
	struct network *network = ctx;
	if (!network_has_kernel_part(network)) {
		plan_next(plan);
		return;
	}
	struct priv_request req = network_request(network, PRIV_BRIDGE_DELETE);
	priv_call(network->all->priv, &req, NULL, 0, on_bridge_deleted, network);
}

static void delete_row(struct plan *plan, void *ctx)
{
	struct network *network = ctx;
	struct err err;
	if (db_network_delete(network->all->db, network->row.id, &err) < 0)
		plan_fail(plan, &err);
	else
		plan_next(plan);
}

static void on_deleted(void *ctx, const struct err *err)
{
	struct network *network = ctx;
	network_cb done = TAKE_PTR(network->done);
	void *data = network->done_data;
	network->plan = NULL;
	if (err) {
		network_set_degraded(network, err->msg);
		done(data, NULL, err);
		return;
	}
	log_info("network %s: deleted", network->row.name);
	network_tell(network, "deleted");
	network_remove(network);
	done(data, NULL, NULL);
}

void network_begin_delete(struct network *network, network_cb cb, void *data)
{
	network->done = cb;
	network->done_data = data;
	network->plan = plan_start(network->all->loop, "network-delete", delete_plan,
				   ARRAY_LEN(delete_plan), network, on_deleted);
}
