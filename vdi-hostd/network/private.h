/* Inside of network/ only. */
#pragma once

#include <uthash.h>

#include "base/mem.h"
#include "base/plan.h"
#include "base/proc.h"
#include "vdi-hostd/network/network.h"

struct network_call;

enum family { IPV4, IPV6, FAMILIES };

/**
 * struct forward - a port forward
 * @told:  the kernel has its rules of that family, as far as we know
 * @asked: the privileged half is asked for the rules of this one
 * @unwanted: it goes: who settles takes its rules away, and the row when none are left
 */
struct forward {
	struct db_forward row;
	bool told[FAMILIES];
	enum family asked;
	bool unwanted;
	struct forward *next, *prev;
};

/** struct group - a firewall group */
struct group {
	struct db_firewall_group row;
	struct group *next, *prev;
};

/** struct reservation - an address kept for a MAC, or for a desktop of some name */
struct reservation {
	struct db_reservation row;
	struct reservation *next, *prev;
};

struct network {
	struct networks *all;
	struct db_network row;
	char degraded[ERR_MSG_MAX]; /* what is wrong with it, or "" */

	struct plan *plan;     /* create, repair, change or delete under way */
	unsigned int plan_nth; /* which one, so that a late answer is not taken for this one's */
	network_cb done;
	void *done_data;
	struct network_call *calls;    /* requests to the privileged half that are not answered */
	uv_timer_t *retry;             /* until the next repair */
	unsigned int failures;         /* in a row, for the back-off */
	struct network_change *change; /* while the plan is one */
	size_t taps_left;              /* answers that a step waits for */
	struct err taps_err;
	void (*taps_settled)(struct network *network, const struct err *err);
	uv_timer_t *confirm;  /* until the change of its uplink is taken back */
	network_cb confirmed; /* while the answer to that is under way */
	void *confirmed_data;

	struct look *looks; /* under way */
	bool suspect;       /* somebody was at it: look whether all is as wished */
	struct group *groups[DB_FIREWALL_GROUPS_MAX]; /* that its NICs have */
	size_t n_groups;
	size_t groups_left; /* answers that a step waits for */
	struct err groups_err;
	void (*groups_settled)(struct network *network, const struct err *err);
	struct reservation *reservations;
	struct forward *forwards;
	struct forward *forward_now; /* the privileged half is asked for it */
	void (*forwards_settled)(struct network *network, const struct err *err);

	/* its dnsmasq, while it runs */
	int pidfd;
	struct proc_watch *watch;
	uint64_t up_since;    /* of the loop's clock */
	bool spawning;        /* the answer to a spawn is under way */
	uv_timer_t *settling; /* it was spawned just now, and may yet end at once */
	bool hosts_changed;   /* while it was settling */
	unsigned int silent;  /* questions in a row that it did not answer */
	bool renew;           /* it was ended to be started again without stale leases */
	void (*started)(struct network *network, const struct err *err);
	void (*restarted)(struct network *network, const struct err *err);
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
	void (*each_tap)(void *data, const char *network_id,
			 void (*emit)(void *out, const struct network_tap *tap), void *out);
	void *each_tap_data;
	void (*on_lease)(void *data, const struct netcfg_lease *lease);
	void *on_lease_data;
	uint32_t features; /* PRIV_HAS_* */
	struct group *groups;
	struct watch *watch;
	struct hearing *hearing;
	struct liveness *liveness;
};

/* network.c */
struct network *network_add(struct networks *all, const struct db_network *row);
void network_remove(struct network *network);
bool network_has_kernel_part(const struct network *network);
/** network_has_dnsmasq() - are its addresses ours to give? */
bool network_has_dnsmasq(const struct network *network);
struct network *network_find(struct networks *all, const char *ref, struct err *err);
void network_bridge_name(const struct network *network, char ret[16]);
void network_set_degraded(struct network *network, const char *why);
/** network_request() - what its verbs are asked with */
struct priv_request network_request(const struct network *network, enum priv_verb verb);
void network_tell(struct network *network, const char *what);
/** network_is_guarded() - are its addresses others' to give, and what they gave all that NICs send
 * from? */
bool network_is_guarded(const struct db_network *row);

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

/**
 * struct network_change - a change of what is wished of a network
 * @wish:   write it down, in the database and in memory
 * @revert: the same way back, when what follows has failed
 * @done:   the end; frees it
 */
struct network_change {
	int (*wish)(struct network *network, struct network_change *change, struct err *err);
	void (*revert)(struct network *network, struct network_change *change);
	void (*done)(struct network *network, struct network_change *change, const struct err *err);
};

