#include "base/conn.h"

#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
/* cmocka wants those above */
#include <cmocka.h>

#include "base/mem.h"

#define WATCHDOG_MS 60000

/* One connection under test, its peer's end, and what its callbacks heard. */
struct fixture {
	uv_loop_t loop;
	uv_timer_t watchdog;
	struct conn *conn;
	int peer;
	char lines[64][64];
	size_t n_lines, n_bytes, n_ends, n_drained, n_closed;
	struct err err;
	void (*on_line)(struct fixture *f, const char *line);
	void (*on_drained)(struct fixture *f);
};

static void on_line(struct conn *conn, void *data, char *line, size_t len)
{
	struct fixture *f = data;
	assert_int_equal(line[len], '\0');
	if (f->n_lines < ARRAY_LEN(f->lines))
		snprintf(f->lines[f->n_lines], sizeof(f->lines[0]), "%s", line);
	f->n_lines++;
	f->n_bytes += len;
	if (f->on_line)
		f->on_line(f, line);
}

static void on_end(struct conn *conn, void *data, const struct err *err)
{
	struct fixture *f = data;
	f->n_ends++;
	f->err = *err;
}

static void on_drained(struct conn *conn, void *data)
{
	struct fixture *f = data;
	f->n_drained++;
	if (f->on_drained)
		f->on_drained(f);
}

static const struct conn_ops ops = {on_line, on_end, on_drained};

static void on_closed(void *data)
{
	((struct fixture *)data)->n_closed++;
}

static void on_watchdog(uv_timer_t *timer)
{
	fail_msg("nothing came for %d ms", WATCHDOG_MS);
}

static int setup(void **state)
{
	struct fixture *f = mem_new(struct fixture);
	int fds[2];
	uv_loop_init(&f->loop);
	uv_timer_init(&f->loop, &f->watchdog);
	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds) < 0)
		return -1;
	f->peer = fds[1];
	struct conn_limits limits = {.line_max = 1000, .queue_max = 1 << 20};
	if (conn_open(&f->loop, fds[0], &ops, limits, f, &f->conn, NULL) < 0)
		return -1;
	*state = f;
	return 0;
}

static int teardown(void **state)
{
	struct fixture *f = *state;
	if (f->conn)
		conn_close(f->conn, on_closed, f);
	uv_close((uv_handle_t *)&f->watchdog, NULL);
	uv_run(&f->loop, UV_RUN_DEFAULT);
	int failed = uv_loop_close(&f->loop);
	if (f->peer >= 0)
		close(f->peer);
	free(f);
	return failed;
}

/* Turn the loop, blocking, until the counter has the value: a lost wake-up hangs and is seen. */
static void run_until(struct fixture *f, const size_t *counter, size_t value)
{
	uv_timer_start(&f->watchdog, on_watchdog, WATCHDOG_MS, 0);
	while (*counter < value)
		uv_run(&f->loop, UV_RUN_ONCE);
	uv_timer_stop(&f->watchdog);
	assert_int_equal(*counter, value);
}

/* Whatever could happen at once has happened. */
static void settle(struct fixture *f)
{
	for (int i = 0; i < 10; i++)
		uv_run(&f->loop, UV_RUN_NOWAIT);
}

static void peer_send(struct fixture *f, const void *bytes, size_t len)
{
	assert_int_equal(send(f->peer, bytes, len, MSG_NOSIGNAL), len);
}

static void peer_says(struct fixture *f, const char *text)
{
	peer_send(f, text, strlen(text));
}

static void test_lines(void **state)
{
	struct fixture *f = *state;
	peer_says(f, "one\ntwo\r\n\nthr");
	run_until(f, &f->n_lines, 3);
	peer_says(f, "ee\r");
	settle(f);
	assert_int_equal(f->n_lines, 3);
	peer_says(f, "\n");
	run_until(f, &f->n_lines, 4);
	assert_string_equal(f->lines[0], "one");
	assert_string_equal(f->lines[1], "two");
	assert_string_equal(f->lines[2], "");
	assert_string_equal(f->lines[3], "three");
	assert_int_equal(f->n_ends, 0);
}

static void test_byte_by_byte(void **state)
{
	struct fixture *f = *state;
	for (const char *c = "abc\r\nde\n"; *c; c++) {
		peer_send(f, c, 1);
		settle(f);
	}
	assert_int_equal(f->n_lines, 2);
	assert_string_equal(f->lines[0], "abc");
	assert_string_equal(f->lines[1], "de");
}

