/*
 * Networks: an object each, made and repaired through the privileged half. The row in the database
 * says what is wanted; reconciling makes the kernel agree.
 */
#pragma once

#include <jansson.h>
#include <uv.h>

#include "netcfg/dhcp.h"
#include "vdi-hostd/db/firewall.h"
#include "vdi-hostd/db/forward.h"
#include "vdi-hostd/db/network.h"
#include "vdi-hostd/db/nic.h"
#include "vdi-hostd/db/reservation.h"
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

/** networks_set_features() - PRIV_HAS_*, what this kernel can; before networks_reconcile() */
void networks_set_features(struct networks *networks, uint32_t features);

/**
 * networks_reconcile() - make bridges, firewall and dnsmasq as the rows say; finish what a crash
 * interrupted (creates are undone, deletes completed); dnsmasq that still runs is adopted
 * @done: from the loop, or at once when there is no network; failures of single networks are logged
 * and keep that network `degraded`
 */
void networks_reconcile(struct networks *networks, void (*done)(void *data), void *data);

typedef void (*network_cb)(void *data, const struct db_network *row, const struct err *err);

/** enum network_guard - source guard; by default new networks have it where the kernel can */
enum network_guard { NETWORK_GUARD_DEFAULT, NETWORK_GUARD_OFF, NETWORK_GUARD_ON };

/**
 * struct network_create - what is NULL or 0 is not asked for
 * @cidr:    "10.1.2.0/24"; NULL: a free private /24
 * @gateway: the host's own address in it; NULL: the first
 * @range:   "10.1.2.100-10.1.2.199": what desktops get of it; NULL: all
 * @cidr6:   "fd00:1:2:3::/64", or "auto": a random one that is nobody else's
 * @uplink:  kind bridged: the host's link that becomes a port of it, or has the VLAN @vlan; or a
 *           bridge of the host's, to which it is joined
 * @openings: ports of the host's that guests may use, besides DHCP and DNS
 * @source_guard: kind bridged: desktops send only from addresses that the LAN's DHCP gave to them,
 *           or that are fixed
 * @vni:     VXLAN to @peers (array of addresses), from the host's own address @underlay
 * @confirm_timeout_s: where a link becomes a port: all is taken back unless confirmed by then
 */
struct network_create {
	const char *name;
	enum db_network_kind kind;
	const char *cidr, *gateway, *range, *cidr6;
	const char *uplink;
	int64_t vlan, mtu;
	int64_t vni, vxlan_port;
	const char *underlay;
	const json_t *peers;
	bool no_dns, isolate_ports;
	enum network_guard source_guard;
	const struct db_openings *openings;
	int64_t confirm_timeout_s;
};

/** networks_create() - plan with intent, undone on failure; @create is borrowed for the call */
void networks_create(struct networks *networks, const struct network_create *create, network_cb cb,
		     void *data);

/** struct network_update - what is NULL or negative stays */
struct network_update {
	const char *cidr, *range; /* the range may grow, or move about what is in use */
	int64_t mtu;
	int dns, isolate_ports, source_guard;
	const json_t *peers;
	const struct db_openings *openings;
};

void networks_update(struct networks *networks, const char *ref,
		     const struct network_update *update, network_cb cb, void *data);

/** networks_confirm() - the change of an uplink stays */
void networks_confirm(struct networks *networks, const char *ref, network_cb cb, void *data);

/** networks_delete() - @in_use names a desktop that has a NIC there, or NULL */
void networks_delete(struct networks *networks, const char *ref,
		     const char *(*in_use)(void *data, const char *network_id), void *in_use_data,
		     network_cb cb, void *data);
const struct db_network *networks_find(struct networks *networks, const char *ref, struct err *err);
void networks_each(struct networks *networks, void (*cb)(void *data, const struct db_network *row),
		   void *data);
/** networks_to_json() - what is wished of a network, as network.list answers */
json_t *networks_to_json(struct networks *networks, const struct db_network *row);

/** network_look_cb - @json: as network.get answers, the callback's; NULL with an error */
typedef void (*network_look_cb)(void *data, json_t *json, const struct err *err);
/** networks_look() - the wish, and beside it what the kernel has now, and what differs */
void networks_look(struct networks *networks, const char *ref, network_look_cb cb, void *data);

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
/**
 * networks_pick_address() - the address reserved for a desktop of that name, or the lowest free one
 * @name: or NULL
 * @ret:  0 on a network where others give addresses
 */
int networks_pick_address(struct networks *networks, const struct db_network *network,
			  const char *name, uint32_t *ret, struct err *err) warn_unused;

/** struct network_reserve - @mac or @name may be NULL, not both; @ip: 0: the lowest free one */
struct network_reserve {
	const char *network, *mac, *name;
	uint32_t ip;
};

/** networks_reserve() - errors: ERR_CONFLICT naming who has the address, MAC or name */
int networks_reserve(struct networks *networks, const struct network_reserve *reserve,
		     const struct db_reservation **ret, struct err *err) warn_unused;
/** networks_unreserve() - by id or address; what was taken up stays with who took it */
int networks_unreserve(struct networks *networks, const char *id, struct err *err) warn_unused;
void networks_each_reservation(struct networks *networks, const struct db_network *network,
			       void (*cb)(void *data, const struct db_reservation *row),
			       void *data);