/* settings.c: what is asked for, checked, as a row */
int settings_fill(struct networks *all, const struct network_create *create, struct db_network *row,
		  struct err *err) warn_unused;
int settings_parse_range(const char *text, struct db_network *row, struct err *err) warn_unused;
int settings_parse_peers(const json_t *peers, struct db_network *row, struct err *err) warn_unused;
/** settings_set_guard() - errors: as hearing_check(); by field for other kinds than bridged */
int settings_set_guard(struct networks *all, bool wished, struct db_network *row,
		       struct err *err) warn_unused;
/** settings_set_openings() - NULL: they stay */
int settings_set_openings(struct db_network *row, const struct db_openings *openings,
			  struct err *err) warn_unused;
int settings_check_mtu(const struct db_network *row, int64_t mtu, struct err *err) warn_unused;

/* uplink.c */
/** uplink_is_needed() - does it have an uplink as its port, with all that the host had there? */
bool uplink_is_needed(const struct network *network);
char *uplink_to_text(const struct netcfg_uplink *uplink);
int uplink_from_text(const char *text, struct netcfg_uplink *ret, struct err *err) warn_unused;
/** uplink_request() - what it has now is written down before; unless it is a port already */
int uplink_request(const struct network *network, struct priv_request *ret,
		   struct err *err) warn_unused;
/** uplink_release_request() - errors: ERR_NOT_FOUND when nothing was ever changed */
int uplink_release_request(const struct network *network, struct priv_request *ret,
			   struct err *err) warn_unused;
/** uplink_await_confirm() - take the network back when its time is over */
void uplink_await_confirm(struct network *network);

/* forward.c: what the kernel has of them */
int forwards_load(struct networks *all, struct err *err) warn_unused;
void forwards_free(struct network *network);
struct forward *forward_add(struct network *network, const struct db_forward *row);
void forward_remove(struct network *network, struct forward *forward);
/** forwards_settle() - the kernel has them, as the addresses are now; those of NICs that are gone
 * go; @cb once, maybe at once */
void forwards_settle(struct network *network,
		     void (*cb)(struct network *network, const struct err *err));
/** forwards_forget_told() - somebody was at the rules: all are to be told again */
void forwards_forget_told(struct network *network);

/** forward_leads() - are there rules of that family, or were they to be made? */
bool forward_leads(const struct db_forward *row, enum family family);
/** forward_forget() - there are none now */
void forward_forget(struct db_forward *row, enum family family);
struct priv_request forward_request(const struct db_forward *row, enum family family,
				    enum priv_verb verb);
/** forward_to() - where it leads to now; none where its NIC is gone; @ret_name: of the desktop, or
 * NULL */
struct db_addresses forward_to(const struct network *network, const struct db_forward *row,
			       char ret_name[STR_NAME_MAX + 1]);

/** struct look - how a network is now; see look.c */
struct look;
typedef void (*look_cb)(void *data, struct network *network, json_t *actual, json_t *differences,
			const struct err *err);
/**
 * look_begin() - find out how a network is now, and what of it is not as wished
 * @to_mend: leave out what no repair mends, since it is the administrator's
 * @cb: once; both are borrowed; @network is NULL with an error if it went meanwhile
 */
void look_begin(struct network *network, bool to_mend, look_cb cb, void *data);
/** look_cancel_all() - the network goes: who looks is told */
void look_cancel_all(struct network *network);

/* watch.c: what others do to our networks */
struct watch;
/** watch_new() - fails quietly where the kernel cannot be listened to */
struct watch *watch_new(struct networks *all);
void watch_free(struct watch *watch);

/* hearing.c: what DHCP servers of others give to our NICs */
struct hearing;
struct hearing *hearing_new(struct networks *all);
void hearing_free(struct hearing *hearing);
/** hearing_check() - may a network rely on it? Errors: ERR_UNSUPPORTED where the kernel cannot; why
 * it is not heard */
int hearing_check(const struct networks *all, struct err *err) warn_unused;

/* reservation.c */
int reservations_load(struct networks *all, struct err *err) warn_unused;
void reservations_free(struct network *network);
/** reservations_each_host() - all NICs of desktops, and reservations that no NIC has taken up; ""
 * for what is not known of one */
void reservations_each_host(struct network *network,
			    void (*emit)(void *out, const struct network_host *host), void *out);

/* liveness.c: dnsmasq runs, and does it answer? */
struct liveness;
struct liveness *liveness_new(struct networks *all);
void liveness_free(struct liveness *liveness);

