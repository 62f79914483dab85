#include "fake_priv.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#include "base/mem.h"
#include "base/proc.h"

struct answer {
	struct fake_priv *fake;
	uv_timer_t timer;
	struct priv_request req;
	priv_reply_cb cb;
	void *data;
	struct answer *next;
};

static struct answer *silent; /* kept until the end, as priv_close() does */

struct priv *fake_priv_new(struct fake_priv *fake)
{
	return (struct priv *)fake;
}

static struct fake_priv *fake_of(const struct priv *priv)
{
	return (struct fake_priv *)(uintptr_t)priv;
}

size_t fake_priv_count(const struct fake_priv *fake, enum priv_verb verb)
{
	size_t n = 0;
	for (size_t i = 0; i < fake->n_asked; i++)
		n += fake->asked[i] == verb;
	return n;
}

pid_t fake_priv_spawn(struct fake_priv *fake, uint32_t slot)
{
	char argument[300];
	snprintf(argument, sizeof(argument), "--dhcp-leasefile=%s/networks/%u/leases",
		 fake->runtime_dir, slot);
	const char *script = fake->dies ? "exit 2" : "trap '' HUP; read x";
	pid_t pid = fork();
	if (pid == 0) {
		int ends[2];
		/* its own other end: it waits until it is killed */
		if (pipe(ends) < 0 || dup2(ends[0], 0) < 0)
			_exit(126);
		execl("/bin/sh", "sh", "-c", script, "dnsmasq", argument, (char *)NULL);
		_exit(127);
	}
	/* until it is what it shall be, its arguments are the test's own */
	for (int i = 0; i < 20000 && !fake->dies; i++) {
		char path[64], text[300] = "";
		snprintf(path, sizeof(path), "/proc/%d/cmdline", (int)pid);
		int fd = open(path, O_RDONLY | O_CLOEXEC);
		ssize_t n = read(fd, text, 2);
		close(fd);
		if (n == 2 && text[0] == 's' && text[1] == 'h')
			break;
		usleep(1000);
	}
	fake->spawned = pid;
	fake->pids[fake->spawns++] = pid;
	return pid;
}

static int spawn(struct fake_priv *fake, const struct priv_request *req, struct priv_reply *reply,
		 int *fd)
{
	struct err err;
	reply->pid = fake_priv_spawn(fake, req->u.network.slot);
	if (proc_start_time(reply->pid, &reply->start_time, &err) < 0)
		reply->start_time = 1; /* ended already */
	*fd = (int)syscall(SYS_pidfd_open, reply->pid, 0);
	reply->n_fds = 1;
	return 0;
}

static void send_signal(struct fake_priv *fake, const struct priv_process *process)
{
	if (process->sig == SIGHUP) {
		fake->hups++;
		return;
	}
	fake->kills++;
	kill(process->pid, process->sig);
}

/* ---- forwards ---- */

static bool is_same(const struct netcfg_forward *a, const struct netcfg_forward *b)
{
	return a->protocol == b->protocol && a->port_first == b->port_first &&
	       a->port_last == b->port_last && a->guest_port == b->guest_port &&
	       netcfg_addr_equal(&a->guest, &b->guest) && netcfg_addr_equal(&a->host, &b->host);
}

static struct netcfg_forward *find_forward(struct fake_priv *fake,
					   const struct netcfg_forward *forward)
{
	for (size_t i = 0; i < fake->n_forwards; i++)
		if (is_same(&fake->forwards[i], forward))
			return &fake->forwards[i];
	return NULL;
}

static void do_forward(struct fake_priv *fake, const struct priv_request *req,
		       struct priv_reply *reply)
{
	struct netcfg_forward *found = find_forward(fake, &req->u.forward);
	if (req->verb == PRIV_FORWARD_LOOK)
		reply->missing = found ? 0 : PRIV_MISSING_FORWARD;
	else if (req->verb == PRIV_FORWARD_DELETE && found)
		*found = fake->forwards[--fake->n_forwards];
	else if (req->verb == PRIV_FORWARD_ENSURE && !found && fake->n_forwards < FAKE_FORWARDS_MAX)
		fake->forwards[fake->n_forwards++] = req->u.forward;
}

const char *fake_priv_forward(const struct fake_priv *fake, int family, unsigned int port)
{
	static char text[INET6_ADDRSTRLEN];
	for (size_t i = 0; i < fake->n_forwards; i++) {
		const struct netcfg_forward *forward = &fake->forwards[i];
		if (forward->guest.family == family && forward->protocol == NETCFG_TCP &&
		    forward->port_first <= port && port <= forward->port_last)
			return inet_ntop(family, &forward->guest.v4, text, sizeof(text));
	}
	return "";
}

