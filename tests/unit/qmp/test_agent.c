#include "qmp/agent.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/mem.h"
#include "tests/fake/qmp_peer.h"

struct client {
	uv_loop_t loop;
	struct qmp_peer peer;
	struct agent *agent;
	bool closed;
	int n_closed;
	struct err err;
};

struct answer {
	struct client *client;
	bool done;
	int times;
	json_t *result;
	struct err err;
	bool close;
};

static void on_closed(void *owner, const struct err *err)
{
	struct client *client = owner;
	client->closed = true;
	client->n_closed++;
	client->err = *err;
}

static void on_answer(void *data, json_t *result, const struct err *err)
{
	struct answer *answer = data;
	answer->done = true;
	answer->times++;
	answer->result = json_incref(result);
	if (err)
		answer->err = *err;
	if (answer->close)
		agent_close(TAKE_PTR(answer->client->agent));
}

static int setup(void **state)
{
	struct client *client = mem_new(struct client);
	struct err err;
	uv_loop_init(&client->loop);
	int fd = qmp_peer_open(&client->peer, &client->loop);
	assert_int_equal(agent_open(&client->loop, fd, on_closed, client, &client->agent, &err), 0);
	*state = client;
	return 0;
}

static int teardown(void **state)
{
	struct client *client = *state;
	agent_close(TAKE_PTR(client->agent));
	uv_run(&client->loop, UV_RUN_DEFAULT);
	assert_int_equal(uv_loop_close(&client->loop), 0);
	qmp_peer_close(&client->peer);
	free(client);
	return 0;
}

static long expect_sync(struct client *client)
{
	const char *line = qmp_peer_line(&client->peer);
	assert_non_null(line);
	assert_int_equal((unsigned char)line[0], 0xff);
	_cleanup_json_ json_t *msg = json_loads(line + 1, 0, NULL);
	assert_string_equal(json_string_value(json_object_get(msg, "execute")),
			    "guest-sync-delimited");
	json_t *id = json_object_get(json_object_get(msg, "arguments"), "id");
	assert_true(json_integer_value(id) > 0);
	return (long)json_integer_value(id);
}

static void answer_sync(struct client *client, long id)
{
	char text[64];
	snprintf(text, sizeof(text), "\xff{\"return\": %ld}\n", id);
	qmp_peer_send(&client->peer, text);
}

static void expect_command(struct client *client, const char *name)
{
	const char *line = qmp_peer_line(&client->peer);
	assert_non_null(line);
	_cleanup_json_ json_t *msg = json_loads(line, 0, NULL);
	assert_string_equal(json_string_value(json_object_get(msg, "execute")), name);
	assert_null(json_object_get(msg, "id"));
}

static void begin(struct client *client, const char *name)
{
	answer_sync(client, expect_sync(client));
	expect_command(client, name);
}

static void expect_done(struct client *client, struct answer *answer, enum err_code code)
{
	assert_true(qmp_peer_wait(&client->peer, &answer->done));
	if (answer->err.code != code)
		fail_msg("%s: %s", err_code_name(answer->err.code), answer->err.msg);
	assert_int_equal(answer->times, 1);
}

static void test_command(void **state)
{
	struct client *client = *state;
	struct answer answer = {0};
	agent_execute(client->agent, "guest-ping", json_pack("{s:i}", "a", 7), 0, 0, on_answer,
		      &answer);
	assert_false(answer.done);
	begin(client, "guest-ping");
	assert_non_null(strstr(client->peer.buf, "\"arguments\":{\"a\":7}"));
	qmp_peer_send_slowly(&client->peer, "{\"return\": {\"x\": 1}}\n");
	expect_done(client, &answer, 0);
	assert_int_equal(json_integer_value(json_object_get(answer.result, "x")), 1);
	json_decref(answer.result);
	/* nothing has a deadline, nothing is read: the loop sleeps */
	assert_false(uv_loop_alive(&client->loop));
}