/* firewall.c */
int firewall_load(struct networks *all, struct err *err) warn_unused;
void firewall_free(struct networks *all);
/** firewall_find() - by name or id */
struct group *firewall_find(struct networks *all, const char *ref, struct err *err);
/** firewall_id() - what the kernel knows it by; NULL: the one at the end of all */
uint32_t firewall_id(const struct group *group);
/** firewall_request() - have the kernel know the group; NULL: the one at the end of all */
struct priv_request firewall_request(struct networks *all, const struct group *group);
/** firewall_settle() - the kernel knows the network's groups; @cb as above */
void firewall_settle(struct network *network,
		     void (*cb)(struct network *network, const struct err *err));
/** firewall_sweep() - the kernel forgets groups that no network and no running NIC has */
void firewall_sweep(struct networks *all);

/* nic_groups.c */
/** nic_groups_fill_tap() - the groups that a NIC has: its network's, and its own; errors: ERR_LIMIT
 */
int nic_groups_fill_tap(const struct network *network, const struct db_nic_groups *groups,
			struct priv_tap *tap, struct err *err) warn_unused;
/** nic_groups_tell() - the kernel knows them before it is asked for a tap that has them */
void nic_groups_tell(const struct network *network, const struct db_nic_groups *groups);
/** nic_groups_use() - does a NIC of a running desktop have the group? */
bool nic_groups_use(struct networks *all, const struct group *group);

/* tap.c */
/**
 * tap_compare() - what the kernel's tap has otherwise than @tap and its network say
 * @cb: once for each, with a sentence; what guards the tap is not looked at
 */
void tap_compare(const struct network *network, struct netcfg *netcfg,
		 const struct network_tap *tap, void (*cb)(void *data, const char *text),
		 void *data);
/** taps_settle() - all NICs of running desktops are on the bridge and guarded; @cb as above */
void taps_settle(struct network *network,
		 void (*cb)(struct network *network, const struct err *err));

/* dnsmasq.c: the process */
/** dnsmasq_start() - adopt the one that runs, or spawn one; @cb at once or from the loop */
void dnsmasq_start(struct network *network,
		   void (*cb)(struct network *network, const struct err *err));
/** dnsmasq_stop() - end it, also one that is being started; @cb once it is gone, maybe at once */
void dnsmasq_stop(struct network *network, void (*cb)(struct network *network));
/** dnsmasq_release() - let go of it; it goes on */
void dnsmasq_release(struct network *network);
/** dnsmasq_kill() - it hangs: its end is heard of, and it is started again */
void dnsmasq_kill(struct network *network);
/** dnsmasq_reload() - the hosts file was written: have it read */
void dnsmasq_reload(struct network *network);

/* files.c: what dnsmasq reads and writes, in <runtime_dir>/networks/<slot>/ */
int files_path(const struct network *network, const char *name, char *ret, size_t size);
int files_write_hosts(struct network *network, struct err *err) warn_unused;
void files_delete(struct network *network);
/** struct lease - one line of dnsmasq's; @name is "" where the guest gave none */
struct lease {
	int64_t expires_at; /* seconds since 1970 */
	char mac[18];       /* "" of an IPv6 address's */
	uint32_t ip;        /* 0: it is one of @ip6 */
	char ip6[46];
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

/** address6_check_free() - the same of a /64 */
int address6_check_free(struct networks *all, int64_t slot, const uint8_t address[16],
			struct err *err) warn_unused;
/** address6_of() - the IPv6 address that goes with an IPv4 one, "" where the network has none */
void address6_of(const struct db_network *row, uint32_t ip, char ret[46]);
bool address6_of_raw(const struct db_network *row, uint32_t ip, uint8_t ret[16]);

/* plans.c */
/** network_begin_create_undo() - what an interrupted create left is removed, and the network */
void network_begin_create_undo(struct network *network, network_cb cb, void *data);
void network_begin_create(struct network *network, network_cb cb, void *data);
void network_begin_delete(struct network *network, network_cb cb, void *data);
/** network_begin_repair() - bridge, firewall and dnsmasq are there; failures are tried again */
void network_begin_repair(struct network *network, network_cb cb, void *data);
/** network_repair_later() - after a pause that grows; at once: after @now */
void network_repair_later(struct network *network, bool now);
/** network_begin_change() - @change is written down, then the kernel made to agree; on failure it
 * is taken back, and the network repaired to what it was */
void network_begin_change(struct network *network, struct network_change *change);
/** network_refuse_busy() - ERR_BUSY while a plan of it runs, or it is being deleted */
int network_refuse_busy(const struct network *network, struct err *err) warn_unused;
