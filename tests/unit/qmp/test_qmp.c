#include "qmp/qmp.h"

#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/mem.h"
#include "tests/fake/qmp_peer.h"

struct client {
	uv_loop_t loop;
	struct qmp_peer peer;
	struct qmp *qmp;
	bool ready, closed;
	int n_ready, n_closed, n_events;
	bool close_on_event, close_on_ready, close_on_closed;
	struct err err;
	char last_event[64];
	json_int_t last_event_n;
};

struct answer {
	struct client *client;
	bool done;
	int times;
	json_t *result;
	struct err err;
	bool close, execute_again;
};

static void client_close(struct client *client)
{
	qmp_close(TAKE_PTR(client->qmp));
}

static void on_ready(struct qmp *qmp, void *owner)
{
	struct client *client = owner;
	client->ready = true;
	client->n_ready++;
	if (client->close_on_ready)
		client_close(client);
}

static void on_event(struct qmp *qmp, void *owner, const char *name, json_t *data)
{
	struct client *client = owner;
	client->n_events++;
	snprintf(client->last_event, sizeof(client->last_event), "%s", name);
	client->last_event_n = json_integer_value(json_object_get(data, "n"));
	if (client->close_on_event)
		client_close(client);
}

static void on_closed(struct qmp *qmp, void *owner, const struct err *err)
{
	struct client *client = owner;
	client->closed = true;
	client->n_closed++;
	client->err = *err;
	if (client->close_on_closed)
		client_close(client);
}

static const struct qmp_ops ops = {.ready = on_ready, .event = on_event, .closed = on_closed};

static void on_answer(void *data, json_t *result, const struct err *err)
{
	struct answer *answer = data;
	answer->done = true;
	answer->times++;
	assert_true(!result != !err);
	answer->result = json_incref(result);
	if (err)
		answer->err = *err;
	if (answer->execute_again)
		qmp_execute(answer->client->qmp, "stop", NULL, 0, NULL, NULL);
	if (answer->close)
		client_close(answer->client);
}

static int setup(void **state)
{
	struct client *client = mem_new(struct client);
	struct err err;
	uv_loop_init(&client->loop);
	int fd = qmp_peer_open(&client->peer, &client->loop);
	assert_int_equal(qmp_open(&client->loop, fd, &ops, client, 300, &client->qmp, &err), 0);
	*state = client;
	return 0;
}

static int teardown(void **state)
{
	struct client *client = *state;
	client_close(client);
	uv_run(&client->loop, UV_RUN_DEFAULT);
	assert_int_equal(uv_loop_close(&client->loop), 0);
	qmp_peer_close(&client->peer);
	free(client);
	return 0;
}

static void negotiate(struct client *client)
{
	assert_true(qmp_peer_negotiate(&client->peer));
	assert_true(qmp_peer_wait(&client->peer, &client->ready));
}

/* Reads a command at the peer and gives its id. */
static long expect_command(struct client *client, const char *name)
{
	const char *line = qmp_peer_line(&client->peer);
	assert_non_null(line);
	_cleanup_json_ json_t *msg = json_loads(line, 0, NULL);
	assert_string_equal(json_string_value(json_object_get(msg, "execute")), name);
	assert_true(json_is_integer(json_object_get(msg, "id")));
	return (long)json_integer_value(json_object_get(msg, "id"));
}

static void reply(struct client *client, long id, const char *rest)
{
	char text[512];
	snprintf(text, sizeof(text), "{\"id\": %ld, %s}\r\n", id, rest);
	qmp_peer_send(&client->peer, text);
}

static void expect_closed(struct client *client, enum err_code code)
{
	assert_true(qmp_peer_wait(&client->peer, &client->closed));
	if (client->err.code != code)
		fail_msg("%s: %s", err_code_name(client->err.code), client->err.msg);
	/* the socket itself is closed too */
	assert_null(qmp_peer_line(&client->peer));
	assert_true(client->peer.ended);
	assert_int_equal(client->n_closed, 1);
}

static void expect_err(struct client *client, struct answer *answer, enum err_code code)
{
	assert_true(qmp_peer_wait(&client->peer, &answer->done));
	if (answer->err.code != code)
		fail_msg("%s: %s", err_code_name(answer->err.code), answer->err.msg);
	assert_int_equal(answer->times, 1);
	assert_null(answer->result);
}