static void test_line_bound(void **state)
{
	struct fixture *f = *state;
	char line[1002];
	memset(line, 'x', sizeof(line));
	line[1000] = '\n';
	peer_send(f, line, 1001);
	run_until(f, &f->n_lines, 1);
	assert_int_equal(f->n_bytes, 1000);
	line[1000] = 'x';
	line[1001] = '\n';
	peer_send(f, line, 1002);
	run_until(f, &f->n_ends, 1);
	assert_int_equal(f->err.code, ERR_LIMIT);
	assert_int_equal(f->n_lines, 1);
}

static void test_endless_line(void **state)
{
	struct fixture *f = *state;
	char line[1001];
	memset(line, 'x', sizeof(line));
	peer_send(f, line, sizeof(line));
	run_until(f, &f->n_ends, 1);
	assert_int_equal(f->err.code, ERR_LIMIT);
	/* and nothing more is heard of it */
	peer_says(f, "\nmore\n");
	settle(f);
	assert_int_equal(f->n_ends, 1);
	assert_int_equal(f->n_lines, 0);
	assert_int_equal(conn_send(f->conn, "x", 1, -1, NULL), -1);
}

static void test_answers_leave_together(void **state)
{
	struct fixture *f = *state;
	char got[64];
	struct err err;
	assert_int_equal(conn_send(f->conn, "one\n", 4, -1, &err), 0);
	assert_int_equal(conn_send(f->conn, "two\n", 4, -1, &err), 0);
	assert_int_equal(conn_send(f->conn, "", 0, -1, &err), 0);
	assert_int_equal(conn_queued(f->conn), 8);
	assert_int_equal(recv(f->peer, got, sizeof(got), MSG_DONTWAIT), -1);
	run_until(f, &f->n_drained, 1);
	assert_int_equal(conn_queued(f->conn), 0);
	assert_int_equal(recv(f->peer, got, sizeof(got), MSG_DONTWAIT), 8);
	assert_memory_equal(got, "one\ntwo\n", 8);
}

static void fill_queue(struct fixture *f, const char *bytes, size_t len, size_t *ret_accepted)
{
	struct err err = {0};
	*ret_accepted = 0;
	while (conn_send(f->conn, bytes, len, -1, &err) == 0) {
		*ret_accepted += len;
		uv_run(&f->loop, UV_RUN_NOWAIT);
		assert_true(*ret_accepted < 64 << 20);
	}
	assert_int_equal(err.code, ERR_LIMIT);
}

/* A peer that never reads fills its own queue only; once it reads, all of it comes in order. */
static void test_queue_bound(void **state)
{
	struct fixture *f = *state;
	enum { BLOCK = 10000 };
	char *block = mem_calloc(1, BLOCK), *got = mem_calloc(1, BLOCK);
	size_t accepted, received = 0, at = 0;
	for (size_t i = 0; i < BLOCK; i++)
		block[i] = (char)(i % 251);
	fill_queue(f, block, BLOCK, &accepted);
	assert_true(conn_queued(f->conn) <= 1 << 20);
	assert_int_equal(f->n_ends, 0);
	while (received < accepted) {
		ssize_t n = recv(f->peer, got, BLOCK, MSG_DONTWAIT);
		for (ssize_t i = 0; i < n; i++) {
			assert_int_equal(got[i], block[at]);
			at = (at + 1) % BLOCK;
		}
		received += n > 0 ? (size_t)n : 0;
		uv_run(&f->loop, UV_RUN_NOWAIT);
	}
	assert_int_equal(received, accepted);
	assert_int_equal(conn_queued(f->conn), 0);
	assert_int_equal(conn_send(f->conn, "x", 1, -1, NULL), 0);
	free(block);
	free(got);
}

static void send_again(struct fixture *f)
{
	if (f->n_drained < 5)
		assert_int_equal(conn_send(f->conn, "x", 1, -1, NULL), 0);
}

/* Sent from within drained(), and from the turn in which held-back lines come: must not wait. */
static void test_send_from_drained(void **state)
{
	struct fixture *f = *state;
	f->on_drained = send_again;
	assert_int_equal(conn_send(f->conn, "x", 1, -1, NULL), 0);
	run_until(f, &f->n_drained, 5);
}

static struct fixture *other;

