#include "base/conn.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/socket.h>

#include "base/mem.h"

#define READ_CHUNK       (64u << 10)
#define LAST_WORDS_READS 16
#define FDS_IN_MAX       8     /* descriptors that nobody has taken */
#define FDS_OUT_MAX      32    /* and those that wait to leave: all queues of a NIC */
#define IDLE_BUFFER_MAX  4096u /* an idle connection keeps no more than this */

struct out_fd {
	size_t at; /* leaves with the byte at this place of `out` */
	int fd;
};

struct buffer {
	char *bytes;
	size_t len, size;
};

struct conn {
	int fd;
	const struct conn_ops *ops;
	struct conn_limits limits;
	void *data;

	uv_poll_t poll;
	/*
	 * Once a turn of the loop: what was held back, then what was queued. Idle rather than
	 * prepare, because one that is started while its like run must not wait for the next event.
	 */
	uv_idle_t turn;
	int open_handles;
	int events;
	bool paused, ended, closing;

	struct buffer in;
	size_t scanned; /* bytes of `in` known to hold no newline */
	bool discarding;
	unsigned char discard_to;
	int fds[FDS_IN_MAX];
	size_t n_fds;

	struct buffer out;
	size_t sent; /* bytes of `out` that have left */
	struct out_fd out_fds[FDS_OUT_MAX];
	size_t n_out_fds;

	void (*closed)(void *data);
	void *closed_data;
};

static void buffer_reserve(struct buffer *buffer, size_t more)
{
	if (buffer->size - buffer->len >= more)
		return;
	size_t size = buffer->size ? buffer->size : 1024;
	while (size - buffer->len < more)
		size *= 2;
	buffer->bytes = mem_realloc(buffer->bytes, size, 1);
	buffer->size = size;
}

static void buffer_drop(struct buffer *buffer, size_t n)
{
	buffer->len -= n;
	if (buffer->len > 0)
		memmove(buffer->bytes, buffer->bytes + n, buffer->len);
	if (buffer->size <= IDLE_BUFFER_MAX || buffer->len > buffer->size / 4)
		return;
	if (buffer->len == 0) {
		free(buffer->bytes);
		*buffer = (struct buffer){0};
	} else {
		/* a peer that sends by drops holds no more than what it sent */
		buffer->size = buffer->len > IDLE_BUFFER_MAX ? buffer->len : IDLE_BUFFER_MAX;
		buffer->bytes = mem_realloc(buffer->bytes, buffer->size, 1);
	}
}

static void on_poll(uv_poll_t *poll, int status, int events);
static void on_turn(uv_idle_t *turn);

static void watch(struct conn *conn)
{
	int events = 0;
	if (conn->closing)
		return;
	if (!conn->ended && !conn->paused)
		events |= UV_READABLE;
	if (!conn->ended && conn->out.len > conn->sent)
		events |= UV_WRITABLE;
	if (events == conn->events)
		return;
	conn->events = events;
	if (events)
		uv_poll_start(&conn->poll, events, on_poll);
	else
		uv_poll_stop(&conn->poll);
}

static void end(struct conn *conn, const struct err *err)
{
	if (conn->ended || conn->closing)
		return;
	conn->ended = true;
	watch(conn);
	uv_idle_stop(&conn->turn);
	conn->ops->end(conn, conn->data, err);
}

static void close_fds(struct conn *conn)
{
	for (size_t i = 0; i < conn->n_fds; i++)
		close(conn->fds[i]);
	conn->n_fds = 0;
}

/* Drops input up to the delimiter; returns how much stays behind `at` to be dropped by the caller.
 */
static size_t discard(struct conn *conn, size_t at)
{
	const char *from = conn->in.bytes + at;
	const char *found = memchr(from, conn->discard_to, conn->in.len - at);
	conn->scanned = 0;
	if (!found)
		return conn->in.len;
	conn->discarding = false;
	return (size_t)(found - conn->in.bytes) + 1;
}

static void end_too_long(struct conn *conn)
{
	struct err err;
	err_set(&err, ERR_LIMIT, "a line is longer than %zu bytes", conn->limits.line_max);
	end(conn, &err);
}

/* One line from @at; returns where the next begins, or @at if none is complete. */
static size_t deliver_one(struct conn *conn, size_t at)
{
	char *line = conn->in.bytes + at;
	size_t left = conn->in.len - at;
	char *newline = memchr(line + conn->scanned, '\n', left - conn->scanned);
	size_t len = newline ? (size_t)(newline - line) : left;
	if (len > conn->limits.line_max) {
		end_too_long(conn);
		return at;
	}
	if (!newline) {
		conn->scanned = left;
		return at;
	}
	conn->scanned = 0;
	size_t next = at + len + 1;
	if (len > 0 && line[len - 1] == '\r')
		len--;
	line[len] = '\0';
	conn->ops->line(conn, conn->data, line, len);
	return next;
}

