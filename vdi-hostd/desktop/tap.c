/* The taps of a desktop that starts: one after the other, and all or none. */
#include <string.h>

#include "base/log.h"
#include "base/mem.h"
#include "vdi-hostd/desktop/private.h"

static void make_next(struct desktop *desktop);

size_t desktop_tap_n_fds(const struct tap *tap)
{
	return tap->vhost ? 2u * tap->queues : tap->queues;
}

void desktop_tap_close(struct tap *tap)
{
	mem_close_all(tap->fd, desktop_tap_n_fds(tap));
	*tap = (struct tap){0};
}

int desktop_tap_take(struct desktop *desktop, const struct priv_reply *reply, int *fds,
		     struct db_nic *row, struct tap *ret, struct err *err)
{
	const int64_t queues = reply->queues;
	const bool vhost = reply->n_fds > reply->queues;
	*ret = (struct tap){.queues = reply->queues, .vhost = vhost};
	for (size_t i = 0; i < reply->n_fds; i++)
		ret->fd[i] = TAKE_FD(fds[i]);
	if (reply->vhost_sys)
		desktop_warn(desktop, "NIC %d does without vhost-net, which cannot be opened: %s",
			     (int)row->number, strerror(reply->vhost_sys));
	if (row->given_queues == queues && row->given_vhost == vhost)
		return 0;
	row->given_queues = queues;
	row->given_vhost = vhost;
	return db_nic_update(desktop->all->env.db, row, err);
}

static void on_tap(void *data, const struct priv_reply *reply, int *fds, const struct err *err)
{
	struct desktop *desktop = data;
	struct err failed;
	if (err && err->code == ERR_CANCELLED)
		return; /* the wire closes: the daemon ends */
	struct nic *nic = &desktop->nics[desktop->tap_at];
	desktop->spawning = false;
	if (!err && desktop_tap_take(desktop, reply, fds, &nic->row, &nic->tap, &failed) < 0)
		err = &failed;
	if (plan_is_undoing(desktop->plan))
		desktop_taps_drop(desktop->plan, desktop);
	else if (err)
		plan_fail(desktop->plan, err);
	else
		make_next(desktop);
}

/* one that is there already is passed over, one that needs none as well */
static void make_next(struct desktop *desktop)
{
	struct desktops_env *env = &desktop->all->env;
	struct priv_request req;
	struct err err;
	struct nic *nic = NULL;
	while ((nic = desktop_nic_next(desktop, nic)))
		if (nic->tap.queues == 0 && desktop_nic_has_tap(desktop, nic))
			break;
	if (!nic) {
		plan_next(desktop->plan);
		return;
	}
	const struct network_tap tap = desktop_nic_tap(desktop, nic);
	if (networks_tap_request(env->networks, desktop_nic_network(desktop, nic), &tap,
				 PRIV_TAP_CREATE, &req, &err) < 0) {
		plan_fail(desktop->plan, &err);
		return;
	}
	desktop->tap_at = nic->row.number;
	desktop->spawning = true;
	priv_call(env->priv, &req, NULL, 0, on_tap, desktop);
}

void desktop_taps_make(struct plan *plan, void *ctx)
{
	struct desktop *desktop = ctx;
	if (desktop->park == PARK_IS)
		plan_next(plan);
	else
		make_next(desktop);
}

void desktop_taps_close(struct desktop *desktop)
{
	for (size_t i = 0; i < QEMU_NICS_MAX; i++)
		desktop_tap_close(&desktop->nics[i].tap);
}

/* A tap lives as long as a descriptor of it: QEMU's goes with QEMU, these go here. */
void desktop_taps_drop(struct plan *plan, void *ctx)
{
	struct desktop *desktop = ctx;
	if (desktop->spawning)
		return; /* its answer goes on from here */
	desktop_taps_close(desktop);
	plan_undone(plan);
}

void desktop_tap_forget(struct desktop *desktop, const struct nic *nic)
{
	struct priv_request req = {.verb = PRIV_TAP_DELETE};
	req.u.tap.desktop = (uint32_t)desktop->row.slot;
	req.u.tap.nic = (uint32_t)nic->row.number;
	if (desktop_nic_has_tap(desktop, nic))
		priv_call(desktop->all->env.priv, &req, NULL, 0, NULL, NULL);
}

void desktop_taps_forget(struct desktop *desktop)
{
	for (struct nic *nic = NULL; (nic = desktop_nic_next(desktop, nic));)
		desktop_tap_forget(desktop, nic);
}

static void on_attached(void *data, const struct priv_reply *reply, int *fds, const struct err *err)
{
	if (err && err->code != ERR_CANCELLED)
		log_warn("a running desktop is cut off from its network until it is started again: "
			 "%s",
			 err->msg);
}

void desktop_tap_attach(struct desktop *desktop, const struct nic *nic, priv_reply_cb cb)
{
	struct desktops_env *env = &desktop->all->env;
	struct priv_request req;
	struct err err;
	if (!desktop_nic_has_tap(desktop, nic))
		return;
	const struct network_tap tap = desktop_nic_tap(desktop, nic);
	if (networks_tap_request(env->networks, desktop_nic_network(desktop, nic), &tap,
				 PRIV_TAP_ATTACH, &req, &err) < 0)
		cb(NULL, NULL, NULL, &err);
	else
		priv_call(env->priv, &req, NULL, 0, cb, NULL);
}

void desktop_taps_attach(struct desktop *desktop)
{
	for (struct nic *nic = NULL; (nic = desktop_nic_next(desktop, nic));)
		desktop_tap_attach(desktop, nic, on_attached);
}
