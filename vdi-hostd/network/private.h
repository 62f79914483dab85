/* Inside of network/ only. */
#pragma once

#include <uthash.h>

#include "base/mem.h"
#include "base/plan.h"
#include "base/proc.h"
#include "vdi-hostd/network/network.h"

struct network {
	struct networks *all;
	struct db_network row;
	char degraded[ERR_MSG_MAX]; /* what is wrong with it, or "" */

	struct plan *plan; /* create or delete under way */
	network_cb done;
	void *done_data;

	/* its dnsmasq, while it runs */
	int pidfd;
	struct proc_watch *watch;
	void (*ended)(struct network *network); /* a delete waits for its end */
	uv_timer_t *respawn;
	unsigned int failures; /* in a row, for the back-off */
	UT_hash_handle by_id, by_name;
};

struct networks {
	uv_loop_t *loop;
	struct db *db;
	struct priv *priv;
	char runtime_dir[128];
	char boot_id[STR_UUID_LEN + 1];
	struct network *by_id, *by_name;
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

/* dnsmasq.c: addresses and names of one network */
/** dnsmasq_start() - adopt the one that runs, or spawn one; @cb from the loop */
void dnsmasq_start(struct network *network,
		   void (*cb)(struct network *network, const struct err *err));
/** dnsmasq_stop() - end it; @cb once it is gone, maybe at once */
void dnsmasq_stop(struct network *network, void (*cb)(struct network *network));
/** dnsmasq_release() - let go of it; it goes on */
void dnsmasq_release(struct network *network);
int dnsmasq_write_hosts(struct network *network, struct err *err) warn_unused;
void dnsmasq_signal(struct network *network, int sig);
void dnsmasq_delete_files(struct network *network);

/* address.c: ranges */
int address_parse_cidr(const char *text, uint32_t *ret_base, int64_t *ret_prefix,
		       struct err *err) warn_unused;
void address_format(uint32_t ip, char ret[16]);
/** address_check_free() - ERR_CONFLICT naming the network or the route that overlaps */
int address_check_free(struct networks *all, uint32_t base, int64_t prefix,
		       struct err *err) warn_unused;
int address_pick_range(struct networks *all, uint32_t *ret_base, struct err *err) warn_unused;

/* plans.c */
void network_create_undo(struct network *network, plan_done_cb done);
void network_begin_create(struct network *network, network_cb cb, void *data);
void network_begin_delete(struct network *network, network_cb cb, void *data);
