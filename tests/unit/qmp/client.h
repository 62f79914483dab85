/* A QMP client as the tests have it: over a socket pair, with a scripted peer at the other end. */
#pragma once

#include <stdbool.h>

#include "qmp/qmp.h"
#include "tests/fake/qmp_peer.h"

/** struct client - ours, and the peer it talks to; each callback notes what it was told */
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

/** struct answer - what client_on_answer() got for one command, and what it is to do then */
struct answer {
	struct client *client;
	bool done;
	int times;
	json_t *result;
	struct err err;
	bool close, execute_again;
};

extern const struct qmp_ops client_ops;

/** client_setup(), client_teardown() - of a test; the peer has said nothing yet */
int client_setup(void **state);
int client_teardown(void **state);

void client_close(struct client *client);

/** client_on_answer() - a qmp_answer_cb; @data: a struct answer, whose @result is the caller's */
void client_on_answer(void *data, json_t *result, const struct err *err);

void client_negotiate(struct client *client);

/** client_expect_command() - reads a command at the peer and gives its id */
long client_expect_command(struct client *client, const char *name);

/** client_reply() - @rest: the members beside the id */
void client_reply(struct client *client, long id, const char *rest);

/** client_expect_closed() - the client gave the connection up with that error, once */
void client_expect_closed(struct client *client, enum err_code code);

/** client_expect_err() - the command failed with that error, once */
void client_expect_err(struct client *client, struct answer *answer, enum err_code code);
