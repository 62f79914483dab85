#include "half.h"

#include <sched.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "guest.h"
#include "netcfg/netcfg.h"
#include "vdi-hostd/priv/server.h"
#include "vdi-hostd/priv/wire.h"

static void be_server(int fd, const struct half *half, int ready)
{
	struct verbs verbs = {
		.rootless = getuid() != 0,
		/* vhost-net is found missing only when it is opened */
		.kernel_features = PRIV_HAS_MULTI_QUEUE | PRIV_HAS_VHOST_NET,
		.config = {.uid = HALF_DAEMON_UID,
			   .gid = HALF_DAEMON_UID,
			   .vhost = true,
			   .uid_base = GUEST_UID_BASE,
			   .tool_uid = HALF_TOOL_UID,
			   .qemu_binary = "/usr/bin/qemu-system-x86_64",
			   .qemu_img_binary = "/usr/bin/qemu-img",
			   .dnsmasq_binary = "/usr/sbin/dnsmasq"},
	};
	struct err err;
	char own_net = unshare(CLONE_NEWNET) == 0;

	prctl(PR_SET_PDEATHSIG, SIGKILL);
	snprintf(verbs.config.runtime_dir, sizeof(verbs.config.runtime_dir), "%s",
		 half->runtime_dir);
	if (own_net && !verbs.rootless && netcfg_open(&verbs.netcfg, &err) < 0)
		own_net = 0;
	if (!freopen("/dev/null", "w", stderr) || write(ready, &own_net, 1) != 1)
		_exit(99);
	server_run(fd, &verbs);
	verbs_done(&verbs);
	_exit(42);
}

void half_open(struct half *half)
{
	int ends[2], ready[2];
	char own_net = 0;

	*half = (struct half){.runtime_dir = "/tmp/vdi-half-XXXXXX"};
	assert_non_null(mkdtemp(half->runtime_dir));
	assert_int_equal(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends), 0);
	assert_int_equal(pipe2(ready, O_CLOEXEC), 0);
	half->pid = fork();
	if (half->pid == 0) {
		close(ends[1]);
		be_server(ends[0], half, ready[1]);
	}
	close(ends[0]);
	close(ready[1]);
	assert_int_equal(read(ready[0], &own_net, 1), 1);
	close(ready[0]);
	half->own_net = own_net;
	half->fd = ends[1];
}

/* end the wire; how did the server end? */
static int half_close(struct half *half)
{
	char command[128];
	int status;

	close(half->fd);
	assert_int_equal(waitpid(half->pid, &status, 0), half->pid);
	snprintf(command, sizeof(command), "rm -rf %s", half->runtime_dir);
	assert_int_equal(system(command), 0);
	return status;
}

void half_assert_orderly(struct half *half)
{
	int status = half_close(half);
	assert_true(WIFEXITED(status));
	assert_int_equal(WEXITSTATUS(status), 42);
}

void half_assert_aborted(struct half *half)
{
	char byte;
	assert_int_equal(recv(half->fd, &byte, 1, 0), 0); /* no answer, only the end */
	int status = half_close(half);
	assert_true(WIFSIGNALED(status));
	assert_int_equal(WTERMSIG(status), SIGABRT);
}

struct priv_reply half_ask(struct half *half, const struct priv_request *req, const int *fds,
			   size_t n_fds, int *ret_fd)
{
	struct priv_reply reply;
	int reply_fds[WIRE_FDS_MAX];
	size_t n = 0;

	assert_int_equal(wire_send(half->fd, req, sizeof(*req), fds, n_fds), 0);
	assert_int_equal(wire_receive(half->fd, &reply, sizeof(reply), reply_fds, &n), 1);
	assert_int_equal(n, reply.n_fds);
	if (ret_fd)
		*ret_fd = n ? reply_fds[0] : -1;
	for (size_t i = ret_fd ? 1 : 0; i < n; i++)
		close(reply_fds[i]);
	return reply;
}

int half_run(const struct half *half, const char *command)
{
	char line[512];
	snprintf(line, sizeof(line), "nsenter -t %d -n sh -c '%s' >/dev/null 2>&1", half->pid,
		 command);
	return system(line);
}