/* What lies in the channel from before, and the answers to syncs of others, are not ours. */
static void test_rubbish_before_the_sync(void **state)
{
	struct client *client = *state;
	struct answer answer = {0};
	agent_execute(client->agent, "guest-ping", NULL, 0, 0, on_answer, &answer);
	long id = expect_sync(client);
	qmp_peer_send(&client->peer, "Welcome to Linux\nlogin: {\"return\": {}}\n");
	answer_sync(client, id == 1 ? 2 : id - 1);
	qmp_peer_send(&client->peer, "{\"return\": \"late\"}\n{\"error\": {}}\n\xff[[[\n\xff\n");
	assert_false(answer.done);
	answer_sync(client, id);
	expect_command(client, "guest-ping");
	qmp_peer_send(&client->peer, "{\"return\": {}}\n");
	expect_done(client, &answer, 0);
	assert_false(client->closed);
	json_decref(answer.result);
}

static void test_absent_then_there(void **state)
{
	struct client *client = *state;
	struct answer first = {0}, second = {0};
	agent_execute(client->agent, "guest-ping", NULL, 20, 0, on_answer, &first);
	expect_done(client, &first, ERR_TIMEOUT);
	assert_non_null(strstr(first.err.msg, "guest-ping"));
	/* the agent comes up, finds both syncs, and answers both */
	agent_execute(client->agent, "guest-info", NULL, 0, 0, on_answer, &second);
	answer_sync(client, expect_sync(client));
	answer_sync(client, expect_sync(client));
	expect_command(client, "guest-info");
	qmp_peer_send(&client->peer, "{\"return\": {}}\n");
	expect_done(client, &second, 0);
	json_decref(second.result);
}

static void test_late_answer_is_not_the_next_one(void **state)
{
	struct client *client = *state;
	struct answer slow = {0}, next = {0};
	agent_execute(client->agent, "guest-fsfreeze-freeze", NULL, 30, 0, on_answer, &slow);
	begin(client, "guest-fsfreeze-freeze");
	expect_done(client, &slow, ERR_TIMEOUT);
	agent_execute(client->agent, "guest-ping", NULL, 0, 0, on_answer, &next);
	qmp_peer_send(&client->peer, "{\"return\": 42}\n");
	begin(client, "guest-ping");
	qmp_peer_send(&client->peer, "{\"return\": {}}\n");
	expect_done(client, &next, 0);
	assert_true(json_is_object(next.result));
	json_decref(next.result);
}

/* Months without an agent: the attempts fill the socket and then the queue, and all still end. */
static void test_never_reads(void **state)
{
	struct client *client = *state;
	for (int i = 0; i < 40000; i++) {
		struct answer answer = {0};
		agent_execute(client->agent, "guest-ping", NULL, 1, 0, on_answer, &answer);
		expect_done(client, &answer, ERR_TIMEOUT);
		if (strstr(answer.err.msg, "does not read"))
			break;
		assert_true(i < 39999);
	}
	assert_false(client->closed);
	/* it wakes at last: once it has read what is there, the next attempt works */
	struct answer answer = {0};
	char rest[4096];
	while (recv(client->peer.fd, rest, sizeof(rest), MSG_DONTWAIT) > 0)
		qmp_peer_run(&client->peer, 1);
	agent_execute(client->agent, "guest-ping", NULL, 0, 0, on_answer, &answer);
	begin(client, "guest-ping");
	qmp_peer_send(&client->peer, "{\"return\": {}}\n");
	expect_done(client, &answer, 0);
	json_decref(answer.result);
}

static void test_refusal_and_rubbish(void **state)
{
	static const struct {
		const char *text;
		enum err_code code;
	} rows[] = {
		{"{\"error\": {\"class\": \"CommandNotFound\", \"desc\": \"x\"}}\n",
		 ERR_UNSUPPORTED},
		{"{\"error\": {\"class\": \"GenericError\", \"desc\": \"x\"}}\n", ERR_UNAVAILABLE},
		{"{\"error\": {}}\n", ERR_UNAVAILABLE},
		{"{\"error\": 1}\n", ERR_CORRUPT},
		{"{\"error\": {}, \"return\": {}}\n", ERR_CORRUPT},
		{"{}\n", ERR_CORRUPT},
		{"\n", ERR_CORRUPT},
		{"rubbish\n", ERR_CORRUPT},
		{"\xff\xff\xff\n", ERR_CORRUPT},
	};
	struct client *client = *state;
	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		struct answer answer = {0};
		agent_execute(client->agent, "guest-ping", NULL, 0, 0, on_answer, &answer);
		begin(client, "guest-ping");
		qmp_peer_send(&client->peer, rows[i].text);
		expect_done(client, &answer, rows[i].code);
		assert_null(answer.result);
	}
	assert_false(client->closed);
}

