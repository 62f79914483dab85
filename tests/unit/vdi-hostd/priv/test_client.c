#include "vdi-hostd/priv/priv.h"

#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/mem.h"
#include "guest.h"
#include "vdi-hostd/priv/verbs.h"
#include "vdi-hostd/priv/wire.h"

struct bench {
	uv_loop_t loop;
	struct priv *priv;
	int peer; /* the other end of the wire */
	int answers, lost;
	struct err err;
	struct priv_reply reply;
	int fd;
	int order[64];
};

struct asked {
	struct bench *bench;
	int number;
};

static void on_lost(void *data)
{
	struct bench *bench = data;
	bench->lost++;
}

static void on_reply(void *data, const struct priv_reply *reply, int *fds, const struct err *err)
{
	struct asked *asked = data;
	struct bench *bench = asked->bench;

	bench->order[bench->answers++] = asked->number;
	bench->err = err ? *err : (struct err){0};
	bench->reply = *reply;
	bench->fd = -1;
	if (!err && reply->n_fds == 1)
		bench->fd = TAKE_FD(fds[0]);
	free(asked);
}

static void open_bench(struct bench *bench, bool rootless)
{
	struct priv_config config = {
		.uid_base = GUEST_UID_BASE,
		.qemu_binary = "/usr/bin/qemu-system-x86_64",
		.qemu_img_binary = "/usr/bin/qemu-img",
	};
	int ends[2] = {-1, -1};

	memset(bench, 0, sizeof(*bench));
	bench->fd = -1;
	uv_loop_init(&bench->loop);
	if (!rootless)
		assert_int_equal(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends), 0);
	bench->peer = ends[1];
	assert_int_equal(priv_open(&bench->loop, ends[0], &config, on_lost, bench, &bench->priv,
				   &bench->err),
			 0);
}

static void close_bench(struct bench *bench)
{
	priv_close(bench->priv);
	if (bench->peer >= 0)
		close(bench->peer);
	uv_run(&bench->loop, UV_RUN_DEFAULT);
	assert_int_equal(uv_loop_close(&bench->loop), 0);
}

static void ask(struct bench *bench, const struct priv_request *req, const int *fds, size_t n_fds,
		int number)
{
	struct asked *asked = mem_new(struct asked);
	int before = bench->answers;

	*asked = (struct asked){bench, number};
	priv_call(bench->priv, req, fds, n_fds, on_reply, asked);
	assert_int_equal(bench->answers, before); /* never inside the call */
}

static void await(struct bench *bench, int answers)
{
	/* UV_RUN_ONCE would block after a timer had done the work */
	for (int i = 0; i < 120000 && bench->answers < answers; i++) {
		uv_run(&bench->loop, UV_RUN_NOWAIT);
		usleep(500);
	}
	assert_int_equal(bench->answers, answers);
}

static const struct priv_request probe = {.verb = PRIV_PROBE};

static void test_order(void **state)
{
	struct bench bench;
	struct priv_request req;
	int fds[WIRE_FDS_MAX];
	size_t n_fds;

	open_bench(&bench, false);
	for (int i = 0; i < 5; i++)
		ask(&bench, &probe, NULL, 0, i);
	for (int i = 0; i < 5; i++) {
		struct priv_reply reply = {.features = (uint32_t)i};
		assert_int_equal(wire_receive(bench.peer, &req, sizeof(req), fds, &n_fds), 1);
		assert_int_equal(req.verb, PRIV_PROBE);
		assert_int_equal(wire_send(bench.peer, &reply, sizeof(reply), NULL, 0), 0);
	}
	await(&bench, 5);
	for (int i = 0; i < 5; i++)
		assert_int_equal(bench.order[i], i);
	assert_int_equal(bench.reply.features, 4);
	assert_int_equal(bench.lost, 0);
	close_bench(&bench);
}

/* more than the socket holds: the rest waits, with descriptors of its own */
static void test_full_wire(void **state)
{
	enum { N = 2000 };
	struct bench bench;
	struct priv_request req = {.verb = PRIV_PROBE, .n_fds = 1};
	static int answered;

	open_bench(&bench, false);
	for (int i = 0; i < N; i++) {
		int fd = open("/dev/null", O_RDONLY | O_CLOEXEC);
		struct asked *asked = mem_new(struct asked);
		*asked = (struct asked){&bench, i};
		req.u.slot = (uint32_t)i;
		bench.answers = 0;
		priv_call(bench.priv, &req, &fd, 1, on_reply, asked);
		close(fd);
	}
	for (answered = 0; answered < N; answered++) {
		struct priv_reply reply = {0};
		int fds[WIRE_FDS_MAX];
		size_t n_fds = 0;
		uv_run(&bench.loop, UV_RUN_NOWAIT);
		assert_int_equal(wire_receive(bench.peer, &req, sizeof(req), fds, &n_fds), 1);
		assert_int_equal(req.u.slot, answered);
		assert_int_equal(n_fds, 1);
		close(fds[0]);
		bench.answers = 0;
		assert_int_equal(wire_send(bench.peer, &reply, sizeof(reply), NULL, 0), 0);
	}
	bench.answers = 0;
	uv_run(&bench.loop, UV_RUN_NOWAIT);
	close_bench(&bench);
}

