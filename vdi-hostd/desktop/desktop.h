/*
 * Desktops: what one is, and what may be done with it. Each is one QEMU process that does not
 * depend on this daemon's life; the row in the database says what is wanted, and reconciling makes
 * the host agree.
 */
#pragma once

#include <jansson.h>
#include <uv.h>

#include "qmp/qmp.h"
#include "vdi-hostd/db/desktop.h"
#include "vdi-hostd/image/image.h"
#include "vdi-hostd/network/network.h"
#include "vdi-hostd/priv/priv.h"

/*
 * The states, what may be asked in each, and what leads on:
 *
 *   stopped    start, delete, update     start -> starting
 *   starting   (busy)                    plan done -> running; plan failed -> failed
 *   running    stop, reset, pause,       pause -> paused; stop -> stopping; guest powers off ->
 *              connect, screenshot       stopped; QEMU dies -> failed; disk full -> paused (reason)
 *   paused     resume, stop, screenshot  resume -> running; stop -> stopping
 *   suspended  start, delete             (memory saved on disk)
 *   stopping   (busy)                    QEMU gone -> stopped
 *   failed     start, delete, update     start -> starting
 *
 * desktop_set_state() alone moves one to the next.
 */
enum desktop_state {
	DESKTOP_STOPPED,
	DESKTOP_STARTING,
	DESKTOP_RUNNING,
	DESKTOP_PAUSED,
	DESKTOP_SUSPENDED,
	DESKTOP_STOPPING,
	DESKTOP_FAILED,
};

extern const char *const desktop_state_names[];   /* ends with NULL */
extern const char *const desktop_restart_names[]; /* enum db_desktop_restart; ends with NULL */

extern const char *const desktop_boot_names[]; /* enum db_desktop_boot; ends with NULL */

struct desktops;
struct desktop;

/**
 * struct desktops_env - what desktops stand on; borrowed for the manager's life
 * @accel:       how guests run (chosen at start)
 * @console_dir: state folder for console and QEMU logs, one folder a desktop
 */
struct desktops_env {
	uv_loop_t *loop;
	struct db *db;
	struct priv *priv;
	struct images *images;
	struct networks *networks;
	enum qemu_accel accel;
	const char *state_dir;
	const char *runtime_dir;
	uid_t uid_base;
	int64_t memory_reserve_mib;
	int64_t start_timeout_s, stop_timeout_s;
};

/** desktops_new() - load the rows; nothing is touched yet */
int desktops_new(const struct desktops_env *env, struct desktops **ret,
		 struct err *err) warn_unused;

/** desktops_free() - let go of every desktop; those that run go on running */
void desktops_free(struct desktops *all);

/**
 * desktops_reconcile() - after a start of the daemon: adopt what runs, finish or undo what was
 * interrupted, settle what died meanwhile, start what has `autostart`
 * @done: from the loop, once every desktop has its state (autostarts go on after it)
 */
void desktops_reconcile(struct desktops *all, void (*done)(void *data), void *data);

/** desktops_find() - by name or id; borrowed until the desktop is deleted */
struct desktop *desktops_find(struct desktops *all, const char *ref, struct err *err);
size_t desktops_count(struct desktops *all);
/** desktops_each() - by name */
void desktops_each(struct desktops *all, void (*cb)(void *data, struct desktop *desktop),
		   void *data);
/** desktops_use_network() - the name of a desktop that stands on it, or NULL */
const char *desktops_use_network(void *all, const char *network_id);

/** desktops_each_address() - networks_hosts_source() of the addresses given to desktops; @all: the
 * manager */
void desktops_each_address(void *all, const char *network_id,
			   void (*emit)(void *out, const struct network_host *host), void *out);

/** desktops_each_tap() - networks_taps_source() of the desktops that have a QEMU; @all: the manager
 */
void desktops_each_tap(void *all, const char *network_id,
		       void (*emit)(void *out, const struct network_tap *tap), void *out);

/** desktops_learn() - networks_leases_sink() of what DHCP servers gave; @all: the manager */
void desktops_learn(void *all, const struct netcfg_lease *lease);
/** desktops_leases() - what NICs on a network of others' addresses were given: array of {mac, ip,
 * hostname, expires_at}; new reference */
json_t *desktops_leases(struct desktops *all, const char *network_id);

const struct db_desktop *desktop_row(const struct desktop *desktop);
/** desktop_nic_row() - its NIC of that number, or NULL */
const struct db_nic *desktop_nic_row(const struct desktop *desktop, int64_t number);
enum desktop_state desktop_state(const struct desktop *desktop);
/** desktop_qmp() - its monitor, or NULL while there is none */
struct qmp *desktop_qmp(struct desktop *desktop);
/** desktop_to_json() - as desktop.get answers; a reference to what others read too: not to be
 * changed */
json_t *desktop_to_json(struct desktop *desktop);

/**
 * desktop_cb - the end of an operation; @desktop is NULL on failure and after a delete
 * Fires exactly once, possibly inside the call that began the operation.
 */
typedef void (*desktop_cb)(void *data, struct desktop *desktop, const struct err *err);