static void send_to_other(struct fixture *f, const char *line)
{
	assert_int_equal(conn_send(other->conn, "x", 1, -1, NULL), 0);
}

static void test_send_to_another(void **state)
{
	struct fixture *f = *state;
	int fds[2];
	struct fixture second = {.peer = -1};
	struct conn_limits limits = {1000, 1000};
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, fds), 0);
	assert_int_equal(conn_open(&f->loop, fds[0], &ops, limits, &second, &second.conn, NULL), 0);
	other = &second;
	f->on_line = send_to_other;

	/* read but held back: the line comes in the loop's turn, not from a poll */
	conn_pause(f->conn, true);
	peer_says(f, "one\n");
	settle(f);
	conn_pause(f->conn, false);
	run_until(f, &second.n_drained, 1);
	conn_close(second.conn, on_closed, f);
	run_until(f, &f->n_closed, 1);
	close(fds[1]);
}

static void pause_at_two(struct fixture *f, const char *line)
{
	if (f->n_lines == 2)
		conn_pause(f->conn, true);
}

static void test_pause(void **state)
{
	struct fixture *f = *state;
	f->on_line = pause_at_two;
	peer_says(f, "1\n2\n3\n4\n");
	run_until(f, &f->n_lines, 2);
	peer_says(f, "5\n");
	settle(f);
	assert_int_equal(f->n_lines, 2);
	/* answers leave all the same */
	assert_int_equal(conn_send(f->conn, "x", 1, -1, NULL), 0);
	run_until(f, &f->n_drained, 1);
	assert_int_equal(f->n_lines, 2);
	conn_pause(f->conn, false);
	assert_int_equal(f->n_lines, 2);
	run_until(f, &f->n_lines, 5);
	for (size_t i = 0; i < 5; i++)
		assert_int_equal(f->lines[i][0], '1' + (int)i);
}

static void test_half_close(void **state)
{
	struct fixture *f = *state;
	peer_says(f, "one\nrest");
	shutdown(f->peer, SHUT_WR);
	run_until(f, &f->n_ends, 1);
	assert_int_equal(f->n_lines, 1);
	assert_int_equal(f->err.code, ERR_UNAVAILABLE);
}

static void answer(struct fixture *f, const char *line)
{
	assert_int_equal(conn_send(f->conn, "yes\n", 4, -1, NULL), 0);
}

/* Who asks and shuts its side down still gets what was answered at once. */
static void test_answer_after_half_close(void **state)
{
	struct fixture *f = *state;
	char got[8];
	f->on_line = answer;
	peer_says(f, "one\n");
	shutdown(f->peer, SHUT_WR);
	run_until(f, &f->n_ends, 1);
	assert_int_equal(recv(f->peer, got, sizeof(got), MSG_DONTWAIT), 4);
}

static void test_peer_gone(void **state)
{
	struct fixture *f = *state;
	close(f->peer);
	f->peer = -1;
	/* reading is off, so that writing finds out */
	conn_pause(f->conn, true);
	assert_int_equal(conn_send(f->conn, "x", 1, -1, NULL), 0);
	run_until(f, &f->n_ends, 1);
	assert_int_equal(f->err.code, ERR_UNAVAILABLE);
}

static void close_in_line(struct fixture *f, const char *line)
{
	conn_close(f->conn, on_closed, f);
	f->conn = NULL;
}

static void test_close_in_line(void **state)
{
	struct fixture *f = *state;
	f->on_line = close_in_line;
	peer_says(f, "1\n2\n3\n");
	run_until(f, &f->n_closed, 1);
	assert_int_equal(f->n_lines, 1);
	assert_int_equal(f->n_ends, 0);
}

static void close_in_drained(struct fixture *f)
{
	close_in_line(f, NULL);
}

static void test_close_in_drained(void **state)
{
	struct fixture *f = *state;
	char got[8];
	f->on_drained = close_in_drained;
	assert_int_equal(conn_send(f->conn, "bye\n", 4, -1, NULL), 0);
	run_until(f, &f->n_closed, 1);
	assert_int_equal(recv(f->peer, got, sizeof(got), 0), 4);
	assert_int_equal(recv(f->peer, got, sizeof(got), 0), 0);
	assert_int_equal(f->n_ends, 0);
}

static void close_in_end(struct conn *conn, void *data, const struct err *err)
{
	on_end(conn, data, err);
	close_in_line(data, NULL);
}

