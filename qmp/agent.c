#include "qmp/agent.h"

#include <errno.h>
#include <inttypes.h>
#include <stdbool.h>
#include <string.h>
#include <sys/queue.h>

#include "base/conn.h"
#include "base/json_line.h"
#include "base/mem.h"
#include "qmp/wire.h"

/* An absent agent leaves each attempt's sync lying in the kernel's buffer and then here. */
#define SEND_QUEUE_MAX (64u << 10)
#define DELIMITER      0xFF

/*
 * WAITING:  in the queue.
 * SYNCING:  guest-sync-delimited was sent; input up to the delimiter is dropped, then its own id
 *           must come back. What else comes belongs to an earlier exchange and is dropped.
 * ANSWERING: the command was sent; the next line is its answer.
 * Only the first in the queue is ever beyond WAITING.
 */
enum exchange_state { EXCHANGE_WAITING, EXCHANGE_SYNCING, EXCHANGE_ANSWERING };

struct exchange {
	TAILQ_ENTRY(exchange) link;
	enum exchange_state state;
	json_int_t sync_id;
	char *text;
	unsigned int flags;
	uint64_t deadline, deadline_ms; /* in the loop's time; as it was asked for */
	struct err err;                 /* code set: fails with this at its (immediate) deadline */
	agent_reply_cb cb;
	void *data;
	char name[];
};

TAILQ_HEAD(exchanges, exchange);

struct agent {
	uv_loop_t *loop;
	struct conn *conn; /* NULL once over */
	uv_timer_t timer;  /* the earliest deadline; off when nothing waits */
	bool closing;
	json_int_t last_sync_id;
	struct exchanges queue;
	size_t n_queue;
	void (*closed)(void *owner, const struct err *err);
	void *owner;
};

static void agent_start_next(struct agent *agent);

/* The callback may do anything, agent_close() included: look at agent->closing after this. */
static void exchange_finish(struct agent *agent, struct exchange *ex, json_t *result,
			    const struct err *err)
{
	agent_reply_cb cb = ex->cb;
	void *data = ex->data;
	TAILQ_REMOVE(&agent->queue, ex, link);
	agent->n_queue--;
	free(ex->text);
	free(ex);
	if (cb)
		cb(data, result, err);
}

static void timer_fired(uv_timer_t *timer);

static void timer_set(struct agent *agent)
{
	if (agent->closing)
		return;
	uint64_t earliest = UINT64_MAX;
	struct exchange *ex;
	TAILQ_FOREACH(ex, &agent->queue, link)
	if (ex->deadline < earliest)
		earliest = ex->deadline;
	if (earliest == UINT64_MAX) {
		uv_timer_stop(&agent->timer);
		return;
	}
	uint64_t now = uv_now(agent->loop);
	uv_timer_start(&agent->timer, timer_fired, earliest > now ? earliest - now : 0, 0);
}

/* After anything that may have ended an exchange: begin the next one, or stop reading. */
static void agent_settle(struct agent *agent)
{
	if (agent->closing)
		return;
	agent_start_next(agent);
	timer_set(agent);
}

static void exchange_expire(struct agent *agent, struct exchange *ex)
{
	struct err err = ex->err;
	if (!err.code && ex->state == EXCHANGE_ANSWERING && (ex->flags & AGENT_MAY_END)) {
		exchange_finish(agent, ex, NULL, NULL);
		return;
	}
	if (!err.code)
		err_set(&err, ERR_TIMEOUT, "%s: the guest agent %s within %" PRIu64 " ms%s",
			ex->name,
			ex->state == EXCHANGE_ANSWERING ? "gave no answer" : "was not there",
			ex->deadline_ms,
			ex->state == EXCHANGE_ANSWERING ? "" : "; is it installed and running?");
	exchange_finish(agent, ex, NULL, &err);
}

static struct exchange *next_expired(struct agent *agent, uint64_t now)
{
	struct exchange *ex;
	TAILQ_FOREACH(ex, &agent->queue, link)
	if (ex->deadline <= now)
		return ex;
	return NULL;
}

