#include <arpa/inet.h>
#include <fcntl.h>
#include <grp.h>
#include <sched.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/mem.h"
#include "guest.h"
#include "vdi-hostd/priv/priv.h"
#include "vdi-hostd/priv/spawn.h"
#include "vdi-hostd/priv/wire.h"

#define DAEMON_UID 300000

static const struct priv_config config = {
	.uid = DAEMON_UID,
	.gid = DAEMON_UID + 1,
	.uid_base = GUEST_UID_BASE,
	.tool_uid = DAEMON_UID + 2,
	.qemu_binary = "/usr/bin/qemu-system-x86_64",
	.qemu_img_binary = "/usr/bin/qemu-img",
};

/* what the unprivileged half tells the test about itself */
struct told {
	pid_t pid, parent;
	int failed;
	struct err err;
	char status[5][32], uid[64], groups[64], no_new_privs[8];
	int dumpable, death_signal, regained, features_answered;
};

static const char *const sets[5] = {"CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"};

static void tell(int out, int wire)
{
	struct told told = {.pid = getpid(), .parent = getppid()};
	struct priv_request req = {.verb = PRIV_PROBE};
	struct priv_reply reply;
	int fds[WIRE_FDS_MAX];
	size_t n_fds;

	for (size_t i = 0; i < ARRAY_LEN(sets); i++)
		snprintf(told.status[i], sizeof(told.status[i]), "%s",
			 guest_status(told.pid, sets[i]));
	snprintf(told.uid, sizeof(told.uid), "%s", guest_status(told.pid, "Uid"));
	snprintf(told.groups, sizeof(told.groups), "%s", guest_status(told.pid, "Groups"));
	snprintf(told.no_new_privs, sizeof(told.no_new_privs), "%s",
		 guest_status(told.pid, "NoNewPrivs"));
	told.dumpable = prctl(PR_GET_DUMPABLE);
	prctl(PR_GET_PDEATHSIG, &told.death_signal);
	told.regained = setuid(0) == 0 || setgroups(0, NULL) == 0;
	if (wire_send(wire, &req, sizeof(req), NULL, 0) == 0 &&
	    wire_receive(wire, &reply, sizeof(reply), fds, &n_fds) == 1)
		told.features_answered = reply.err.code == 0;
	if (write(out, &told, sizeof(told)) != sizeof(told))
		_exit(98);
}

/* start both halves; the unprivileged one tells, then waits for a byte or a signal */
static pid_t start_halves(struct told *told, int *ret_control, int exit_status)
{
	int out[2], control[2];
	pid_t pid;

	assert_int_equal(pipe2(out, O_CLOEXEC), 0);
	assert_int_equal(pipe2(control, O_CLOEXEC), 0);
	pid = fork();
	if (pid == 0) {
		int wire;
		char byte;
		struct told failed = {.failed = 1};
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		close(out[0]);
		close(control[1]);
		if (priv_fork(&config, &wire, &failed.err) < 0) {
			_exit(write(out[1], &failed, sizeof(failed)) < 0 ? 97 : 96);
		}
		tell(out[1], wire);
		_exit(read(control[0], &byte, 1) == 1 ? exit_status : 95);
	}
	close(out[1]);
	close(control[0]);
	assert_int_equal(read(out[0], told, sizeof(*told)), sizeof(*told));
	close(out[0]);
	if (told->failed)
		fail_msg("%s", told->err.msg);
	*ret_control = control[1];
	return pid;
}

static int await_status(pid_t pid)
{
	int status;
	assert_int_equal(waitpid(pid, &status, 0), pid);
	return status;
}

static bool is_gone(pid_t pid)
{
	for (int i = 0; i < 5000; i++) {
		const char *state = guest_status(pid, "State");
		if (state[0] == '\0' || state[0] == 'Z')
			return true;
		usleep(10000);
	}
	return false;
}

#define SKIP_UNLESS_ROOT()                                                                         \
	do {                                                                                       \
		if (getuid() != 0) {                                                               \
			print_message("not root: there are no two halves to test\n");              \
			skip();                                                                    \
		}                                                                                  \
	} while (0)

