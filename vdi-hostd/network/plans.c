#include <stdio.h>

#include "base/log.h"
#include "vdi-hostd/network/private.h"

static void on_bridge_deleted(struct network *network, const struct priv_reply *reply, int *fds,
			      const struct err *err);

/* create */

static void write_row(struct plan *plan, void *ctx);
static void erase_row(struct plan *plan, void *ctx);
static void make_bridge(struct plan *plan, void *ctx);
static void undo_bridge(struct plan *plan, void *ctx);
static void take_uplink(struct plan *plan, void *ctx);
static void undo_uplink(struct plan *plan, void *ctx);
static void start_dnsmasq(struct plan *plan, void *ctx);
static void undo_dnsmasq(struct plan *plan, void *ctx);
static void settle(struct plan *plan, void *ctx);

static const struct plan_step create_plan[] = {
	{"row", write_row, erase_row},
	{"bridge", make_bridge, undo_bridge},
	{"uplink", take_uplink, undo_uplink},
	{"dnsmasq", start_dnsmasq, undo_dnsmasq},
	{"settle", settle, NULL},
};

static void write_row(struct plan *plan, void *ctx)
{
	struct network *network = ctx;
	struct err err;
	plan_end_step(plan, db_network_insert(network->all->db, &network->row, &err), &err);
}

static void erase_row(struct plan *plan, void *ctx)
{
	struct network *network = ctx;
	struct err err;
	/* when the daemon ends, the row stays: its intent says to the next start what to undo */
	if (!network->all->closing &&
	    db_network_delete(network->all->db, network->row.id, &err) < 0 &&
	    err.code != ERR_NOT_FOUND)
		log_err("network %s: %s", network->row.name, err.msg);
	plan_undone(plan);
}

/* The privileged half's word is the step's. */
static void on_done(struct network *network, const struct priv_reply *reply, int *fds,
		    const struct err *err)
{
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
	network_call(network, &req, true, on_done);
}

/* Is there nothing to undo, or nobody any more to undo it? */
static bool undo_nothing(struct plan *plan, const struct network *network)
{
	if (network_has_kernel_part(network) && !network->all->closing)
		return false;
	plan_undone(plan);
	return true;
}

static void undo_bridge(struct plan *plan, void *ctx)
{
	struct network *network = ctx;
	if (undo_nothing(plan, network))
		return;
	struct priv_request req = {.verb = PRIV_BRIDGE_DELETE};
	req.u.slot = (uint32_t)network->row.slot;
	network_call(network, &req, true, on_bridge_deleted);
}

static void take_uplink(struct plan *plan, void *ctx)
{
	struct network *network = ctx;
	struct priv_request req;
	struct err err;
	if (!uplink_is_needed(network))
		plan_next(plan);
	else if (uplink_request(network, &req, &err) < 0)
		plan_fail(plan, &err);
	else
		network_call(network, &req, true, on_done);
}

static void on_released(struct network *network, const struct priv_reply *reply, int *fds,
			const struct err *err)
{
	/* an uplink that is gone has nothing to be put back */
	bool failed = err && err->code != ERR_NOT_FOUND;
	if (failed)
		log_err("network %s: its uplink is not as it was: %s", network->row.name, err->msg);
	if (plan_is_undoing(network->plan))
		plan_undone(network->plan);
	else if (failed)
		plan_fail(network->plan, err);
	else
		plan_next(network->plan);
}

static void undo_uplink(struct plan *plan, void *ctx)
{
	struct network *network = ctx;
	struct priv_request req;
	struct err err;
	if (undo_nothing(plan, network))
		return;
	if (!uplink_is_needed(network) || uplink_release_request(network, &req, &err) < 0)
		plan_undone(plan);
	else
		network_call(network, &req, true, on_released);
}

static void on_dnsmasq(struct network *network, const struct err *err)
{
	if (!network->plan)
		return; /* too late */
	if (err)
		plan_fail(network->plan, err);
	else
		plan_next(network->plan);
}

static void start_dnsmasq(struct plan *plan, void *ctx)
{
	struct network *network = ctx;
	if (network_has_dnsmasq(network))
		dnsmasq_start(network, on_dnsmasq);
	else
		plan_next(plan);
}

static void on_dnsmasq_gone(struct network *network)
{
	files_delete(network);
	plan_undone(network->plan);
}

static void undo_dnsmasq(struct plan *plan, void *ctx)
{
	struct network *network = ctx;
	if (undo_nothing(plan, network))
		return;
	if (network_has_dnsmasq(network))
		dnsmasq_stop(network, on_dnsmasq_gone);
	else
		plan_undone(plan);
}

static void settle(struct plan *plan, void *ctx)
{
	struct network *network = ctx;
	struct err err;
	network->row.intent = DB_INTENT_NONE;
	plan_end_step(plan, db_network_update(network->all->db, &network->row, &err), &err);
}

