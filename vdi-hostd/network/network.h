/*
 * Networks: an object each, made and repaired through the privileged half. The row in the database
 * says what is wanted; reconciling makes the kernel agree.
 */
#pragma once

#include <jansson.h>
#include <uv.h>

#include "vdi-hostd/db/network.h"
#include "vdi-hostd/priv/priv.h"

struct networks;

/** struct network_host - an address given to a NIC: what dnsmasq serves */
struct network_host {
	const char *name, *mac;
	uint32_t ip; /* host byte order */
};

int networks_new(uv_loop_t *loop, struct db *db, struct priv *priv, const char *runtime_dir,
		 struct networks **ret, struct err *err) warn_unused;
void networks_free(struct networks *networks);

/**
 * networks_reconcile() - make bridges, firewall and dnsmasq as the rows say; finish what a crash
 * interrupted (creates are undone, deletes completed); dnsmasq that still runs is adopted
 * @done: from the loop, or at once when there is no network; failures of single networks are logged
 * and keep that network `degraded`
 */
void networks_reconcile(struct networks *networks, void (*done)(void *data), void *data);

typedef void (*network_cb)(void *data, const struct db_network *row, const struct err *err);

/** networks_create() - @cidr: "10.1.2.0/24", or NULL: a free private /24; plan with intent, undone
 * on failure */
void networks_create(struct networks *networks, const char *name, enum db_network_kind kind,
		     const char *cidr, network_cb cb, void *data);
/** networks_delete() - @in_use names a desktop that has a NIC there, or NULL */
void networks_delete(struct networks *networks, const char *ref,
		     const char *(*in_use)(void *data, const char *network_id), void *in_use_data,
		     network_cb cb, void *data);
const struct db_network *networks_find(struct networks *networks, const char *ref, struct err *err);
void networks_each(struct networks *networks, void (*cb)(void *data, const struct db_network *row),
		   void *data);
/** network_to_json() - as network.get answers */
json_t *networks_to_json(struct networks *networks, const struct db_network *row);

/**
 * networks_hosts_source() - where the NICs of a network are listed from; called whenever dnsmasq's
 * hosts file has to be written
 */
void networks_hosts_source(struct networks *networks,
			   void (*each)(void *data, const char *network_id,
					void (*emit)(void *out, const struct network_host *host),
					void *out),
			   void *data);
/** networks_hosts_changed() - a NIC came or went: write the hosts file, tell dnsmasq */
int networks_hosts_changed(struct networks *networks, const char *network_id,
			   struct err *err) warn_unused;
/** networks_pick_address() - the lowest free address, asking the hosts source what is taken */
int networks_pick_address(struct networks *networks, const struct db_network *network,
			  uint32_t *ret, struct err *err) warn_unused;
/** networks_leases() - what dnsmasq has handed out: array of {mac, ip, hostname, expires_at}; new
 * reference */
json_t *networks_leases(struct networks *networks, const struct db_network *network,
			struct err *err);
