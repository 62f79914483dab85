/* Real networks and a real database on top of a privileged half that is a fake. */
#pragma once

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "fake_priv.h"
#include "vdi-hostd/network/network.h"

struct nic {
	const char *name, *mac;
	uint32_t ip;
	bool ending;
};

struct bench {
	uv_loop_t loop;
	struct fake_priv fake;
	struct priv *priv;
	struct db *db;
	struct networks *networks;
	char dir[64], db_path[96];
	/* of desktops, on whatever network is asked about; the first @n_taps of them run */
	struct nic nics[8];
	size_t n_nics, n_taps;
	uint32_t features;         /* of the kernel */
	struct netcfg_lease heard; /* the last one */
	int leases;
	/* the last answer */
	int answers;
	struct db_network row;
	bool has_row, reconciled;
	struct err err;
};

int bench_setup(void **state);
int bench_teardown(void **state);
#define with_bench(test) cmocka_unit_test_setup_teardown(test, bench_setup, bench_teardown)
/** bench_setup_apart() - in a network namespace of its own */
int bench_setup_apart(void **state);
#define with_bench_apart(test)                                                                     \
	cmocka_unit_test_setup_teardown(test, bench_setup_apart, bench_teardown)
/** bench_require_namespaces() - leaves the test program where they cannot be had */
void bench_require_namespaces(void);
/** bench_run() - a command that has to work */
void bench_run(const char *command);

void bench_start_daemon(struct bench *bench);
void bench_stop_daemon(struct bench *bench);
/** bench_reconcile() - and wait until it is done */
void bench_reconcile(struct bench *bench);

/** bench_answer() - a network_cb that writes the answer down */
void bench_answer(void *data, const struct db_network *row, const struct err *err);
/** bench_make() - and wait for the answer */
void bench_make(struct bench *bench, const struct network_create *create);
void bench_create(struct bench *bench, const char *name, enum db_network_kind kind,
		  const char *cidr);
/** bench_create_ok() - a NAT one on a free range */
void bench_create_ok(struct bench *bench, const char *name);
/** bench_in_use_by() - a desktop's name as data: it is on every network */
const char *bench_in_use_by(void *data, const char *network_id);
void bench_delete(struct bench *bench, const char *ref, const char *user);

/** bench_stored_row() - the last one that the database has; false: none */
bool bench_stored_row(struct bench *bench);
/** bench_store_row() - as if the daemon had died and left @bench->row; it is started again */
void bench_store_row(struct bench *bench);
/** bench_is_state() - does network lan say so? */
bool bench_is_state(struct bench *bench, const char *want);
void bench_assert_state(struct bench *bench, const char *want);

/* Files of the first network; the text is the caller's. */
char *bench_read(const struct bench *bench, const char *name);
void bench_write_leases(const struct bench *bench, const char *text);
bool bench_file_exists(const struct bench *bench, const char *name);

/* until @cond holds; nobody waits so long unless it never does */
#define bench_until(bench, cond)                                                                   \
	do {                                                                                       \
		uint64_t bench_end_ = uv_hrtime() + 60000000000u;                                  \
		while (!(cond) && uv_hrtime() < bench_end_)                                        \
			if (!uv_run(&(bench)->loop, UV_RUN_NOWAIT))                                \
				usleep(500);                                                       \
			else                                                                       \
				usleep(200);                                                       \
		assert_true(cond);                                                                 \
	} while (0)
