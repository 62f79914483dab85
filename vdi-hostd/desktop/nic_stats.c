/* What passed through the NICs of a desktop, and what did not. */
#include <string.h>

#include "vdi-hostd/desktop/private.h"

/*
 * struct stats - asked for all NICs at once
 * @left: answers that are to come, and one for whoever asks
 */
struct stats {
	json_t *nics;
	size_t left;
	struct err err;
	desktop_nic_stats_cb cb;
	void *data;
};

struct ask {
	struct stats *stats;
	json_t *nic; /* borrowed from @stats */
};

static void finish(struct stats *stats)
{
	if (--stats->left > 0)
		return;
	if (stats->err.code)
		stats->cb(stats->data, NULL, &stats->err);
	else
		stats->cb(stats->data, json_incref(stats->nics), NULL);
	json_decref(stats->nics);
	free(stats);
}

static void set_count(json_t *object, const char *key, uint64_t count)
{
	json_object_set_new(object, key, json_integer((json_int_t)count));
}

static void fill(json_t *nic, const struct netcfg_counters *traffic,
		 const struct netcfg_nic_drops *drops)
{
	json_t *reasons = json_object();
	uint64_t dropped = 0;
	for (int why = 1; why < NETCFG_DROP_END; why++) {
		dropped += drops->packets[why];
		set_count(reasons, netcfg_drop_name((enum netcfg_drop)why), drops->packets[why]);
	}
	/* the host's view of a tap is the guest's the other way round */
	set_count(nic, "from_guest_bytes", traffic->rx_bytes);
	set_count(nic, "from_guest_packets", traffic->rx_packets);
	set_count(nic, "to_guest_bytes", traffic->tx_bytes);
	set_count(nic, "to_guest_packets", traffic->tx_packets);
	set_count(nic, "dropped_packets", dropped);
	json_object_set_new(nic, "drops", reasons);
}

static void on_counted(void *data, const struct priv_reply *reply, int *fds, const struct err *err)
{
	struct ask *ask = data;
	struct stats *stats = ask->stats;
	if (!err)
		fill(ask->nic, &reply->traffic, &reply->drops);
	else if (err->code != ERR_NOT_FOUND && !stats->err.code) /* it was stopped meanwhile */
		stats->err = *err;
	free(ask);
	finish(stats);
}

static void ask(struct stats *stats, struct desktop *desktop, const struct nic *nic, json_t *json)
{
	struct priv_request req = {.verb = PRIV_DROPS};
	struct ask *ask = mem_new(struct ask);
	*ask = (struct ask){stats, json};
	req.u.tap.desktop = (uint32_t)desktop->row.slot;
	req.u.tap.nic = (uint32_t)nic->row.number;
	stats->left++;
	priv_call(desktop->all->env.priv, &req, NULL, 0, on_counted, ask);
}

void desktop_nic_stats(struct desktop *desktop, desktop_nic_stats_cb cb, void *data)
{
	static const struct netcfg_counters no_traffic;
	static const struct netcfg_nic_drops no_drops;
	struct stats *stats = mem_new(struct stats);
	*stats = (struct stats){.nics = json_array(), .left = 1, .cb = cb, .data = data};
	for (struct nic *nic = NULL; (nic = desktop_nic_next(desktop, nic));) {
		json_t *json = json_object();
		set_count(json, "nic", (uint64_t)nic->row.number);
		fill(json, &no_traffic, &no_drops);
		json_array_append_new(stats->nics, json);
		if (desktop_has_guest(desktop) && desktop_nic_has_tap(desktop, nic))
			ask(stats, desktop, nic, json);
	}
	finish(stats);
}
