/* Inside of desktop/ only: one desktop's parts, and the functions its files share. */
#pragma once

#include <uthash.h>

#include "base/mem.h"
#include "base/plan.h"
#include "base/proc.h"
#include "vdi-hostd/db/nic.h"
#include "vdi-hostd/desktop/operation.h"

#define DESKTOP_LOG_TAIL 4096

/*
 * A QEMU that holds the disks of a desktop that is stopped, its guest never let run. It is none of
 * the states that everybody sees.
 *
 *   none    no QEMU, or that of a guest that runs   work opens -> begins
 *   begins  desktop-park is under way               plan done -> is; failed -> none
 *   is      QEMU is there, parked                   start -> none; work ends -> ends; QEMU dies ->
 *           none
 *   ends    desktop-unpark is under way             plan done -> none
 */
enum desktop_park { PARK_NONE, PARK_BEGINS, PARK_IS, PARK_ENDS };

/* struct parked - what a parked QEMU was made from */
struct parked {
	int64_t memory_mib, vcpus;
	enum db_desktop_boot boot;
	char iso_id[STR_UUID_LEN + 1];
	unsigned int nics_changed;
};

/* struct tap - on its way to QEMU: descriptors of its queues, then with @vhost as many of
 * vhost-net; no queues: there is none */
struct tap {
	unsigned int queues;
	bool vhost;
	int fd[2 * QEMU_QUEUES_MAX];
};

/*
 * struct nic_lease - of the address that a NIC learned, beside its row
 * @ends:    of the loop's clock; 0: it never does, or is not counted yet
 * @settled: when the last one was taken over; @waits: @heard is to be, after a pause
 */
struct nic_lease {
	uint64_t ends, settled;
	bool waits;
	struct netcfg_lease heard;
};

/* struct nic - no MAC: there is none */
struct nic {
	struct db_nic row;
	struct tap tap;
	struct nic_lease lease;
};

struct desktop {
	struct desktops *all;
	struct db_desktop row;
	enum desktop_state state;

	/* the operation under way; one at a time */
	struct plan *plan;
	desktop_cb done;
	void *done_data;
	struct err failure; /* why the operation ended so, where it is not the plan's own error */
	int64_t timeout_s;
	bool force;    /* stop without asking the guest */
	bool spawning; /* the answer to a spawn is under way */

	struct desktop_work work; /* with a `what` while there is any */
	bool work_opened;         /* it was told that QEMU is there */
	void (*work_ready)(void *data, const struct err *err); /* it waits for that */
	void (*work_closed)(void *data);                       /* it waits for QEMU's end */
	enum desktop_park park;
	struct parked parked;
	void (*when_settled)(struct desktop *desktop); /* an operation that waits for `park` */

	struct cdrom *cdrom; /* while its disc is being changed */

	/* the process, while there is one */
	int pidfd;
	struct proc_watch *watch;
	int wait_status;
	bool guest_ended;                       /* the guest shut itself down */
	struct err disk_error;                  /* why its disk paused it; empty while it runs */
	uint64_t room_from;                     /* loop time: it does not go on before */
	unsigned int room_tries;                /* in a row that ended in the same pause */
	void (*ended)(struct desktop *desktop); /* who waits for its end instead of on_end() */

	int memory_fd; /* what its guest goes on from, for one start; or -1 */

	struct logs *logs;
	struct qmp *qmp;
	uv_timer_t *retry;     /* reconnect a lost monitor; deadlines within a plan's step */
	uv_timer_t *restart;   /* start it again, as its policy says */
	unsigned int failures; /* in a row, for the restart's back-off */

	json_t *json; /* as desktop.get answers, made at the first question after a change */
	struct nic nics[QEMU_NICS_MAX]; /* by number */
	unsigned int nics_changed;      /* how often */
	int64_t tap_at;                 /* the NIC whose tap is being made */
	char adopt[DB_DISKS][64];       /* on their way to be its disks */
	struct nic_change *nic_change;  /* under way */
	UT_hash_handle by_id, by_name;
};

struct desktops {
	struct desktops_env env;
	struct desktop *by_id, *by_name;
	uv_timer_t *room;  /* while a desktop waits for room in the store */
	uv_timer_t *lease; /* until the next one that ends, or is to be taken over */
	char boot_id[STR_UUID_LEN + 1];
	struct desktop_keeper keeper;
	bool closing;
};

