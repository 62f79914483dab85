/*
 * The port that clients come to, driven over loopback. The desktop behind it is a fake: its monitor
 * is a scripted peer, which sees the sockets that are handed over.
 */
#include "vdi-hostd/broker/private.h"

#include <arpa/inet.h>
#include <errno.h>
#include <poll.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include <cmocka.h>

#include "tests/fake/qmp_peer.h"

#define ID     "11111111-1111-4111-8111-111111111111"
#define TOKEN  "0123456789abcdef0123456789abcdef"
#define GUESTS 256 /* as many as are let in at a time */

/* The one desktop that there is, in place of vdi-hostd/desktop. */
static struct {
	bool exists;
	struct qmp *qmp;
	struct db_desktop row;
	struct err ready_err;
} fake;

struct desktop *desktops_find(struct desktops *all, const char *ref, struct err *err)
{
	if (fake.exists && strcmp(ref, ID) == 0)
		return (struct desktop *)&fake;
	err_set(err, ERR_NOT_FOUND, "there is none");
	return NULL;
}

struct qmp *desktop_qmp(struct desktop *desktop)
{
	return fake.qmp;
}

const struct db_desktop *desktop_row(const struct desktop *desktop)
{
	return &fake.row;
}

void desktop_make_ready(struct desktop *desktop, desktop_cb cb, void *data)
{
	cb(data, fake.ready_err.code ? NULL : desktop,
	   fake.ready_err.code ? &fake.ready_err : NULL);
}

struct bench {
	uv_loop_t loop;
	struct broker *broker;
	struct qmp_peer peer;
	bool told;
	struct err err;
	struct broker_way way;
};

static int setup(void **state)
{
	struct bench *bench = mem_new(struct bench);
	const struct broker_config config = {
		.listen = "127.0.0.1", .public_host = "vdi.example", .ticket_ttl_s = 60};
	static const struct qmp_ops ops = {0};
	uv_loop_init(&bench->loop);
	memset(&fake, 0, sizeof(fake));
	fake.exists = true;
	snprintf(fake.row.id, sizeof(fake.row.id), ID);
	snprintf(fake.row.name, sizeof(fake.row.name), "office");
	if (broker_new(&bench->loop, NULL, &config, &bench->broker, &bench->err) < 0 ||
	    qmp_open(&bench->loop, qmp_peer_open(&bench->peer, &bench->loop), &ops, NULL, 0,
		     &fake.qmp, &bench->err) < 0)
		fail_msg("%s", bench->err.msg);
	assert_true(qmp_peer_negotiate(&bench->peer));
	*state = bench;
	return 0;
}

static int teardown(void **state)
{
	struct bench *bench = *state;
	broker_free(bench->broker);
	qmp_close(fake.qmp);
	qmp_peer_close(&bench->peer);
	uv_run(&bench->loop, UV_RUN_DEFAULT);
	assert_int_equal(uv_loop_close(&bench->loop), 0);
	free(bench);
	return 0;
}

static void parse_refuses(const char *request)
{
	struct err err = {0};
	char token[TICKET_TOKEN_LEN + 1] = "untouched";
	if (gateway_parse(request, strlen(request), token, &err) == 0)
		fail_msg("taken: %s", request);
	assert_int_equal(err.code, ERR_INVALID);
	assert_string_equal(token, "untouched");
}