static void deliver(struct conn *conn)
{
	size_t at = 0;
	while (at < conn->in.len && !conn->paused && !conn->closing && !conn->ended) {
		size_t next = conn->discarding ? discard(conn, at) : deliver_one(conn, at);
		if (next == at)
			break;
		at = next;
	}
	buffer_drop(&conn->in, at);
	/* a descriptor comes with the first byte of its line: the line is over and did not want it
	 */
	if (conn->in.len == 0)
		close_fds(conn);
}

static void keep_fds(struct conn *conn, struct msghdr *msg)
{
	for (struct cmsghdr *c = CMSG_FIRSTHDR(msg); c; c = CMSG_NXTHDR(msg, c)) {
		if (c->cmsg_level != SOL_SOCKET || c->cmsg_type != SCM_RIGHTS)
			continue;
		size_t n = (c->cmsg_len - CMSG_LEN(0)) / sizeof(int);
		for (size_t i = 0; i < n; i++) {
			int fd;
			memcpy(&fd, CMSG_DATA(c) + i * sizeof(int), sizeof(int));
			if (conn->n_fds < FDS_IN_MAX)
				conn->fds[conn->n_fds++] = fd;
			else
				close(fd);
		}
	}
}

static ssize_t receive(struct conn *conn)
{
	union {
		struct cmsghdr align;
		char bytes[CMSG_SPACE(sizeof(int) * FDS_IN_MAX)];
	} control;
	buffer_reserve(&conn->in, READ_CHUNK + 1);
	struct iovec iov = {.iov_base = conn->in.bytes + conn->in.len, .iov_len = READ_CHUNK};
	struct msghdr msg = {.msg_iov = &iov,
			     .msg_iovlen = 1,
			     .msg_control = control.bytes,
			     .msg_controllen = sizeof(control.bytes)};
	ssize_t n = recvmsg(conn->fd, &msg, MSG_CMSG_CLOEXEC | MSG_DONTWAIT);
	if (n >= 0) {
		keep_fds(conn, &msg);
		conn->in.len += (size_t)n;
	}
	return n;
}

/* Returns -1 when the socket is broken, with errno. */
static ssize_t send_some(struct conn *conn)
{
	size_t until = conn->out.len;
	union {
		struct cmsghdr align;
		char bytes[CMSG_SPACE(sizeof(int))];
	} control = {0};
	struct iovec iov = {.iov_base = conn->out.bytes + conn->sent};
	struct msghdr msg = {.msg_iov = &iov, .msg_iovlen = 1};
	bool with_fd = conn->n_out_fds > 0 && conn->out_fds[0].at == conn->sent;
	if (with_fd) {
		msg.msg_control = control.bytes;
		msg.msg_controllen = sizeof(control.bytes);
		struct cmsghdr *c = CMSG_FIRSTHDR(&msg);
		c->cmsg_level = SOL_SOCKET;
		c->cmsg_type = SCM_RIGHTS;
		c->cmsg_len = CMSG_LEN(sizeof(int));
		memcpy(CMSG_DATA(c), &conn->out_fds[0].fd, sizeof(int));
	}
	/* stop before the next descriptor's byte */
	size_t next = with_fd ? 1 : 0;
	if (conn->n_out_fds > next)
		until = conn->out_fds[next].at;
	iov.iov_len = until - conn->sent;
	ssize_t n = sendmsg(conn->fd, &msg, MSG_NOSIGNAL | MSG_DONTWAIT);
	if (n <= 0)
		return n;
	conn->sent += (size_t)n;
	if (with_fd) {
		close(conn->out_fds[0].fd);
		conn->n_out_fds--;
		memmove(conn->out_fds, conn->out_fds + 1,
			conn->n_out_fds * sizeof(conn->out_fds[0]));
	}
	return n;
}

static void compact(struct conn *conn)
{
	/* moving bytes only when half of the queue has left keeps this linear */
	if (conn->sent < conn->out.len && conn->sent < conn->out.size / 2)
		return;
	for (size_t i = 0; i < conn->n_out_fds; i++)
		conn->out_fds[i].at -= conn->sent;
	buffer_drop(&conn->out, conn->sent);
	conn->sent = 0;
}

/*
 * The peer has gone, perhaps with last words: an answer, or why it went. They lie in our buffer
 * already, and are bounded, as one that only pretends to be gone may go on writing.
 */
static void hear_last_words(struct conn *conn)
{
	for (int i = 0; i < LAST_WORDS_READS && !conn->paused && !conn->closing && !conn->ended;
	     i++) {
		if (receive(conn) <= 0)
			break;
		deliver(conn);
	}
}

static void flush(struct conn *conn)
{
	if (conn->out.len == conn->sent || conn->ended || conn->closing)
		return;
	ssize_t n = 1;
	while (n > 0 && conn->sent < conn->out.len)
		n = send_some(conn);
	int failed = n < 0 && errno != EAGAIN && errno != EINTR ? errno : 0;
	compact(conn);
	if (failed) {
		struct err err;
		hear_last_words(conn);
		err_set_sys(&err, failed == EPIPE ? ERR_UNAVAILABLE : ERR_IO, failed,
			    "the peer takes no more bytes");
		end(conn, &err);
		return;
	}
	watch(conn);
	if (conn->out.len == 0 && conn->ops->drained)
		conn->ops->drained(conn, conn->data);
}

