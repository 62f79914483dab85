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
#include "tests/unit/qmp/client.h"

static void test_command(void **state)
{
	struct client *client = *state;
	struct answer answer = {0};
	client_negotiate(client);
	qmp_execute(client->qmp, "query-status", json_pack("{s:i}", "a", 7), 0, client_on_answer,
		    &answer);
	assert_false(answer.done);
	long id = client_expect_command(client, "query-status");
	assert_non_null(strstr(client->peer.buf, "\"arguments\":{\"a\":7}"));
	client_reply(client, id, "\"return\": {\"status\": \"running\"}");
	assert_true(qmp_peer_wait(&client->peer, &answer.done));
	assert_string_equal(json_string_value(json_object_get(answer.result, "status")), "running");
	json_decref(answer.result);
	assert_int_equal(client->n_ready, 1);
}

static void test_early_commands_wait(void **state)
{
	struct client *client = *state;
	struct answer answers[2] = {0};
	qmp_execute(client->qmp, "one", NULL, 0, client_on_answer, &answers[0]);
	qmp_execute(client->qmp, "two", NULL, 0, client_on_answer, &answers[1]);
	qmp_peer_run(&client->peer, 5);
	client_negotiate(client);
	long one = client_expect_command(client, "one");
	long two = client_expect_command(client, "two");
	client_reply(client, one, "\"return\": {}");
	client_reply(client, two, "\"return\": {}");
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
	long id = client_expect_command(client, "qmp_capabilities");
	char text[256];
	snprintf(text, sizeof(text),
		 "{\"event\":\"RESUME\",\"data\":{\"n\":3}}\r\n{\"return\":{},\"id\":%ld}\n", id);
	qmp_peer_send_slowly(&client->peer, text);
	assert_true(client->ready);
	/* QEMU may send an event between negotiating and saying so */
	assert_string_equal(client->last_event, "RESUME");
	assert_int_equal(client->last_event_n, 3);
	qmp_execute(client->qmp, "cont", NULL, 0, client_on_answer, &answer);
	id = client_expect_command(client, "cont");
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
	client_negotiate(client);
	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		struct answer answer = {0};
		char rest[256];
		qmp_execute(client->qmp, "eject", NULL, 0, client_on_answer, &answer);
		long id = client_expect_command(client, "eject");
		snprintf(rest, sizeof(rest),
			 "\"error\": {\"class\": \"%s\", \"desc\": \"no luck\"}", rows[i].class);
		client_reply(client, id, rest);
		client_expect_err(client, &answer, rows[i].code);
		assert_string_equal(answer.err.msg, "eject: no luck");
	}
	assert_false(client->closed);
}

static void test_deadline_and_late_answer(void **state)
{
	struct client *client = *state;
	struct answer slow = {0}, next = {0};
	client_negotiate(client);
	qmp_execute(client->qmp, "screendump", NULL, 20, client_on_answer, &slow);
	long id = client_expect_command(client, "screendump");
	client_expect_err(client, &slow, ERR_TIMEOUT);
	assert_non_null(strstr(slow.err.msg, "screendump"));
	/* nothing has a deadline now: the loop sleeps */
	assert_int_equal(uv_backend_timeout(&client->loop), -1);
	qmp_execute(client->qmp, "cont", NULL, 0, client_on_answer, &next);
	long next_id = client_expect_command(client, "cont");
	client_reply(client, id, "\"return\": {}");
	client_reply(client, next_id, "\"return\": {}");
	assert_true(qmp_peer_wait(&client->peer, &next.done));
	assert_false(client->closed);
	assert_int_equal(slow.times, 1);
	json_decref(next.result);
	/* once dropped, it is unknown */
	client_reply(client, id, "\"return\": {}");
	client_expect_closed(client, ERR_CORRUPT);
}

