#include "tests/fake/qmp_peer.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define PATIENCE_MS 60000

int qmp_peer_open(struct qmp_peer *peer, uv_loop_t *loop)
{
	int fds[2];
	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds) < 0)
		abort();
	*peer = (struct qmp_peer){.loop = loop, .fd = fds[0], .last_fd = -1};
	fcntl(peer->fd, F_SETFL, O_NONBLOCK);
	return fds[1];
}

void qmp_peer_close(struct qmp_peer *peer)
{
	if (peer->fd >= 0)
		close(peer->fd);
	if (peer->last_fd >= 0)
		close(peer->last_fd);
	peer->fd = peer->last_fd = -1;
}

/* One turn: the loop without blocking, then a moment for the clock. */
static void turn(struct qmp_peer *peer)
{
	uv_run(peer->loop, UV_RUN_NOWAIT);
}

static uint64_t now_ms(void)
{
	return uv_hrtime() / 1000000;
}

void qmp_peer_send_bytes(struct qmp_peer *peer, const void *bytes, size_t len)
{
	const char *at = bytes;
	uint64_t end = now_ms() + PATIENCE_MS;
	while (len > 0 && now_ms() < end) {
		ssize_t n = send(peer->fd, at, len, MSG_NOSIGNAL);
		if (n < 0 && errno != EAGAIN)
			return;
		if (n > 0) {
			at += n;
			len -= (size_t)n;
		}
		turn(peer);
	}
}

void qmp_peer_send(struct qmp_peer *peer, const char *text)
{
	qmp_peer_send_bytes(peer, text, strlen(text));
}

void qmp_peer_send_slowly(struct qmp_peer *peer, const char *text)
{
	for (; *text; text++)
		qmp_peer_send_bytes(peer, text, 1);
}

/* The descriptors' own copies are counted, and the newest is kept for the test to look at. */
static void take_fds(struct qmp_peer *peer, struct msghdr *msg)
{
	for (struct cmsghdr *c = CMSG_FIRSTHDR(msg); c; c = CMSG_NXTHDR(msg, c)) {
		if (c->cmsg_level != SOL_SOCKET || c->cmsg_type != SCM_RIGHTS)
			continue;
		size_t n = (c->cmsg_len - CMSG_LEN(0)) / sizeof(int);
		for (size_t i = 0; i < n; i++) {
			if (peer->last_fd >= 0)
				close(peer->last_fd);
			memcpy(&peer->last_fd, CMSG_DATA(c) + i * sizeof(int), sizeof(int));
			peer->n_fds++;
		}
	}
}

/* At most one byte at a time, as QEMU's monitor reads: a descriptor belongs to its line. */
static bool receive(struct qmp_peer *peer)
{
	char control[CMSG_SPACE(8 * sizeof(int))];
	char byte;
	struct iovec iov = {.iov_base = &byte, .iov_len = 1};
	struct msghdr msg = {
		.msg_iov = &iov,
		.msg_iovlen = 1,
		.msg_control = control,
		.msg_controllen = sizeof(control),
	};
	ssize_t n = recvmsg(peer->fd, &msg, MSG_CMSG_CLOEXEC);
	if (n > 0)
		take_fds(peer, &msg);
	if (n == 0 || (n < 0 && errno != EAGAIN))
		peer->ended = true;
	if (n <= 0 || peer->used + 1 >= sizeof(peer->buf))
		return false;
	peer->buf[peer->used++] = byte;
	return true;
}

const char *qmp_peer_line(struct qmp_peer *peer)
{
	uint64_t end = now_ms() + PATIENCE_MS;
	peer->used = 0;
	while (now_ms() < end && !peer->ended) {
		if (!receive(peer)) {
			turn(peer);
			poll(&(struct pollfd){.fd = peer->fd, .events = POLLIN}, 1, 1);
			continue;
		}
		if (peer->buf[peer->used - 1] != '\n')
			continue;
		peer->buf[peer->used - 1] = '\0';
		return peer->buf;
	}
	return NULL;
}

bool qmp_peer_wait(struct qmp_peer *peer, const bool *flag)
{
	uint64_t end = now_ms() + PATIENCE_MS;
	while (!*flag && now_ms() < end) {
		turn(peer);
		if (!*flag)
			poll(NULL, 0, 1);
	}
	return *flag;
}

void qmp_peer_run(struct qmp_peer *peer, int ms)
{
	uint64_t end = now_ms() + (uint64_t)ms;
	do {
		turn(peer);
		poll(NULL, 0, 1);
	} while (now_ms() < end);
}

bool qmp_peer_negotiate(struct qmp_peer *peer)
{
	qmp_peer_send(peer, QMP_PEER_GREETING);
	const char *line = qmp_peer_line(peer);
	const char *id = line ? strstr(line, "\"id\":") : NULL;
	if (!id || !strstr(line, "\"qmp_capabilities\""))
		return false;
	char answer[64];
	snprintf(answer, sizeof(answer), "{\"return\": {}, \"id\": %ld}\r\n", atol(id + 5));
	qmp_peer_send(peer, answer);
	return true;
}
