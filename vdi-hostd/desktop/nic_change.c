/*
 * NICs that come, go and change. The row says what is wanted; a guest that runs is made to agree at
 * once, and after a crash by the next daemon.
 */
#include <stdio.h>
#include <string.h>

#include "base/log.h"
#include "vdi-hostd/desktop/nic_change.h"

static void write_row(struct plan *plan, void *ctx);
static void restore_row(struct plan *plan, void *ctx);
static void publish(struct plan *plan, void *ctx);
static void publish_again(struct plan *plan, void *ctx);
static void make_tap(struct plan *plan, void *ctx);
static void drop_tap(struct plan *plan, void *ctx);
static void delete_row(struct plan *plan, void *ctx);
static void attach(struct plan *plan, void *ctx);
static void attach_old(struct plan *plan, void *ctx);

static const struct plan_step add_plan[] = {
	{"row", write_row, restore_row},
	{"address", publish, publish_again},
	{"tap", make_tap, drop_tap},
	{"device", nic_plug, nic_unplug_again},
};

/* No way back: a row that is still there brings its NIC back. */
static const struct plan_step remove_plan[] = {
	{"device", nic_unplug, NULL, NIC_UNPLUG_MS + 5000},
	{"row", delete_row, NULL},
	{"address", publish, NULL},
};

static const struct plan_step update_plan[] = {
	{"row", write_row, restore_row},
	{"address", publish, publish_again},
	{"attach", attach, attach_old},
	{"cable", nic_set_cable, NULL},
};

/* ---- rows and addresses ---- */

static int store_row(struct desktop *desktop, const struct db_nic *row, const struct db_nic *old,
		     struct err *err)
{
	struct db *db = desktop->all->env.db;
	if (!row->mac[0])
		return db_nic_delete(db, old->desktop_id, old->number, err);
	return old->mac[0] ? db_nic_update(db, row, err) : db_nic_insert(db, row, err);
}

static void show_row(struct desktop *desktop, const struct db_nic *row, int64_t number)
{
	if (row->mac[0])
		desktop_nic_set(desktop, row);
	else
		desktop_nic_unset(desktop, number);
}

static void write_row(struct plan *plan, void *ctx)
{
	struct nic_change *change = ctx;
	struct err err;
	int result = store_row(change->desktop, &change->row, &change->old, &err);
	if (result == 0)
		show_row(change->desktop, &change->row, change->row.number);
	plan_end_step(plan, result, &err);
}

static void restore_row(struct plan *plan, void *ctx)
{
	struct nic_change *change = ctx;
	struct err err;
	if (store_row(change->desktop, &change->old, &change->row, &err) < 0)
		log_err("desktop %s: %s", change->desktop->row.name, err.msg);
	show_row(change->desktop, &change->old, change->row.number);
	plan_undone(plan);
}

static void delete_row(struct plan *plan, void *ctx)
{
	struct nic_change *change = ctx;
	struct err err;
	int result = db_nic_delete(change->desktop->all->env.db, change->old.desktop_id,
				   change->old.number, &err);
	if (result == 0)
		desktop_nic_unset(change->desktop, change->old.number);
	plan_end_step(plan, result, &err);
}

static int publish_both(struct nic_change *change, struct err *err)
{
	struct networks *networks = change->desktop->all->env.networks;
	const struct db_nic *row = &change->row, *old = &change->old;
	if (old->ip && networks_hosts_changed(networks, old->network_id, err) < 0)
		return -1;
	if (row->ip && strcmp(row->network_id, old->network_id) != 0)
		return networks_hosts_changed(networks, row->network_id, err);
	return 0;
}

static void publish(struct plan *plan, void *ctx)
{
	struct err err;
	plan_end_step(plan, publish_both(ctx, &err), &err);
}

static void publish_again(struct plan *plan, void *ctx)
{
	struct nic_change *change = ctx;
	struct err err;
	/* the rows are not restored yet: what is listed is what the objects say */
	show_row(change->desktop, &change->old, change->row.number);
	if (publish_both(change, &err) < 0)
		log_warn("the address list of a network is stale: %s", err.msg);
	plan_undone(plan);
}

/* ---- taps ---- */

static bool wants_tap(const struct nic_change *change)
{
	const struct nic nic = {.row = change->row};
	return desktop_has_guest(change->desktop) && desktop_nic_has_tap(change->desktop, &nic);
}

