/*
 * What DHCP servers of others give to our NICs (netcfg/dhcp.h). The privileged half begins to
 * listen, and this one, which has no privilege, reads what was said.
 */
#include "base/log.h"
#include "vdi-hostd/network/private.h"

/*
 * struct hearing - @deaf: why nothing is heard; no error while it is
 */
struct hearing {
	struct networks *all;
	uv_poll_t poll;
	int fd;
	int n_parts; /* its owner, the handle and the answer, which have to go before this does */
	bool polls, closed, lost;
	struct err deaf;
};

static void go_deaf(struct hearing *hearing, const struct err *err)
{
	hearing->deaf = *err;
	log_warn("addresses that DHCP servers give to desktops on bridged networks are not heard, "
		 "and networks with source_guard let none of them send from a new one until the "
		 "daemon is started again: %s",
		 err->msg);
}

static void on_lease(void *data, const struct netcfg_lease *lease)
{
	const struct networks *all = data;
	if (all->on_lease)
		all->on_lease(all->on_lease_data, lease);
}

static void on_readable(uv_poll_t *poll, int status, int events)
{
	struct hearing *hearing = poll->data;
	bool lost = false;
	struct err err;
	if (status < 0)
		err_set_sys(&err, ERR_IO, -status, "what was heard cannot be read");
	else if (netcfg_dhcp_read(hearing->fd, on_lease, hearing->all, &lost, &err) == 0)
		err = (struct err){0};
	if (err.code) {
		uv_poll_stop(poll);
		go_deaf(hearing, &err);
	}
	if (lost && !hearing->lost)
		log_warn("DHCP servers gave more addresses at once than could be heard; a desktop "
			 "that cannot reach its LAN has to ask for its address again");
	hearing->lost |= lost;
}

static void part_gone(struct hearing *hearing)
{
	if (--hearing->n_parts > 0)
		return;
	mem_closep(&hearing->fd);
	free(hearing);
}

static void on_closed(uv_handle_t *handle)
{
	part_gone(handle->data);
}

static void begin(struct hearing *hearing, int fd)
{
	struct err err;
	int failed = uv_poll_init(hearing->all->loop, &hearing->poll, fd);
	hearing->fd = fd;
	if (failed < 0) {
		err_set_sys(&err, ERR_IO, -failed, "what is heard cannot be waited for");
		go_deaf(hearing, &err);
		return;
	}
	hearing->poll.data = hearing;
	hearing->n_parts++;
	hearing->polls = true;
	uv_poll_start(&hearing->poll, UV_READABLE, on_readable);
}

static void on_listening(void *data, const struct priv_reply *reply, int *fds,
			 const struct err *err)
{
	struct hearing *hearing = data;
	if (!hearing->closed && !err)
		begin(hearing, TAKE_FD(fds[0]));
	else if (!hearing->closed && err->code != ERR_CANCELLED)
		go_deaf(hearing, err);
	part_gone(hearing);
}

struct hearing *hearing_new(struct networks *all)
{
	struct hearing *hearing = mem_new(struct hearing);
	const struct priv_request req = {.verb = PRIV_DHCP_LISTEN};
	hearing->all = all;
	hearing->fd = -1;
	hearing->n_parts = 2; /* its owner, and the answer */
	priv_call(all->priv, &req, NULL, 0, on_listening, hearing);
	return hearing;
}

void hearing_free(struct hearing *hearing)
{
	if (!hearing)
		return;
	hearing->closed = true;
	if (hearing->polls)
		uv_close((uv_handle_t *)&hearing->poll, on_closed);
	part_gone(hearing);
}

int hearing_check(const struct networks *all, struct err *err)
{
	if (!(all->features & PRIV_HAS_NFT_LOG))
		return err_set(err, ERR_UNSUPPORTED,
			       "this host's kernel cannot tell what DHCP servers give to desktops "
			       "(`vdictl host info`, feature nft_log)");
	if (!all->hearing || !all->hearing->deaf.code)
		return 0;
	if (err)
		*err = all->hearing->deaf;
	return err_prefix(err, "what DHCP servers give to desktops is not heard");
}

void networks_leases_sink(struct networks *all,
			  void (*cb)(void *data, const struct netcfg_lease *lease), void *data)
{
	all->on_lease = cb;
	all->on_lease_data = data;
}
