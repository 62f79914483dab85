/*
 * The other end of a QMP or guest-agent socket, scripted by a test in one thread: the test says
 * what the peer sends and waits, while the loop runs, for what it receives.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <uv.h>

#define QMP_PEER_LINE_MAX 65536
#define QMP_PEER_GREETING                                                                          \
	"{\"QMP\":{\"version\":{\"qemu\":{\"major\":7,\"minor\":2,\"micro\":0},"                   \
	"\"package\":\"\"},\"capabilities\":[]}}\r\n"

struct qmp_peer {
	uv_loop_t *loop;
	int fd;      /* the peer's end, non-blocking; -1 after qmp_peer_close() */
	int last_fd; /* the newest descriptor that arrived, or -1; owned here */
	int n_fds;   /* how many arrived */
	bool ended;  /* the client closed its end */
	char buf[QMP_PEER_LINE_MAX];
	size_t used;
};

/** qmp_peer_open() - make a socketpair; returns the client's end */
int qmp_peer_open(struct qmp_peer *peer, uv_loop_t *loop);

/** qmp_peer_close() - close the peer's end and the descriptors it got */
void qmp_peer_close(struct qmp_peer *peer);

/** qmp_peer_send() - send text as it is, running the loop while the socket is full */
void qmp_peer_send(struct qmp_peer *peer, const char *text);
void qmp_peer_send_bytes(struct qmp_peer *peer, const void *bytes, size_t len);

/** qmp_peer_send_slowly() - one byte at a time, a turn of the loop after each */
void qmp_peer_send_slowly(struct qmp_peer *peer, const char *text);

/**
 * qmp_peer_line() - run the loop until the client's next line came
 * Return: the line without its end, valid until the next call; NULL if the client closed or nothing
 * came within five seconds.
 */
const char *qmp_peer_line(struct qmp_peer *peer);

/** qmp_peer_wait() - run the loop until *@flag or five seconds passed; returns *@flag */
bool qmp_peer_wait(struct qmp_peer *peer, const bool *flag);

/** qmp_peer_run() - run the loop for @ms */
void qmp_peer_run(struct qmp_peer *peer, int ms);

/**
 * qmp_peer_negotiate() - the beginning of each conversation, as QEMU does it
 * Return: false if the client did not answer with qmp_capabilities.
 */
bool qmp_peer_negotiate(struct qmp_peer *peer);
