/*
 * What others do to our networks. Links and addresses are heard of here, tables by the privileged
 * half, which says so with a byte. Whatever it was, the network is looked at a moment later, and
 * what differs from the wish is put back.
 */
#include <stdio.h>
#include <string.h>

#include "base/log.h"
#include "netcfg/link.h"
#include "netcfg/monitor.h"
#include "vdi-hostd/network/private.h"

#define ROUND_MS 60000 /* for what was not heard, whatever that was */
#define PAUSE_MS 150   /* several changes come together, and our own settle */

struct watch {
	struct networks *all;
	struct netcfg_monitor *monitor;
	struct netcfg *netcfg; /* to look at single links */
	uv_poll_t links, tables;
	uv_timer_t pause, round;
	int pipe;
	int n_parts; /* handles and answers that have to go before this does */
	bool hears_links, hears_tables, closed;
};

static void on_pause(uv_timer_t *timer);

static void look_soon(struct watch *watch)
{
	if (!uv_is_active((uv_handle_t *)&watch->pause))
		uv_timer_start(&watch->pause, on_pause, PAUSE_MS, 0);
}

static void suspect(struct watch *watch, struct network *network)
{
	network->suspect = true;
	look_soon(watch);
}

static void suspect_all(struct watch *watch)
{
	for (struct network *n = watch->all->by_id; n; n = n->by_id.next)
		suspect(watch, n);
}

static void on_round(uv_timer_t *timer)
{
	suspect_all(timer->data);
}

/* ---- the look, and what follows from it ---- */

static void on_look(void *data, struct network *network, json_t *actual, json_t *differences,
		    const struct err *err)
{
	const char *first = json_string_value(json_array_get(differences, 0));
	char why[ERR_MSG_MAX];
	size_t n = json_array_size(differences);
	if (!network || network->plan || network->row.intent != DB_INTENT_NONE)
		return;
	if (n == 0) {
		/* what fails next has nothing to do with what failed before */
		network->failures = 0;
		return;
	}
	snprintf(why, sizeof(why), "%.200s%s; it is put back", first ? first : "",
		 n > 1 ? ", and more" : "");
	network_set_degraded(network, why);
	forwards_forget_told(network);
	network_repair_later(network, true);
}

static void on_pause(uv_timer_t *timer)
{
	struct watch *watch = timer->data;
	struct network *network, *next;
	HASH_ITER (by_id, watch->all->by_id, network, next) {
		if (!network->suspect)
			continue;
		if (network->plan) {
			look_soon(watch); /* when it is over */
			continue;
		}
		network->suspect = false;
		if (network_has_kernel_part(network))
			look_begin(network, true, on_look, NULL);
	}
}

/* ---- what is heard ---- */

static struct network *find_slot(struct networks *all, int64_t slot)
{
	for (struct network *n = all->by_id; n; n = n->by_id.next)
		if (n->row.slot == slot)
			return n;
	return NULL;
}

struct tap_search {
	struct watch *watch;
	struct network *network;
	unsigned int desktop, nic;
	bool differs;
};

static void note_difference(void *data, const char *text)
{
	*(bool *)data = true;
}

/* Most words of a tap are of no matter, and a look at a whole network is more than one at a link.
 */
static void match_tap(void *out, const struct network_tap *tap)
{
	struct tap_search *search = out;
	struct netcfg *netcfg = search->watch->netcfg;
	if (tap->desktop != search->desktop || tap->nic != search->nic)
		return;
	if (netcfg)
		tap_compare(search->network, netcfg, tap, note_difference, &search->differs);
	else
		search->differs = true;
}

/* Taps come and go with desktops; one whose QEMU runs has to be there, and as it should be. */
static void see_tap(struct watch *watch, unsigned int desktop, unsigned int nic)
{
	struct networks *all = watch->all;
	for (struct network *n = all->by_id; n && all->each_tap; n = n->by_id.next) {
		struct tap_search search = {watch, n, desktop, nic, false};
		all->each_tap(all->each_tap_data, n->row.id, match_tap, &search);
		if (search.differs)
			suspect(watch, n);
	}
}

static void see_link(struct watch *watch, const struct netcfg_event *event)
{
	struct networks *all = watch->all;
	struct network *network;
	unsigned int slot, nic;
	char end;
	/* a tap, or what limits it */
	if (sscanf(event->link, "vdi%un%u%c", &slot, &nic, &end) == 2 ||
	    sscanf(event->link, "ifb-vdi%un%u%c", &slot, &nic, &end) == 2) {
		see_tap(watch, slot, nic);
		return;
	}
	/* a bridge, or what leads from it to elsewhere: vdibr1, vdivx1, vdivl1, vdiup1, vdidn1 */
	if (sscanf(event->link, "vdi%*2[a-z]%u%c", &slot, &end) == 1) {
		network = find_slot(all, slot);
		if (network && !network->plan)
			suspect(watch, network);
		return;
	}
	for (network = all->by_id; network; network = network->by_id.next)
		if (network->row.uplink[0] && strcmp(network->row.uplink, event->link) == 0)
			suspect(watch, network);
}

