/* Changes of a network that is there: its settings, and the confirmation of its uplink. */
#include <stdio.h>
#include <string.h>

#include "base/log.h"
#include "vdi-hostd/network/private.h"

/* ---- update ---- */

struct change_row {
	struct network_change change;
	struct db_network before, after;
	network_cb cb;
	void *data;
};

static int put_row(struct network *network, const struct db_network *row, struct err *err)
{
	struct db_network fresh = *row;
	/* what has happened meanwhile is none of the change's */
	fresh.dnsmasq_pid = network->row.dnsmasq_pid;
	fresh.dnsmasq_start_time = network->row.dnsmasq_start_time;
	memcpy(fresh.boot_id, network->row.boot_id, sizeof(fresh.boot_id));
	if (db_network_update(network->all->db, &fresh, err) < 0)
		return -1;
	network->row = fresh;
	return 0;
}

static int wish_row(struct network *network, struct network_change *change, struct err *err)
{
	struct change_row *update = container_of(change, struct change_row, change);
	return put_row(network, &update->after, err);
}

static void revert_row(struct network *network, struct network_change *change)
{
	struct change_row *update = container_of(change, struct change_row, change);
	struct db_network before = update->before;
	struct err err;
	before.dnsmasq_stale = true;
	if (put_row(network, &before, &err) < 0)
		log_err("network %s: %s", network->row.name, err.msg);
}

static void row_done(struct network *network, struct network_change *change, const struct err *err)
{
	_cleanup_free_ struct change_row *update = container_of(change, struct change_row, change);
	update->cb(update->data, err ? NULL : &network->row, err);
}

struct fits {
	const struct db_network *row;
	char misfit[STR_NAME_MAX + 1];
};

static void check_fit(void *out, const struct network_host *host)
{
	struct fits *fits = out;
	uint32_t mask = netcfg_mask((unsigned int)fits->row->prefix);
	if (((host->ip ^ fits->row->address) & mask) != 0 || (host->ip & ~mask) == 0 ||
	    (host->ip & ~mask) == ~mask)
		snprintf(fits->misfit, sizeof(fits->misfit), "%s", host->name);
}

/* Desktops keep their addresses for life, and guests know their gateway: both have to stay. */
static int change_range(struct networks *all, const char *cidr, struct db_network *row,
			struct err *err)
{
	struct fits fits = {.row = row};
	uint32_t base;
	if (address_parse_cidr(cidr, &base, &row->prefix, err) < 0)
		return -1;
	if ((row->address & netcfg_mask((unsigned int)row->prefix)) != base ||
	    row->address == base ||
	    row->address == (base | ~netcfg_mask((unsigned int)row->prefix)))
		return err_set_field(err, "cidr",
				     "%s does not hold the network's gateway, which guests know; "
				     "make another network",
				     cidr);
	if (all->each_host)
		all->each_host(all->each_host_data, row->id, check_fit, &fits);
	if (fits.misfit[0])
		return err_set(err, ERR_CONFLICT,
			       "the address of desktop '%s' is outside of %s; delete it first, or "
			       "choose a range that holds it",
			       fits.misfit, cidr);
	return address_check_free(all, row->slot, base, row->prefix, err);
}

static int fill(struct networks *all, const struct network_update *update, struct db_network *row,
		struct err *err)
{
	if (row->kind == DB_NETWORK_USER)
		return err_set(err, ERR_UNSUPPORTED,
			       "a network of kind user is QEMU's own and has no settings");
	if (!row->address && (update->cidr || update->range || update->dns >= 0))
		return err_set_field(err, update->cidr ? "cidr" : "dns",
				     "a bridged network's addresses are given by others");
	if (update->peers && !row->vni)
		return err_set_field(err, "peers", "network '%s' is no VXLAN", row->name);
	if ((update->cidr && change_range(all, update->cidr, row, err) < 0) ||
	    (update->range && settings_parse_range(update->range, row, err) < 0) ||
	    (update->peers && settings_parse_peers(update->peers, row, err) < 0) ||
	    settings_set_openings(row, update->openings, err) < 0 ||
	    (update->source_guard >= 0 &&
	     settings_set_guard(all, update->source_guard, row, err) < 0) ||
	    (update->mtu >= 0 && settings_check_mtu(row, update->mtu, err) < 0))
		return -1;
	if (update->mtu >= 0)
		row->mtu = update->mtu;
	if (update->dns >= 0)
		row->dns = update->dns;
	if (update->isolate_ports >= 0)
		row->isolate_ports = update->isolate_ports;
	return 0;
}

