/* Peers that lie, hang, flood or go away in the middle of a word. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/mem.h"
#include "tests/unit/qmp/client.h"

static void test_no_greeting(void **state)
{
	struct client *client = *state;
	struct answer answer = {0};
	qmp_execute(client->qmp, "query-status", NULL, 60000, client_on_answer, &answer);
	client_expect_closed(client, ERR_TIMEOUT);
	client_expect_err(client, &answer, ERR_TIMEOUT);
}

static void test_no_capabilities(void **state)
{
	struct client *client = *state;
	qmp_peer_send(&client->peer, QMP_PEER_GREETING);
	client_expect_command(client, "qmp_capabilities");
	client_expect_closed(client, ERR_TIMEOUT);
	assert_int_equal(client->n_ready, 0);
}

static void test_capabilities_refused(void **state)
{
	struct client *client = *state;
	qmp_peer_send(&client->peer, QMP_PEER_GREETING);
	long id = client_expect_command(client, "qmp_capabilities");
	client_reply(client, id, "\"error\": {\"class\": \"GenericError\", \"desc\": \"no\"}");
	client_expect_closed(client, ERR_UNAVAILABLE);
}

/* What a peer may say as its first word, without being QMP. */
static void test_bad_greeting(void **state)
{
	struct client *client = *state;
	qmp_peer_send(&client->peer, "{\"event\": \"RESUME\"}\r\n");
	client_expect_closed(client, ERR_CORRUPT);
}

static void test_garbage(void **state)
{
	struct client *client = *state;
	qmp_peer_send(&client->peer, "SSH-2.0-OpenSSH_9.2\r\n");
	client_expect_closed(client, ERR_CORRUPT);
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
		client_setup(&own);
		struct client *client = own;
		client_negotiate(client);
		qmp_execute(client->qmp, "cont", NULL, 0, client_on_answer, &answer);
		assert_int_equal(client_expect_command(client, "cont"), 2);
		qmp_peer_send(&client->peer, texts[i]);
		client_expect_closed(client, ERR_CORRUPT);
		client_expect_err(client, &answer, ERR_CORRUPT);
		client_teardown(&own);
	}
}

static void test_answer_twice(void **state)
{
	struct client *client = *state;
	struct answer answer = {0};
	client_negotiate(client);
	qmp_execute(client->qmp, "cont", NULL, 0, client_on_answer, &answer);
	long id = client_expect_command(client, "cont");
	client_reply(client, id, "\"return\": {}");
	client_reply(client, id, "\"return\": {}");
	client_expect_closed(client, ERR_CORRUPT);
	assert_int_equal(answer.times, 1);
	json_decref(answer.result);
}

static void test_oversize_line(void **state)
{
	struct client *client = *state;
	client_negotiate(client);
	_cleanup_free_ char *text = mem_calloc(1, QMP_LINE_MAX + 2);
	memset(text, ' ', QMP_LINE_MAX + 1);
	qmp_peer_send(&client->peer, text);
	client_expect_closed(client, ERR_LIMIT);
}

static void test_depth(void **state)
{
	struct client *client = *state;
	client_negotiate(client);
	_cleanup_free_ char *text = mem_calloc(1, 100002);
	memset(text, '[', 100000);
	text[100000] = '\n';
	qmp_peer_send(&client->peer, text);
	client_expect_closed(client, ERR_CORRUPT);
}

/* QEMU answers "quit" and goes, the end of the command unread: the answer still comes, then an end.
 */
static void test_last_words(void **state)
{
	struct client *client = *state;
	struct answer answer = {0};
	client_negotiate(client);
	qmp_execute(client->qmp, "quit", NULL, 0, client_on_answer, &answer);
	long id = client_expect_command(client, "quit");
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
	client_negotiate(client);
	assert_true(send(client->peer.fd, text, strlen(text), MSG_NOSIGNAL) > 0);
	close(TAKE_FD(client->peer.fd));
	qmp_execute(client->qmp, "query-status", NULL, 0, client_on_answer, &answer);
	assert_true(qmp_peer_wait(&client->peer, &client->closed));
	assert_string_equal(client->last_event, "SHUTDOWN");
	assert_int_equal(client->err.code, ERR_UNAVAILABLE);
	client_expect_err(client, &answer, ERR_UNAVAILABLE);
}

static void test_event_flood(void **state)
{
	struct client *client = *state;
	client_negotiate(client);
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
	client_negotiate(client);
	_cleanup_free_ char *text = mem_calloc(1, 100001);
	memset(text, 'x', 100000);
	for (size_t i = 0; i < ARRAY_LEN(answers); i++)
		qmp_execute(client->qmp, "big", json_pack("{s:s}", "x", text), 100,
			    client_on_answer, &answers[i]);
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

int main(void)
{
#define TEST(f) cmocka_unit_test_setup_teardown(f, client_setup, client_teardown)
	const struct CMUnitTest tests[] = {
		TEST(test_no_greeting),
		TEST(test_no_capabilities),
		TEST(test_capabilities_refused),
		TEST(test_bad_greeting),
		TEST(test_garbage),
		TEST(test_broken_messages),
		TEST(test_answer_twice),
		TEST(test_oversize_line),
		TEST(test_depth),
		TEST(test_last_words),
		TEST(test_last_event),
		TEST(test_event_flood),
		TEST(test_peer_stops_reading),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