struct desktop_create {
	const char *name, *image, *network, *owner, *profile;
	const char *ip;                        /* as of struct desktop_nic_wish */
	int64_t memory_mib, vcpus, disk_bytes; /* 0: the default */
	int64_t data_disk_bytes;               /* 0: no data disk */
	bool disposable;                       /* its system disk begins anew at each start */
	const char *iso;                       /* NULL: an empty drive */
	enum db_desktop_boot boot;
	bool autostart;
	enum db_desktop_restart restart;
	/* files in the store's tmp/ that become its disks, which then stand on nothing: the image
	 * is only what they came from, and disk_bytes what they have */
	const char *adopt[DB_DISKS];
};

void desktops_create(struct desktops *all, const struct desktop_create *create, desktop_cb cb,
		     void *data);

/** struct desktop_update - what is NULL or negative stays; memory, vcpus and boot count from
 * the next start */
struct desktop_update {
	const char *name, *owner;
	int64_t memory_mib, vcpus;
	int autostart, restart, boot, disposable;
};

/**
 * desktop_grow() - make disks larger, while the guest runs or not
 * @bytes: of each of DB_DISKS; 0: as it is. Smaller is ERR_INVALID, over the quota ERR_LIMIT.
 */
void desktop_grow(struct desktop *desktop, const int64_t *bytes, desktop_cb cb, void *data);

int desktop_update(struct desktop *desktop, const struct desktop_update *update,
		   struct err *err) warn_unused;

/* @timeout_s: 0 for the configured one. Errors: ERR_BUSY while another operation runs, ERR_CONFLICT
 * where the state forbids it. Start of a running desktop, stop of a stopped one, ... are done at
 * once. */
void desktop_start(struct desktop *desktop, int64_t timeout_s, desktop_cb cb, void *data);
/** desktop_stop() - ACPI power button, then force once the deadline passed; @force: at once */
void desktop_stop(struct desktop *desktop, bool force, int64_t timeout_s, desktop_cb cb,
		  void *data);
void desktop_reset(struct desktop *desktop, desktop_cb cb, void *data);
void desktop_pause(struct desktop *desktop, desktop_cb cb, void *data);
void desktop_resume(struct desktop *desktop, desktop_cb cb, void *data);
/** desktop_delete() - with its disk; @force: stops it first */
void desktop_delete(struct desktop *desktop, bool force, desktop_cb cb, void *data);
/** desktop_make_ready() - start or resume where it must: what signing in needs */
void desktop_make_ready(struct desktop *desktop, desktop_cb cb, void *data);

/**
 * struct desktop_nic_wish - a NIC as it shall be; what is NULL or negative stays, or is the default
 * @mac: of a new one only; NULL: a random one
 * @ip: a fixed address, on a network where others give addresses out; "": none
 * @link_up: bool
 * @queues: 1 to QEMU_QUEUES_MAX; counts from the next start, and never more than the desktop has
 *          processors
 * @firewall: names or ids of its groups, besides its network's
 */
struct desktop_nic_wish {
	const char *network, *mac, *ip;
	int link_up;
	int64_t to_guest_kbit, to_guest_burst_kib, from_guest_kbit, from_guest_burst_kib;
	int64_t queues;
	const json_t *firewall;
};

/**
 * desktop_nic_add() - one more; in a guest that runs it is plugged in, else it is there at the
 * start Errors: ERR_LIMIT when it has QEMU_NICS_MAX; ERR_EXISTS for a MAC that another has,
 * ERR_CONFLICT for a fixed address.
 */
void desktop_nic_add(struct desktop *desktop, const struct desktop_nic_wish *wish, desktop_cb cb,
		     void *data);
/** desktop_nic_remove() - ERR_TIMEOUT when the guest does not let go of it */
void desktop_nic_remove(struct desktop *desktop, int64_t number, desktop_cb cb, void *data);
/** desktop_nic_update() - another network, cable, limits; at once, also in a guest that runs */
void desktop_nic_update(struct desktop *desktop, int64_t number,
			const struct desktop_nic_wish *wish, desktop_cb cb, void *data);

/** desktop_nic_stats_cb - @nics: an array, the callback's; NULL with an error */
typedef void (*desktop_nic_stats_cb)(void *data, json_t *nics, const struct err *err);
/** desktop_nic_stats() - what passed through each NIC since its guest was started, and what was
 * dropped, by reason; zeros while there is no guest */
void desktop_nic_stats(struct desktop *desktop, desktop_nic_stats_cb cb, void *data);

/**
 * desktop_screenshot_cb - @png: @len bytes, borrowed
 */
typedef void (*desktop_screenshot_cb)(void *data, const unsigned char *png, size_t len, int width,
				      int height, const struct err *err);
void desktop_screenshot(struct desktop *desktop, desktop_screenshot_cb cb, void *data);

/** desktop_console_log() - the last @max bytes of the serial console; the caller frees */
int desktop_console_log(struct desktop *desktop, size_t max, char **ret, size_t *ret_len,
			struct err *err) warn_unused;

/** desktop_stats() - cpu, memory, disk, as desktop.stats answers; new reference */
json_t *desktop_stats(struct desktop *desktop, struct err *err);