static void test_close_in_end(void **state)
{
	static const struct conn_ops closing_ops = {on_line, close_in_end, NULL};
	struct fixture *f = *state;
	conn_close(f->conn, NULL, NULL);
	close(f->peer);
	int fds[2];
	struct conn_limits limits = {10, 10};
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, fds), 0);
	f->peer = fds[1];
	assert_int_equal(conn_open(&f->loop, fds[0], &closing_ops, limits, f, &f->conn, NULL), 0);
	peer_says(f, "1\n2\nlonger than ten bytes\n3\n");
	run_until(f, &f->n_closed, 1);
	assert_int_equal(f->n_ends, 1);
	assert_int_equal(f->n_lines, 2);
}

static void test_discard(void **state)
{
	struct fixture *f = *state;
	conn_discard_to(f->conn, 0xff);
	peer_says(f, "rubbish\nmore\n");
	settle(f);
	assert_int_equal(f->n_lines, 0);
	peer_says(f, "even more\xff"
		     "one\ntwo\n");
	run_until(f, &f->n_lines, 2);
	assert_string_equal(f->lines[0], "one");
}

static size_t count_fds(void)
{
	size_t n = 0;
	for (int fd = 0; fd < 256; fd++)
		n += fcntl(fd, F_GETFD) >= 0;
	return n;
}

static void send_fds(int socket, const char *text, const int *fds, size_t n)
{
	union {
		struct cmsghdr align;
		char bytes[CMSG_SPACE(sizeof(int) * 64)];
	} control = {0};
	char copy[64];
	size_t len = strlen(text);
	memcpy(copy, text, len);
	struct iovec iov = {copy, len};
	struct msghdr msg = {.msg_iov = &iov,
			     .msg_iovlen = 1,
			     .msg_control = control.bytes,
			     .msg_controllen = CMSG_SPACE(sizeof(int) * n)};
	struct cmsghdr *c = CMSG_FIRSTHDR(&msg);
	c->cmsg_level = SOL_SOCKET;
	c->cmsg_type = SCM_RIGHTS;
	c->cmsg_len = CMSG_LEN(sizeof(int) * n);
	memcpy(CMSG_DATA(c), fds, sizeof(int) * n);
	assert_int_equal(sendmsg(socket, &msg, 0), len);
}

static int taken = -1;

static void take(struct fixture *f, const char *line)
{
	taken = conn_take_fd(f->conn);
}

static void test_fd_in(void **state)
{
	struct fixture *f = *state;
	size_t before = count_fds();
	f->on_line = take;
	send_fds(f->peer, "on", &f->peer, 1);
	settle(f);
	peer_says(f, "e\n");
	run_until(f, &f->n_lines, 1);
	assert_true(taken >= 0);
	assert_int_equal(fcntl(taken, F_GETFD), FD_CLOEXEC);
	close(taken);
	assert_int_equal(conn_take_fd(f->conn), -1);
	peer_says(f, "two\n");
	run_until(f, &f->n_lines, 2);
	assert_int_equal(taken, -1);
	assert_int_equal(count_fds(), before);
}

/* Descriptors that nobody wanted do not pile up, however many are sent. */
static void test_fds_unwanted(void **state)
{
	struct fixture *f = *state;
	size_t before = count_fds();
	int many[64];
	for (size_t i = 0; i < ARRAY_LEN(many); i++)
		many[i] = f->peer;
	for (int i = 0; i < 20; i++) {
		send_fds(f->peer, "x", many, ARRAY_LEN(many));
		settle(f);
		assert_true(count_fds() <= before + 8);
	}
	peer_says(f, "\n");
	run_until(f, &f->n_lines, 1);
	assert_int_equal(count_fds(), before);
	/* held ones go with the connection */
	send_fds(f->peer, "x", many, 3);
	settle(f);
	assert_int_equal(count_fds(), before + 3);
	conn_close(f->conn, on_closed, f);
	f->conn = NULL;
	run_until(f, &f->n_closed, 1);
	assert_int_equal(count_fds(), before - 1);
}