static void requests_that_are_none(void **state)
{
	static const char *const bad[] = {
		"",
		"\r\n\r\n",
		"C",
		"CONNECT ",
		"CONNECT " TOKEN,
		"CONNECT " TOKEN ":",
		"CONNECT " TOKEN ":5900",
		"CONNECT " TOKEN ":5900 ",
		"CONNECT " TOKEN ":5900 HTTP",
		"CONNECT " TOKEN ":5900 HTTP/2.0\r\n\r\n",
		"CONNECT " TOKEN ":5900 http/1.0\r\n\r\n",
		"CONNECT " TOKEN ":5900  HTTP/1.0\r\n\r\n",
		"CONNECT " TOKEN ": HTTP/1.0\r\n\r\n",
		"CONNECT " TOKEN ":-1 HTTP/1.0\r\n\r\n",
		"CONNECT " TOKEN ":0x10 HTTP/1.0\r\n\r\n",
		"CONNECT " TOKEN ":123456 HTTP/1.0\r\n\r\n",
		"CONNECT " TOKEN "0:5900 HTTP/1.0\r\n\r\n",
		"CONNECT " TOKEN " :5900 HTTP/1.0\r\n\r\n",
		"CONNECT 123456789abcdef0123456789abcdef:5900 HTTP/1.0\r\n\r\n",
		"CONNECT 0123456789ABCDEF0123456789abcdef:5900 HTTP/1.0\r\n\r\n",
		"CONNECT g123456789abcdef0123456789abcdef:5900 HTTP/1.0\r\n\r\n",
		"CONNECT 127.0.0.1:5900 HTTP/1.0\r\n\r\n",
		"CONNECT  " TOKEN ":5900 HTTP/1.0\r\n\r\n",
		"connect " TOKEN ":5900 HTTP/1.0\r\n\r\n",
		" CONNECT " TOKEN ":5900 HTTP/1.0\r\n\r\n",
		"GET http://" TOKEN ":5900/ HTTP/1.0\r\n\r\n",
		"POST " TOKEN ":5900 HTTP/1.0\r\n\r\n",
		"REDQ\x02",
	};
	for (size_t i = 0; i < ARRAY_LEN(bad); i++)
		parse_refuses(bad[i]);
}

static void requests_that_are_good(void **state)
{
	static const char *const good[] = {
		"CONNECT " TOKEN ":1 HTTP/1.0\r\n\r\n",
		"CONNECT " TOKEN ":65535 HTTP/1.1\r\nHost: x\r\nProxy-Connection: close\r\n\r\n",
	};
	struct err err;
	for (size_t i = 0; i < ARRAY_LEN(good); i++) {
		char token[TICKET_TOKEN_LEN + 1];
		assert_int_equal(gateway_parse(good[i], strlen(good[i]), token, &err), 0);
		assert_string_equal(token, TOKEN);
	}
}

static int come(struct bench *bench)
{
	struct sockaddr_in addr;
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	uv_ip4_addr("127.0.0.1", broker_port(bench->broker), &addr);
	assert_int_equal(connect(fd, (struct sockaddr *)&addr, sizeof(addr)), 0);
	return fd;
}

static void say(int fd, const void *bytes, size_t len)
{
	assert_int_equal(send(fd, bytes, len, MSG_NOSIGNAL), (ssize_t)len);
}

static void turn(struct bench *bench, int n)
{
	while (n-- > 0) {
		uv_run(&bench->loop, UV_RUN_NOWAIT);
		poll(NULL, 0, 1);
	}
}

/* What the client hears; "" when the port hangs up without a word, NULL when it waits. */
static const char *hear(struct bench *bench, int fd)
{
	static char text[256];
	for (int i = 0; i < 200; i++) {
		turn(bench, 1);
		ssize_t n = recv(fd, text, sizeof(text) - 1, MSG_DONTWAIT);
		if (n < 0 && errno == EAGAIN)
			continue;
		text[n > 0 ? n : 0] = '\0';
		return text;
	}
	return NULL;
}

static void assert_answer(struct bench *bench, int fd, const char *status)
{
	const char *text = hear(bench, fd);
	assert_non_null(text);
	if (strncmp(text, status, strlen(status)) != 0)
		fail_msg("'%s' instead of '%s'", text, status);
}

static void assert_sent_away(struct bench *bench, const void *bytes, size_t len, const char *status)
{
	int fd = come(bench);
	say(fd, bytes, len);
	assert_answer(bench, fd, status);
	assert_string_equal(hear(bench, fd), "");
	close(fd);
	assert_int_equal(bench->broker->n_guests, 0);
}

static size_t make_request(struct bench *bench, char *ret, size_t size, const char *rest)
{
	const struct ticket *ticket = ticket_new(bench->broker, ID);
	return (size_t)snprintf(ret, size, "CONNECT %s:5900 HTTP/1.0\r\n%s", ticket->token, rest);
}