static void see_event(void *data, const struct netcfg_event *event)
{
	struct watch *watch = data;
	switch (event->kind) {
	case NETCFG_EVENT_LINK:
	case NETCFG_EVENT_LINK_GONE:
	case NETCFG_EVENT_ADDRESS:
	case NETCFG_EVENT_ADDRESS_GONE:
	case NETCFG_EVENT_RATE:
		see_link(watch, event);
		return;
	case NETCFG_EVENT_TABLE_GONE:
	case NETCFG_EVENT_TABLE_CHANGED:
	case NETCFG_EVENT_RESYNC:
		suspect_all(watch);
		return;
	}
}

static void on_links(uv_poll_t *poll, int status, int events)
{
	struct watch *watch = poll->data;
	struct err err;
	if (status == 0 && netcfg_monitor_read(watch->monitor, see_event, watch, &err) == 0)
		return;
	log_warn("changes of the host's links are not heard any more: %s",
		 status == 0 ? err.msg : uv_strerror(status));
	uv_poll_stop(poll);
	suspect_all(watch);
}

static void on_tables(uv_poll_t *poll, int status, int events)
{
	struct watch *watch = poll->data;
	char bytes[64];
	ssize_t n;
	while ((n = read(watch->pipe, bytes, sizeof(bytes))) == sizeof(bytes))
		;
	if (status < 0 || n == 0)
		uv_poll_stop(poll); /* that half is gone, and we are to end as well */
	else
		suspect_all(watch);
}

static void part_gone(struct watch *watch)
{
	if (--watch->n_parts > 0)
		return;
	netcfg_monitor_close(watch->monitor);
	netcfg_close(watch->netcfg);
	mem_closep(&watch->pipe);
	free(watch);
}

static void on_closed(uv_handle_t *handle)
{
	part_gone(handle->data);
}

static void on_watching(void *data, const struct priv_reply *reply, int *fds, const struct err *err)
{
	struct watch *watch = data;
	if (watch->closed || (err && err->code == ERR_CANCELLED)) {
		part_gone(watch);
		return;
	}
	if (err)
		log_warn("changes of the firewall's tables are not heard of: %s", err->msg);
	else
		watch->pipe = TAKE_FD(fds[0]);
	if (watch->pipe >= 0 && uv_poll_init(watch->all->loop, &watch->tables, watch->pipe) == 0) {
		watch->tables.data = watch;
		watch->n_parts++;
		watch->hears_tables = true;
		uv_poll_start(&watch->tables, UV_READABLE, on_tables);
	}
	part_gone(watch);
}

struct watch *watch_new(struct networks *all)
{
	struct watch *watch = mem_new(struct watch);
	const struct priv_request req = {.verb = PRIV_WATCH};
	struct err err;
	watch->all = all;
	watch->pipe = -1;
	uv_timer_init(all->loop, &watch->pause);
	watch->pause.data = watch;
	uv_timer_init(all->loop, &watch->round);
	watch->round.data = watch;
	uv_timer_start(&watch->round, on_round, ROUND_MS, ROUND_MS);
	uv_unref((uv_handle_t *)&watch->round);
	watch->n_parts = 3; /* the timers, and the answer */
	if (netcfg_open(&watch->netcfg, &err) < 0)
		log_warn("links are looked at less closely: %s", err.msg);
	if (netcfg_monitor_open(&watch->monitor, 0, &err) < 0) {
		log_warn("changes of the host's links are not heard of: %s", err.msg);
	} else if (uv_poll_init(all->loop, &watch->links, netcfg_monitor_fd(watch->monitor)) == 0) {
		watch->links.data = watch;
		watch->n_parts++;
		watch->hears_links = true;
		uv_poll_start(&watch->links, UV_READABLE, on_links);
	}
	priv_call(all->priv, &req, NULL, 0, on_watching, watch);
	return watch;
}

void watch_free(struct watch *watch)
{
	if (!watch)
		return;
	watch->closed = true;
	uv_close((uv_handle_t *)&watch->pause, on_closed);
	uv_close((uv_handle_t *)&watch->round, on_closed);
	if (watch->hears_links)
		uv_close((uv_handle_t *)&watch->links, on_closed);
	if (watch->hears_tables)
		uv_close((uv_handle_t *)&watch->tables, on_closed);
}
