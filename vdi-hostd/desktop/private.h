/* Inside of desktop/ only: one desktop's parts, and the functions its files share. */
#pragma once

#include <uthash.h>

#include "base/mem.h"
#include "base/plan.h"
#include "base/proc.h"
#include "vdi-hostd/desktop/operation.h"

#define DESKTOP_LOG_TAIL 4096

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

	/* the process, while there is one */
	int pidfd;
	struct proc_watch *watch;
	int wait_status;
	bool guest_ended;                       /* the guest shut itself down */
	struct err disk_error;                  /* why its disk paused it; empty while it runs */
	void (*ended)(struct desktop *desktop); /* who waits for its end instead of on_end() */

	struct logs *logs;
	struct qmp *qmp;
	uv_timer_t *retry;     /* reconnect a lost monitor, restart a failed desktop */
	unsigned int failures; /* in a row, for the restart's back-off */

	json_t *json; /* as desktop.get answers, made at the first question after a change */
	int tap_fd;   /* on its way from the tap step to QEMU */
	UT_hash_handle by_id, by_name;
};

struct desktops {
	struct desktops_env env;
	struct desktop *by_id, *by_name;
	char boot_id[STR_UUID_LEN + 1];
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

/* work.c: long work on its disks */
/** desktop_work_event(), desktop_work_gone() - tell whoever works on the disks; nobody is fine */
void desktop_work_event(struct desktop *desktop, const char *name, json_t *event);
void desktop_work_gone(struct desktop *desktop, const struct err *err);

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

/* spec.c, admission.c */
int desktop_spec_build(struct desktop *desktop, struct qemu_spec *spec, int *fds, size_t *ret_n,
		       struct err *err) warn_unused;
void desktop_spec_close(int *fds, size_t n);
int desktop_admit(struct desktop *desktop, struct err *err) warn_unused;

/* start.c, stop.c, create.c, delete.c */
void desktop_start_undo(struct desktop *desktop, plan_done_cb done);
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
