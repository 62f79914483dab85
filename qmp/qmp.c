#include "qmp/qmp.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdbool.h>
#include <string.h>
#include <sys/queue.h>
#include <unistd.h>

#include "base/conn.h"
#include "base/json_line.h"
#include "base/mem.h"
#include "qmp/wire.h"

/* QEMU reads one command at a time; past this it has stopped answering. */
#define PENDING_MAX    256
#define SEND_QUEUE_MAX (4u << 20)

/*
 * NEW:          the greeting is awaited. Commands are kept.
 * CAPABILITIES: qmp_capabilities was sent. Commands are kept; events are passed on (QEMU may send
 *               one between negotiating and saying so).
 * READY:        commands go out as they come.
 * OVER:         the socket is closed and the owner was told, or is being told. New commands fail.
 */
enum qmp_state { QMP_NEW, QMP_CAPABILITIES, QMP_READY, QMP_OVER };

/*
 * One command, from qmp_execute() until its answer, or, once it was sent, until the late answer
 * that follows an error: that id must be known when it comes.
 */
struct qmp_command {
	TAILQ_ENTRY(qmp_command) link;
	json_int_t id;
	char *text;                     /* not sent yet; else NULL */
	int fd;                         /* to go with it, or -1 */
	bool told;                      /* the callback fired; only a late answer is awaited */
	uint64_t deadline, deadline_ms; /* in the loop's time; as it was asked for */
	struct err err;                 /* code set: fails with this at its (immediate) deadline */
	qmp_reply_cb cb;
	void *data;
	char name[];
};

TAILQ_HEAD(qmp_commands, qmp_command);

struct qmp {
	uv_loop_t *loop;
	struct conn *conn; /* NULL once over */
	uv_timer_t timer;  /* the earliest deadline of all; off when nothing is awaited */
	enum qmp_state state;
	bool closing;
	uint64_t handshake_deadline, handshake_ms;
	json_int_t capabilities_id;
	json_int_t last_id;
	struct qmp_commands commands; /* in the order given */
	size_t n_commands;
	const struct qmp_ops *ops;
	void *owner;
};

static void command_free(struct qmp *qmp, struct qmp_command *cmd)
{
	TAILQ_REMOVE(&qmp->commands, cmd, link);
	qmp->n_commands--;
	if (cmd->fd >= 0)
		close(cmd->fd);
	free(cmd->text);
	free(cmd);
}

/* The callback may do anything, qmp_close() included: look at qmp->closing after this. */
static void command_finish(struct qmp *qmp, struct qmp_command *cmd, json_t *result,
			   const struct err *err)
{
	qmp_reply_cb cb = cmd->told ? NULL : cmd->cb;
	void *data = cmd->data;
	command_free(qmp, cmd);
	if (cb)
		cb(data, result, err);
}

static void timer_fired(uv_timer_t *timer);

/* A told command has no deadline any more: nothing to do but know its answer. */
static void timer_set(struct qmp *qmp)
{
	if (qmp->closing)
		return;
	uint64_t earliest = UINT64_MAX;
	if (qmp->state == QMP_NEW || qmp->state == QMP_CAPABILITIES)
		earliest = qmp->handshake_deadline;
	struct qmp_command *cmd;
	TAILQ_FOREACH(cmd, &qmp->commands, link)
	if (!cmd->told && cmd->deadline < earliest)
		earliest = cmd->deadline;
	if (earliest == UINT64_MAX) {
		uv_timer_stop(&qmp->timer);
		return;
	}
	uint64_t now = uv_now(qmp->loop);
	uv_timer_start(&qmp->timer, timer_fired, earliest > now ? earliest - now : 0, 0);
}

/*
 * The connection is over: every command given so far gets @err, then the owner hears of it. @err
 * may live anywhere but in a command.
 */