static void on_created(void *ctx, const struct err *err)
{
	struct network *network = ctx;
	network_cb done = TAKE_PTR(network->done);
	void *data = network->done_data;
	network->plan = NULL;
	if (err) {
		if (!network->all->closing)
			network_remove(network);
		done(data, NULL, err);
		return;
	}
	log_info("network %s: created", network->row.name);
	uplink_await_confirm(network);
	network_tell(network, network->row.confirm_until ? "unconfirmed" : "active");
	done(data, &network->row, NULL);
}

void network_begin_create(struct network *network, network_cb cb, void *data)
{
	network->done = cb;
	network->done_data = data;
	network->plan_nth++;
	network->plan = plan_start(network->all->loop, "network-create", create_plan,
				   ARRAY_LEN(create_plan), network, on_created);
}

static void on_undone(void *ctx, const struct err *err)
{
	struct network *network = ctx;
	network_cb done = TAKE_PTR(network->done);
	void *data = network->done_data;
	network->plan = NULL;
	if (!network->all->closing) {
		log_info("network %s: its creation was interrupted and is undone",
			 network->row.name);
		network_remove(network);
	}
	done(data, NULL, NULL);
}

void network_begin_create_undo(struct network *network, network_cb cb, void *data)
{
	network->done = cb;
	network->done_data = data;
	network->plan_nth++;
	network->plan = plan_undo(network->all->loop, "network-create", create_plan,
				  ARRAY_LEN(create_plan), network, on_undone);
}

/* repair: what is there stays, whatever fails */

#define REPAIR_FIRST_MS 500
#define REPAIR_LAST_MS  60000

static void settle_groups(struct plan *plan, void *ctx);
static void settle_taps(struct plan *plan, void *ctx);
static void settle_forwards(struct plan *plan, void *ctx);

static const struct plan_step repair_plan[] = {
	{"bridge", make_bridge, NULL},       {"uplink", take_uplink, NULL},
	{"groups", settle_groups, NULL},     {"taps", settle_taps, NULL},
	{"forwards", settle_forwards, NULL}, {"dnsmasq", start_dnsmasq, NULL},
};

static void on_settled(struct network *network, const struct err *err)
{
	if (!network->plan)
		return; /* too late */
	if (err)
		plan_fail(network->plan, err);
	else
		plan_next(network->plan);
}

static void settle_groups(struct plan *plan, void *ctx)
{
	firewall_settle(ctx, on_settled);
}

static void settle_taps(struct plan *plan, void *ctx)
{
	struct network *network = ctx;
	if (network_has_kernel_part(network))
		taps_settle(network, on_settled);
	else
		plan_next(plan);
}

static void settle_forwards(struct plan *plan, void *ctx)
{
	forwards_settle(ctx, on_settled);
}

static void on_repaired(void *ctx, const struct err *err)
{
	struct network *network = ctx;
	network_cb done = TAKE_PTR(network->done);
	void *data = network->done_data;
	network->plan = NULL;
	if (!network->all->closing) {
		network_set_degraded(network, err ? err->msg : "");
		if (err)
			network_repair_later(network, false);
	}
	if (done)
		done(data, &network->row, err);
}

void network_begin_repair(struct network *network, network_cb cb, void *data)
{
	network_timer_stop(&network->retry);
	network->done = cb;
	network->done_data = data;
	network->plan_nth++;
	network->plan = plan_start(network->all->loop, "network-repair", repair_plan,
				   ARRAY_LEN(repair_plan), network, on_repaired);
}

/* change: what is wished is written down first, then the kernel made to agree */

static void wish(struct plan *plan, void *ctx);
static void revert(struct plan *plan, void *ctx);

static const struct plan_step change_plan[] = {
	{"wish", wish, revert},
	{"bridge", make_bridge, NULL},
	{"groups", settle_groups, NULL},
	{"taps", settle_taps, NULL},
	{"forwards", settle_forwards, NULL},
	{"dnsmasq", start_dnsmasq, NULL},
};

static void wish(struct plan *plan, void *ctx)
{
	struct network *network = ctx;
	struct err err;
	plan_end_step(plan, network->change->wish(network, network->change, &err), &err);
}

static void revert(struct plan *plan, void *ctx)
{
	struct network *network = ctx;
	/* when the daemon ends, the wish stays: the next one makes it so */
	if (!network->all->closing)
		network->change->revert(network, network->change);
	plan_undone(plan);
}

static void on_changed(void *ctx, const struct err *err)
{
	struct network *network = ctx;
	struct network_change *change = TAKE_PTR(network->change);
	bool closing = network->all->closing;
	network->plan = NULL;
	if (err && !closing)
		network_repair_later(network, true);
	else if (!err)
		network_tell(network, "changed");
	change->done(network, change, err);
}