/* Is it what it is told to fail at, or not to answer? */
static bool is_meant(const struct fake_priv *fake, enum priv_verb verb,
		     const struct priv_request *req)
{
	return verb == (enum priv_verb)req->verb &&
	       (fake->family == 0 || req->u.forward.guest.family == fake->family);
}

/* ---- what is heard ---- */

static void listen_to(struct fake_priv *fake, struct priv_reply *reply, int *fd)
{
	int ends[2];
	if (pipe2(ends, O_CLOEXEC | O_NONBLOCK) < 0)
		abort();
	*fd = ends[0];
	mem_closep(&fake->say);
	fake->say = ends[1];
	reply->n_fds = 1;
}

void fake_priv_say(struct fake_priv *fake, const struct netcfg_lease *lease)
{
	static const struct netcfg_lease lost;
	if (write(fake->say, lease ? lease : &lost, sizeof(lost)) != sizeof(lost))
		abort();
}

int netcfg_dhcp_read(int fd, void (*cb)(void *data, const struct netcfg_lease *lease), void *data,
		     bool *ret_lost, struct err *err)
{
	struct netcfg_lease lease;
	ssize_t n;
	while ((n = read(fd, &lease, sizeof(lease))) == sizeof(lease)) {
		if (lease.address.s_addr)
			cb(data, &lease);
		else
			*ret_lost = true;
	}
	return n == 0 ? err_set(err, ERR_IO, "the socket is broken") : 0;
}

static void on_closed(uv_handle_t *handle)
{
	free(handle->data);
}

static void obey(struct fake_priv *fake, const struct priv_request *req, struct priv_reply *reply,
		 int *fd)
{
	if (req->verb == PRIV_DNSMASQ_SPAWN)
		spawn(fake, req, reply, fd);
	else if (req->verb == PRIV_DHCP_LISTEN)
		listen_to(fake, reply, fd);
	else if (req->verb == PRIV_DNSMASQ_SIGNAL)
		send_signal(fake, &req->u.process);
	else if (req->verb == PRIV_FORWARD_ENSURE || req->verb == PRIV_FORWARD_DELETE ||
		 req->verb == PRIV_FORWARD_LOOK)
		do_forward(fake, req, reply);
}

static void answer(uv_timer_t *timer)
{
	struct answer *answer = timer->data;
	struct fake_priv *fake = answer->fake;
	struct priv_reply reply = {.wait_status = -1};
	int fd = -1;
	if (is_meant(fake, fake->fail, &answer->req)) {
		err_set(&reply.err, ERR_IO, "told to fail");
		fake->fail = fake->once ? 0 : fake->fail;
	} else if (answer->req.verb == fake->misses) {
		reply.missing = UINT32_MAX;
	} else {
		obey(fake, &answer->req, &reply, &fd);
	}
	if (answer->cb)
		answer->cb(answer->data, &reply, &fd, reply.err.code ? &reply.err : NULL);
	mem_closep(&fd);
	uv_close((uv_handle_t *)timer, on_closed);
}

void priv_call(struct priv *priv, const struct priv_request *req, const int *fds, size_t n_fds,
	       priv_reply_cb cb, void *data)
{
	struct fake_priv *fake = fake_of(priv);
	struct answer *next = mem_new(struct answer);
	next->fake = fake;
	next->req = *req;
	next->cb = cb;
	next->data = data;
	if (fake->n_asked < FAKE_ASKED_MAX)
		fake->asked[fake->n_asked++] = (enum priv_verb)req->verb;
	if (req->verb == PRIV_BRIDGE_ENSURE || req->verb == PRIV_DNSMASQ_SPAWN)
		fake->network = req->u.network;
	if (req->verb == PRIV_TAP_ATTACH)
		fake->tap = req->u.tap;
	if (is_meant(fake, fake->silent, req)) {
		next->next = silent;
		silent = next;
		return;
	}
	uv_timer_init(fake->loop, &next->timer);
	next->timer.data = next;
	uv_timer_start(&next->timer, answer, 0, 0);
}

bool priv_is_rootless(const struct priv *priv)
{
	return fake_of(priv)->rootless;
}

void fake_priv_done(struct fake_priv *fake)
{
	struct err err;
	err_set(&err, ERR_CANCELLED, "the wire is closed");
	while (silent) {
		struct answer *first = silent;
		struct priv_reply reply = {.wait_status = -1};
		silent = first->next;
		first->cb(first->data, &reply, NULL, &err);
		free(first);
	}
	mem_closep(&fake->say);
	/* not collected before, so that no pid can be another's by now */
	for (; fake->collected < fake->spawns; fake->collected++) {
		kill(fake->pids[fake->collected], SIGKILL);
		waitpid(fake->pids[fake->collected], NULL, 0);
	}
}
