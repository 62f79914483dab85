/*
 * A connection on a stream socket in the event loop that carries lines, and file descriptors where
 * the socket is a UNIX one. QMP, the guest agent and the control API all stand on it. Reading takes
 * any chunking; both directions are bounded.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <uv.h>

#include "base/err.h"

struct conn;

/**
 * struct conn_ops - what the owner wants to hear
 * @line:   one line without its end ("\n" or "\r\n"), NUL-terminated for convenience; @line and the
 *          descriptors that arrived are valid during the call; conn_take_fd() takes one
 * @end:    the peer is gone or broke a limit; fires at most once, never after conn_close(), and the
 *          owner answers with conn_close(). `err->code` is ERR_UNAVAILABLE for an orderly end,
 *          ERR_LIMIT for a line or queue over its bound, ERR_IO for the rest.
 * @drained: everything written has left (optional)
 */
struct conn_ops {
	void (*line)(struct conn *conn, void *data, char *line, size_t len);
	void (*end)(struct conn *conn, void *data, const struct err *err);
	void (*drained)(struct conn *conn, void *data);
};

struct conn_limits {
	size_t line_max;  /* bytes in one line */
	size_t queue_max; /* bytes waiting to be written */
};

/**
 * conn_open() - watch a connected socket
 * @fd: ownership moves to the connection, also on failure; made non-blocking
 *
 * Callbacks never fire inside this call. They may call any function here, conn_close() included.
 */
int conn_open(uv_loop_t *loop, int fd, const struct conn_ops *ops, struct conn_limits limits,
	      void *data, struct conn **ret, struct err *err) warn_unused;

/**
 * conn_close() - stop at once, close the socket, free
 * @closed: called from the loop once the memory is gone, may be NULL; no other callback fires after
 *          conn_close() was called. What was not yet written is dropped.
 */
void conn_close(struct conn *conn, void (*closed)(void *data), void *data);

/**
 * conn_send() - queue bytes
 * @fd: sent along by SCM_RIGHTS with the first byte, or -1; duplicated here, the caller keeps its
 * own
 *
 * Bytes leave when the loop is next idle (several answers leave in one write). Errors: ERR_LIMIT
 * when the queue is full (nothing of it was queued), ERR_UNAVAILABLE after the end.
 */
int conn_send(struct conn *conn, const char *bytes, size_t len, int fd,
	      struct err *err) warn_unused;

/** conn_take_fd() - the oldest descriptor that arrived and was not taken, close-on-exec; or -1 */
int conn_take_fd(struct conn *conn);

/** conn_pause() - stop (or go on) reading: back-pressure; lines already read are held back too */
void conn_pause(struct conn *conn, bool paused);

/** conn_queued() - bytes waiting to be written */
size_t conn_queued(const struct conn *conn);

/** conn_fd() - the socket, borrowed */
int conn_fd(const struct conn *conn);

/**
 * conn_discard_to() - drop input up to and including @byte (0xFF for the guest agent's delimiter),
 * then go on with lines
 */
void conn_discard_to(struct conn *conn, unsigned char byte);