static void qmp_fail(struct qmp *qmp, const struct err *err)
{
	if (qmp->state == QMP_OVER)
		return;
	qmp->state = QMP_OVER;
	if (qmp->conn)
		conn_close(TAKE_PTR(qmp->conn), NULL, NULL);
	/* callbacks may add commands; those fail by the timer */
	for (size_t n = qmp->n_commands; n > 0 && !qmp->closing; n--)
		command_finish(qmp, TAILQ_FIRST(&qmp->commands), NULL, err);
	timer_set(qmp);
	if (!qmp->closing && qmp->ops->closed)
		qmp->ops->closed(qmp, qmp->owner, err);
}

static void command_expire(struct qmp *qmp, struct qmp_command *cmd)
{
	struct err err = cmd->err;
	if (err.code) {
		command_finish(qmp, cmd, NULL, &err);
		return;
	}
	err_set(&err, ERR_TIMEOUT, "%s: QEMU gave no answer within %" PRIu64 " ms", cmd->name,
		cmd->deadline_ms);
	if (cmd->text) {
		command_finish(qmp, cmd, NULL, &err);
		return;
	}
	cmd->told = true;
	if (cmd->cb)
		cmd->cb(cmd->data, NULL, &err);
}

static struct qmp_command *next_expired(struct qmp *qmp, uint64_t now)
{
	struct qmp_command *cmd;
	TAILQ_FOREACH(cmd, &qmp->commands, link)
	if (!cmd->told && cmd->deadline <= now)
		return cmd;
	return NULL;
}

static void timer_fired(uv_timer_t *timer)
{
	struct qmp *qmp = timer->data;
	uint64_t now = uv_now(qmp->loop);
	if ((qmp->state == QMP_NEW || qmp->state == QMP_CAPABILITIES) &&
	    qmp->handshake_deadline <= now) {
		struct err err;
		err_set(&err, ERR_TIMEOUT, "QMP: no %s from QEMU within %" PRIu64 " ms",
			qmp->state == QMP_NEW ? "greeting" : "answer to qmp_capabilities",
			qmp->handshake_ms);
		qmp_fail(qmp, &err);
		return;
	}
	/* one round: what callbacks add with no time left waits for the next */
	struct qmp_command *cmd;
	for (size_t n = qmp->n_commands; n > 0 && !qmp->closing; n--) {
		cmd = next_expired(qmp, now);
		if (!cmd)
			break;
		command_expire(qmp, cmd);
	}
	timer_set(qmp);
}

static void command_send(struct qmp *qmp, struct qmp_command *cmd)
{
	if (conn_send(qmp->conn, cmd->text, strlen(cmd->text), cmd->fd, &cmd->err) < 0) {
		err_prefix(&cmd->err, "%s", cmd->name);
		cmd->deadline = uv_now(qmp->loop);
		return;
	}
	free(TAKE_PTR(cmd->text));
	if (cmd->fd >= 0)
		close(TAKE_FD(cmd->fd));
}

static void handle_greeting(struct qmp *qmp, json_t *msg)
{
	struct err err = {0};
	if (!json_is_object(json_object_get(msg, "QMP"))) {
		err_set(&err, ERR_CORRUPT, "QMP: the peer did not begin with a greeting");
		qmp_fail(qmp, &err);
		return;
	}
	qmp->state = QMP_CAPABILITIES;
	qmp->capabilities_id = ++qmp->last_id;
	_cleanup_free_ char *text = wire_command("qmp_capabilities", NULL, qmp->capabilities_id);
	if (conn_send(qmp->conn, text, strlen(text), -1, &err) < 0)
		qmp_fail(qmp, &err);
}

static void handle_capabilities(struct qmp *qmp, json_t *msg)
{
	struct err err = {0};
	if (json_integer_value(json_object_get(msg, "id")) != qmp->capabilities_id)
		err_set(&err, ERR_CORRUPT, "QMP: an answer to no command of ours");
	else if (json_object_get(msg, "error"))
		wire_refusal("qmp_capabilities", json_object_get(msg, "error"), &err);
	if (err.code) {
		qmp_fail(qmp, &err);
		return;
	}
	qmp->state = QMP_READY;
	struct qmp_command *cmd;
	TAILQ_FOREACH(cmd, &qmp->commands, link)
	if (!cmd->err.code)
		command_send(qmp, cmd);
	timer_set(qmp);
	if (qmp->ops->ready)
		qmp->ops->ready(qmp, qmp->owner);
}