static void test_deadlines_in_order(void **state)
{
	struct client *client = *state;
	struct answer late = {0}, soon = {0};
	client_negotiate(client);
	qmp_execute(client->qmp, "a", NULL, 60000, client_on_answer, &late);
	qmp_execute(client->qmp, "b", NULL, 20, client_on_answer, &soon);
	client_expect_err(client, &soon, ERR_TIMEOUT);
	assert_false(late.done);
	client_close(client);
	client_expect_err(client, &late, ERR_CANCELLED);
}

static void test_early_command_expires_unsent(void **state)
{
	struct client *client = *state;
	struct answer early = {0}, next = {0};
	qmp_execute(client->qmp, "early", NULL, 20, client_on_answer, &early);
	client_expect_err(client, &early, ERR_TIMEOUT);
	client_negotiate(client);
	qmp_execute(client->qmp, "next", NULL, 20, client_on_answer, &next);
	client_expect_command(client, "next");
	client_expect_err(client, &next, ERR_TIMEOUT);
}

static void test_close_in_answer(void **state)
{
	struct client *client = *state;
	struct answer first = {.client = client, .close = true}, second = {0};
	client_negotiate(client);
	qmp_execute(client->qmp, "a", NULL, 0, client_on_answer, &first);
	qmp_execute(client->qmp, "b", NULL, 0, client_on_answer, &second);
	long a = client_expect_command(client, "a");
	long b = client_expect_command(client, "b");
	char text[128];
	snprintf(text, sizeof(text), "{\"return\":{},\"id\":%ld}\n{\"return\":{},\"id\":%ld}\n", a,
		 b);
	qmp_peer_send(&client->peer, text);
	client_expect_err(client, &second, ERR_CANCELLED);
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
	client_setup(&own);
	client = own;
	client_negotiate(client);
	client->close_on_event = true;
	qmp_peer_send(&client->peer, "{\"event\":\"A\"}\n{\"event\":\"B\"}\nrubbish\n");
	qmp_peer_run(&client->peer, 10);
	assert_int_equal(client->n_events, 1);
	assert_false(client->closed);
	client_teardown(&own);

	client_setup(&own);
	client = own;
	client->close_on_closed = true;
	struct answer answers[3] = {{0}, {.client = client, .close = true}, {0}};
	for (size_t i = 0; i < ARRAY_LEN(answers); i++)
		qmp_execute(client->qmp, "a", NULL, 0, client_on_answer, &answers[i]);
	qmp_peer_send(&client->peer, "rubbish\n");
	client_expect_err(client, &answers[2], ERR_CANCELLED);
	assert_int_equal(answers[0].err.code, ERR_CORRUPT);
	assert_false(client->closed);
	client_teardown(&own);

	client_setup(&own);
	client = own;
	client->close_on_closed = true;
	qmp_peer_send(&client->peer, "rubbish\n");
	assert_true(qmp_peer_wait(&client->peer, &client->closed));
	assert_null(client->qmp);
	client_teardown(&own);
}

static void test_close_in_expiry(void **state)
{
	struct client *client = *state;
	struct answer first = {.client = client, .close = true}, second = {0};
	client_negotiate(client);
	qmp_execute(client->qmp, "a", NULL, 10, client_on_answer, &first);
	qmp_execute(client->qmp, "b", NULL, 10, client_on_answer, &second);
	client_expect_err(client, &second, ERR_CANCELLED);
	assert_int_equal(first.err.code, ERR_TIMEOUT);
}

static void test_execute_in_answer(void **state)
{
	struct client *client = *state;
	struct answer answer = {.client = client, .execute_again = true};
	client_negotiate(client);
	qmp_execute(client->qmp, "cont", NULL, 0, client_on_answer, &answer);
	client_reply(client, client_expect_command(client, "cont"), "\"return\": {}");
	client_reply(client, client_expect_command(client, "stop"), "\"return\": {}");
	qmp_peer_run(&client->peer, 5);
	assert_true(answer.done);
	assert_false(client->closed);
	json_decref(answer.result);
}