/* The desktop's QEMU gets the socket, and what it writes into it reaches the client. */
static void assert_handed_over(struct bench *bench, int fd)
{
	const char *line = qmp_peer_line(&bench->peer);
	assert_non_null(line);
	assert_non_null(strstr(line, "\"getfd\""));
	assert_int_equal(bench->peer.n_fds, 1);
	line = qmp_peer_line(&bench->peer);
	assert_non_null(line);
	assert_non_null(strstr(line, "\"add_client\""));
	assert_non_null(strstr(line, "\"skipauth\":false"));
	assert_answer(bench, fd, "HTTP/1.0 200 ");
	turn(bench, 2);
	assert_int_equal(bench->broker->n_guests, 0);
	say(bench->peer.last_fd, "REDQ", 4);
	assert_string_equal(hear(bench, fd), "REDQ");
}

static void a_ticket_opens_the_way(void **state)
{
	struct bench *bench = *state;
	char request[256];
	size_t len = make_request(bench, request, sizeof(request), "Host: x\r\n\r\n");
	int fd = come(bench);
	say(fd, request, len);
	assert_handed_over(bench, fd);
	close(fd);
}

static void one_byte_at_a_time(void **state)
{
	struct bench *bench = *state;
	char request[256];
	size_t len = make_request(bench, request, sizeof(request), "Host: x\r\n\r\n");
	int fd = come(bench);
	for (size_t i = 0; i < len; i++) {
		say(fd, request + i, 1);
		turn(bench, 1);
	}
	assert_handed_over(bench, fd);
	close(fd);
}

static void who_has_no_ticket_stays_outside(void **state)
{
	struct bench *bench = *state;
	static const char unknown[] = "CONNECT " TOKEN ":5900 HTTP/1.0\r\n\r\n";
	char request[256];
	assert_sent_away(bench, unknown, strlen(unknown), "HTTP/1.0 403 ");
	size_t len = make_request(bench, request, sizeof(request), "\r\n");
	fake.exists = false; /* deleted meanwhile */
	assert_sent_away(bench, request, len, "HTTP/1.0 403 ");
	fake.exists = true;
	struct qmp *qmp = TAKE_PTR(fake.qmp); /* not running */
	assert_sent_away(bench, request, len, "HTTP/1.0 503 ");
	fake.qmp = qmp;
	bench->broker->tickets->expires_at = str_now_ms() - 1;
	assert_sent_away(bench, request, len, "HTTP/1.0 403 ");
	assert_int_equal(bench->peer.n_fds, 0);
}

static void what_is_no_request(void **state)
{
	struct bench *bench = *state;
	char huge[2048], request[512];
	memset(huge, 'A', sizeof(huge));
	assert_sent_away(bench, "GET / HTTP/1.1\r\n\r\n", 18, "HTTP/1.0 400 ");
	assert_sent_away(bench, "\0", 1, "HTTP/1.0 400 ");
	assert_sent_away(bench, huge, sizeof(huge), "HTTP/1.0 400 ");
	memcpy(huge + 1000, "\0\r\n\r\n", 5);
	assert_sent_away(bench, huge, 1005, "HTTP/1.0 400 ");
	/* what comes behind a good request would be lost on the way to QEMU */
	size_t len = make_request(bench, request, sizeof(request), "\r\nREDQ");
	assert_sent_away(bench, request, len, "HTTP/1.0 400 ");
	len = make_request(bench, request, sizeof(request), "\r\n");
	memcpy(request + len, request, len);
	assert_sent_away(bench, request, 2 * len, "HTTP/1.0 400 ");
	assert_int_equal(bench->peer.n_fds, 0);
	char byte;
	assert_int_equal(recv(bench->peer.fd, &byte, 1, MSG_DONTWAIT), -1);
}

static void a_header_that_never_ends(void **state)
{
	struct bench *bench = *state;
	char request[256];
	size_t len = make_request(bench, request, sizeof(request), "X: ");
	int fd = come(bench);
	say(fd, request, len);
	turn(bench, 3);
	assert_int_equal(bench->broker->n_guests, 1);
	for (size_t sent = len; sent < 2048; sent++)
		say(fd, "x", 1);
	assert_answer(bench, fd, "HTTP/1.0 400 ");
	close(fd);
}