static void test_depth(void **state)
{
	struct client *client = *state;
	struct answer answer = {0};
	agent_execute(client->agent, "guest-ping", NULL, 0, 0, on_answer, &answer);
	begin(client, "guest-ping");
	_cleanup_free_ char *text = mem_calloc(1, 100002);
	memset(text, '[', 100000);
	text[100000] = '\n';
	qmp_peer_send(&client->peer, text);
	expect_done(client, &answer, ERR_CORRUPT);
}

static void test_oversize_line(void **state)
{
	struct client *client = *state;
	struct answer answer = {0};
	agent_execute(client->agent, "guest-ping", NULL, 0, 0, on_answer, &answer);
	begin(client, "guest-ping");
	_cleanup_free_ char *text = mem_calloc(1, AGENT_LINE_MAX + 2);
	memset(text, 'x', AGENT_LINE_MAX + 1);
	qmp_peer_send(&client->peer, text);
	expect_done(client, &answer, ERR_LIMIT);
	assert_true(client->closed);
	assert_int_equal(client->err.code, ERR_LIMIT);
}

/* A guest that floods: nothing is kept while syncing, nothing is read between exchanges. */
static void test_flood(void **state)
{
	struct client *client = *state;
	struct answer answer = {0};
	_cleanup_free_ char *text = mem_calloc(1, 4 * AGENT_LINE_MAX + 1);
	memset(text, 'x', 4 * (size_t)AGENT_LINE_MAX);
	agent_execute(client->agent, "guest-ping", NULL, 2000, 0, on_answer, &answer);
	long id = expect_sync(client);
	qmp_peer_send(&client->peer, text);
	answer_sync(client, id);
	expect_command(client, "guest-ping");
	qmp_peer_send(&client->peer, "{\"return\": {}}\n");
	expect_done(client, &answer, 0);
	json_decref(answer.result);
	ssize_t n = 0, taken = 0;
	while ((n = send(client->peer.fd, text, 65536, MSG_NOSIGNAL)) > 0) {
		taken += n;
		qmp_peer_run(&client->peer, 1);
	}
	assert_true(taken < 2 * 1024 * 1024);
}

static void test_shutdown(void **state)
{
	struct client *client = *state;
	struct answer silent = {0}, refused = {0}, ended = {0};
	/* a guest that suspends says nothing more */
	agent_execute(client->agent, "guest-suspend-ram", NULL, 50, AGENT_MAY_END, on_answer,
		      &silent);
	begin(client, "guest-suspend-ram");
	expect_done(client, &silent, 0);
	assert_null(silent.result);

	agent_execute(client->agent, "guest-shutdown", NULL, 0, AGENT_MAY_END, on_answer, &refused);
	begin(client, "guest-shutdown");
	qmp_peer_send(&client->peer,
		      "{\"error\": {\"class\": \"GenericError\", \"desc\": \"x\"}}\n");
	expect_done(client, &refused, ERR_UNAVAILABLE);

	agent_execute(client->agent, "guest-shutdown", NULL, 0, AGENT_MAY_END, on_answer, &ended);
	begin(client, "guest-shutdown");
	shutdown(client->peer.fd, SHUT_RDWR);
	expect_done(client, &ended, 0);
	assert_true(qmp_peer_wait(&client->peer, &client->closed));
	assert_int_equal(client->err.code, ERR_UNAVAILABLE);
	assert_int_equal(client->n_closed, 1);
}

/* MAY_END excuses silence only of an agent that was there and took the command. */
static void test_shutdown_of_nobody(void **state)
{
	struct client *client = *state;
	struct answer absent = {0}, ended = {0}, waiting = {0};
	agent_execute(client->agent, "guest-shutdown", NULL, 20, AGENT_MAY_END, on_answer, &absent);
	expect_done(client, &absent, ERR_TIMEOUT);
	agent_execute(client->agent, "guest-shutdown", NULL, 0, AGENT_MAY_END, on_answer, &ended);
	agent_execute(client->agent, "guest-shutdown", NULL, 0, AGENT_MAY_END, on_answer, &waiting);
	qmp_peer_run(&client->peer, 2);
	shutdown(client->peer.fd, SHUT_RDWR);
	expect_done(client, &ended, ERR_UNAVAILABLE);
	expect_done(client, &waiting, ERR_UNAVAILABLE);
}