static void test_command(void **state)
{
	struct client *client = *state;
	struct answer answer = {0};
	negotiate(client);
	qmp_execute(client->qmp, "query-status", json_pack("{s:i}", "a", 7), 0, on_answer, &answer);
	assert_false(answer.done);
	long id = expect_command(client, "query-status");
	assert_non_null(strstr(client->peer.buf, "\"arguments\":{\"a\":7}"));
	reply(client, id, "\"return\": {\"status\": \"running\"}");
	assert_true(qmp_peer_wait(&client->peer, &answer.done));
	assert_string_equal(json_string_value(json_object_get(answer.result, "status")), "running");
	json_decref(answer.result);
	assert_int_equal(client->n_ready, 1);
}

static void test_early_commands_wait(void **state)
{
	struct client *client = *state;
	struct answer answers[2] = {0};
	qmp_execute(client->qmp, "one", NULL, 0, on_answer, &answers[0]);
	qmp_execute(client->qmp, "two", NULL, 0, on_answer, &answers[1]);
	qmp_peer_run(&client->peer, 5);
	negotiate(client);
	long one = expect_command(client, "one");
	long two = expect_command(client, "two");
	reply(client, one, "\"return\": {}");
	reply(client, two, "\"return\": {}");
	assert_true(qmp_peer_wait(&client->peer, &answers[1].done));
	assert_true(answers[0].done);
	json_decref(answers[0].result);
	json_decref(answers[1].result);
}

static void test_byte_by_byte(void **state)
{
	struct client *client = *state;
	struct answer answer = {0};
	qmp_peer_send_slowly(&client->peer, QMP_PEER_GREETING);
	long id = expect_command(client, "qmp_capabilities");
	char text[256];
	snprintf(text, sizeof(text),
		 "{\"event\":\"RESUME\",\"data\":{\"n\":3}}\r\n{\"return\":{},\"id\":%ld}\n", id);
	qmp_peer_send_slowly(&client->peer, text);
	assert_true(client->ready);
	/* QEMU may send an event between negotiating and saying so */
	assert_string_equal(client->last_event, "RESUME");
	assert_int_equal(client->last_event_n, 3);
	qmp_execute(client->qmp, "cont", NULL, 0, on_answer, &answer);
	id = expect_command(client, "cont");
	snprintf(text, sizeof(text), "{\"return\":{},\"id\":%ld}\r\n", id);
	qmp_peer_send_slowly(&client->peer, text);
	assert_true(answer.done);
	json_decref(answer.result);
}

static void test_refusals(void **state)
{
	static const struct {
		const char *class;
		enum err_code code;
	} rows[] = {
		{"DeviceNotFound", ERR_NOT_FOUND},
		{"CommandNotFound", ERR_UNSUPPORTED},
		{"GenericError", ERR_UNAVAILABLE},
		{"KVMMissingCap", ERR_UNAVAILABLE},
	};
	struct client *client = *state;
	negotiate(client);
	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		struct answer answer = {0};
		char rest[256];
		qmp_execute(client->qmp, "eject", NULL, 0, on_answer, &answer);
		long id = expect_command(client, "eject");
		snprintf(rest, sizeof(rest),
			 "\"error\": {\"class\": \"%s\", \"desc\": \"no luck\"}", rows[i].class);
		reply(client, id, rest);
		expect_err(client, &answer, rows[i].code);
		assert_string_equal(answer.err.msg, "eject: no luck");
	}
	assert_false(client->closed);
}

static void test_no_greeting(void **state)
{
	struct client *client = *state;
	struct answer answer = {0};
	qmp_execute(client->qmp, "query-status", NULL, 60000, on_answer, &answer);
	expect_closed(client, ERR_TIMEOUT);
	expect_err(client, &answer, ERR_TIMEOUT);
}

static void test_no_capabilities(void **state)
{
	struct client *client = *state;
	qmp_peer_send(&client->peer, QMP_PEER_GREETING);
	expect_command(client, "qmp_capabilities");
	expect_closed(client, ERR_TIMEOUT);
	assert_int_equal(client->n_ready, 0);
}

static void test_capabilities_refused(void **state)
{
	struct client *client = *state;
	qmp_peer_send(&client->peer, QMP_PEER_GREETING);
	long id = expect_command(client, "qmp_capabilities");
	reply(client, id, "\"error\": {\"class\": \"GenericError\", \"desc\": \"no\"}");
	expect_closed(client, ERR_UNAVAILABLE);
}

