/*
 * The host's own way in becomes a port of a bridge. Whoever asked may be cut off by that, so until
 * they confirm it a process of its own, the guard, stands by to put all back: at the deadline, or
 * when this half ends, however that comes.
 */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/log.h"
#include "base/mem.h"
#include "vdi-hostd/priv/network_names.h"

/* the other half comes first, unless it hangs */
#define GUARD_GRACE_MS  2000
#define GUARD_DISMISSED 7

static int check_route(const struct netcfg_route *route, struct err *err)
{
	if (network_check_address(&route->to, true, "to", err) < 0 ||
	    network_check_address(&route->gateway, true, "gateway", err) < 0)
		return -1;
	return network_check_address(&route->source, true, "source", err);
}

int verb_uplink_check(const struct priv_request *req, const int *fds, size_t n_fds, struct err *err)
{
	const struct netcfg_uplink *before = &req->u.uplink.before;

	if (network_check_slot(req->u.uplink.slot, "slot", err) < 0 ||
	    network_check_uplink(before->name, err) < 0)
		return -1;
	if (req->u.uplink.timeout_s > PRIV_CONFIRM_MAX_S)
		return err_set_field(err, "timeout_s", "%u s are over %d", req->u.uplink.timeout_s,
				     PRIV_CONFIRM_MAX_S);
	if (before->n_addresses > NETCFG_UPLINK_ADDRS_MAX ||
	    before->n_routes > NETCFG_UPLINK_ROUTES_MAX)
		return err_set_field(err, "n_routes", "an uplink has no so many addresses, routes");
	for (size_t i = 0; i < before->n_addresses; i++)
		if (network_check_address(&before->addresses[i], false, "addresses", err) < 0)
			return -1;
	for (size_t i = 0; i < before->n_routes; i++)
		if (check_route(&before->routes[i], err) < 0)
			return -1;
	return 0;
}

/* ---- the guard ---- */

static void put_back(const struct priv_uplink *uplink)
{
	_cleanup_(netcfg_closep) struct netcfg *netcfg = NULL;
	const struct link_name bridge = bridge_name(uplink->slot);
	struct err err;

	if (netcfg_open(&netcfg, &err) < 0 ||
	    netcfg_uplink_release(netcfg, &uplink->before, bridge.text, &err) < 0)
		log_err("uplink %s could not be put back: %s", uplink->before.name, err.msg);
	else
		log_warn("uplink %s: nobody confirmed the change, all is as it was before",
			 uplink->before.name);
}

static void be_guard(int fd, const struct priv_uplink *uplink)
{
	struct pollfd wait = {.fd = 3, .events = POLLIN};
	char word;
	int ready;

	/* nothing of the other half's may live on in here, the wire least of all */
	if (dup2(fd, 3) < 0 || close_range(4, ~0U, 0) < 0)
		_exit(1);
	signal(SIGTERM, SIG_IGN);
	signal(SIGINT, SIG_IGN);
	signal(SIGHUP, SIG_IGN);
	prctl(PR_SET_NAME, "vdi-hostd: guard", 0, 0, 0);
	do {
		ready = poll(&wait, 1, (int)uplink->timeout_s * 1000 + GUARD_GRACE_MS);
	} while (ready < 0 && errno == EINTR);
	if (ready > 0 && read(3, &word, 1) == 1)
		_exit(GUARD_DISMISSED);
	put_back(uplink);
	_exit(0);
}

static struct guard *find_guard(struct verbs *verbs, uint32_t slot)
{
	for (size_t i = 0; i < ARRAY_LEN(verbs->guards); i++)
		if (verbs->guards[i].slot == slot)
			return &verbs->guards[i];
	return NULL;
}

/*
 * Tell it to go without doing anything, and see it gone: from then on nobody puts anything back.
 * Return: was it so? Else it has put all back.
 */
static bool dismiss_guard(struct verbs *verbs, uint32_t slot)
{
	struct guard *guard = find_guard(verbs, slot);
	int status = 0;

	if (!guard)
		return false;
	(void)!write(guard->fd, "k", 1);
	close(guard->fd);
	while (waitpid(guard->pid, &status, 0) < 0 && errno == EINTR)
		;
	*guard = (struct guard){.fd = -1};
	return WIFEXITED(status) && WEXITSTATUS(status) == GUARD_DISMISSED;
}

static int post_guard(struct verbs *verbs, const struct priv_uplink *uplink, struct err *err)
{
	struct guard *guard = find_guard(verbs, 0);
	int ends[2];

	if (!guard)
		return err_set(err, ERR_LIMIT,
			       "too many changes of uplinks wait for their confirmation");
	if (pipe2(ends, O_CLOEXEC) < 0)
		return err_set_sys(err, ERR_LIMIT, errno, "cannot guard the change of the uplink");
	pid_t pid = fork();
	if (pid == 0) {
		close(ends[1]);
		be_guard(ends[0], uplink);
	}
	close(ends[0]);
	if (pid < 0) {
		close(ends[1]);
		return err_set_sys(err, ERR_LIMIT, errno, "cannot guard the change of the uplink");
	}
	*guard = (struct guard){.slot = uplink->slot, .pid = pid, .fd = ends[1]};
	return 0;
}

/* ---- the verbs ---- */

int verb_uplink_enslave(struct verbs *verbs, const struct priv_request *req, const int *fds,
			struct priv_reply *reply, int *reply_fds, struct err *err)
{
	const struct priv_uplink *uplink = &req->u.uplink;
	const struct link_name bridge = bridge_name(uplink->slot);

	if (network_need_netcfg(verbs, err) < 0)
		return -1;
	dismiss_guard(verbs, uplink->slot);
	if (uplink->timeout_s && post_guard(verbs, uplink, err) < 0)
		return -1;
	if (netcfg_uplink_enslave(verbs->netcfg, &uplink->before, bridge.text, err) == 0)
		return 0;
	dismiss_guard(verbs, uplink->slot);
	return -1;
}

int verb_uplink_confirm(struct verbs *verbs, const struct priv_request *req, const int *fds,
			struct priv_reply *reply, int *reply_fds, struct err *err)
{
	if (dismiss_guard(verbs, req->u.slot))
		return 0;
	return err_set(err, ERR_NOT_FOUND, "there is no change of the uplink to be confirmed");
}

int verb_uplink_release(struct verbs *verbs, const struct priv_request *req, const int *fds,
			struct priv_reply *reply, int *reply_fds, struct err *err)
{
	const struct priv_uplink *uplink = &req->u.uplink;
	const struct link_name bridge = bridge_name(uplink->slot);

	if (network_need_netcfg(verbs, err) < 0)
		return -1;
	dismiss_guard(verbs, uplink->slot);
	return netcfg_uplink_release(verbs->netcfg, &uplink->before, bridge.text, err);
}

void verbs_close_guards(struct verbs *verbs)
{
	/* their pipe's end says it: what is not confirmed by now is put back */
	for (size_t i = 0; i < ARRAY_LEN(verbs->guards); i++)
		if (verbs->guards[i].slot)
			close(verbs->guards[i].fd);
}