static void test_execute_after_the_end(void **state)
{
	struct client *client = *state;
	struct answer answer = {0}, late = {0};
	client_negotiate(client);
	qmp_execute(client->qmp, "quit", NULL, 0, client_on_answer, &answer);
	client_expect_command(client, "quit");
	shutdown(client->peer.fd, SHUT_RDWR);
	assert_true(qmp_peer_wait(&client->peer, &client->closed));
	assert_int_equal(client->err.code, ERR_UNAVAILABLE);
	client_expect_err(client, &answer, ERR_UNAVAILABLE);
	qmp_execute(client->qmp, "cont", NULL, 0, client_on_answer, &late);
	assert_false(late.done);
	client_expect_err(client, &late, ERR_UNAVAILABLE);
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
	qmp_execute_fd(client->qmp, "getfd", json_pack("{s:s}", "fdname", "tap"), fd, 0,
		       client_on_answer, &answer);
	close(fd);
	client_negotiate(client);
	client_expect_command(client, "first");
	assert_int_equal(client->peer.n_fds, 0);
	long id = client_expect_command(client, "getfd");
	assert_int_equal(client->peer.n_fds, 1);
	fstat(client->peer.last_fd, &got);
	assert_int_equal(got.st_rdev, sent.st_rdev);
	client_reply(client, id, "\"return\": {}");
	assert_true(qmp_peer_wait(&client->peer, &answer.done));
	json_decref(answer.result);
}

static void test_bad_fd_and_args(void **state)
{
	struct client *client = *state;
	struct answer bad_fd = {0}, bad_args = {0};
	client_negotiate(client);
	qmp_execute_fd(client->qmp, "getfd", NULL, 100000, 0, client_on_answer, &bad_fd);
	assert_false(bad_fd.done);
	client_expect_err(client, &bad_fd, ERR_IO);
	json_t *args = json_object();
	json_object_set_new(args, "x", json_stringn_nocheck("\xff", 1));
	qmp_execute(client->qmp, "cont", args, 0, client_on_answer, &bad_args);
	assert_false(bad_args.done);
	client_expect_err(client, &bad_args, ERR_INVALID);
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
	assert_int_equal(qmp_connect(&client->loop, absent, &client_ops, client, 0, &other, &err),
			 -1);
	assert_int_equal(err.code, ERR_NOT_FOUND);
	assert_int_equal(qmp_connect(&client->loop, path, &client_ops, client, 0, &other, &err),
			 -1);
	assert_int_equal(err.code, ERR_UNAVAILABLE);
	char much[200];
	memset(much, 'x', sizeof(much) - 1);
	much[sizeof(much) - 1] = '\0';
	assert_int_equal(qmp_connect(&client->loop, much, &client_ops, client, 0, &other, &err),
			 -1);
	assert_int_equal(err.code, ERR_INVALID);
	assert_null(other);

	/* a backlog of 0 holds one: the next must not block */
	assert_int_equal(listen(fd, 0), 0);
	assert_int_equal(qmp_connect(&client->loop, path, &client_ops, client, 0, &other, &err), 0);
	struct qmp *third = NULL;
	assert_int_equal(qmp_connect(&client->loop, path, &client_ops, client, 0, &third, &err),
			 -1);
	assert_int_equal(err.code, ERR_UNAVAILABLE);
	qmp_close(other);
	unlink(path);
	rmdir(dir);
}

int main(void)
{
#define TEST(f) cmocka_unit_test_setup_teardown(f, client_setup, client_teardown)
	const struct CMUnitTest tests[] = {
		TEST(test_command),
		TEST(test_early_commands_wait),
		TEST(test_byte_by_byte),
		TEST(test_refusals),
		TEST(test_deadline_and_late_answer),
		TEST(test_deadlines_in_order),
		TEST(test_early_command_expires_unsent),
		TEST(test_close_in_answer),
		TEST(test_close_in_each_callback),
		TEST(test_close_in_expiry),
		TEST(test_execute_in_answer),
		TEST(test_execute_after_the_end),
		TEST(test_fd),
		TEST(test_bad_fd_and_args),
		TEST(test_connect),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