static void test_dropped(void **state)
{
	struct told told;
	int control;

	SKIP_UNLESS_ROOT();
	pid_t pid = start_halves(&told, &control, 7);
	assert_int_equal(told.parent, pid);
	for (size_t i = 0; i < ARRAY_LEN(sets); i++)
		assert_string_equal(told.status[i], "0000000000000000");
	assert_string_equal(told.uid, "300000\t300000\t300000\t300000");
	char groups[32] = "";
	if (spawn_kvm_group() >= 0)
		snprintf(groups, sizeof(groups), "%lld ", (long long)spawn_kvm_group());
	assert_string_equal(told.groups, groups);
	assert_string_equal(told.no_new_privs, "1");
	assert_int_equal(told.dumpable, 0);
	assert_int_equal(told.death_signal, SIGKILL);
	assert_int_equal(told.regained, 0);
	assert_int_equal(told.features_answered, 1);

	/* the privileged half: root, with some of its capabilities, and none to be had back */
	assert_string_equal(guest_status(pid, "Uid"), "0\t0\t0\t0");
	assert_string_equal(guest_status(pid, "NoNewPrivs"), "1");
	uint64_t effective = strtoull(guest_status(pid, "CapEff"), NULL, 16);
	uint64_t bounding = strtoull(guest_status(pid, "CapBnd"), NULL, 16);
	assert_int_equal(effective, bounding);
	assert_true(effective & (1ULL << 12));  /* NET_ADMIN */
	assert_false(effective & (1ULL << 21)); /* SYS_ADMIN */
	assert_false(effective & (1ULL << 16)); /* SYS_MODULE */
	assert_false(effective & (1ULL << 19)); /* SYS_PTRACE */

	assert_int_equal(write(control, "x", 1), 1);
	close(control);
	int status = await_status(pid);
	assert_true(WIFEXITED(status));
	assert_int_equal(WEXITSTATUS(status), 7);
}

static void test_child_killed(void **state)
{
	struct told told;
	int control;

	SKIP_UNLESS_ROOT();
	pid_t pid = start_halves(&told, &control, 0);
	kill(told.pid, SIGKILL);
	int status = await_status(pid);
	assert_true(WIFEXITED(status));
	assert_int_equal(WEXITSTATUS(status), 128 + SIGKILL);
	close(control);
}

static void test_parent_killed(void **state)
{
	struct told told;
	int control;

	SKIP_UNLESS_ROOT();
	pid_t pid = start_halves(&told, &control, 0);
	kill(pid, SIGKILL);
	assert_true(WIFSIGNALED(await_status(pid)));
	assert_true(is_gone(told.pid));
	close(control);
}

static void test_forwarded(void **state)
{
	static const int signals[] = {SIGTERM, SIGHUP, SIGINT};

	SKIP_UNLESS_ROOT();
	for (size_t i = 0; i < ARRAY_LEN(signals); i++) {
		struct told told;
		int control;
		pid_t pid = start_halves(&told, &control, 0);
		kill(pid, signals[i]);
		int status = await_status(pid);
		assert_true(WIFEXITED(status));
		assert_int_equal(WEXITSTATUS(status), 128 + signals[i]);
		assert_true(is_gone(told.pid));
		close(control);
	}
}

static void test_never_root(void **state)
{
	int wire;
	struct err err;
	struct priv_config bad = config;

	bad.uid = 0;
	assert_int_equal(priv_fork(&bad, &wire, &err), -1);
	assert_int_equal(err.code, ERR_INVALID);
	bad = config;
	bad.uid_base = 0;
	assert_int_equal(priv_fork(&bad, &wire, &err), -1);
}

/* ---- what the privileged half keeps is enough for every verb ---- */

struct work {
	struct guest guest;
	int img_fds[4];
	char failed[ERR_MSG_MAX + 32]; /* shared with the half that works */
};

static bool do_verb(struct work *work, int wire, const struct priv_request *req, const int *fds,
		    struct priv_reply *reply)
{
	int reply_fds[WIRE_FDS_MAX];
	size_t n_fds = 0;

	if (wire_send(wire, req, sizeof(*req), fds, req->n_fds) < 0 ||
	    wire_receive(wire, reply, sizeof(*reply), reply_fds, &n_fds) != 1) {
		snprintf(work->failed, sizeof(work->failed), "verb %u: no answer", req->verb);
		return false;
	}
	if (req->verb == PRIV_IMG_SPAWN && n_fds == 1)
		guest_await_end(reply_fds[0]);
	for (size_t i = 0; i < n_fds; i++)
		close(reply_fds[i]);
	if (reply->err.code)
		snprintf(work->failed, sizeof(work->failed), "verb %u: %s", req->verb,
			 reply->err.msg);
	return reply->err.code == 0;
}