static void who_leaves_is_forgotten(void **state)
{
	struct bench *bench = *state;
	int fd = come(bench), other = come(bench);
	say(fd, "CONNECT ", 8);
	turn(bench, 5);
	assert_int_equal(bench->broker->n_guests, 2);
	close(fd);
	turn(bench, 5);
	assert_int_equal(bench->broker->n_guests, 1);
	shutdown(other, SHUT_WR);
	turn(bench, 5);
	assert_int_equal(bench->broker->n_guests, 0);
	close(other);
}

static void no_more_than_so_many_at_a_time(void **state)
{
	struct bench *bench = *state;
	int fds[GUESTS];
	for (int i = 0; i < GUESTS; i++) {
		fds[i] = come(bench);
		uv_run(&bench->loop, UV_RUN_NOWAIT);
	}
	for (int i = 0; i < 500 && bench->broker->n_guests < GUESTS; i++)
		turn(bench, 1);
	assert_int_equal(bench->broker->n_guests, GUESTS);
	/* one more makes who came first leave, and has its way */
	char request[256];
	size_t len = make_request(bench, request, sizeof(request), "\r\n");
	int fd = come(bench);
	const char *heard = hear(bench, fds[0]);
	assert_non_null(heard);
	assert_string_equal(heard, "");
	assert_null(hear(bench, fds[1]));
	assert_int_equal(bench->broker->n_guests, GUESTS);
	say(fd, request, len);
	assert_answer(bench, fd, "HTTP/1.0 200 ");
	assert_int_equal(bench->broker->n_guests, GUESTS - 1);
	close(fd);
	for (int i = 0; i < GUESTS; i++)
		close(fds[i]);
}

/* Lets the guest's ten seconds pass at once. */
static void hurry(uv_handle_t *handle, void *data)
{
	int *found = data;
	if (handle->type != UV_TIMER || !uv_is_active(handle))
		return;
	uv_timer_t *timer = (uv_timer_t *)handle;
	uint64_t left = uv_timer_get_due_in(timer);
	if (left <= 5000 || left > 10000)
		return;
	(*found)++;
	uv_timer_set_repeat(timer, 1);
	uv_timer_again(timer);
}

static void who_is_too_slow(void **state)
{
	struct bench *bench = *state;
	int found = 0, fd = come(bench);
	say(fd, "CONNECT ", 8);
	turn(bench, 5);
	assert_int_equal(bench->broker->n_guests, 1);
	/* a byte now and then buys no time */
	say(fd, "0", 1);
	assert_null(hear(bench, fd));
	uv_walk(&bench->loop, hurry, &found);
	assert_int_equal(found, 1);
	assert_string_equal(hear(bench, fd), "");
	assert_int_equal(bench->broker->n_guests, 0);
	close(fd);
}

static void the_end_of_the_broker(void **state)
{
	struct bench *bench = *state;
	int fd = come(bench);
	say(fd, "CONNECT ", 8);
	turn(bench, 5);
	ticket_new(bench->broker, ID);
	broker_free(TAKE_PTR(bench->broker));
	assert_string_equal(hear(bench, fd), "");
	close(fd);
}

static void addresses_that_are_none(void **state)
{
	struct bench *bench = *state;
	struct broker *broker = NULL;
	struct broker_config config = {.listen = "localhost", .public_host = "", .ticket_ttl_s = 1};
	assert_int_equal(broker_new(&bench->loop, NULL, &config, &broker, &bench->err), -1);
	assert_int_equal(bench->err.code, ERR_INVALID);
	config.listen = "127.0.0.1";
	config.port = broker_port(bench->broker);
	assert_int_equal(broker_new(&bench->loop, NULL, &config, &broker, &bench->err), -1);
	assert_non_null(strstr(bench->err.msg, "127.0.0.1"));
	assert_null(broker);
}

static void on_way(void *data, const struct broker_way *way, const struct err *err)
{
	struct bench *bench = data;
	assert_false(bench->told);
	bench->told = true;
	bench->err = err ? *err : (struct err){0};
	if (way)
		bench->way = *way;
}

