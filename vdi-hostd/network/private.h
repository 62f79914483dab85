/* Inside of network/ only. */
#pragma once

#include <uthash.h>

#include "base/mem.h"
#include "base/plan.h"
#include "base/proc.h"
#include "vdi-hostd/network/network.h"

struct network_call;

struct network {
	struct networks *all;
	struct db_network row;
	char degraded[ERR_MSG_MAX]; /* what is wrong with it, or "" */

	struct plan *plan;     /* create, repair or delete under way */
	unsigned int plan_nth; /* which one, so that a late answer is not taken for this one's */
	network_cb done;
	void *done_data;
	struct network_call *calls; /* requests to the privileged half that are not answered */
	uv_timer_t *retry;          /* until the next repair */
	unsigned int failures;      /* in a row, for the back-off */

	/* its dnsmasq, while it runs */
	int pidfd;
	struct proc_watch *watch;
	uint64_t up_since;    /* of the loop's clock */
	bool spawning;        /* the answer to a spawn is under way */
	uv_timer_t *settling; /* it was spawned just now, and may yet end at once */
	bool hosts_changed;   /* while it was settling */
	bool renew;           /* it was ended to be started again without stale leases */
	void (*started)(struct network *network, const struct err *err);
	void (*ended)(struct network *network);
	UT_hash_handle by_id, by_name;
};

struct networks {
	uv_loop_t *loop;
	struct db *db;
	struct priv *priv;
	char runtime_dir[128];
	char boot_id[STR_UUID_LEN + 1];
	struct network *by_id, *by_name;
	bool closing; /* undo nothing, the next start will */
	void (*each_host)(void *data, const char *network_id,
			  void (*emit)(void *out, const struct network_host *host), void *out);
	void *each_host_data;
};

/* network.c */
struct network *network_add(struct networks *all, const struct db_network *row);
void network_remove(struct network *network);
bool network_has_kernel_part(const struct network *network);
void network_set_degraded(struct network *network, const char *why);
/** network_request() - what its verbs are asked with */
struct priv_request network_request(const struct network *network, enum priv_verb verb);
void network_tell(struct network *network, const char *what);

typedef void (*network_call_cb)(struct network *network, const struct priv_reply *reply, int *fds,
				const struct err *err);
/**
 * network_call() - priv_call() whose answer is dropped if the network is gone by then
 * @of_plan: it is dropped as well if the plan that is under way now is over by then
 */
void network_call(struct network *network, const struct priv_request *req, bool of_plan,
		  network_call_cb cb);
/** network_timer() - a timer of the network's that fires once; network_timer_stop() sets NULL */
uv_timer_t *network_timer(struct network *network, uint64_t ms, uv_timer_cb cb);
void network_timer_stop(uv_timer_t **timer);

/* dnsmasq.c: the process */
/** dnsmasq_start() - adopt the one that runs, or spawn one; @cb at once or from the loop */
void dnsmasq_start(struct network *network,
		   void (*cb)(struct network *network, const struct err *err));
/** dnsmasq_stop() - end it, also one that is being started; @cb once it is gone, maybe at once */
void dnsmasq_stop(struct network *network, void (*cb)(struct network *network));
/** dnsmasq_release() - let go of it; it goes on */
void dnsmasq_release(struct network *network);
/** dnsmasq_reload() - the hosts file was written: have it read */
void dnsmasq_reload(struct network *network);

/* files.c: what dnsmasq reads and writes, in <runtime_dir>/networks/<slot>/ */
int files_path(const struct network *network, const char *name, char *ret, size_t size);
int files_write_hosts(struct network *network, struct err *err) warn_unused;
void files_delete(struct network *network);
/** struct lease - one line of dnsmasq's; @name is "" where the guest gave none */
struct lease {
	int64_t expires_at; /* seconds since 1970 */
	char mac[18];
	uint32_t ip;
	char name[64];
};
/** files_each_lease() - those that have not expired */
void files_each_lease(const struct network *network,
		      void (*cb)(void *data, const struct lease *lease), void *data);
/** files_leases_block() - does a lease hold an address that now belongs to another NIC? */
bool files_leases_block(struct network *network);
/** files_prune_leases() - forget the leases of NICs that are gone; dnsmasq must not run */
int files_prune_leases(struct network *network, struct err *err) warn_unused;

/* address.c: ranges */
int address_parse_cidr(const char *text, uint32_t *ret_base, int64_t *ret_prefix,
		       struct err *err) warn_unused;
void address_format(uint32_t ip, char ret[16]);
/**
 * address_check_free() - ERR_CONFLICT naming the network, or what the host has, that overlaps
 * @slot: of the network that it is for
 */
int address_check_free(struct networks *all, int64_t slot, uint32_t base, int64_t prefix,
		       struct err *err) warn_unused;
/** address_pick_range() - a free private /24 */
int address_pick_range(struct networks *all, int64_t slot, uint32_t *ret_base,
		       struct err *err) warn_unused;

/* plans.c */
/** network_begin_create_undo() - what an interrupted create left is removed, and the network */
void network_begin_create_undo(struct network *network, network_cb cb, void *data);
void network_begin_create(struct network *network, network_cb cb, void *data);
void network_begin_delete(struct network *network, network_cb cb, void *data);
/** network_begin_repair() - bridge, firewall and dnsmasq are there; failures are tried again */
void network_begin_repair(struct network *network, network_cb cb, void *data);
/** network_repair_later() - after a pause that grows; at once: after @now */
void network_repair_later(struct network *network, bool now);