static void test_end(void **state)
{
	struct client *client = *state;
	struct answer answer = {0}, late = {0};
	agent_execute(client->agent, "guest-ping", NULL, 0, 0, on_answer, &answer);
	begin(client, "guest-ping");
	shutdown(client->peer.fd, SHUT_RDWR);
	expect_done(client, &answer, ERR_UNAVAILABLE);
	assert_true(client->closed);
	agent_execute(client->agent, "guest-ping", NULL, 0, 0, on_answer, &late);
	assert_false(late.done);
	expect_done(client, &late, ERR_UNAVAILABLE);
}

static void test_queue(void **state)
{
	struct client *client = *state;
	struct answer answers[AGENT_QUEUE_MAX + 2] = {0};
	for (size_t i = 0; i < ARRAY_LEN(answers); i++)
		agent_execute(client->agent, i % 2 ? "guest-info" : "guest-ping", NULL,
			      i == 1 ? 30 : 0, 0, on_answer, &answers[i]);
	expect_done(client, &answers[AGENT_QUEUE_MAX], ERR_BUSY);
	expect_done(client, &answers[AGENT_QUEUE_MAX + 1], ERR_BUSY);
	/* one that waits may expire while the first is still at it */
	expect_done(client, &answers[1], ERR_TIMEOUT);
	assert_false(answers[0].done);
	for (size_t i = 0; i < AGENT_QUEUE_MAX; i++) {
		if (i == 1)
			continue;
		begin(client, i % 2 ? "guest-info" : "guest-ping");
		qmp_peer_send(&client->peer, "{\"return\": {}}\n");
		expect_done(client, &answers[i], 0);
		json_decref(answers[i].result);
	}
}

static void test_close_in_answer(void **state)
{
	struct client *client = *state;
	struct answer first = {.client = client, .close = true}, second = {0};
	agent_execute(client->agent, "a", NULL, 0, 0, on_answer, &first);
	agent_execute(client->agent, "b", NULL, 0, 0, on_answer, &second);
	begin(client, "a");
	qmp_peer_send(&client->peer, "{\"return\": {}}\n{\"return\": {}}\n");
	expect_done(client, &first, 0);
	expect_done(client, &second, ERR_CANCELLED);
	assert_false(client->closed);
	json_decref(first.result);
}

static void test_close_in_expiry_and_end(void **state)
{
	struct client *client = *state;
	struct answer first = {.client = client, .close = true}, second = {0};
	agent_execute(client->agent, "a", NULL, 10, 0, on_answer, &first);
	agent_execute(client->agent, "b", NULL, 10, 0, on_answer, &second);
	expect_done(client, &first, ERR_TIMEOUT);
	expect_done(client, &second, ERR_CANCELLED);

	void *own;
	setup(&own);
	client = own;
	first = (struct answer){.client = client, .close = true};
	second = (struct answer){0};
	agent_execute(client->agent, "a", NULL, 0, 0, on_answer, &first);
	agent_execute(client->agent, "b", NULL, 0, 0, on_answer, &second);
	qmp_peer_run(&client->peer, 2);
	shutdown(client->peer.fd, SHUT_RDWR);
	expect_done(client, &first, ERR_UNAVAILABLE);
	expect_done(client, &second, ERR_CANCELLED);
	assert_false(client->closed);
	teardown(&own);
}

int main(void)
{
#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
	const struct CMUnitTest tests[] = {
		TEST(test_command),
		TEST(test_rubbish_before_the_sync),
		TEST(test_absent_then_there),
		TEST(test_late_answer_is_not_the_next_one),
		TEST(test_never_reads),
		TEST(test_refusal_and_rubbish),
		TEST(test_depth),
		TEST(test_oversize_line),
		TEST(test_flood),
		TEST(test_shutdown),
		TEST(test_shutdown_of_nobody),
		TEST(test_end),
		TEST(test_queue),
		TEST(test_close_in_answer),
		TEST(test_close_in_expiry_and_end),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