json_t *networks_reservation_to_json(struct networks *networks, const struct db_reservation *row);
/**
 * struct network_tap - a NIC of a desktop, as the privileged half makes it
 * @desktop, @nic: the desktop's slot, and which of its NICs
 * @ip: host byte order; 0: given by others, and not known
 * @down: the cable is out
 * @pid, @start_time: the desktop's QEMU, or zeros
 * @ending: the desktop is being stopped: its tap goes before its QEMU is seen to be gone
 * @queues: of one that is made: 1 to QEMU_QUEUES_MAX
 */
struct network_tap {
	uint32_t desktop, nic;
	int64_t pid;
	uint64_t start_time;
	const char *mac;
	uint32_t ip;
	bool down, ending;
	unsigned int queues;
	struct db_rate to_guest, from_guest;
	struct db_nic_groups groups;
};

/** networks_parse_ports() - "22" or "8000-8010", into the field `ports` */
int networks_parse_ports(const char *text, int64_t *ret_first, int64_t *ret_last,
			 struct err *err) warn_unused;
/** networks_ports_to_json() - the way back; null for @first 0 */
json_t *networks_ports_to_json(int64_t first, int64_t last);

/** networks_parse_mac() - "52:54:00:01:02:03"; -1 where it is none */
int networks_parse_mac(const char *text, uint8_t ret[6]) warn_unused;

/**
 * networks_tap_request() - PRIV_TAP_CREATE or PRIV_TAP_ATTACH of a NIC on @network, guarded as the
 * network says; to be sent at once: the kernel is told first of the NIC's own firewall groups
 * Errors: ERR_INVALID for a MAC that is none.
 */
int networks_tap_request(struct networks *networks, const struct db_network *network,
			 const struct network_tap *tap, enum priv_verb verb,
			 struct priv_request *ret, struct err *err) warn_unused;

/**
 * networks_taps_source() - where the NICs of running desktops are listed from: asked when a bridge
 * was put back, or what holds for NICs has changed
 */
void networks_taps_source(struct networks *networks,
			  void (*each)(void *data, const char *network_id,
				       void (*emit)(void *out, const struct network_tap *tap),
				       void *out),
			  void *data);

/**
 * networks_leases_sink() - who is told of each address that a DHCP server gave to a NIC of a
 * network with source guard, as soon as it is heard; of a renewal as well
 */
void networks_leases_sink(struct networks *networks,
			  void (*cb)(void *data, const struct netcfg_lease *lease), void *data);

/** struct network_forward - @network_id and @mac say where to; @host_address: NULL: all of the
 * host's, of both families */
struct network_forward {
	const char *network_id, *mac;
	enum db_protocol protocol;
	const char *host_address;
	int64_t host_port, port, count;
};

typedef void (*forward_cb)(void *data, const struct db_forward *row, const struct err *err);

/**
 * networks_forward_add() - errors: ERR_CONFLICT when one of the ports is another forward's, or has
 * a listener on the host; ERR_NOT_FOUND when no NIC of the network has that MAC
 */
void networks_forward_add(struct networks *networks, const struct network_forward *forward,
			  forward_cb cb, void *data);
void networks_forward_delete(struct networks *networks, const char *id, forward_cb cb, void *data);
/** networks_forward_each() - @network_id: only that network's, or NULL */
void networks_forward_each(struct networks *networks, const char *network_id,
			   void (*cb)(void *data, const struct db_forward *row), void *data);
json_t *networks_forward_to_json(struct networks *networks, const struct db_forward *row);

/** networks_set_firewall() - @groups: names or ids of the groups that all its NICs have from now on
 */
void networks_set_firewall(struct networks *networks, const char *ref, const json_t *groups,
			   network_cb cb, void *data);
const struct db_firewall_group *networks_find_group(struct networks *networks, const char *ref,
						    struct err *err);
void networks_each_group(struct networks *networks,
			 void (*cb)(void *data, const struct db_firewall_group *row), void *data);
/** networks_create_group() - id, number and time of @row are filled in */
int networks_create_group(struct networks *networks, struct db_firewall_group *row,
			  const struct db_firewall_group **ret, struct err *err) warn_unused;
typedef void (*group_cb)(void *data, const struct db_firewall_group *row, const struct err *err);
/** networks_update_group() - by the id in @row; in one transaction for all NICs that have it */
void networks_update_group(struct networks *networks, const struct db_firewall_group *row,
			   group_cb cb, void *data);
/** networks_delete_group() - errors: ERR_CONFLICT while a network, a NIC or a rule names it */
int networks_delete_group(struct networks *networks, const char *ref, struct err *err) warn_unused;
/** networks_read_groups() - of a NIC, by names or ids */
int networks_read_groups(struct networks *networks, const json_t *names, struct db_nic_groups *ret,
			 struct err *err) warn_unused;
/** networks_fit_groups() - may a NIC of @network have these? Errors: ERR_LIMIT, ERR_UNSUPPORTED */
int networks_fit_groups(struct networks *networks, const struct db_network *network,
			const struct db_nic_groups *groups, struct err *err) warn_unused;

/** networks_leases() - what dnsmasq has handed out: array of {mac, ip, hostname, expires_at}; new
 * reference */
json_t *networks_leases(struct networks *networks, const struct db_network *network,
			struct err *err);