void network_begin_change(struct network *network, struct network_change *change)
{
	network_timer_stop(&network->retry);
	network->change = change;
	network->plan_nth++;
	network->plan = plan_start(network->all->loop, "network-change", change_plan,
				   ARRAY_LEN(change_plan), network, on_changed);
}

int network_refuse_busy(const struct network *network, struct err *err)
{
	if (!network->plan && network->row.intent == DB_INTENT_NONE)
		return 0;
	return err_set(err, ERR_BUSY, "network '%s' is being changed; try again when it is over",
		       network->row.name);
}

static void on_retry(uv_timer_t *timer)
{
	struct network *network = timer->data;
	network_timer_stop(&network->retry);
	/* a delete may be under way, or have failed half-way: then nothing is wanted back */
	if (!network->plan && network->row.intent == DB_INTENT_NONE)
		network_begin_repair(network, NULL, NULL);
}

void network_repair_later(struct network *network, bool now)
{
	unsigned int shift = network->failures < 7 ? network->failures : 7;
	uint64_t wait_ms = (uint64_t)REPAIR_FIRST_MS << shift;
	if (!now)
		network->failures++;
	network_timer_stop(&network->retry);
	network->retry = network_timer(network,
				       now                        ? 0
				       : wait_ms < REPAIR_LAST_MS ? wait_ms
								  : REPAIR_LAST_MS,
				       on_retry);
}

/* delete: no way back; what a crash interrupts is gone on with */

static void write_intent(struct plan *plan, void *ctx);
static void stop_dnsmasq(struct plan *plan, void *ctx);
static void release_uplink(struct plan *plan, void *ctx);
static void delete_bridge(struct plan *plan, void *ctx);
static void delete_row(struct plan *plan, void *ctx);

static const struct plan_step delete_plan[] = {
	/* no desktop is left, so all forwards go */
	{"intent", write_intent, NULL},  {"forwards", settle_forwards, NULL},
	{"dnsmasq", stop_dnsmasq, NULL}, {"uplink", release_uplink, NULL},
	{"bridge", delete_bridge, NULL}, {"row", delete_row, NULL},
};

static void write_intent(struct plan *plan, void *ctx)
{
	struct network *network = ctx;
	struct err err;
	network->row.intent = DB_INTENT_DELETE;
	plan_end_step(plan, db_network_update(network->all->db, &network->row, &err), &err);
}

static void on_dnsmasq_stopped(struct network *network)
{
	if (!network->plan)
		return; /* too late */
	files_delete(network);
	plan_next(network->plan);
}

static void stop_dnsmasq(struct plan *plan, void *ctx)
{
	struct network *network = ctx;
	if (network_has_dnsmasq(network))
		dnsmasq_stop(network, on_dnsmasq_stopped);
	else
		plan_next(plan);
}

/* Of the way back of a create as well as of a delete; a bridge that is gone already is as wished.
 */
static void on_bridge_deleted(struct network *network, const struct priv_reply *reply, int *fds,
			      const struct err *err)
{
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

static void release_uplink(struct plan *plan, void *ctx)
{
	struct network *network = ctx;
	struct priv_request req;
	struct err err;
	if (!uplink_is_needed(network) || uplink_release_request(network, &req, &err) < 0)
		plan_next(plan);
	else
		network_call(network, &req, true, on_released);
}

static void delete_bridge(struct plan *plan, void *ctx)
{
	struct network *network = ctx;
	if (!network_has_kernel_part(network)) {
		plan_next(plan);
		return;
	}
	struct priv_request req = {.verb = PRIV_BRIDGE_DELETE};
	req.u.slot = (uint32_t)network->row.slot;
	network_call(network, &req, true, on_bridge_deleted);
}

static void delete_row(struct plan *plan, void *ctx)
{
	struct network *network = ctx;
	struct err err;
	plan_end_step(plan, db_network_delete(network->all->db, network->row.id, &err), &err);
}

static void on_deleted(void *ctx, const struct err *err)
{
	struct network *network = ctx;
	network_cb done = TAKE_PTR(network->done);
	void *data = network->done_data;
	network->plan = NULL;
	if (err) {
		if (!network->all->closing)
			network_set_degraded(network, err->msg);
		done(data, NULL, err);
		return;
	}
	log_info("network %s: deleted", network->row.name);
	network_tell(network, "deleted");
	struct networks *all = network->all;
	bool had_groups = network->n_groups > 0;
	network_remove(network);
	if (had_groups)
		firewall_sweep(all);
	done(data, NULL, NULL);
}

void network_begin_delete(struct network *network, network_cb cb, void *data)
{
	network_timer_stop(&network->retry);
	network_timer_stop(&network->confirm);
	network->done = cb;
	network->done_data = data;
	network->plan_nth++;
	network->plan = plan_start(network->all->loop, "network-delete", delete_plan,
				   ARRAY_LEN(delete_plan), network, on_deleted);
}
