/* NICs of desktops on a network: what guards them follows from the network's row. */
#include <arpa/inet.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "base/log.h"
#include "netcfg/link.h"
#include "vdi-hostd/network/private.h"

int networks_parse_mac(const char *text, uint8_t ret[6])
{
	char end;
	return sscanf(text, "%2hhx:%2hhx:%2hhx:%2hhx:%2hhx:%2hhx%c", &ret[0], &ret[1], &ret[2],
		      &ret[3], &ret[4], &ret[5], &end) == 6
		       ? 0
		       : -1;
}

static struct netcfg_rate rate_of(const struct db_rate *rate)
{
	return (struct netcfg_rate){.bits_per_s = (uint64_t)rate->kbit_per_s * 1000,
				    .burst = (uint32_t)rate->burst_kib * 1024};
}

static struct netcfg_rates rates_of(const struct network_tap *tap)
{
	return (struct netcfg_rates){rate_of(&tap->to_guest), rate_of(&tap->from_guest)};
}

int networks_tap_request(struct networks *all, const struct db_network *row,
			 const struct network_tap *tap, enum priv_verb verb,
			 struct priv_request *ret, struct err *err)
{
	struct priv_request req = {.verb = verb};
	const bool any = row->kind == DB_NETWORK_BRIDGED && !row->source_guard;
	req.u.tap = (struct priv_tap){
		.desktop = tap->desktop,
		.nic = tap->nic,
		.pid = (int32_t)tap->pid,
		.start_time = tap->start_time,
		.network = (uint32_t)row->slot,
		.address = any ? 0 : htonl(tap->ip),
		.any_address = any,
		.any_prefix6 = network_is_guarded(row),
		.isolated = row->isolate_ports,
		.mtu = (uint16_t)row->mtu,
		.down = tap->down,
		.queues = (uint8_t)tap->queues,
		.rates = rates_of(tap),
	};
	if (networks_parse_mac(tap->mac, req.u.tap.mac) < 0 || !netcfg_mac_is_valid(req.u.tap.mac))
		return err_set_field(err, "mac", "'%.20s' is no MAC of a NIC", tap->mac);
	if (!address6_of_raw(row, tap->ip, req.u.tap.address6))
		memset(req.u.tap.address6, 0, sizeof(req.u.tap.address6));
	const struct network *network = network_find(all, row->id, err);
	if (!network)
		return -1;
	if (nic_groups_fill_tap(network, &tap->groups, &req.u.tap, err) < 0)
		return -1;
	if (verb != PRIV_TAP_LOOK)
		nic_groups_tell(network, &tap->groups);
	*ret = req;
	return 0;
}

/* struct comparison - who hears of what differs */
struct comparison {
	void (*differ)(void *data, const char *text);
	void *data;
};

static void differ(const struct comparison *to, const char *fmt, ...) printf_like(2, 3);

static void differ(const struct comparison *to, const char *fmt, ...)
{
	char text[ERR_MSG_MAX];
	va_list args;
	va_start(args, fmt);
	vsnprintf(text, sizeof(text), fmt, args);
	va_end(args);
	to->differ(to->data, text);
}

/* It is being stopped, or its end was not heard of yet. */
static bool goes_with_qemu(const struct network_tap *tap)
{
	uint64_t start_time;
	if (tap->ending)
		return true;
	return tap->pid != 0 && (proc_start_time((pid_t)tap->pid, &start_time, NULL) < 0 ||
				 start_time != tap->start_time);
}

void tap_compare(const struct network *network, struct netcfg *netcfg,
		 const struct network_tap *tap, void (*cb)(void *data, const char *text),
		 void *data)
{
	const struct comparison to = {cb, data};
	const struct db_network *row = &network->row;
	const struct netcfg_rates rates = rates_of(tap);
	struct netcfg_link link;
	char bridge[16], name[24];
	bool limited = true;
	network_bridge_name(network, bridge);
	snprintf(name, sizeof(name), "vdi%un%u", tap->desktop, tap->nic);
	if (netcfg_link_get(netcfg, name, &link, NULL) < 0) {
		if (!goes_with_qemu(tap))
			differ(&to, "tap %s is gone", name);
		return;
	}
	if (strcmp(link.master_name, bridge) != 0)
		differ(&to, "tap %s is no port of bridge %s", name, bridge);
	if (link.up == tap->down)
		differ(&to, "tap %s is %s", name, tap->down ? "up" : "down");
	if (link.isolated != row->isolate_ports)
		differ(&to, "tap %s is %sisolated from others", name, link.isolated ? "" : "not ");
	if (row->mtu && link.mtu != row->mtu)
		differ(&to, "tap %s has an MTU of %u, not %u", name, link.mtu,
		       (unsigned int)row->mtu);
	/* the kernel is asked only where there is something to be missed */
	if ((rates.to_guest.bits_per_s || rates.from_guest.bits_per_s) &&
	    netcfg_rates_has(netcfg, name, &rates, &limited, NULL) == 0 && !limited)
		differ(&to, "tap %s is not as limited as it should be", name);
}

void networks_taps_source(struct networks *all,
			  void (*each)(void *data, const char *network_id,
				       void (*emit)(void *out, const struct network_tap *tap),
				       void *out),
			  void *data)
{
	all->each_tap = each;
	all->each_tap_data = data;
}

static void finish(struct network *network)
{
	void (*settled)(struct network *, const struct err *) = network->taps_settled;
	struct err err = network->taps_err;
	if (--network->taps_left > 0)
		return;
	network->taps_settled = NULL;
	if (settled)
		settled(network, err.code ? &err : NULL);
}

static void on_attached(struct network *network, const struct priv_reply *reply, int *fds,
			const struct err *err)
{
	/* a desktop may have ended meanwhile, and its tap with it */
	if (err && err->code != ERR_NOT_FOUND && !network->taps_err.code)
		network->taps_err = *err;
	finish(network);
}

static void attach(void *out, const struct network_tap *tap)
{
	struct network *network = out;
	struct priv_request req;
	struct err err;
	if (networks_tap_request(network->all, &network->row, tap, PRIV_TAP_ATTACH, &req, &err) <
	    0) {
		log_err("network %s: %s", network->row.name, err.msg);
		return;
	}
	network->taps_left++;
	network_call(network, &req, false, on_attached);
}

void taps_settle(struct network *network,
		 void (*cb)(struct network *network, const struct err *err))
{
	struct networks *all = network->all;
	network->taps_settled = cb;
	if (network->taps_left) {
		/* begun by a plan that ran out of time: its answers still come, and count */
		return;
	}
	network->taps_err = (struct err){0};
	network->taps_left = 1;
	if (all->each_tap)
		all->each_tap(all->each_tap_data, network->row.id, attach, network);
	finish(network);
}