static bool end_process(struct work *work, int wire, uint32_t verb, const struct priv_reply *of)
{
	struct priv_request req = {.verb = verb};
	struct priv_reply reply;
	req.u.process = (struct priv_process){7, of->pid, of->start_time, SIGKILL};
	return do_verb(work, wire, &req, NULL, &reply);
}

static void do_all(struct work *work, int wire)
{
	struct priv_request req = {.verb = PRIV_BRIDGE_ENSURE};
	struct priv_reply reply;

	req.u.network = (struct priv_network){7, PRIV_NETWORK_NAT, 24, htonl(0x0a630001)};
	if (!do_verb(work, wire, &req, NULL, &reply))
		return;
	req.verb = PRIV_DNSMASQ_SPAWN;
	if (!do_verb(work, wire, &req, NULL, &reply) ||
	    !end_process(work, wire, PRIV_DNSMASQ_SIGNAL, &reply))
		return;
	req = (struct priv_request){.verb = PRIV_TAP_CREATE};
	req.u.tap = (struct priv_tap){7, 0, 7};
	if (!do_verb(work, wire, &req, NULL, &reply))
		return;
	req.verb = PRIV_TAP_DELETE;
	if (!do_verb(work, wire, &req, NULL, &reply) ||
	    !do_verb(work, wire, &work->guest.req, work->guest.fds, &reply) ||
	    !end_process(work, wire, PRIV_QEMU_SIGNAL, &reply))
		return;
	req = (struct priv_request){.verb = PRIV_IMG_SPAWN, .n_fds = 4};
	req.u.img = (struct priv_img){PRIV_IMG_RAW, PRIV_IMG_QCOW2, 0};
	if (!do_verb(work, wire, &req, work->img_fds, &reply))
		return;
	req = (struct priv_request){.verb = PRIV_REAP};
	req.u.process = (struct priv_process){0, reply.pid, reply.start_time, 0};
	if (!do_verb(work, wire, &req, NULL, &reply))
		return;
	if (reply.wait_status != 0)
		snprintf(work->failed, sizeof(work->failed), "qemu-img: status %d",
			 reply.wait_status);
	req = (struct priv_request){.verb = PRIV_BRIDGE_DELETE, .u.slot = 7};
	do_verb(work, wire, &req, NULL, &reply);
}

static void open_img_files(struct work *work)
{
	static const char *const names[] = {"source", "target", "progress", "errors"};
	for (size_t i = 0; i < 4; i++) {
		char path[128];
		snprintf(path, sizeof(path), "%s/%s", work->guest.dir, names[i]);
		work->img_fds[i] = open(path, (i ? O_RDWR : O_RDONLY) | O_CREAT | O_CLOEXEC, 0600);
		assert_true(work->img_fds[i] >= 0);
	}
}

static void test_enough_is_kept(void **state)
{
	struct work *work = mmap(NULL, sizeof(*work), PROT_READ | PROT_WRITE,
				 MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	struct priv_config here = config;
	int status;

	SKIP_UNLESS_ROOT();
	guest_setup(&work->guest);
	open_img_files(work);
	strcpy(here.dnsmasq_binary, "/usr/sbin/dnsmasq");
	strcpy(here.runtime_dir, work->guest.dir);
	pid_t pid = fork();
	if (pid == 0) {
		int wire;
		struct err err;
		if (unshare(CLONE_NEWNET) < 0)
			_exit(77);
		if (priv_fork(&here, &wire, &err) < 0)
			_exit(1);
		do_all(work, wire);
		_exit(0);
	}
	status = await_status(pid);
	for (size_t i = 0; i < 4; i++)
		close(work->img_fds[i]);
	guest_teardown(&work->guest);
	if (WEXITSTATUS(status) == 77) {
		print_message("no network namespaces here\n");
		skip();
	}
	if (work->failed[0])
		fail_msg("%s", work->failed);
	assert_int_equal(WEXITSTATUS(status), 0);
	munmap(work, sizeof(*work));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_dropped),       cmocka_unit_test(test_child_killed),
		cmocka_unit_test(test_parent_killed), cmocka_unit_test(test_forwarded),
		cmocka_unit_test(test_never_root),    cmocka_unit_test(test_enough_is_kept),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
