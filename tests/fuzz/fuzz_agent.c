/*
 * What a guest may send in place of its agent. The first byte says in chunks of how many bytes,
 * and, when it is odd, that the first exchange's sync is answered properly before them.
 */
#include <assert.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/mem.h"
#include "qmp/agent.h"

#define COMMANDS 3

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void on_answer(void *data, json_t *result, const struct err *err)
{
	assert(!result || !err);
	(*(int *)data)++;
}

static void answer_sync(uv_loop_t *loop, int fd)
{
	char line[256] = "", text[64];
	uv_run(loop, UV_RUN_NOWAIT);
	ssize_t n = recv(fd, line, sizeof(line) - 1, MSG_DONTWAIT);
	const char *id = n > 0 ? strstr(line, "\"id\":") : NULL;
	assert(id);
	int len = snprintf(text, sizeof(text), "\xff{\"return\": %ld}\n", atol(id + 5));
	n = send(fd, text, (size_t)len, MSG_NOSIGNAL);
	assert(n == len);
	uv_run(loop, UV_RUN_NOWAIT);
}

static void feed(uv_loop_t *loop, int fd, const uint8_t *data, size_t size)
{
	size_t chunk = size ? (size_t)data[0] * 16 + 1 : 1;
	if (size && data[0] % 2)
		answer_sync(loop, fd);
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
	int answers[COMMANDS] = {0};
	uv_loop_t loop;
	struct agent *agent;
	int fds[2];
	if (uv_loop_init(&loop) < 0 || socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds) < 0)
		abort();
	if (agent_open(&loop, fds[0], NULL, NULL, &agent, NULL) < 0)
		abort();
	for (int i = 0; i < COMMANDS; i++)
		agent_execute(agent, "guest-shutdown", NULL, 60000, i == 0 ? AGENT_MAY_END : 0,
			      on_answer, &answers[i]);
	feed(&loop, fds[1], data, size);
	agent_close(agent);
	uv_run(&loop, UV_RUN_DEFAULT);
	assert(uv_loop_close(&loop) == 0);
	for (int i = 0; i < COMMANDS; i++)
		assert(answers[i] == 1);
	return 0;
}