/* desktop.c */
struct desktop *desktop_add(struct desktops *all, const struct db_desktop *row);
void desktop_remove(struct desktop *desktop);
/** desktop_forget() - the object goes with its row, and its address with both */
void desktop_forget(struct desktop *desktop);
void desktop_set_state(struct desktop *desktop, enum desktop_state state, const char *reason);
/** desktop_tell() - send the event of a change of state; @was: the old one, "new" or "deleted" */
void desktop_tell(struct desktop *desktop, const char *was);
/** desktop_warn() - of what does not change its state: log it, and send the event */
void desktop_warn(struct desktop *desktop, const char *fmt, ...) printf_like(2, 3);
/** desktop_note() - the same of what is no reason to worry */
void desktop_note(struct desktop *desktop, const char *fmt, ...) printf_like(2, 3);

/** desktop_claim() - as desktop_begin(), also while its QEMU is being parked or unparked */
int desktop_claim(struct desktop *desktop, desktop_cb cb, void *data, struct err *err) warn_unused;
/** desktop_forget_json() - something that desktop.get shows has changed */
void desktop_forget_json(struct desktop *desktop);
/** desktop_has_guest() - it has a QEMU, and not only a parked one */
bool desktop_has_guest(const struct desktop *desktop);

/* nic.c: the rows of its NICs, and what others see of them */
int desktop_nics_load(struct desktops *all, struct err *err) warn_unused;
/** desktop_nic() - by number, or NULL */
struct nic *desktop_nic(struct desktop *desktop, int64_t number);
/** desktop_nic_next() - the one after @nic, the first after NULL, or NULL */
struct nic *desktop_nic_next(struct desktop *desktop, const struct nic *nic);
/** desktop_nic_set(), desktop_nic_unset() - the object only; its row is the caller's to write */
void desktop_nic_set(struct desktop *desktop, const struct db_nic *row);
void desktop_nic_unset(struct desktop *desktop, int64_t number);
/**
 * desktop_nic_fill() - the network by name, and a free address in it where it has any
 * @name: the desktop's: an address may be reserved for it
 */
int desktop_nic_fill(struct desktops *all, const char *network_ref, const char *name,
		     struct db_nic *row, struct err *err) warn_unused;
void desktop_nic_make_mac(char ret[18]);
const struct db_network *desktop_nic_network(const struct desktop *desktop, const struct nic *nic);
bool desktop_nic_has_tap(const struct desktop *desktop, const struct nic *nic);
/** desktop_nic_tap() - as its network wants to know it; borrows from @nic */
struct network_tap desktop_nic_tap(const struct desktop *desktop, const struct nic *nic);
/** desktop_nic_address() - the fixed one, else what it learned; host byte order; 0: not known */
uint32_t desktop_nic_address(const struct db_nic *row);
/**
 * desktop_nic_find_address() - a NIC that has an address, or learned it, on the LAN that @network
 * is on; NULL: nobody
 * @but: a MAC: not that NIC
 */
struct nic *desktop_nic_find_address(struct desktops *all, const struct db_network *network,
				     uint32_t ip, const char *but, struct desktop **ret_whose);
/** desktop_nics_hosts_changed() - have each of its networks list its addresses anew */
int desktop_nics_hosts_changed(struct desktop *desktop, struct err *err) warn_unused;
json_t *desktop_nics_to_json(struct desktop *desktop);

/* tap.c: the steps of a start's plan that make taps, and what else is done to all of them */
/**
 * desktop_tap_take() - the descriptors of PRIV_TAP_CREATE's answer, and write down what they are
 * @ret: has them on failure, too
 */
int desktop_tap_take(struct desktop *desktop, const struct priv_reply *reply, int *fds,
		     struct db_nic *row, struct tap *ret, struct err *err) warn_unused;
size_t desktop_tap_n_fds(const struct tap *tap);
/** desktop_tap_close() - what did not get to QEMU; then there is none */
void desktop_tap_close(struct tap *tap);
void desktop_taps_make(struct plan *plan, void *ctx);
void desktop_taps_drop(struct plan *plan, void *ctx);
void desktop_taps_close(struct desktop *desktop);
/** desktop_taps_forget() - taps went with QEMU; what guarded them and held them back goes, too */
void desktop_taps_forget(struct desktop *desktop);
void desktop_tap_forget(struct desktop *desktop, const struct nic *nic);
/** desktop_tap_attach() - have one be as its row says */
void desktop_tap_attach(struct desktop *desktop, const struct nic *nic, priv_reply_cb cb);
/** desktop_taps_attach() - have those of a running desktop be as their rows say; no answer */
void desktop_taps_attach(struct desktop *desktop);

/* nic_wish.c */
/** desktop_nic_new() - the row of a NIC that the desktop does not have yet; @row: zeros */
int desktop_nic_new(struct desktop *desktop, const struct desktop_nic_wish *wish,
		    struct db_nic *row, struct err *err) warn_unused;
/** desktop_nic_changed() - @row as wished */
int desktop_nic_changed(struct desktop *desktop, const struct desktop_nic_wish *wish,
			struct db_nic *row, struct err *err) warn_unused;

