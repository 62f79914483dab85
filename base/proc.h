/*
 * Other processes, held by pidfd. A pid alone may name a stranger later on; a pid with the start
 * time that the kernel recorded (proc(5), /proc/PID/stat field 22) and the boot id may not.
 */
#pragma once

#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>
#include <uv.h>

#include "base/err.h"

/**
 * proc_start_time() - clock ticks from boot to the start of a process
 * Errors: ERR_NOT_FOUND if there is no such process or only its zombie.
 */
int proc_start_time(pid_t pid, uint64_t *ret, struct err *err) warn_unused;

/** proc_boot_id() - the kernel's boot id as UUID text; @ret has STR_UUID_LEN + 1 bytes */
int proc_boot_id(char *ret, struct err *err) warn_unused;

/**
 * proc_open() - a pidfd for a process known by pid and start time
 * @ret_fd: close-on-exec, owned by the caller
 * Errors: ERR_NOT_FOUND if it is gone, is a zombie, or the pid belongs to another by now.
 */
int proc_open(pid_t pid, uint64_t start_time, int *ret_fd, struct err *err) warn_unused;

/** proc_signal() - pidfd_send_signal(2); a process that is gone is no error */
int proc_signal(int pidfd, int sig, struct err *err) warn_unused;

/** proc_is_alive() - not ended; a zombie counts as dead */
bool proc_is_alive(int pidfd);

struct proc_watch;

/**
 * proc_watch() - tell when a process ends
 * @pidfd: duplicated; the caller keeps its own
 * @ended: fires once, from the loop, also when it had ended before the call
 */
int proc_watch(uv_loop_t *loop, int pidfd, void (*ended)(void *data), void *data,
	       struct proc_watch **ret, struct err *err) warn_unused;

/** proc_unwatch() - forget; @ended does not fire any more; NULL is fine */
void proc_unwatch(struct proc_watch *watch);

/** struct proc_stat - what a process uses now */
struct proc_stat {
	uint64_t cpu_ms; /* user and system time */
	uint64_t rss_bytes;
};

int proc_stat_read(pid_t pid, struct proc_stat *ret, struct err *err) warn_unused;