/* What a peer may say as its first word, without being QMP. */
static void test_bad_greeting(void **state)
{
	struct client *client = *state;
	qmp_peer_send(&client->peer, "{\"event\": \"RESUME\"}\r\n");
	expect_closed(client, ERR_CORRUPT);
}

static void test_garbage(void **state)
{
	struct client *client = *state;
	qmp_peer_send(&client->peer, "SSH-2.0-OpenSSH_9.2\r\n");
	expect_closed(client, ERR_CORRUPT);
}

/* After negotiation, with one command pending: each of these ends the connection. */
static void test_broken_messages(void **state)
{
	static const char *const texts[] = {
		"\r\n",
		"[]\r\n",
		"{}\r\n",
		"{\"return\": {}, \"id\": 2} x\r\n",
		"{\"return\": {}}\r\n",
		"{\"return\": {}, \"id\": 999}\r\n",
		"{\"return\": {}, \"id\": \"2\"}\r\n",
		"{\"return\": {}, \"id\": 1}\r\n", /* qmp_capabilities, answered before */
		"{\"return\": {}, \"id\": 0}\r\n",
		"{\"return\": {}, \"error\": {}, \"id\": 2}\r\n",
		"{\"return\": {}, \"event\": \"RESUME\", \"id\": 2}\r\n",
		"{\"error\": \"text\", \"id\": 2}\r\n",
		"{\"error\": {\"class\": \"GenericError\", \"desc\": \"JSON\"}}\r\n",
		"{\"event\": 1}\r\n",
		"{\"event\": \"RESUME\", \"data\": []}\r\n",
		"{\"return\": {}, \"return\": {}, \"id\": 2}\r\n",
		QMP_PEER_GREETING,
		"\xff\xfe\r\n",
	};
	for (size_t i = 0; i < ARRAY_LEN(texts); i++) {
		void *own;
		struct answer answer = {0};
		setup(&own);
		struct client *client = own;
		negotiate(client);
		qmp_execute(client->qmp, "cont", NULL, 0, on_answer, &answer);
		assert_int_equal(expect_command(client, "cont"), 2);
		qmp_peer_send(&client->peer, texts[i]);
		expect_closed(client, ERR_CORRUPT);
		expect_err(client, &answer, ERR_CORRUPT);
		teardown(&own);
	}
}

static void test_answer_twice(void **state)
{
	struct client *client = *state;
	struct answer answer = {0};
	negotiate(client);
	qmp_execute(client->qmp, "cont", NULL, 0, on_answer, &answer);
	long id = expect_command(client, "cont");
	reply(client, id, "\"return\": {}");
	reply(client, id, "\"return\": {}");
	expect_closed(client, ERR_CORRUPT);
	assert_int_equal(answer.times, 1);
	json_decref(answer.result);
}

static void test_oversize_line(void **state)
{
	struct client *client = *state;
	negotiate(client);
	_cleanup_free_ char *text = mem_calloc(1, QMP_LINE_MAX + 2);
	memset(text, ' ', QMP_LINE_MAX + 1);
	qmp_peer_send(&client->peer, text);
	expect_closed(client, ERR_LIMIT);
}

static void test_depth(void **state)
{
	struct client *client = *state;
	negotiate(client);
	_cleanup_free_ char *text = mem_calloc(1, 100002);
	memset(text, '[', 100000);
	text[100000] = '\n';
	qmp_peer_send(&client->peer, text);
	expect_closed(client, ERR_CORRUPT);
}

static void test_deadline_and_late_answer(void **state)
{
	struct client *client = *state;
	struct answer slow = {0}, next = {0};
	negotiate(client);
	qmp_execute(client->qmp, "screendump", NULL, 20, on_answer, &slow);
	long id = expect_command(client, "screendump");
	expect_err(client, &slow, ERR_TIMEOUT);
	assert_non_null(strstr(slow.err.msg, "screendump"));
	/* nothing has a deadline now: the loop sleeps */
	assert_int_equal(uv_backend_timeout(&client->loop), -1);
	qmp_execute(client->qmp, "cont", NULL, 0, on_answer, &next);
	long next_id = expect_command(client, "cont");
	reply(client, id, "\"return\": {}");
	reply(client, next_id, "\"return\": {}");
	assert_true(qmp_peer_wait(&client->peer, &next.done));
	assert_false(client->closed);
	assert_int_equal(slow.times, 1);
	json_decref(next.result);
	/* once dropped, it is unknown */
	reply(client, id, "\"return\": {}");
	expect_closed(client, ERR_CORRUPT);
}