/** desktop_nic_fix() - @ip as of struct desktop_nic_wish, on the network of @row; errors: by field,
 * ERR_CONFLICT naming who has it */
int desktop_nic_fix(struct desktops *all, const char *ip, struct db_nic *row,
		    struct err *err) warn_unused;

/* lease.c: what DHCP servers of others give to NICs */
/** desktop_leases_watch() - a NIC has learned an address: see to it that it ends */
void desktop_leases_watch(struct desktops *all);

/* nic_plug.c */
/** desktop_nic_event() - a QMP event that may be awaited */
void desktop_nic_event(struct desktop *desktop, const char *name, json_t *data);

/* nic_change.c: NICs that come, go and change while the guest runs */
/** desktop_nics_settle() - after adopting it: what a crash left half plugged in is plugged in */
void desktop_nics_settle(struct desktop *desktop);
/** desktop_nic_learned() - @row was, while a change of it may be under way that has copies */
void desktop_nic_learned(struct desktop *desktop, const struct db_nic *row);
/** desktop_nic_gone() - its QEMU, or the monitor of it, is gone */
void desktop_nic_gone(struct desktop *desktop, const struct err *err);
/** desktop_nic_drop() - the desktop goes, or the daemon: forget what is under way */
void desktop_nic_drop(struct desktop *desktop);

/* work.c: long work on its disks */
/** desktop_work_refuse() - ERR_BUSY names the work under way; 0 where there is none */
int desktop_work_refuse(const struct desktop *desktop, struct err *err) warn_unused;
/** desktop_work_event(), desktop_work_gone() - tell whoever works on the disks; nobody is fine */
void desktop_work_event(struct desktop *desktop, const char *name, json_t *event);
void desktop_work_gone(struct desktop *desktop, const struct err *err);
/** desktop_work_failed() - there is none for the work that waits */
void desktop_work_failed(struct desktop *desktop, const struct err *err);
/** desktop_work_drop() - the desktop goes, or the daemon: tell it, and end nothing */
void desktop_work_drop(struct desktop *desktop);
/** desktop_work_look() - something ended: does the work that waits for a QEMU get one now? */
void desktop_work_look(struct desktop *desktop);

/* park.c: QEMU without its guest */
/** desktop_park() - begin one; it ends in desktop_work_look(), or desktop_work_failed() */
void desktop_park(struct desktop *desktop);
/** desktop_unpark() - end it; then desktop_work_look() */
void desktop_unpark(struct desktop *desktop);
/** desktop_park_drop() - it is not needed any more, or its monitor is lost */
void desktop_park_drop(struct desktop *desktop);
/** desktop_park_ended() - a parked QEMU ended and nobody waited for that */
void desktop_park_ended(struct desktop *desktop);
/** desktop_park_fits() - may the guest be let run in the QEMU that is parked? */
bool desktop_park_fits(const struct desktop *desktop);
/** desktop_when_settled() - now, or when the QEMU that is being parked or unparked is there or gone
 */
void desktop_when_settled(struct desktop *desktop, void (*then)(struct desktop *desktop));

/** desktop_nobody_asked() - the callback of what the daemon does of its own accord */
void desktop_nobody_asked(void *data, struct desktop *desktop, const struct err *err);

/* renew.c: disposable desktops; all of it without a QEMU, synchronous */
/** desktop_renew() - its system disk begins anew, on the next version where there is one; nothing
 * to do for one that is not disposable */
int desktop_renew(struct desktop *desktop, struct err *err) warn_unused;
/** desktop_renew_ended() - as its QEMU ended; what fails is left to the next start */
void desktop_renew_ended(struct desktop *desktop);
/** desktop_renew_settle() - finish what was interrupted */
int desktop_renew_settle(struct desktop *desktop, struct err *err) warn_unused;
/** desktop_make_disposable() - or no longer; the row is not saved yet */
int desktop_make_disposable(struct desktop *desktop, bool disposable, struct err *err) warn_unused;

/* cdrom.c */
/** desktop_cdrom_event(), desktop_cdrom_gone() - for a change of the disc under way; none is fine
 */
void desktop_cdrom_event(struct desktop *desktop, const char *name, json_t *event);
void desktop_cdrom_gone(struct desktop *desktop, const struct err *err);
/** desktop_cdrom_go_on() - a change that a daemon before us began */
void desktop_cdrom_go_on(struct desktop *desktop);

/* paths.c: names that derive from the slot */
enum desktop_file {
	DESKTOP_QMP_SOCKET,
	DESKTOP_AGENT_SOCKET,
	DESKTOP_QEMU_LOG,
	DESKTOP_CONSOLE_LOG
};
int desktop_path(const struct desktop *desktop, enum desktop_file file, char *ret, size_t size,
		 struct err *err) warn_unused;
