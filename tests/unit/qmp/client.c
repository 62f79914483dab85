#include "tests/unit/qmp/client.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "base/mem.h"

void client_close(struct client *client)
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

const struct qmp_ops client_ops = {.ready = on_ready, .event = on_event, .closed = on_closed};

void client_on_answer(void *data, json_t *result, const struct err *err)
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

int client_setup(void **state)
{
	struct client *client = mem_new(struct client);
	struct err err;
	uv_loop_init(&client->loop);
	int fd = qmp_peer_open(&client->peer, &client->loop);
	assert_int_equal(qmp_open(&client->loop, fd, &client_ops, client, 300, &client->qmp, &err),
			 0);
	*state = client;
	return 0;
}

int client_teardown(void **state)
{
	struct client *client = *state;
	client_close(client);
	uv_run(&client->loop, UV_RUN_DEFAULT);
	assert_int_equal(uv_loop_close(&client->loop), 0);
	qmp_peer_close(&client->peer);
	free(client);
	return 0;
}

void client_negotiate(struct client *client)
{
	assert_true(qmp_peer_negotiate(&client->peer));
	assert_true(qmp_peer_wait(&client->peer, &client->ready));
}

long client_expect_command(struct client *client, const char *name)
{
	const char *line = qmp_peer_line(&client->peer);
	assert_non_null(line);
	_cleanup_json_ json_t *msg = json_loads(line, 0, NULL);
	assert_string_equal(json_string_value(json_object_get(msg, "execute")), name);
	assert_true(json_is_integer(json_object_get(msg, "id")));
	return (long)json_integer_value(json_object_get(msg, "id"));
}

void client_reply(struct client *client, long id, const char *rest)
{
	char text[512];
	snprintf(text, sizeof(text), "{\"id\": %ld, %s}\r\n", id, rest);
	qmp_peer_send(&client->peer, text);
}

void client_expect_closed(struct client *client, enum err_code code)
{
	assert_true(qmp_peer_wait(&client->peer, &client->closed));
	if (client->err.code != code)
		fail_msg("%s: %s", err_code_name(client->err.code), client->err.msg);
	/* the socket itself is closed too */
	assert_null(qmp_peer_line(&client->peer));
	assert_true(client->peer.ended);
	assert_int_equal(client->n_closed, 1);
}

void client_expect_err(struct client *client, struct answer *answer, enum err_code code)
{
	assert_true(qmp_peer_wait(&client->peer, &answer->done));
	if (answer->err.code != code)
		fail_msg("%s: %s", err_code_name(answer->err.code), answer->err.msg);
	assert_int_equal(answer->times, 1);
	assert_null(answer->result);
}