static void timer_fired(uv_timer_t *timer)
{
	struct agent *agent = timer->data;
	uint64_t now = uv_now(agent->loop);
	/* one round: what callbacks add with no time left waits for the next */
	for (size_t n = agent->n_queue; n > 0 && !agent->closing; n--) {
		struct exchange *ex = next_expired(agent, now);
		if (!ex)
			break;
		exchange_expire(agent, ex);
	}
	agent_settle(agent);
}

/* The connection is over: everything that waits gets @err, then the owner hears of it. */
static void agent_fail(struct agent *agent, const struct err *err)
{
	if (!agent->conn)
		return;
	conn_close(TAKE_PTR(agent->conn), NULL, NULL);
	for (size_t n = agent->n_queue; n > 0 && !agent->closing; n--) {
		struct exchange *ex = TAILQ_FIRST(&agent->queue);
		bool took = ex->state == EXCHANGE_ANSWERING && (ex->flags & AGENT_MAY_END) &&
			    err->code == ERR_UNAVAILABLE;
		exchange_finish(agent, ex, NULL, took ? NULL : err);
	}
	timer_set(agent);
	if (!agent->closing && agent->closed)
		agent->closed(agent->owner, err);
}

static int exchange_send_sync(struct agent *agent, struct exchange *ex)
{
	ex->sync_id = agent->last_sync_id = agent->last_sync_id % INT32_MAX + 1;
	_cleanup_json_ json_t *args = json_pack("{s:I}", "id", ex->sync_id);
	_cleanup_free_ char *text = wire_command("guest-sync-delimited", args, 0);
	/* the delimiter ends whatever half a message the agent may still have of us */
	_cleanup_free_ char *line = mem_printf("%c%s", DELIMITER, text);
	return conn_send(agent->conn, line, strlen(line), -1, &ex->err);
}

static void agent_start_next(struct agent *agent)
{
	if (!agent->conn)
		return;
	struct exchange *ex = TAILQ_FIRST(&agent->queue);
	if (!ex) {
		conn_pause(agent->conn, true);
		return;
	}
	if (ex->state != EXCHANGE_WAITING || ex->err.code)
		return;
	ex->state = EXCHANGE_SYNCING;
	if (exchange_send_sync(agent, ex) < 0) {
		err_set(&ex->err, ERR_TIMEOUT, "%s: the guest agent does not read", ex->name);
		ex->deadline = uv_now(agent->loop);
		return;
	}
	conn_discard_to(agent->conn, DELIMITER);
	conn_pause(agent->conn, false);
}

static void handle_sync(struct agent *agent, struct exchange *ex, json_t *msg)
{
	json_t *id = json_object_get(msg, "return");
	if (!json_is_integer(id) || json_integer_value(id) != ex->sync_id) {
		conn_discard_to(agent->conn, DELIMITER);
		return;
	}
	ex->state = EXCHANGE_ANSWERING;
	if (conn_send(agent->conn, ex->text, strlen(ex->text), -1, &ex->err) < 0) {
		err_prefix(&ex->err, "%s", ex->name);
		ex->deadline = uv_now(agent->loop);
		timer_set(agent);
	}
}

static void handle_answer(struct agent *agent, struct exchange *ex, json_t *msg)
{
	struct err err = {0};
	json_t *result = json_object_get(msg, "return");
	json_t *error = json_object_get(msg, "error");
	if (!result == !json_is_object(error)) {
		err_set(&err, ERR_CORRUPT, "%s: the guest agent sent no valid answer", ex->name);
		result = NULL;
	} else if (error) {
		wire_refusal(ex->name, error, &err);
	}
	exchange_finish(agent, ex, result, err.code ? &err : NULL);
	agent_settle(agent);
}

static void conn_line(struct conn *conn, void *data, char *line, size_t len)
{
	struct agent *agent = data;
	struct exchange *ex = TAILQ_FIRST(&agent->queue);
	_cleanup_json_ json_t *msg = NULL;
	/* what cannot be parsed is no answer, and is judged as one */
	if (json_line_parse(line, len, AGENT_DEPTH_MAX, &msg, NULL) < 0)
		msg = NULL;
	if (!ex)
		return;
	switch (ex->state) {
	case EXCHANGE_WAITING:
		break;
	case EXCHANGE_SYNCING:
		handle_sync(agent, ex, msg);
		break;
	case EXCHANGE_ANSWERING:
		handle_answer(agent, ex, msg);
		break;
	}
}

