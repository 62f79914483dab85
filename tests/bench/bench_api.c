/*
 * Requests a second on one pipelined connection. Prints JSON;
 * `bench_api SOCKET SECONDS METHOD [PARAMETERS]`. Any answer that is an error ends it.
 */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>
#include <uv.h>

#include "base/mem.h"

#define WINDOW 256 /* requests sent and not answered */

struct bench {
	int fd;
	char *request;
	size_t request_len;
	char *out; /* a window full of requests */
	size_t out_at, out_len;
	uint64_t asked, answered, bytes;
};

static void die(const char *what)
{
	fprintf(stderr, "bench_api: %s: %s\n", what, strerror(errno));
	exit(1);
}

static int connect_to(const char *path)
{
	struct sockaddr_un addr = {.sun_family = AF_UNIX};
	if (strlen(path) >= sizeof(addr.sun_path))
		die("the socket's path is too long");
	memcpy(addr.sun_path, path, strlen(path));
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (fd < 0 || connect(fd, (struct sockaddr *)&addr, sizeof(addr)) < 0)
		die(path);
	fcntl(fd, F_SETFL, O_NONBLOCK);
	return fd;
}

static void refill(struct bench *bench, bool more)
{
	if (bench->out_at < bench->out_len || !more)
		return;
	uint64_t n = WINDOW - (bench->asked - bench->answered);
	for (uint64_t i = 0; i < n; i++)
		memcpy(bench->out + i * bench->request_len, bench->request, bench->request_len);
	bench->asked += n;
	bench->out_at = 0;
	bench->out_len = n * bench->request_len;
}

static void send_some(struct bench *bench)
{
	ssize_t n = send(bench->fd, bench->out + bench->out_at, bench->out_len - bench->out_at,
			 MSG_NOSIGNAL);
	if (n < 0 && errno != EAGAIN)
		die("send");
	if (n > 0)
		bench->out_at += (size_t)n;
}

static void receive_some(struct bench *bench)
{
	static char buf[1 << 18];
	ssize_t n = recv(bench->fd, buf, sizeof(buf), 0);
	if (n == 0 || (n < 0 && errno != EAGAIN))
		die("the daemon closed the connection");
	if (n < 0)
		return;
	bench->bytes += (uint64_t)n;
	const char *end = buf + n;
	for (const char *at = buf; (at = memchr(at, '\n', (size_t)(end - at))); at++)
		bench->answered++;
	if (memmem(buf, (size_t)n, "\"error\":", 8)) {
		fprintf(stderr, "bench_api: %.*s\n", (int)(n < 400 ? n : 400), buf);
		exit(1);
	}
}

static void turn(struct bench *bench, bool more)
{
	struct pollfd p = {.fd = bench->fd, .events = POLLIN};
	refill(bench, more);
	if (bench->out_at < bench->out_len)
		p.events |= POLLOUT;
	if (poll(&p, 1, 10000) <= 0)
		die("no answer within ten seconds");
	if (p.revents & POLLOUT)
		send_some(bench);
	if (p.revents & (POLLIN | POLLHUP | POLLERR))
		receive_some(bench);
}

int main(int argc, char **argv)
{
	if (argc < 4 || argc > 5) {
		fprintf(stderr, "usage: bench_api SOCKET SECONDS METHOD [PARAMETERS]\n");
		return 2;
	}
	struct bench bench = {.fd = connect_to(argv[1])};
	uint64_t span = (uint64_t)(atof(argv[2]) * 1e9);
	bench.request =
		mem_printf("{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"%s\",\"params\":%s}\n",
			   argv[3], argc == 5 ? argv[4] : "{}");
	bench.request_len = strlen(bench.request);
	bench.out = mem_calloc(WINDOW, bench.request_len);

	uint64_t start = uv_hrtime();
	while (uv_hrtime() - start < span)
		turn(&bench, true);
	while (bench.answered < bench.asked)
		turn(&bench, false);
	double seconds = (double)(uv_hrtime() - start) / 1e9;
	printf("{\"per_second\": %.0f, \"answers\": %llu, \"bytes_each\": %.0f}\n",
	       (double)bench.answered / seconds, (unsigned long long)bench.answered,
	       (double)bench.bytes / (double)bench.answered);
	free(bench.request);
	free(bench.out);
	close(bench.fd);
	return 0;
}