static void test_reply_fd(void **state)
{
	struct bench bench;
	struct priv_reply reply = {.n_fds = 1, .pid = 42};
	int fd = open("/dev/null", O_RDONLY | O_CLOEXEC);

	open_bench(&bench, false);
	ask(&bench, &probe, NULL, 0, 0);
	assert_int_equal(wire_send(bench.peer, &reply, sizeof(reply), &fd, 1), 0);
	await(&bench, 1);
	assert_int_equal(bench.reply.pid, 42);
	assert_true(bench.fd >= 0);
	assert_int_equal(fcntl(bench.fd, F_GETFD), FD_CLOEXEC);
	close(bench.fd);
	close(fd);
	close_bench(&bench);
}

enum lie { LIE_SHORT, LIE_LONG, LIE_FDS, LIE_CODE, LIE_TEXT, LIE_TOO_MANY_FDS, LIE_QUEUES, LIES };

static void tell_lie(int peer, enum lie lie)
{
	struct {
		struct priv_reply reply;
		char more;
	} message = {0};
	int fds[PRIV_REPLY_FDS_MAX + 1] = {STDIN_FILENO};
	size_t size = sizeof(message.reply), n_fds = 0;

	switch (lie) {
	case LIE_SHORT:
		size = 7;
		break;
	case LIE_LONG:
		size++;
		break;
	case LIE_FDS:
		message.reply.n_fds = 1;
		break;
	case LIE_CODE:
		memset(&message.reply.err.code, 0xff, sizeof(message.reply.err.code));
		break;
	case LIE_TEXT:
		message.reply.err.code = ERR_IO;
		memset(message.reply.err.msg, 'x', sizeof(message.reply.err.msg));
		break;
	case LIE_TOO_MANY_FDS:
		message.reply.n_fds = n_fds = PRIV_REPLY_FDS_MAX + 1;
		break;
	case LIE_QUEUES:
		message.reply.n_fds = n_fds = 3;
		message.reply.queues = 2;
		break;
	case LIES:
		break;
	}
	assert_int_equal(wire_send(peer, &message, size, fds, n_fds), 0);
}

static void test_lies(void **state)
{
	for (enum lie lie = 0; lie < LIES; lie++) {
		struct bench bench;
		open_bench(&bench, false);
		ask(&bench, &probe, NULL, 0, 0);
		ask(&bench, &probe, NULL, 0, 1);
		tell_lie(bench.peer, lie);
		await(&bench, 2);
		assert_int_equal(bench.err.code, ERR_UNAVAILABLE);
		assert_int_equal(bench.lost, 1);
		ask(&bench, &probe, NULL, 0, 2);
		await(&bench, 3);
		assert_int_equal(bench.err.code, ERR_UNAVAILABLE);
		assert_int_equal(bench.lost, 1);
		close_bench(&bench);
	}
}

static void test_unasked_reply(void **state)
{
	struct bench bench;
	struct priv_reply reply = {0};

	open_bench(&bench, false);
	assert_int_equal(wire_send(bench.peer, &reply, sizeof(reply), NULL, 0), 0);
	while (!bench.lost)
		uv_run(&bench.loop, UV_RUN_ONCE);
	close_bench(&bench);
}

static void test_peer_death(void **state)
{
	struct bench bench;

	open_bench(&bench, false);
	ask(&bench, &probe, NULL, 0, 0);
	close(bench.peer);
	bench.peer = -1;
	ask(&bench, &probe, NULL, 0, 1);
	await(&bench, 2);
	assert_int_equal(bench.err.code, ERR_UNAVAILABLE);
	assert_int_equal(bench.lost, 1);
	close_bench(&bench);
}

static void test_close_cancels(void **state)
{
	struct bench bench;

	open_bench(&bench, false);
	ask(&bench, &probe, NULL, 0, 0);
	close_bench(&bench);
	assert_int_equal(bench.answers, 1);
	assert_int_equal(bench.err.code, ERR_CANCELLED);
	assert_int_equal(bench.lost, 0);
}