static void handle_answer(struct qmp *qmp, json_t *msg)
{
	json_t *id = json_object_get(msg, "id");
	json_t *error = json_object_get(msg, "error");
	struct err err = {0};
	struct qmp_command *cmd = NULL;
	if (json_is_integer(id))
		TAILQ_FOREACH(cmd, &qmp->commands, link)
	if (cmd->id == json_integer_value(id) && !cmd->text)
		break;
	if (!cmd) {
		const char *desc = json_string_value(json_object_get(error, "desc"));
		err_set(&err, ERR_CORRUPT, "QMP: an answer to no command of ours%s%s",
			desc ? ": " : "", desc ? desc : "");
		qmp_fail(qmp, &err);
		return;
	}
	if (error)
		wire_refusal(cmd->name, error, &err);
	json_t *result = error ? NULL : json_object_get(msg, "return");
	command_finish(qmp, cmd, result, error ? &err : NULL);
	timer_set(qmp);
}

/* A message is exactly one of greeting, event, answer, refusal. */
static bool is_message(json_t *msg)
{
	static const char *const kinds[] = {"QMP", "event", "return", "error"};
	int n = 0;
	for (size_t i = 0; i < ARRAY_LEN(kinds); i++)
		n += json_object_get(msg, kinds[i]) != NULL;
	json_t *error = json_object_get(msg, "error"), *event = json_object_get(msg, "event");
	json_t *data = json_object_get(msg, "data");
	return n == 1 && (!error || json_is_object(error)) && (!event || json_is_string(event)) &&
	       (!event || !data || json_is_object(data));
}

static void conn_line(struct conn *conn, void *data, char *line, size_t len)
{
	struct qmp *qmp = data;
	struct err err = {0};
	_cleanup_json_ json_t *msg = NULL;
	if (json_line_parse(line, len, QMP_DEPTH_MAX, &msg, &err) < 0) {
		err.code = ERR_CORRUPT;
		err_prefix(&err, "QMP: the peer sent no valid message");
		qmp_fail(qmp, &err);
		return;
	}
	if (!is_message(msg)) {
		err_set(&err, ERR_CORRUPT, "QMP: the peer sent what is no QMP message");
		qmp_fail(qmp, &err);
		return;
	}
	const char *event = json_string_value(json_object_get(msg, "event"));
	switch (qmp->state) {
	case QMP_NEW:
		handle_greeting(qmp, msg);
		break;
	case QMP_CAPABILITIES:
	case QMP_READY:
		if (event && qmp->ops->event)
			qmp->ops->event(qmp, qmp->owner, event, json_object_get(msg, "data"));
		else if (!event && qmp->state == QMP_READY)
			handle_answer(qmp, msg);
		else if (!event)
			handle_capabilities(qmp, msg);
		break;
	case QMP_OVER:
		break;
	}
}

static void conn_end(struct conn *conn, void *data, const struct err *end)
{
	struct err err = *end;
	/* QEMU reads no further than a command's brace, so its end leaves our newline unread */
	if (err.sys == ECONNRESET)
		err.code = ERR_UNAVAILABLE;
	err_prefix(&err, "QMP");
	qmp_fail(data, &err);
}

static const struct conn_ops conn_callbacks = {.line = conn_line, .end = conn_end};

int qmp_open(uv_loop_t *loop, int fd, const struct qmp_ops *ops, void *owner, uint64_t deadline_ms,
	     struct qmp **ret, struct err *err)
{
	struct qmp *qmp = mem_new(struct qmp);
	struct conn_limits limits = {.line_max = QMP_LINE_MAX, .queue_max = SEND_QUEUE_MAX};
	if (conn_open(loop, fd, &conn_callbacks, limits, qmp, &qmp->conn, err) < 0) {
		free(qmp);
		return err_prefix(err, "open QMP");
	}
	qmp->loop = loop;
	qmp->ops = ops;
	qmp->owner = owner;
	TAILQ_INIT(&qmp->commands);
	uv_timer_init(loop, &qmp->timer);
	qmp->timer.data = qmp;
	uv_update_time(loop);
	qmp->handshake_ms = deadline_ms ? deadline_ms : QMP_DEADLINE_MS;
	qmp->handshake_deadline = uv_now(loop) + qmp->handshake_ms;
	timer_set(qmp);
	*ret = qmp;
	return 0;
}

