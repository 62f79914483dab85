/* QEMU's side of the monitor, in the test's own loop; see bench.h. */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <sys/socket.h>

#include "bench.h"

static void on_poll_closed(uv_handle_t *handle)
{
	free(handle);
}

static void stop_poll(uv_poll_t **poll, int *fd)
{
	if (*poll)
		uv_close((uv_handle_t *)TAKE_PTR(*poll), on_poll_closed);
	if (*fd >= 0)
		close(TAKE_FD(*fd));
}

static uv_poll_t *start_poll(struct bench *bench, int fd, uv_poll_cb cb)
{
	uv_poll_t *poll = mem_new(uv_poll_t);
	uv_poll_init(&bench->loop, poll, fd);
	poll->data = bench;
	uv_poll_start(poll, UV_READABLE, cb);
	return poll;
}

static void say(struct bench *bench, const char *text)
{
	if (bench->client >= 0)
		assert_true(send(bench->client, text, strlen(text), MSG_NOSIGNAL) > 0 ||
			    errno == EPIPE);
}

void bench_event(struct bench *bench, const char *text)
{
	say(bench, text);
	say(bench, "\r\n");
}

void bench_hangup(struct bench *bench)
{
	stop_poll(&bench->client_poll, &bench->client);
	bench->len = 0;
}

void bench_kill(struct bench *bench)
{
	assert_true(bench->n_pids > 0);
	bench_hangup(bench);
	stop_poll(&bench->listener_poll, &bench->listener);
	kill(bench->pids[bench->n_pids - 1], SIGKILL);
}

static bool misbehave(struct bench *bench, const char *command)
{
	if (!bench->at || strcmp(bench->at, command) != 0)
		return false;
	switch (bench->how) {
	case BENCH_ANSWER:
	case BENCH_REFUSE:
		return false;
	case BENCH_SILENT:
		return true;
	case BENCH_DIE:
		bench_kill(bench);
		return true;
	case BENCH_HANGUP:
		bench_hangup(bench);
		return true;
	case BENCH_GARBAGE:
		say(bench, "HTTP/1.0 200 OK\r\n\r\n");
		return true;
	}
	return false;
}

/* Its event comes before the answer, as QEMU's does. */
static void run_guest(struct bench *bench, bool runs)
{
	static const char full[] = "{\"event\": \"BLOCK_IO_ERROR\", \"data\": {\"action\": "
				   "\"stop\", \"nospace\": true}}";
	if (runs == bench->guest_runs)
		return;
	bench->guest_runs = runs;
	bench_event(bench, runs ? "{\"event\": \"RESUME\"}" : "{\"event\": \"STOP\"}");
	if (!runs || !bench->disk_is_full)
		return;
	bench_event(bench, full);
	run_guest(bench, false);
}

static const char *result_of(struct bench *bench, const char *command)
{
	static char text[160];
	snprintf(text, sizeof(text), "{}");
	if (strcmp(command, "query-status") == 0)
		snprintf(text, sizeof(text), "{\"running\": %s}",
			 bench->guest_runs  ? "true"
			 : bench->io_status ? "false, \"status\": \"io-error\""
					    : "false");
	else if (strcmp(command, "query-uuid") == 0)
		snprintf(text, sizeof(text), "{\"UUID\": \"%s\"}", bench->id);
	else if (strcmp(command, "add-fd") == 0)
		snprintf(text, sizeof(text), "{\"fdset-id\": 3, \"fd\": 9}");
	else if (strcmp(command, "query-named-block-nodes") == 0)
		snprintf(text, sizeof(text),
			 "[{\"node-name\": \"n0\", \"file\": \"x\"}, {\"node-name\": "
			 "\"medium0-file\", \"file\": \"/dev/fdset/7\"}]");
	else if (strcmp(command, "query-block") == 0)
		snprintf(text, sizeof(text),
			 "[{\"qdev\": \"disk0\", \"io-status\": \"%s\"}, {\"qdev\": \"cdrom0\", "
			 "\"tray_open\": %s}]",
			 bench->io_status ? bench->io_status : "ok",
			 bench->tray_locked ? "false" : "true");
	else if (strcmp(command, "remove-fd") == 0)
		bench->removed_fds++;
	else if (strcmp(command, "stop") == 0)
		run_guest(bench, false);
	else if (strcmp(command, "cont") == 0)
		run_guest(bench, true);
	else if (strcmp(command, "quit") == 0 && !bench->hangs && !bench->immortal)
		bench->quits = true;
	else if (strcmp(command, "screendump") == 0 && bench->picture)
		assert_int_equal(write(bench->fdset_fd, bench->picture, bench->picture_len),
				 (ssize_t)bench->picture_len);
	return text;
}