static void answer(struct bench *bench, const char *command, const char *body)
{
	const char *line = qmp_peer_line(&bench->peer);
	char text[256];
	assert_non_null(line);
	if (!strstr(line, command))
		fail_msg("%s instead of %s", line, command);
	snprintf(text, sizeof(text), "{%s, \"id\": %ld}\r\n", body,
		 atol(strstr(line, "\"id\":") + 5));
	qmp_peer_send(&bench->peer, text);
}

#define REFUSAL "\"error\": {\"class\": \"GenericError\", \"desc\": \"no such luck\"}"

static void a_way_is_described(void **state)
{
	struct bench *bench = *state;
	char line[64];
	broker_connect_spice(bench->broker, (struct desktop *)&fake, on_way, bench);
	answer(bench, "\"set_password\"", "\"return\": {}");
	assert_false(bench->told);
	answer(bench, "\"expire_password\"", "\"return\": {}");
	assert_true(qmp_peer_wait(&bench->peer, &bench->told));
	assert_int_equal(bench->err.code, 0);
	assert_string_equal(bench->way.file_name, "office.vv");
	snprintf(line, sizeof(line), "\nproxy=http://vdi.example:%d\n", broker_port(bench->broker));
	assert_non_null(strstr(bench->way.file, line));
	snprintf(line, sizeof(line), "\nhost=%s\n", bench->broker->tickets->token);
	assert_non_null(strstr(bench->way.file, line));
	assert_int_equal(strncmp(bench->way.file, "[virt-viewer]\n", 14), 0);
}

static void no_way_without_its_password(void **state)
{
	struct bench *bench = *state;
	fake.ready_err.code = ERR_LIMIT;
	broker_connect_spice(bench->broker, (struct desktop *)&fake, on_way, bench);
	assert_true(bench->told);
	assert_int_equal(bench->err.code, ERR_LIMIT);
	fake.ready_err.code = 0;

	bench->told = false;
	broker_connect_spice(bench->broker, (struct desktop *)&fake, on_way, bench);
	answer(bench, "\"set_password\"", REFUSAL);
	assert_true(qmp_peer_wait(&bench->peer, &bench->told));
	assert_non_null(strstr(bench->err.msg, "no such luck"));

	bench->told = false;
	broker_connect_spice(bench->broker, (struct desktop *)&fake, on_way, bench);
	answer(bench, "\"set_password\"", "\"return\": {}");
	answer(bench, "\"expire_password\"", REFUSAL);
	assert_true(qmp_peer_wait(&bench->peer, &bench->told));
	assert_non_null(strstr(bench->err.msg, "no such luck"));

	bench->told = false;
	struct qmp *qmp = TAKE_PTR(fake.qmp);
	broker_connect_spice(bench->broker, (struct desktop *)&fake, on_way, bench);
	assert_true(bench->told);
	assert_int_equal(bench->err.code, ERR_UNAVAILABLE);
	fake.qmp = qmp;

	/* QEMU's end while it is asked */
	bench->told = false;
	broker_connect_spice(bench->broker, (struct desktop *)&fake, on_way, bench);
	assert_non_null(qmp_peer_line(&bench->peer));
	qmp_close(TAKE_PTR(fake.qmp));
	assert_true(bench->told);
	assert_true(bench->err.code);
	assert_null(bench->broker->tickets);
}

#define with_gateway(test) cmocka_unit_test_setup_teardown(test, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(requests_that_are_none),
		cmocka_unit_test(requests_that_are_good),
		with_gateway(a_ticket_opens_the_way),
		with_gateway(one_byte_at_a_time),
		with_gateway(who_has_no_ticket_stays_outside),
		with_gateway(what_is_no_request),
		with_gateway(a_header_that_never_ends),
		with_gateway(who_leaves_is_forgotten),
		with_gateway(no_more_than_so_many_at_a_time),
		with_gateway(who_is_too_slow),
		with_gateway(the_end_of_the_broker),
		with_gateway(addresses_that_are_none),
		with_gateway(a_way_is_described),
		with_gateway(no_way_without_its_password),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