static void test_deadlines_in_order(void **state)
{
	struct client *client = *state;
	struct answer late = {0}, soon = {0};
	negotiate(client);
	qmp_execute(client->qmp, "a", NULL, 60000, on_answer, &late);
	qmp_execute(client->qmp, "b", NULL, 20, on_answer, &soon);
	expect_err(client, &soon, ERR_TIMEOUT);
	assert_false(late.done);
	client_close(client);
	expect_err(client, &late, ERR_CANCELLED);
}

static void test_early_command_expires_unsent(void **state)
{
	struct client *client = *state;
	struct answer early = {0}, next = {0};
	qmp_execute(client->qmp, "early", NULL, 20, on_answer, &early);
	expect_err(client, &early, ERR_TIMEOUT);
	negotiate(client);
	qmp_execute(client->qmp, "next", NULL, 20, on_answer, &next);
	expect_command(client, "next");
	expect_err(client, &next, ERR_TIMEOUT);
}

static void test_close_in_answer(void **state)
{
	struct client *client = *state;
	struct answer first = {.client = client, .close = true}, second = {0};
	negotiate(client);
	qmp_execute(client->qmp, "a", NULL, 0, on_answer, &first);
	qmp_execute(client->qmp, "b", NULL, 0, on_answer, &second);
	long a = expect_command(client, "a");
	long b = expect_command(client, "b");
	char text[128];
	snprintf(text, sizeof(text), "{\"return\":{},\"id\":%ld}\n{\"return\":{},\"id\":%ld}\n", a,
		 b);
	qmp_peer_send(&client->peer, text);
	expect_err(client, &second, ERR_CANCELLED);
	assert_true(first.done);
	assert_false(client->closed);
	json_decref(first.result);
}

static void test_close_in_each_callback(void **state)
{
	struct client *client = *state;
	client->close_on_ready = true;
	assert_true(qmp_peer_negotiate(&client->peer));
	assert_true(qmp_peer_wait(&client->peer, &client->ready));
	assert_null(client->qmp);

	void *own;
	setup(&own);
	client = own;
	negotiate(client);
	client->close_on_event = true;
	qmp_peer_send(&client->peer, "{\"event\":\"A\"}\n{\"event\":\"B\"}\nrubbish\n");
	qmp_peer_run(&client->peer, 10);
	assert_int_equal(client->n_events, 1);
	assert_false(client->closed);
	teardown(&own);

	setup(&own);
	client = own;
	client->close_on_closed = true;
	struct answer answers[3] = {{0}, {.client = client, .close = true}, {0}};
	for (size_t i = 0; i < ARRAY_LEN(answers); i++)
		qmp_execute(client->qmp, "a", NULL, 0, on_answer, &answers[i]);
	qmp_peer_send(&client->peer, "rubbish\n");
	expect_err(client, &answers[2], ERR_CANCELLED);
	assert_int_equal(answers[0].err.code, ERR_CORRUPT);
	assert_false(client->closed);
	teardown(&own);

	setup(&own);
	client = own;
	client->close_on_closed = true;
	qmp_peer_send(&client->peer, "rubbish\n");
	assert_true(qmp_peer_wait(&client->peer, &client->closed));
	assert_null(client->qmp);
	teardown(&own);
}

static void test_close_in_expiry(void **state)
{
	struct client *client = *state;
	struct answer first = {.client = client, .close = true}, second = {0};
	negotiate(client);
	qmp_execute(client->qmp, "a", NULL, 10, on_answer, &first);
	qmp_execute(client->qmp, "b", NULL, 10, on_answer, &second);
	expect_err(client, &second, ERR_CANCELLED);
	assert_int_equal(first.err.code, ERR_TIMEOUT);
}

static void test_execute_in_answer(void **state)
{
	struct client *client = *state;
	struct answer answer = {.client = client, .execute_again = true};
	negotiate(client);
	qmp_execute(client->qmp, "cont", NULL, 0, on_answer, &answer);
	reply(client, expect_command(client, "cont"), "\"return\": {}");
	reply(client, expect_command(client, "stop"), "\"return\": {}");
	qmp_peer_run(&client->peer, 5);
	assert_true(answer.done);
	assert_false(client->closed);
	json_decref(answer.result);
}