static void on_line(struct bench *bench)
{
	char answer[256];
	const char *word = strstr(bench->line, "\"execute\":");
	const char *id = strstr(bench->line, "\"id\":");
	assert_non_null(word);
	assert_non_null(id);
	/* arguments may have one, too */
	for (const char *next = id; (next = strstr(next + 1, "\"id\":"));)
		id = next;
	char command[64] = "";
	sscanf(word + 10, " \"%63[^\"]", command);
	size_t used = strlen(bench->heard);
	snprintf(bench->heard + used, sizeof(bench->heard) - used, "%s ", command);
	if (bench->keep && strcmp(bench->keep, command) == 0)
		snprintf(bench->kept, sizeof(bench->kept), "%s", bench->line);
	if (misbehave(bench, command))
		return;
	if (bench->at && strcmp(bench->at, command) == 0 && bench->how == BENCH_REFUSE)
		snprintf(answer, sizeof(answer),
			 "{\"error\": {\"class\": \"GenericError\", \"desc\": \"not today\"}, "
			 "\"id\": %ld}\r\n",
			 atol(id + 5));
	else
		snprintf(answer, sizeof(answer), "{\"return\": %s, \"id\": %ld}\r\n",
			 result_of(bench, command), atol(id + 5));
	say(bench, answer);
	if (bench->quits) {
		bench->quits = false;
		bench_kill(bench);
	}
	if (bench->obeys && strcmp(command, "system_powerdown") == 0) {
		bench_event(bench, "{\"event\": \"SHUTDOWN\", \"data\": {\"guest\": true}}");
		bench_kill(bench);
	}
}

static void take_fd(struct bench *bench, struct msghdr *msg)
{
	struct cmsghdr *c = CMSG_FIRSTHDR(msg);
	if (!c || c->cmsg_type != SCM_RIGHTS)
		return;
	if (bench->fdset_fd >= 0)
		close(bench->fdset_fd);
	memcpy(&bench->fdset_fd, CMSG_DATA(c), sizeof(int));
}

static void on_client(uv_poll_t *poll, int status, int events)
{
	struct bench *bench = poll->data;
	while (bench->client >= 0) {
		char control[CMSG_SPACE(sizeof(int))], byte;
		struct iovec iov = {.iov_base = &byte, .iov_len = 1};
		struct msghdr msg = {.msg_iov = &iov,
				     .msg_iovlen = 1,
				     .msg_control = control,
				     .msg_controllen = sizeof(control)};
		ssize_t n = recvmsg(bench->client, &msg, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
		if (n < 0 && errno == EAGAIN)
			return;
		if (n <= 0) {
			bench_hangup(bench);
			return;
		}
		take_fd(bench, &msg);
		assert_true(bench->len + 1 < sizeof(bench->line));
		bench->line[bench->len++] = byte;
		if (byte != '\n')
			continue;
		bench->line[bench->len] = '\0';
		bench->len = 0;
		on_line(bench);
	}
}

static void on_listener(uv_poll_t *poll, int status, int events)
{
	struct bench *bench = poll->data;
	if (bench->client >= 0)
		return; /* one at a time */
	bench->client = accept4(bench->listener, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
	if (bench->client < 0)
		return;
	bench->client_poll = start_poll(bench, bench->client, on_client);
	if (!misbehave(bench, ""))
		say(bench, "{\"QMP\": {\"version\": {}, \"capabilities\": []}}\r\n");
}

void bench_listen(struct bench *bench, int fd)
{
	bench_hangup(bench);
	stop_poll(&bench->listener_poll, &bench->listener);
	bench->listener = fd;
	if (fd >= 0)
		bench->listener_poll = start_poll(bench, fd, on_listener);
}