static void close_inside(void *data, const struct priv_reply *reply, int *fds,
			 const struct err *err)
{
	struct bench *bench = data;
	bench->answers++;
	priv_close(bench->priv);
}

static void test_close_inside(void **state)
{
	for (int lose = 0; lose < 2; lose++) {
		struct bench bench;
		struct priv_reply reply = {0};
		open_bench(&bench, false);
		priv_call(bench.priv, &probe, NULL, 0, close_inside, &bench);
		ask(&bench, &probe, NULL, 0, 0);
		if (lose)
			tell_lie(bench.peer, LIE_SHORT);
		else
			assert_int_equal(wire_send(bench.peer, &reply, sizeof(reply), NULL, 0), 0);
		uv_run(&bench.loop, UV_RUN_DEFAULT);
		assert_int_equal(bench.answers, 2);
		assert_int_equal(bench.err.code, ERR_CANCELLED);
		assert_int_equal(bench.lost, 0);
		close(bench.peer);
		assert_int_equal(uv_loop_close(&bench.loop), 0);
	}
}

static void test_too_many_fds(void **state)
{
	struct bench bench;
	int fds[WIRE_FDS_MAX + 1] = {0};

	open_bench(&bench, false);
	ask(&bench, &probe, fds, WIRE_FDS_MAX + 1, 0);
	await(&bench, 1);
	assert_int_equal(bench.err.code, ERR_LIMIT);
	close_bench(&bench);
}

static void test_rootless_refusals(void **state)
{
	struct bench bench;
	struct priv_request bad = {.verb = 99};
	struct priv_request bridge = {.verb = PRIV_BRIDGE_DELETE, .u.slot = 1};

	open_bench(&bench, true);
	assert_true(priv_is_rootless(bench.priv));
	ask(&bench, &probe, NULL, 0, 0);
	await(&bench, 1);
	assert_int_equal(bench.err.code, 0);
	ask(&bench, &bad, NULL, 0, 1);
	await(&bench, 2);
	assert_int_equal(bench.err.code, ERR_INVALID);
	ask(&bench, &bridge, NULL, 0, 2);
	await(&bench, 3);
	assert_int_equal(bench.err.code, ERR_UNSUPPORTED);
	ask(&bench, &probe, NULL, 0, 3);
	close_bench(&bench);
	assert_int_equal(bench.err.code, ERR_CANCELLED);
}

/* the whole life of a QEMU without a privileged half */
static void test_rootless_qemu(void **state)
{
	struct bench bench;
	struct guest guest;

	guest_setup(&guest);
	open_bench(&bench, true);
	ask(&bench, &guest.req, guest.fds, GUEST_FDS, 0);
	await(&bench, 1);
	if (bench.err.code)
		fail_msg("%s", bench.err.msg);
	int pidfd = bench.fd;
	struct priv_request req = {
		.verb = PRIV_REAP,
		.u.process = {.slot = 7,
			      .pid = bench.reply.pid,
			      .start_time = bench.reply.start_time},
	};
	assert_int_equal(getsid(req.u.process.pid), req.u.process.pid);
	assert_string_equal(guest_status(req.u.process.pid, "NoNewPrivs"), "1");
	close(guest_qmp_connect(&guest));
	ask(&bench, &req, NULL, 0, 1);
	await(&bench, 2);
	assert_int_equal(bench.err.code, ERR_BUSY);

	req.verb = PRIV_QEMU_SIGNAL;
	req.u.process.sig = SIGKILL;
	ask(&bench, &req, NULL, 0, 2);
	await(&bench, 3);
	assert_int_equal(bench.err.code, 0);
	guest_await_end(pidfd);
	close(pidfd);
	req.verb = PRIV_REAP;
	ask(&bench, &req, NULL, 0, 3);
	await(&bench, 4);
	assert_int_equal(bench.err.code, 0);
	assert_true(WIFSIGNALED(bench.reply.wait_status));
	ask(&bench, &req, NULL, 0, 4);
	await(&bench, 5);
	assert_int_equal(bench.reply.wait_status, -1);
	close_bench(&bench);
	guest_teardown(&guest);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_order),         cmocka_unit_test(test_full_wire),
		cmocka_unit_test(test_reply_fd),      cmocka_unit_test(test_lies),
		cmocka_unit_test(test_unasked_reply), cmocka_unit_test(test_peer_death),
		cmocka_unit_test(test_close_cancels), cmocka_unit_test(test_close_inside),
		cmocka_unit_test(test_too_many_fds),  cmocka_unit_test(test_rootless_refusals),
		cmocka_unit_test(test_rootless_qemu),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
