/* What a QEMU may send, after a first byte that says in chunks of how many bytes. */
#include <assert.h>
#include <stdbool.h>
#include <stdint.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/mem.h"
#include "qmp/qmp.h"

#define COMMANDS 3

struct seen {
	int answers[COMMANDS + 1];
	int ready, closed;
};

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void on_answer(void *data, json_t *result, const struct err *err)
{
	assert(!result != !err);
	(*(int *)data)++;
}

static void on_ready(struct qmp *qmp, void *owner)
{
	struct seen *seen = owner;
	seen->ready++;
	qmp_execute(qmp, "after", NULL, 60000, on_answer, &seen->answers[COMMANDS]);
}

static void on_event(struct qmp *qmp, void *owner, const char *name, json_t *data)
{
	assert(name && (!data || json_is_object(data)));
}

static void on_closed(struct qmp *qmp, void *owner, const struct err *err)
{
	assert(err->code && err->msg[0]);
	((struct seen *)owner)->closed++;
}

static const struct qmp_ops ops = {.ready = on_ready, .event = on_event, .closed = on_closed};

static void feed(uv_loop_t *loop, int fd, const uint8_t *data, size_t size)
{
	size_t chunk = size ? (size_t)data[0] * 16 + 1 : 1;
	for (size_t at = 1; at < size; at += chunk) {
		size_t n = size - at < chunk ? size - at : chunk;
		char sink[4096];
		while (recv(fd, sink, sizeof(sink), MSG_DONTWAIT) > 0)
			;
		if (send(fd, data + at, n, MSG_NOSIGNAL | MSG_DONTWAIT) < 0)
			break;
		uv_run(loop, UV_RUN_NOWAIT);
	}
	close(fd);
	for (int i = 0; i < 4; i++)
		uv_run(loop, UV_RUN_NOWAIT);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct seen seen = {0};
	uv_loop_t loop;
	struct qmp *qmp;
	int fds[2];
	if (uv_loop_init(&loop) < 0 || socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds) < 0)
		abort();
	if (qmp_open(&loop, fds[0], &ops, &seen, 60000, &qmp, NULL) < 0)
		abort();
	for (int i = 0; i < COMMANDS; i++)
		qmp_execute(qmp, "query-status", NULL, 60000, on_answer, &seen.answers[i]);
	feed(&loop, fds[1], data, size);
	assert(seen.closed == 1);
	qmp_close(qmp);
	uv_run(&loop, UV_RUN_DEFAULT);
	assert(uv_loop_close(&loop) == 0);
	for (int i = 0; i < COMMANDS; i++)
		assert(seen.answers[i] == 1);
	assert(seen.ready <= 1 && seen.answers[COMMANDS] == seen.ready);
	return 0;
}