static void test_execute_after_the_end(void **state)
{
	struct client *client = *state;
	struct answer answer = {0}, late = {0};
	negotiate(client);
	qmp_execute(client->qmp, "quit", NULL, 0, on_answer, &answer);
	expect_command(client, "quit");
	shutdown(client->peer.fd, SHUT_RDWR);
	assert_true(qmp_peer_wait(&client->peer, &client->closed));
	assert_int_equal(client->err.code, ERR_UNAVAILABLE);
	expect_err(client, &answer, ERR_UNAVAILABLE);
	qmp_execute(client->qmp, "cont", NULL, 0, on_answer, &late);
	assert_false(late.done);
	expect_err(client, &late, ERR_UNAVAILABLE);
}

/* QEMU answers "quit" and goes, the end of the command unread: the answer still comes, then an end.
 */
static void test_last_words(void **state)
{
	struct client *client = *state;
	struct answer answer = {0};
	negotiate(client);
	qmp_execute(client->qmp, "quit", NULL, 0, on_answer, &answer);
	long id = expect_command(client, "quit");
	qmp_execute(client->qmp, "cont", NULL, 0, NULL, NULL);
	qmp_peer_run(&client->peer, 2);
	char text[64];
	snprintf(text, sizeof(text), "{\"return\":{},\"id\":%ld}\n", id);
	assert_true(send(client->peer.fd, text, strlen(text), MSG_NOSIGNAL) > 0);
	close(TAKE_FD(client->peer.fd));
	assert_true(qmp_peer_wait(&client->peer, &client->closed));
	assert_int_equal(client->err.code, ERR_UNAVAILABLE);
	assert_non_null(answer.result);
	json_decref(answer.result);
}

/* The same for events, when a command of ours runs into the closed socket first. */
static void test_last_event(void **state)
{
	static const char text[] = "{\"event\":\"SHUTDOWN\"}\n";
	struct client *client = *state;
	struct answer answer = {0};
	negotiate(client);
	assert_true(send(client->peer.fd, text, strlen(text), MSG_NOSIGNAL) > 0);
	close(TAKE_FD(client->peer.fd));
	qmp_execute(client->qmp, "query-status", NULL, 0, on_answer, &answer);
	assert_true(qmp_peer_wait(&client->peer, &client->closed));
	assert_string_equal(client->last_event, "SHUTDOWN");
	assert_int_equal(client->err.code, ERR_UNAVAILABLE);
	expect_err(client, &answer, ERR_UNAVAILABLE);
}

static void test_fd(void **state)
{
	struct client *client = *state;
	struct answer answer = {0};
	struct stat sent, got;
	int fd = open("/dev/null", O_RDONLY | O_CLOEXEC);
	fstat(fd, &sent);
	/* before the greeting: kept until its line goes out */
	qmp_execute(client->qmp, "first", NULL, 0, NULL, NULL);
	qmp_execute_fd(client->qmp, "getfd", json_pack("{s:s}", "fdname", "tap"), fd, 0, on_answer,
		       &answer);
	close(fd);
	negotiate(client);
	expect_command(client, "first");
	assert_int_equal(client->peer.n_fds, 0);
	long id = expect_command(client, "getfd");
	assert_int_equal(client->peer.n_fds, 1);
	fstat(client->peer.last_fd, &got);
	assert_int_equal(got.st_rdev, sent.st_rdev);
	reply(client, id, "\"return\": {}");
	assert_true(qmp_peer_wait(&client->peer, &answer.done));
	json_decref(answer.result);
}

static void test_bad_fd_and_args(void **state)
{
	struct client *client = *state;
	struct answer bad_fd = {0}, bad_args = {0};
	negotiate(client);
	qmp_execute_fd(client->qmp, "getfd", NULL, 100000, 0, on_answer, &bad_fd);
	assert_false(bad_fd.done);
	expect_err(client, &bad_fd, ERR_IO);
	json_t *args = json_object();
	json_object_set_new(args, "x", json_stringn_nocheck("\xff", 1));
	qmp_execute(client->qmp, "cont", args, 0, on_answer, &bad_args);
	assert_false(bad_args.done);
	expect_err(client, &bad_args, ERR_INVALID);
}