static void ask(struct nic_change *change, const struct db_nic *row, enum priv_verb verb,
		priv_reply_cb cb)
{
	struct desktop *desktop = change->desktop;
	const struct nic nic = {.row = *row};
	const struct network_tap tap = desktop_nic_tap(desktop, &nic);
	const struct db_network *network = desktop_nic_network(desktop, &nic);
	struct priv_request req;
	struct err err;
	if (networks_tap_request(desktop->all->env.networks, network, &tap, verb, &req, &err) < 0) {
		plan_fail(desktop->plan, &err);
		return;
	}
	change->asked = true;
	priv_call(desktop->all->env.priv, &req, NULL, 0, cb, change);
}

/* False where the answer is to an undo that waited for it, or the daemon ends. */
static bool take_answer(struct nic_change *change, const struct err *err)
{
	struct plan *plan = change->desktop->plan;
	change->asked = false;
	if (!plan_is_undoing(plan))
		return true;
	if (change->undo)
		change->undo(plan, change);
	return false;
}

static void on_tap(void *data, const struct priv_reply *reply, int *fds, const struct err *err)
{
	struct nic_change *change = data;
	struct err failed;
	if (err && err->code == ERR_CANCELLED)
		return; /* the wire closes: the daemon ends */
	struct desktop *desktop = change->desktop;
	if (!err) {
		if (desktop_tap_take(desktop, reply, fds, &change->row, &change->tap, &failed) < 0)
			err = &failed;
		show_row(desktop, &change->row, change->row.number);
	}
	if (take_answer(change, err))
		plan_end_step(desktop->plan, err ? -1 : 0, err);
}

static void make_tap(struct plan *plan, void *ctx)
{
	struct nic_change *change = ctx;
	if (wants_tap(change))
		ask(change, &change->row, PRIV_TAP_CREATE, on_tap);
	else
		plan_next(plan);
}

static void drop_tap(struct plan *plan, void *ctx)
{
	struct nic_change *change = ctx;
	const struct nic nic = {.row = change->row};
	change->undo = change->asked ? drop_tap : NULL;
	if (change->asked)
		return;
	desktop_tap_close(&change->tap);
	if (wants_tap(change))
		desktop_tap_forget(change->desktop, &nic);
	plan_undone(plan);
}

static void on_attached(void *data, const struct priv_reply *reply, int *fds, const struct err *err)
{
	struct nic_change *change = data;
	if (err && err->code == ERR_CANCELLED)
		return;
	if (take_answer(change, err))
		plan_end_step(change->desktop->plan, err ? -1 : 0, err);
}

static void attach(struct plan *plan, void *ctx)
{
	struct nic_change *change = ctx;
	if (wants_tap(change))
		ask(change, &change->row, PRIV_TAP_ATTACH, on_attached);
	else
		plan_next(plan);
}

static void attach_old(struct plan *plan, void *ctx)
{
	struct nic_change *change = ctx;
	change->undo = change->asked ? attach_old : NULL;
	if (change->asked)
		return;
	show_row(change->desktop, &change->old, change->old.number);
	if (desktop_has_guest(change->desktop))
		desktop_taps_attach(change->desktop);
	plan_undone(plan);
}

/* ---- the whole ---- */

static void change_free(struct nic_change *change)
{
	desktop_tap_close(&change->tap);
	free(change);
}

void desktop_nic_drop(struct desktop *desktop)
{
	if (desktop->nic_change)
		change_free(TAKE_PTR(desktop->nic_change));
}

void desktop_nic_learned(struct desktop *desktop, const struct db_nic *row)
{
	struct nic_change *change = desktop->nic_change;
	struct db_nic *copies[] = {change ? &change->row : NULL, change ? &change->old : NULL};
	for (size_t i = 0; change && i < ARRAY_LEN(copies); i++) {
		if (strcmp(copies[i]->mac, row->mac) != 0 ||
		    strcmp(copies[i]->network_id, row->network_id) != 0)
			continue;
		copies[i]->learned_ip = row->learned_ip;
		copies[i]->learned_until = row->learned_until;
		copies[i]->lease_s = row->lease_s;
	}
}

void desktop_nic_gone(struct desktop *desktop, const struct err *err)
{
	struct nic_change *change = desktop->nic_change;
	if (!change || !desktop->plan || plan_is_undoing(desktop->plan))
		return;
	if (change->unplugging) {
		change->unplugging = false;
		desktop_retry_stop(desktop);
	}
	plan_fail(desktop->plan, err);
}

