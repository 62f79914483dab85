/* After a start of the daemon: bridges, firewall and dnsmasq as the rows say. */
#include "base/log.h"
#include "vdi-hostd/network/private.h"

struct reconcile {
	size_t left;
	void (*done)(void *data);
	void *data;
};

/* One network on its way to what its row says. */
struct item {
	struct reconcile *reconcile;
	struct network *network;
};

static void reconcile_done(struct reconcile *reconcile)
{
	if (--reconcile->left > 0)
		return;
	reconcile->done(reconcile->data);
	free(reconcile);
}

static struct item *item_new(struct reconcile *reconcile, struct network *network)
{
	struct item *item = mem_new(struct item);
	item->reconcile = reconcile;
	item->network = network;
	reconcile->left++;
	return item;
}

static void item_done(void *data, const struct db_network *row, const struct err *err)
{
	_cleanup_free_ struct item *item = data;
	reconcile_done(item->reconcile);
}

static void on_undone(void *ctx, const struct err *err)
{
	struct network *network = ctx;
	network_cb done = TAKE_PTR(network->done);
	void *data = network->done_data;
	network->plan = NULL;
	log_info("network %s: its creation was interrupted and undone", network->row.name);
	network_remove(network);
	done(data, NULL, NULL);
}

static void on_dnsmasq(struct network *network, const struct err *err)
{
	network_set_degraded(network, err ? err->msg : "");
}

static void on_bridge(void *data, const struct priv_reply *reply, int *fds, const struct err *err)
{
	struct item *item = data;
	if (err && err->code == ERR_CANCELLED) {
		free(item);
		return; /* the daemon ends */
	}
	if (err)
		network_set_degraded(item->network, err->msg);
	else
		dnsmasq_start(item->network, on_dnsmasq);
	item_done(item, NULL, NULL);
}

static void reconcile_one(struct reconcile *reconcile, struct network *network)
{
	switch (network->row.intent) {
	case DB_INTENT_CREATE:
		network->done = item_done;
		network->done_data = item_new(reconcile, network);
		network_create_undo(network, on_undone);
		return;
	case DB_INTENT_DELETE:
		network_begin_delete(network, item_done, item_new(reconcile, network));
		return;
	case DB_INTENT_NONE:
		break;
	}
	if (!network_has_kernel_part(network))
		return;
	struct priv_request req = network_request(network, PRIV_BRIDGE_ENSURE);
	priv_call(network->all->priv, &req, NULL, 0, on_bridge, item_new(reconcile, network));
}

void networks_reconcile(struct networks *all, void (*done)(void *data), void *data)
{
	struct reconcile *reconcile = mem_new(struct reconcile);
	reconcile->left = 1;
	reconcile->done = done;
	reconcile->data = data;
	struct network *network, *next;
	HASH_ITER (by_id, all->by_id, network, next) {
		reconcile_one(reconcile, network);
	}
	reconcile_done(reconcile);
}