static int peer_take_fd(struct fixture *f, char *ret, size_t size, ssize_t *ret_n)
{
	union {
		struct cmsghdr align;
		char bytes[CMSG_SPACE(sizeof(int) * 4)];
	} control;
	struct iovec iov = {ret, size};
	struct msghdr msg = {.msg_iov = &iov,
			     .msg_iovlen = 1,
			     .msg_control = control.bytes,
			     .msg_controllen = sizeof(control.bytes)};
	*ret_n = recvmsg(f->peer, &msg, MSG_DONTWAIT);
	struct cmsghdr *c = CMSG_FIRSTHDR(&msg);
	if (*ret_n < 0 || !c)
		return -1;
	assert_int_equal(c->cmsg_len, CMSG_LEN(sizeof(int)));
	int fd;
	memcpy(&fd, CMSG_DATA(c), sizeof(fd));
	return fd;
}

/* Each descriptor arrives with its own message; bytes before it may come in the same read. */
static void test_fd_out(void **state)
{
	struct fixture *f = *state;
	size_t before = count_fds();
	char got[64];
	size_t bytes = 0;
	int fds_seen = 0;
	assert_int_equal(conn_send(f->conn, "plain\n", 6, -1, NULL), 0);
	assert_int_equal(conn_send(f->conn, "Awith\n", 6, f->peer, NULL), 0);
	assert_int_equal(conn_send(f->conn, "Bwith\n", 6, f->peer, NULL), 0);
	assert_int_equal(conn_send(f->conn, "plain\n", 6, -1, NULL), 0);
	run_until(f, &f->n_drained, 1);
	for (;;) {
		ssize_t n;
		int fd = peer_take_fd(f, got, sizeof(got), &n);
		if (n <= 0)
			break;
		if (fd >= 0) {
			assert_non_null(memchr(got, 'A' + fds_seen, (size_t)n));
			assert_null(memchr(got, 'B' + fds_seen, (size_t)n));
			fds_seen++;
			close(fd);
		}
		bytes += (size_t)n;
	}
	assert_int_equal(fds_seen, 2);
	assert_int_equal(bytes, 24);
	assert_int_equal(count_fds(), before);
}

static void test_fd_out_bound(void **state)
{
	struct fixture *f = *state;
	size_t before = count_fds(), sent = 0;
	struct err err = {0};
	while (conn_send(f->conn, "x", 1, f->peer, &err) == 0)
		assert_true(++sent < 100);
	assert_int_equal(err.code, ERR_LIMIT);
	assert_true(sent >= 16); /* what a NIC has at most */
	conn_close(f->conn, on_closed, f);
	f->conn = NULL;
	run_until(f, &f->n_closed, 1);
	assert_int_equal(count_fds(), before - 1);
	/* a descriptor that is none */
	close(f->peer);
	f->peer = -1;
}

static void test_bad_fd(void **state)
{
	struct fixture *f = *state;
	struct conn *conn = NULL;
	struct err err = {0};
	int fd = open("/dev/null", O_RDONLY | O_CLOEXEC);
	int file = open("/proc/self/status", O_RDONLY | O_CLOEXEC);
	close(fd);
	assert_int_equal(conn_open(&f->loop, fd, &ops, (struct conn_limits){1, 1}, f, &conn, &err),
			 -1);
	assert_null(conn);
	assert_int_equal(err.code, ERR_IO);
	assert_int_equal(
		conn_open(&f->loop, file, &ops, (struct conn_limits){1, 1}, f, &conn, &err), -1);
	assert_int_equal(fcntl(file, F_GETFD), -1);
	assert_int_equal(conn_send(f->conn, "x", 1, fd, &err), -1);
	assert_int_equal(conn_queued(f->conn), 0);
}

static void test_borrowed(void **state)
{
	struct fixture *f = *state;
	int fd = conn_fd(f->conn);
	assert_true(fcntl(fd, F_GETFL) & O_NONBLOCK);
}

#define case_of(test) cmocka_unit_test_setup_teardown(test, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		case_of(test_lines),
		case_of(test_byte_by_byte),
		case_of(test_line_bound),
		case_of(test_endless_line),
		case_of(test_answers_leave_together),
		case_of(test_queue_bound),
		case_of(test_send_from_drained),
		case_of(test_send_to_another),
		case_of(test_pause),
		case_of(test_half_close),
		case_of(test_answer_after_half_close),
		case_of(test_peer_gone),
		case_of(test_close_in_line),
		case_of(test_close_in_drained),
		case_of(test_close_in_end),
		case_of(test_discard),
		case_of(test_fd_in),
		case_of(test_fds_unwanted),
		case_of(test_fd_out),
		case_of(test_fd_out_bound),
		case_of(test_bad_fd),
		case_of(test_borrowed),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
