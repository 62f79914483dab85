/* After a start of the daemon: bridges, firewall and dnsmasq as the rows say. */
#include "vdi-hostd/network/private.h"

struct reconcile {
	struct networks *all;
	size_t left;
	void (*done)(void *data);
	void *data;
};

static void one_done(void *data, const struct db_network *row, const struct err *err)
{
	struct reconcile *reconcile = data;
	if (--reconcile->left > 0)
		return;
	/* what a crash left between a change and the forgetting of what it needs no more */
	if (!reconcile->all->closing)
		firewall_sweep(reconcile->all);
	reconcile->done(reconcile->data);
	free(reconcile);
}

static void begin_one(struct reconcile *reconcile, struct network *network)
{
	reconcile->left++;
	switch (network->row.intent) {
	case DB_INTENT_CREATE:
		network_begin_create_undo(network, one_done, reconcile);
		return;
	case DB_INTENT_DELETE:
		network_begin_delete(network, one_done, reconcile);
		return;
	case DB_INTENT_NONE:
		if (network->row.confirm_until) {
			/* nobody confirmed it, and its guard has put the uplink back by now */
			network_tell(network, "taken-back");
			network_begin_delete(network, one_done, reconcile);
			return;
		}
		network_begin_repair(network, one_done, reconcile);
		return;
	}
}

void networks_reconcile(struct networks *all, void (*done)(void *data), void *data)
{
	struct reconcile *reconcile = mem_new(struct reconcile);
	reconcile->all = all;
	reconcile->left = 1;
	reconcile->done = done;
	reconcile->data = data;
	if (!priv_is_rootless(all->priv)) {
		all->watch = watch_new(all);
		all->liveness = liveness_new(all);
		if (all->features & PRIV_HAS_NFT_LOG)
			all->hearing = hearing_new(all);
	}
	struct network *network, *next;
	HASH_ITER (by_id, all->by_id, network, next) {
		begin_one(reconcile, network);
	}
	one_done(reconcile, NULL, NULL);
}