static bool changes_dnsmasq(const struct db_network *a, const struct db_network *b)
{
	return a->prefix != b->prefix || a->mtu != b->mtu || a->dns != b->dns;
}

void networks_update(struct networks *all, const char *ref, const struct network_update *update,
		     network_cb cb, void *data)
{
	struct err err;
	struct network *network = network_find(all, ref, &err);
	struct db_network after;
	if (network)
		after = network->row;
	if (!network || network_refuse_busy(network, &err) < 0 ||
	    fill(all, update, &after, &err) < 0) {
		cb(data, NULL, &err);
		return;
	}
	struct change_row *change = mem_new(struct change_row);
	change->change = (struct network_change){wish_row, revert_row, row_done};
	change->before = network->row;
	change->after = after;
	if (changes_dnsmasq(&change->before, &change->after))
		change->after.dnsmasq_stale = true;
	change->cb = cb;
	change->data = data;
	network_begin_change(network, &change->change);
}

/* ---- the confirmation ---- */

static void on_taken_back(void *data, const struct db_network *row, const struct err *err)
{
	if (err)
		log_err("a change of an uplink could not be taken back: %s", err->msg);
}

static void take_back(uv_timer_t *timer)
{
	struct network *network = timer->data;
	network_timer_stop(&network->confirm);
	if (network->plan) {
		network->confirm = network_timer(network, 1000, take_back);
		return;
	}
	log_warn("network %s: its uplink was not confirmed, the network is taken back",
		 network->row.name);
	network_tell(network, "taken-back");
	network_begin_delete(network, on_taken_back, NULL);
}

void uplink_await_confirm(struct network *network)
{
	if (!network->row.confirm_until)
		return;
	int64_t left_ms = network->row.confirm_until - str_now_ms();
	network_timer_stop(&network->confirm);
	network->confirm = network_timer(network, left_ms > 0 ? (uint64_t)left_ms : 0, take_back);
}

static void on_confirmed(struct network *network, const struct priv_reply *reply, int *fds,
			 const struct err *error)
{
	network_cb cb = TAKE_PTR(network->confirmed);
	struct db_network row = network->row;
	struct err err;
	row.confirm_until = 0;
	if (!error && db_network_update(network->all->db, &row, &err) < 0)
		error = &err;
	if (error) {
		/* its guard is gone, or nothing says that it stays: back with it, at once */
		network->row.confirm_until = 1;
		uplink_await_confirm(network);
		cb(network->confirmed_data, NULL, error);
		return;
	}
	network->row = row;
	network_timer_stop(&network->confirm);
	log_info("network %s: its uplink is confirmed", network->row.name);
	network_tell(network, "active");
	cb(network->confirmed_data, &network->row, NULL);
}

void networks_confirm(struct networks *all, const char *ref, network_cb cb, void *data)
{
	struct err err;
	struct network *network = network_find(all, ref, &err);
	if (!network || network_refuse_busy(network, &err) < 0) {
		cb(data, NULL, &err);
		return;
	}
	if (!network->row.confirm_until) {
		cb(data, &network->row, NULL); /* it was, or never had to be */
		return;
	}
	if (network->confirmed) {
		err_set(&err, ERR_BUSY, "network '%s' is being confirmed", network->row.name);
		cb(data, NULL, &err);
		return;
	}
	struct priv_request req = {.verb = PRIV_UPLINK_CONFIRM};
	req.u.slot = (uint32_t)network->row.slot;
	network->confirmed = cb;
	network->confirmed_data = data;
	network_call(network, &req, false, on_confirmed);
}
