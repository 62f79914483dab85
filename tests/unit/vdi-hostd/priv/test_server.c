#include "vdi-hostd/priv/server.h"

#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/mem.h"
#include "base/proc.h"
#include "guest.h"
#include "half.h"
#include "vdi-hostd/priv/wire.h"

static void test_probe_and_end(void **state)
{
	struct half half;
	struct priv_request req = {.verb = PRIV_PROBE};

	half_open(&half);
	assert_int_equal(half_ask(&half, &req, NULL, 0, NULL).err.code, 0);
	half_assert_orderly(&half);
}

static void test_wrong_sizes(void **state)
{
	static const size_t sizes[] = {1, 7, sizeof(struct priv_request) - 1,
				       sizeof(struct priv_request) + 1, 60000};
	_cleanup_free_ char *bytes = mem_calloc(1, 60000);

	for (size_t i = 0; i < ARRAY_LEN(sizes); i++) {
		struct half half;
		struct priv_request req = {.verb = PRIV_PROBE};
		memcpy(bytes, &req, sizeof(req));
		half_open(&half);
		assert_int_equal(wire_send(half.fd, bytes, sizes[i], NULL, 0), 0);
		half_assert_aborted(&half);
	}
}

/* every verb filled with bytes that make no sense, and verbs that are none */
static void test_filled(void **state)
{
	static const uint32_t strange[] = {0, PRIV_VERBS_END, 1u << 31, UINT32_MAX};
	const uint32_t n = PRIV_VERBS_END + (uint32_t)ARRAY_LEN(strange);

	for (uint32_t i = PRIV_PROBE + 1; i < n; i++) {
		struct half half;
		struct priv_request req;
		memset(&req, 0xff, sizeof(req));
		if (i == PRIV_WATCH || i == PRIV_DHCP_LISTEN)
			continue; /* look at nothing, as PROBE */
		req.verb = i < PRIV_VERBS_END ? i : strange[i - PRIV_VERBS_END];
		for (req.n_fds = 0; req.n_fds < 6; req.n_fds += 5) {
			int fds[6] = {0};
			half_open(&half);
			assert_int_equal(wire_send(half.fd, &req, sizeof(req), fds, req.n_fds), 0);
			half_assert_aborted(&half);
		}
	}
}

/* @fork: a process of another uid that has nothing to do with us */
static pid_t start_stranger(uint64_t *ret_start)
{
	struct err err;
	pid_t pid = fork();
	if (pid == 0) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		pause();
		_exit(0);
	}
	assert_int_equal(proc_start_time(pid, ret_start, &err), 0);
	return pid;
}

static void test_strangers_live(void **state)
{
	static const uint32_t verbs[] = {PRIV_QEMU_SIGNAL, PRIV_IMG_SIGNAL, PRIV_DNSMASQ_SIGNAL};
	struct half half;
	uint64_t start;
	pid_t stranger;
	int status;

	if (getuid() != 0) {
		print_message("not root: all processes are of one uid\n");
		skip();
	}
	stranger = start_stranger(&start);
	half_open(&half);
	for (size_t i = 0; i < ARRAY_LEN(verbs); i++) {
		struct priv_request req = {.verb = verbs[i]};
		req.u.process = (struct priv_process){7, stranger, start, SIGKILL};
		assert_int_equal(half_ask(&half, &req, NULL, 0, NULL).err.code, ERR_DENIED);
		/* the right pid of another time is a process that is gone */
		req.u.process.start_time++;
		assert_int_equal(half_ask(&half, &req, NULL, 0, NULL).err.code, 0);
	}
	half_assert_orderly(&half);
	assert_int_equal(waitpid(stranger, &status, WNOHANG), 0);
	kill(stranger, SIGKILL);
	waitpid(stranger, &status, 0);
}

/* spawned by one half, signalled by the next; another desktop's slot does not reach it */
static void test_qemu_outlives_half(void **state)
{
	struct guest guest;
	struct half half;
	int pidfd;

	guest_setup(&guest);
	half_open(&half);
	struct priv_reply spawned = half_ask(&half, &guest.req, guest.fds, GUEST_FDS, &pidfd);
	if (spawned.err.code)
		fail_msg("%s", spawned.err.msg);
	half_assert_orderly(&half);
	assert_true(proc_is_alive(pidfd));
	close(guest_qmp_connect(&guest));

	half_open(&half);
	struct priv_request req = {.verb = PRIV_QEMU_SIGNAL};
	req.u.process = (struct priv_process){8, spawned.pid, spawned.start_time, SIGTERM};
	if (getuid() == 0) {
		assert_int_equal(half_ask(&half, &req, NULL, 0, NULL).err.code, ERR_DENIED);
		assert_true(proc_is_alive(pidfd));
	}
	req.u.process.slot = 7;
	assert_int_equal(half_ask(&half, &req, NULL, 0, NULL).err.code, 0);
	guest_await_end(pidfd);
	req.verb = PRIV_REAP;
	struct priv_reply reaped = half_ask(&half, &req, NULL, 0, NULL);
	assert_int_equal(reaped.err.code, 0);
	assert_int_equal(reaped.wait_status, -1);
	close(pidfd);
	half_assert_orderly(&half);
	guest_teardown(&guest);
}

/* nobody asks how it ended: it is no zombie after the next request all the same */
static void test_no_zombies(void **state)
{
	struct guest guest;
	struct half half;
	struct priv_request probe = {.verb = PRIV_PROBE};
	int pidfd;

	guest_setup(&guest);
	half_open(&half);
	struct priv_reply spawned = half_ask(&half, &guest.req, guest.fds, GUEST_FDS, &pidfd);
	assert_int_equal(spawned.err.code, 0);
	struct priv_request req = {.verb = PRIV_QEMU_SIGNAL};
	req.u.process = (struct priv_process){7, spawned.pid, spawned.start_time, SIGKILL};
	assert_int_equal(half_ask(&half, &req, NULL, 0, NULL).err.code, 0);
	guest_await_end(pidfd);
	close(pidfd);
	assert_int_equal(half_ask(&half, &probe, NULL, 0, NULL).err.code, 0);
	assert_int_equal(kill(spawned.pid, 0), -1);
	req.verb = PRIV_REAP;
	struct priv_reply reaped = half_ask(&half, &req, NULL, 0, NULL);
	assert_true(WIFSIGNALED(reaped.wait_status));
	assert_int_equal(WTERMSIG(reaped.wait_status), SIGKILL);
	half_assert_orderly(&half);
	guest_teardown(&guest);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_probe_and_end),
		cmocka_unit_test(test_wrong_sizes),
		cmocka_unit_test(test_filled),
		cmocka_unit_test(test_strangers_live),
		cmocka_unit_test(test_qemu_outlives_half),
		cmocka_unit_test(test_no_zombies),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