static void conn_end(struct conn *conn, void *data, const struct err *end)
{
	struct err err = *end;
	/* QEMU went with bytes of ours unread, such as the syncs that no agent took */
	if (err.sys == ECONNRESET)
		err.code = ERR_UNAVAILABLE;
	err_prefix(&err, "guest agent");
	agent_fail(data, &err);
}

static const struct conn_ops conn_callbacks = {.line = conn_line, .end = conn_end};

int agent_open(uv_loop_t *loop, int fd, void (*closed)(void *owner, const struct err *err),
	       void *owner, struct agent **ret, struct err *err)
{
	struct agent *agent = mem_new(struct agent);
	struct conn_limits limits = {.line_max = AGENT_LINE_MAX, .queue_max = SEND_QUEUE_MAX};
	if (conn_open(loop, fd, &conn_callbacks, limits, agent, &agent->conn, err) < 0) {
		free(agent);
		return err_prefix(err, "open the guest agent");
	}
	agent->loop = loop;
	agent->closed = closed;
	agent->owner = owner;
	TAILQ_INIT(&agent->queue);
	uv_timer_init(loop, &agent->timer);
	agent->timer.data = agent;
	/* answers to an earlier daemon's syncs must not look like ours */
	uint32_t seed = 1;
	uv_random(NULL, NULL, &seed, sizeof(seed), 0, NULL);
	agent->last_sync_id = seed % INT32_MAX;
	conn_pause(agent->conn, true);
	*ret = agent;
	return 0;
}

int agent_connect(uv_loop_t *loop, const char *path,
		  void (*closed)(void *owner, const struct err *err), void *owner,
		  struct agent **ret, struct err *err)
{
	int fd;
	if (wire_connect(path, &fd, err) < 0)
		return -1;
	return agent_open(loop, fd, closed, owner, ret, err);
}

void agent_execute(struct agent *agent, const char *command, json_t *args, uint64_t deadline_ms,
		   unsigned int flags, agent_reply_cb cb, void *data)
{
	size_t name_size = strlen(command) + 1;
	struct exchange *ex = mem_calloc(1, sizeof(*ex) + name_size);
	memcpy(ex->name, command, name_size);
	uv_update_time(agent->loop);
	ex->deadline_ms = deadline_ms ? deadline_ms : AGENT_DEADLINE_MS;
	ex->deadline = uv_now(agent->loop) + ex->deadline_ms;
	ex->flags = flags;
	ex->cb = cb;
	ex->data = data;
	ex->text = wire_command(command, args, 0);
	json_decref(args);
	if (agent->closing)
		err_set(&ex->err, ERR_CANCELLED, "%s: the connection is being closed", command);
	else if (!agent->conn)
		err_set(&ex->err, ERR_UNAVAILABLE, "%s: the connection to the guest is over",
			command);
	else if (agent->n_queue >= AGENT_QUEUE_MAX)
		err_set(&ex->err, ERR_BUSY, "%s: %d commands wait for the guest agent already",
			command, AGENT_QUEUE_MAX);
	else if (!ex->text)
		err_set(&ex->err, ERR_INVALID, "%s: its arguments are no JSON text", command);
	if (ex->err.code)
		ex->deadline = uv_now(agent->loop);
	TAILQ_INSERT_TAIL(&agent->queue, ex, link);
	agent->n_queue++;
	agent_settle(agent);
}

static void timer_closed(uv_handle_t *handle)
{
	free(handle->data);
}

void agent_close(struct agent *agent)
{
	if (!agent || agent->closing)
		return;
	agent->closing = true;
	if (agent->conn)
		conn_close(TAKE_PTR(agent->conn), NULL, NULL);
	while (!TAILQ_EMPTY(&agent->queue)) {
		struct exchange *ex = TAILQ_FIRST(&agent->queue);
		struct err err;
		err_set(&err, ERR_CANCELLED, "%s: the connection was closed", ex->name);
		exchange_finish(agent, ex, NULL, &err);
	}
	uv_close((uv_handle_t *)&agent->timer, timer_closed);
}
