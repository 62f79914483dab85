#include "vdi-hostd/priv/server.h"

#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "base/mem.h"
#include "netcfg/monitor.h"
#include "vdi-hostd/priv/wire.h"

static void close_fds(int *fds, size_t n)
{
	for (size_t i = 0; i < n; i++)
		mem_closep(&fds[i]);
}

static void answer(int fd, struct verbs *verbs, const struct priv_request *req, const int *fds)
{
	struct priv_reply reply;
	int reply_fds[PRIV_REPLY_FDS_MAX];

	verbs_run(verbs, req, fds, &reply, reply_fds);
	if (reply.err.code)
		log_debug("%s: %s", verbs_name(req->verb), reply.err.msg);
	/* should the other end be gone, the next receive says so */
	if (wire_send(fd, &reply, sizeof(reply), reply_fds, reply.n_fds) < 0 && errno != EPIPE &&
	    errno != ECONNRESET) {
		log_err("privileged half: cannot answer: %s", strerror(errno));
		abort();
	}
	close_fds(reply_fds, reply.n_fds);
}

/*
 * Deleting links takes the kernel's time, and most of it for the first: so they go when nobody has
 * asked for anything for this long, and those of a host that shuts all its desktops down together.
 */
#define QUIET_MS 200

/* Until there is a request, or the wire's end; what others do to our tables is seen meanwhile. */
static void await_request(int fd, struct verbs *verbs)
{
	for (;;) {
		struct pollfd wait[] = {
			{.fd = fd, .events = POLLIN},
			{.fd = verbs->monitor ? netcfg_monitor_fd(verbs->monitor) : -1,
			 .events = POLLIN},
		};
		int n = poll(wait, ARRAY_LEN(wait), verbs_await_sweep(verbs) ? QUIET_MS : -1);
		if (n < 0) {
			if (errno == EINTR)
				continue;
			return;
		}
		if (n == 0)
			verbs_sweep(verbs);
		if (wait[1].revents)
			verbs_see_events(verbs);
		if (wait[0].revents)
			return;
	}
}

void server_run(int fd, struct verbs *verbs)
{
	for (;;) {
		struct priv_request req;
		struct err err;
		int fds[WIRE_FDS_MAX];
		size_t n_fds = 0;
		await_request(fd, verbs);
		int got = wire_receive(fd, &req, sizeof(req), fds, &n_fds);

		if (got == 0 || (got < 0 && errno == ECONNRESET))
			return;
		if (got < 0) {
			log_err("privileged half: malformed request: %s", strerror(errno));
			abort();
		}
		if (verbs_check(&req, fds, n_fds, &err) < 0) {
			log_err("privileged half: malformed request: %s", err.msg);
			abort();
		}
		answer(fd, verbs, &req, fds);
		close_fds(fds, n_fds);
	}
}
