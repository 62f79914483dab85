/*
 * Real desktops and a real database on top of fakes: a privileged half that starts processes which
 * only wait, a QEMU that speaks QMP on the socket it was given and misbehaves where it is told to,
 * one image, networks: nat, user, and bridged ones: office and lab on one LAN, far on another, all
 * with source guard; open without.
 */
#pragma once

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "vdi-hostd/desktop/private.h"
#include "vdi-hostd/image/iso.h"

#define BENCH_IMAGE      "aaaaaaaa-0000-4000-8000-000000000001"
#define BENCH_NEXT_IMAGE "aaaaaaaa-0000-4000-8000-000000000002"
#define BENCH_NAT        "bbbbbbbb-0000-4000-8000-000000000001"
#define BENCH_USER       "bbbbbbbb-0000-4000-8000-000000000002"
#define BENCH_OFFICE     "bbbbbbbb-0000-4000-8000-000000000003"
#define BENCH_LAB        "bbbbbbbb-0000-4000-8000-000000000004"
#define BENCH_FAR        "bbbbbbbb-0000-4000-8000-000000000005"
#define BENCH_OPEN       "bbbbbbbb-0000-4000-8000-000000000006"
#define BENCH_DISC       "cccccccc-0000-4000-8000-000000000001"
#define BENCH_OTHER_DISC "cccccccc-0000-4000-8000-000000000002"
#define BENCH_HALF_DISC  "cccccccc-0000-4000-8000-000000000003"
#define BENCH_PROCESS    64

/* What the fake QEMU does with the command it is told to misbehave at. */
enum bench_how {
	BENCH_ANSWER,
	BENCH_REFUSE,
	BENCH_SILENT,
	BENCH_DIE,    /* the process ends, and its socket with it */
	BENCH_HANGUP, /* only the socket closes */
	BENCH_GARBAGE,
};

struct bench_answer;

struct bench {
	uv_loop_t loop;
	char dir[64];
	size_t n_fds; /* open descriptors before the test */
	struct db *db;
	struct desktops *all;
	int64_t memory_reserve_mib;

	/* the privileged half */
	enum priv_verb fail, hold; /* this verb fails; is answered by bench_release() */
	bool immortal;             /* signals do nothing */
	bool unwatchable;          /* the pidfd is none */
	struct bench_answer *answers;
	int calls[PRIV_VERBS_END];
	pid_t pids[BENCH_PROCESS];
	size_t n_pids;
	bool has_vhost;        /* taps come with it */
	int vhost_sys;         /* or an errno says why not */
	int tap_end;           /* hangs up once nobody holds the tap */
	struct qemu_spec spec; /* of the last one that was spawned */
	struct priv_tap tap;   /* of the last one that was attached */

	/* QEMU */
	int listener, client;
	uv_poll_t *listener_poll, *client_poll;
	char line[4096], id[STR_UUID_LEN + 1];
	size_t len;
	const char *at; /* the command at which it misbehaves; "" is the greeting */
	enum bench_how how;
	bool guest_runs, obeys; /* obeys: the guest heeds the power button */
	bool hangs, quits;      /* hangs: it does not even heed `quit` */
	bool disk_is_full;      /* who runs is paused at once */
	bool tray_locked;
	const char *io_status; /* after an error of the disk: failed, nospace */
	int fdset_fd, removed_fds;
	const char *picture;
	size_t picture_len;
	char heard[2048]; /* the commands, separated by blanks */
	const char *keep; /* this command's last line goes to: */
	char kept[4096];

	/* images and networks */
	bool fail_overlay, fail_overlay_delete, fail_chain, fail_hosts, fail_disc;
	int overlays, made, hosts_changes;
	int64_t room;  /* bytes free in the store */
	bool no_space; /* too few to begin anything */

	/* the end of operations */
	int ends;
	struct desktop *got;
	struct err err;
	bool reconciled;
};

int bench_setup(void **state);
int bench_teardown(void **state);
#define with_bench(test) cmocka_unit_test_setup_teardown(test, bench_setup, bench_teardown)

/** bench_start_daemon(), bench_stop_daemon() - QEMUs go on in between */
/** bench_insert_parts() - the rows that desktops refer to */
void bench_insert_parts(struct db *db);
void bench_start_daemon(struct bench *bench);
void bench_stop_daemon(struct bench *bench);
/** bench_reconcile() - and wait until it is done */
void bench_reconcile(struct bench *bench);

/** bench_create() - a desktop; @network: "nat", "user" or NULL */
struct desktop *bench_create(struct bench *bench, const char *name, const char *network);
/** bench_run() - the same, started */
struct desktop *bench_run(struct bench *bench, const char *name);
/** bench_end() - a desktop_cb that writes down the end */
void bench_end(void *data, struct desktop *desktop, const struct err *err);
/** bench_wait() - until one more operation ended than before */
void bench_wait(struct bench *bench, int ends);
/** bench_spawn() - a process that waits, and carries a desktop's id as QEMU does */
pid_t bench_spawn(struct bench *bench, const char *id);
/** bench_kill() - QEMU dies */
void bench_kill(struct bench *bench);
void bench_listen(struct bench *bench, int fd);
void bench_hangup(struct bench *bench);
void bench_event(struct bench *bench, const char *text);
/** bench_release() - answer what was held */
void bench_release(struct bench *bench);
/** bench_hurry() - timers due in @from to @to ms are due now; returns how many */
int bench_hurry(struct bench *bench, uint64_t from, uint64_t to);
bool bench_process_lives(struct bench *bench);
/** bench_row() - as the database has it; false: not there */
bool bench_row(struct bench *bench, const char *name, struct db_desktop *ret);
/** bench_assert_no_trace() - no process, socket, tap, plan of a desktop that is not running */
void bench_assert_no_trace(struct bench *bench, struct desktop *desktop);

/* until @cond holds; nobody waits so long unless it never does */
#define bench_until(bench, cond)                                                                   \
	do {                                                                                       \
		uint64_t bench_end_ = uv_hrtime() + 60000000000u;                                  \
		while (!(cond) && uv_hrtime() < bench_end_) {                                      \
			uv_run(&(bench)->loop, UV_RUN_NOWAIT);                                     \
			usleep(200);                                                               \
		}                                                                                  \
		assert_true(cond);                                                                 \
	} while (0)

#define bench_turn(bench, n)                                                                       \
	for (int bench_i_ = 0; bench_i_ < (n); bench_i_++) {                                       \
		uv_run(&(bench)->loop, UV_RUN_NOWAIT);                                             \
		usleep(1000);                                                                      \
	}