static void test_event_flood(void **state)
{
	struct client *client = *state;
	negotiate(client);
	for (int i = 1; i <= 20000; i++) {
		char text[64];
		snprintf(text, sizeof(text), "{\"event\": \"E\", \"data\": {\"n\": %d}}\r\n", i);
		qmp_peer_send(&client->peer, text);
	}
	qmp_peer_run(&client->peer, 5);
	assert_int_equal(client->n_events, 20000);
	assert_int_equal(client->last_event_n, 20000);
}

/* The peer reads nothing: commands end by their limit and their deadlines, memory is bounded. */
static void test_peer_stops_reading(void **state)
{
	struct client *client = *state;
	static struct answer answers[300];
	memset(answers, 0, sizeof(answers));
	negotiate(client);
	_cleanup_free_ char *text = mem_calloc(1, 100001);
	memset(text, 'x', 100000);
	for (size_t i = 0; i < ARRAY_LEN(answers); i++)
		qmp_execute(client->qmp, "big", json_pack("{s:s}", "x", text), 100, on_answer,
			    &answers[i]);
	int limit = 0, timeout = 0;
	for (size_t i = 0; i < ARRAY_LEN(answers); i++) {
		assert_true(qmp_peer_wait(&client->peer, &answers[i].done));
		assert_int_equal(answers[i].times, 1);
		limit += answers[i].err.code == ERR_LIMIT;
		timeout += answers[i].err.code == ERR_TIMEOUT;
	}
	assert_true(limit > 100);
	assert_int_equal(limit + timeout, ARRAY_LEN(answers));
	assert_false(client->closed);
}

static void test_connect(void **state)
{
	struct client *client = *state;
	struct qmp *other = NULL;
	struct err err;
	char dir[] = "/tmp/test-qmp-XXXXXX", path[64], absent[64];
	assert_non_null(mkdtemp(dir));
	snprintf(path, sizeof(path), "%s/s", dir);
	snprintf(absent, sizeof(absent), "%s/none", dir);
	struct sockaddr_un addr = {.sun_family = AF_UNIX};
	snprintf(addr.sun_path, sizeof(addr.sun_path), "%s", path);
	_cleanup_close_ int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	assert_int_equal(bind(fd, (struct sockaddr *)&addr, sizeof(addr)), 0);
	assert_int_equal(qmp_connect(&client->loop, absent, &ops, client, 0, &other, &err), -1);
	assert_int_equal(err.code, ERR_NOT_FOUND);
	assert_int_equal(qmp_connect(&client->loop, path, &ops, client, 0, &other, &err), -1);
	assert_int_equal(err.code, ERR_UNAVAILABLE);
	char much[200];
	memset(much, 'x', sizeof(much) - 1);
	much[sizeof(much) - 1] = '\0';
	assert_int_equal(qmp_connect(&client->loop, much, &ops, client, 0, &other, &err), -1);
	assert_int_equal(err.code, ERR_INVALID);
	assert_null(other);

	/* a backlog of 0 holds one: the next must not block */
	assert_int_equal(listen(fd, 0), 0);
	assert_int_equal(qmp_connect(&client->loop, path, &ops, client, 0, &other, &err), 0);
	struct qmp *third = NULL;
	assert_int_equal(qmp_connect(&client->loop, path, &ops, client, 0, &third, &err), -1);
	assert_int_equal(err.code, ERR_UNAVAILABLE);
	qmp_close(other);
	unlink(path);
	rmdir(dir);
}

int main(void)
{
#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
	const struct CMUnitTest tests[] = {
		TEST(test_command),
		TEST(test_early_commands_wait),
		TEST(test_byte_by_byte),
		TEST(test_refusals),
		TEST(test_no_greeting),
		TEST(test_no_capabilities),
		TEST(test_capabilities_refused),
		TEST(test_bad_greeting),
		TEST(test_garbage),
		TEST(test_broken_messages),
		TEST(test_answer_twice),
		TEST(test_oversize_line),
		TEST(test_depth),
		TEST(test_deadline_and_late_answer),
		TEST(test_deadlines_in_order),
		TEST(test_early_command_expires_unsent),
		TEST(test_close_in_answer),
		TEST(test_close_in_each_callback),
		TEST(test_close_in_expiry),
		TEST(test_execute_in_answer),
		TEST(test_execute_after_the_end),
		TEST(test_last_words),
		TEST(test_last_event),
		TEST(test_fd),
		TEST(test_bad_fd_and_args),
		TEST(test_event_flood),
		TEST(test_peer_stops_reading),
		TEST(test_connect),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