static void on_turn(uv_idle_t *turn)
{
	struct conn *conn = turn->data;
	uv_idle_stop(turn);
	deliver(conn);
	flush(conn);
}

static void on_poll(uv_poll_t *poll, int status, int events)
{
	struct conn *conn = poll->data;
	struct err err;
	/* on an error libuv stops watching by itself, though there may be bytes before it */
	if (status < 0)
		conn->events = 0;
	if (status < 0 || (events & UV_READABLE)) {
		ssize_t n = receive(conn);
		if (n > 0) {
			deliver(conn);
		} else if (n == 0) {
			/* what it asked before it left may have been answered: let that go out */
			flush(conn);
			err_set(&err, ERR_UNAVAILABLE, "the peer closed the connection");
			end(conn, &err);
		} else if (errno != EAGAIN && errno != EINTR) {
			int failed = errno;
			err_set_sys(&err, ERR_IO, failed, "the connection broke");
			end(conn, &err);
		}
	}
	if (events & UV_WRITABLE)
		flush(conn);
	watch(conn);
}

int conn_open(uv_loop_t *loop, int fd, const struct conn_ops *ops, struct conn_limits limits,
	      void *data, struct conn **ret, struct err *err)
{
	struct conn *conn = mem_new(struct conn);
	conn->fd = fd;
	conn->ops = ops;
	conn->limits = limits;
	conn->data = data;
	int failed = uv_poll_init(loop, &conn->poll, fd); /* makes it non-blocking */
	if (failed) {
		close(fd);
		free(conn);
		return err_set_sys(err, ERR_IO, -failed, "cannot watch a socket");
	}
	uv_idle_init(loop, &conn->turn);
	conn->poll.data = conn;
	conn->turn.data = conn;
	conn->open_handles = 2;
	watch(conn);
	*ret = conn;
	return 0;
}

static void on_closed(uv_handle_t *handle)
{
	struct conn *conn = handle->data;
	if (--conn->open_handles > 0)
		return;
	void (*closed)(void *data) = conn->closed;
	void *data = conn->closed_data;
	close(conn->fd);
	close_fds(conn);
	for (size_t i = 0; i < conn->n_out_fds; i++)
		close(conn->out_fds[i].fd);
	free(conn->in.bytes);
	free(conn->out.bytes);
	free(conn);
	if (closed)
		closed(data);
}

void conn_close(struct conn *conn, void (*closed)(void *data), void *data)
{
	if (conn->closing)
		return;
	conn->closing = true;
	conn->closed = closed;
	conn->closed_data = data;
	uv_close((uv_handle_t *)&conn->poll, on_closed);
	uv_close((uv_handle_t *)&conn->turn, on_closed);
}

int conn_send(struct conn *conn, const char *bytes, size_t len, int fd, struct err *err)
{
	if (conn->ended || conn->closing)
		return err_set(err, ERR_UNAVAILABLE, "the connection is over");
	if (conn_queued(conn) + len > conn->limits.queue_max ||
	    (fd >= 0 && conn->n_out_fds == FDS_OUT_MAX))
		return err_set(err, ERR_LIMIT, "the peer does not read what it is sent");
	if (len == 0)
		return 0;
	if (fd >= 0) {
		int copy = fcntl(fd, F_DUPFD_CLOEXEC, 0);
		if (copy < 0)
			return err_set_sys(err, err_from_errno(errno), errno,
					   "cannot pass a descriptor");
		conn->out_fds[conn->n_out_fds++] = (struct out_fd){conn->out.len, copy};
	}
	buffer_reserve(&conn->out, len);
	memcpy(conn->out.bytes + conn->out.len, bytes, len);
	conn->out.len += len;
	uv_idle_start(&conn->turn, on_turn);
	return 0;
}

int conn_take_fd(struct conn *conn)
{
	if (conn->n_fds == 0)
		return -1;
	int fd = conn->fds[0];
	conn->n_fds--;
	memmove(conn->fds, conn->fds + 1, conn->n_fds * sizeof(conn->fds[0]));
	return fd;
}

void conn_pause(struct conn *conn, bool paused)
{
	if (conn->paused == paused)
		return;
	conn->paused = paused;
	watch(conn);
	/* lines that were held back come in the loop's next turn */
	if (!paused && !conn->ended && !conn->closing)
		uv_idle_start(&conn->turn, on_turn);
}

size_t conn_queued(const struct conn *conn)
{
	return conn->out.len - conn->sent;
}

int conn_fd(const struct conn *conn)
{
	return conn->fd;
}

void conn_discard_to(struct conn *conn, unsigned char byte)
{
	conn->discarding = true;
	conn->discard_to = byte;
}