int qmp_connect(uv_loop_t *loop, const char *path, const struct qmp_ops *ops, void *owner,
		uint64_t deadline_ms, struct qmp **ret, struct err *err)
{
	int fd;
	if (wire_connect(path, &fd, err) < 0)
		return -1;
	return qmp_open(loop, fd, ops, owner, deadline_ms, ret, err);
}

/* Why a command cannot be taken, if so. */
static void command_check(struct qmp *qmp, struct qmp_command *cmd)
{
	if (qmp->closing)
		err_set(&cmd->err, ERR_CANCELLED, "%s: the connection is being closed", cmd->name);
	else if (qmp->state == QMP_OVER)
		err_set(&cmd->err, ERR_UNAVAILABLE, "%s: the connection to QEMU is over",
			cmd->name);
	else if (qmp->n_commands >= PENDING_MAX)
		err_set(&cmd->err, ERR_LIMIT, "%s: QEMU has %d commands unanswered", cmd->name,
			PENDING_MAX);
	else if (!cmd->text)
		err_set(&cmd->err, ERR_INVALID, "%s: its arguments are no JSON text", cmd->name);
}

void qmp_execute_fd(struct qmp *qmp, const char *command, json_t *args, int fd,
		    uint64_t deadline_ms, qmp_reply_cb cb, void *data)
{
	size_t name_size = strlen(command) + 1;
	struct qmp_command *cmd = mem_calloc(1, sizeof(*cmd) + name_size);
	memcpy(cmd->name, command, name_size);
	uv_update_time(qmp->loop);
	cmd->deadline_ms = deadline_ms ? deadline_ms : QMP_DEADLINE_MS;
	cmd->deadline = uv_now(qmp->loop) + cmd->deadline_ms;
	cmd->cb = cb;
	cmd->data = data;
	cmd->fd = -1;
	cmd->id = ++qmp->last_id;
	cmd->text = wire_command(command, args, cmd->id);
	json_decref(args);
	command_check(qmp, cmd);
	if (!cmd->err.code && fd >= 0) {
		cmd->fd = fcntl(fd, F_DUPFD_CLOEXEC, 3);
		if (cmd->fd < 0)
			err_set_sys(&cmd->err, err_from_errno(errno), errno, "%s: its descriptor",
				    command);
	}
	if (cmd->err.code)
		cmd->deadline = uv_now(qmp->loop);
	TAILQ_INSERT_TAIL(&qmp->commands, cmd, link);
	qmp->n_commands++;
	if (!cmd->err.code && qmp->state == QMP_READY)
		command_send(qmp, cmd);
	timer_set(qmp);
}

void qmp_execute(struct qmp *qmp, const char *command, json_t *args, uint64_t deadline_ms,
		 qmp_reply_cb cb, void *data)
{
	qmp_execute_fd(qmp, command, args, -1, deadline_ms, cb, data);
}

static void timer_closed(uv_handle_t *handle)
{
	free(handle->data);
}

void qmp_close(struct qmp *qmp)
{
	if (!qmp || qmp->closing)
		return;
	qmp->closing = true;
	qmp->state = QMP_OVER;
	if (qmp->conn)
		conn_close(TAKE_PTR(qmp->conn), NULL, NULL);
	while (!TAILQ_EMPTY(&qmp->commands)) {
		struct qmp_command *cmd = TAILQ_FIRST(&qmp->commands);
		struct err err;
		err_set(&err, ERR_CANCELLED, "%s: the connection was closed", cmd->name);
		command_finish(qmp, cmd, NULL, &err);
	}
	uv_close((uv_handle_t *)&qmp->timer, timer_closed);
}