static void on_changed(void *ctx, const struct err *err)
{
	struct nic_change *change = ctx;
	struct desktop *desktop = change->desktop;
	desktop->plan = NULL;
	desktop->nic_change = NULL;
	change_free(change);
	if (!err)
		log_info("desktop %s: its NICs have changed", desktop->row.name);
	desktop_end(desktop, err);
}

static void begin(struct desktop *desktop, const char *plan, const struct plan_step *steps,
		  size_t n, const struct db_nic *row, const struct db_nic *old)
{
	struct nic_change *change = mem_new(struct nic_change);
	*change = (struct nic_change){.desktop = desktop, .row = *row, .old = *old};
	desktop->nic_change = change;
	desktop->plan = plan_start(desktop->all->env.loop, plan, steps, n, change, on_changed);
}

void desktop_nic_add(struct desktop *desktop, const struct desktop_nic_wish *wish, desktop_cb cb,
		     void *data)
{
	static const struct db_nic none;
	struct db_nic row = {0};
	struct err err;
	if (desktop_nic_new(desktop, wish, &row, &err) < 0 ||
	    desktop_begin(desktop, cb, data, &err) < 0)
		cb(data, NULL, &err);
	else
		begin(desktop, "nic-add", add_plan, ARRAY_LEN(add_plan), &row, &none);
}

static const struct db_nic *find(struct desktop *desktop, int64_t number, struct err *err)
{
	const struct db_nic *row = desktop_nic_row(desktop, number);
	if (!row)
		err_set(err, ERR_NOT_FOUND,
			"desktop '%s' has no NIC %lld; `vdictl desktop nic list` shows those it has",
			desktop->row.name, (long long)number);
	return row;
}

void desktop_nic_remove(struct desktop *desktop, int64_t number, desktop_cb cb, void *data)
{
	static const struct db_nic none;
	struct err err;
	const struct db_nic *old = find(desktop, number, &err);
	if (!old || desktop_begin(desktop, cb, data, &err) < 0)
		cb(data, NULL, &err);
	else
		begin(desktop, "nic-remove", remove_plan, ARRAY_LEN(remove_plan), &none, old);
}

void desktop_nic_update(struct desktop *desktop, int64_t number,
			const struct desktop_nic_wish *wish, desktop_cb cb, void *data)
{
	struct err err;
	const struct db_nic *old = find(desktop, number, &err);
	struct db_nic row = old ? *old : (struct db_nic){0};
	if (!old || desktop_nic_changed(desktop, wish, &row, &err) < 0 ||
	    desktop_begin(desktop, cb, data, &err) < 0)
		cb(data, NULL, &err);
	else
		begin(desktop, "nic-update", update_plan, ARRAY_LEN(update_plan), &row, old);
}

/* ---- after a crash ---- */

static void on_plugged(void *data, struct desktop *desktop, const struct err *err)
{
	if (err && err->code != ERR_CANCELLED)
		log_warn("a NIC is missing until its desktop is started again: %s", err->msg);
	else if (desktop)
		desktop_nics_settle(desktop);
}

static bool has_device(json_t *devices, int64_t number)
{
	char name[32];
	size_t i;
	json_t *device;
	snprintf(name, sizeof(name), "nic%d", (int)number);
	json_array_foreach(devices, i, device)
	{
		const char *there = json_string_value(json_object_get(device, "name"));
		if (there && strcmp(there, name) == 0)
			return true;
	}
	return false;
}

static void on_devices(void *data, json_t *result, const struct err *err)
{
	struct desktop *desktop = data;
	struct err ignored;
	if (err || !desktop_has_guest(desktop))
		return;
	for (struct nic *nic = NULL; (nic = desktop_nic_next(desktop, nic));) {
		if (has_device(result, nic->row.number))
			continue;
		if (desktop_begin(desktop, on_plugged, NULL, &ignored) == 0)
			begin(desktop, "nic-plug", &add_plan[2], 2, &nic->row, &nic->row);
		return;
	}
}

void desktop_nics_settle(struct desktop *desktop)
{
	if (desktop->qmp)
		qmp_execute(desktop->qmp, "qom-list",
			    json_pack("{s:s}", "path", "/machine/peripheral"), 0, on_devices,
			    desktop);
}