int desktop_make_dirs(const struct desktop *desktop, struct err *err) warn_unused;
void desktop_unlink_sockets(const struct desktop *desktop);
void desktop_unlink_logs(const struct desktop *desktop);
/** desktop_log_tail() - the end of a log as text; the caller frees; "" when there is none */
char *desktop_log_tail(const struct desktop *desktop, enum desktop_file file, size_t max,
		       size_t *ret_len);

/* logs.c: keep the logs of a running desktop bounded */
void desktop_logs_watch(struct desktop *desktop);
void desktop_logs_unwatch(struct desktop *desktop);

/* process.c: the QEMU process of a desktop */
/** desktop_process_adopt() - hold it by pidfd and hear its end */
int desktop_process_adopt(struct desktop *desktop, int pidfd, struct err *err) warn_unused;
void desktop_process_release(struct desktop *desktop);
/** desktop_process_signal() - through whoever may; a process that is gone is no error */
void desktop_process_signal(struct desktop *desktop, int sig);
/**
 * desktop_process_quit() - QEMU is asked to end, which closes its disks well, and soon made to
 * @ended: when it is gone
 */
void desktop_process_quit(struct desktop *desktop, void (*ended)(struct desktop *desktop));
/** desktop_process_find() - the running QEMU that carries the desktop's id: pid and start time */
int desktop_process_find(const struct desktop *desktop, pid_t *ret_pid, uint64_t *ret_start,
			 struct err *err) warn_unused;
/** desktop_last_words() - why it ended, from its exit status and its stderr */
void desktop_last_words(const struct desktop *desktop, struct err *ret);

/* monitor.c: its QMP connection */
extern const struct qmp_ops desktop_monitor_ops;
/** desktop_monitor_connect() - @deadline_ms: for the greeting, 0 for the usual one */
int desktop_monitor_connect(struct desktop *desktop, uint64_t deadline_ms,
			    struct err *err) warn_unused;
/** desktop_monitor_retry() - connect in a second, and again until it works */
void desktop_monitor_retry(struct desktop *desktop);
void desktop_monitor_close(struct desktop *desktop);
/** desktop_take_status() - running or paused, and why, as an answer to query-status says */
void desktop_take_status(struct desktop *desktop, json_t *status);
void desktop_retry_after(struct desktop *desktop, uint64_t ms, uv_timer_cb cb);
void desktop_retry_stop(struct desktop *desktop);
/** desktop_timer_start(), desktop_timer_stop() - of a desktop; once */
void desktop_timer_start(struct desktop *desktop, uv_timer_t **timer, uint64_t ms, uv_timer_cb cb);
void desktop_timer_stop(uv_timer_t **timer);

/* room.c: desktops that a full store has paused */
#define DESKTOP_FULL "paused: the image store is full; with room in it, it goes on by itself"
/** desktop_room_wait() - it is paused for that; resume it once there is room */
void desktop_room_wait(struct desktop *desktop);
/** desktop_room_ask() - it met an error before this daemon's time: was it that? */
void desktop_room_ask(struct desktop *desktop);
bool desktop_waits_for_room(const struct desktop *desktop);
/** desktop_hold() - a pause on purpose, or its end; made to last */
void desktop_hold(struct desktop *desktop, bool held);

/* incoming.c: a step of the start, and its undo */
void desktop_load_memory(struct plan *plan, void *ctx);
void desktop_unload_memory(struct plan *plan, void *ctx);

/* spec.c, admission.c */
int desktop_spec_build(struct desktop *desktop, struct qemu_spec *spec, int *fds, size_t *ret_n,
		       struct err *err) warn_unused;
void desktop_spec_close(int *fds, size_t n);
int desktop_admit(struct desktop *desktop, struct err *err) warn_unused;

/* start.c, stop.c, create.c, delete.c */
void desktop_start_undo(struct desktop *desktop, plan_done_cb done);
/** desktop_park_plan() - the start's first steps; @done: as plan_start() */
struct plan *desktop_park_plan(struct desktop *desktop, plan_done_cb done);
/** desktop_delete_disks() - the files that it writes to; those that are gone are fine */
int desktop_delete_disks(struct desktop *desktop, struct err *err) warn_unused;
void desktop_create_undo(struct desktop *desktop, plan_done_cb done);
/** desktop_cleanup() - after its process ended: cgroup, sockets, row */
void desktop_cleanup(struct desktop *desktop, struct err *err);
/** desktop_delete_go_on() - a delete that a daemon before us began */
void desktop_delete_go_on(struct desktop *desktop, desktop_cb cb, void *data);
/** desktop_on_end() - its QEMU ended and no operation waited for that */
void desktop_on_end(struct desktop *desktop);
/** desktop_stop_go_on() - a stop that a daemon before us began */
void desktop_stop_go_on(struct desktop *desktop);
