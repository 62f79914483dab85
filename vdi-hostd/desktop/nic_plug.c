/* What QEMU is told when a NIC of a guest that runs comes, goes or changes. */
#include <stdio.h>
#include <string.h>

#include "vdi-hostd/desktop/nic_change.h"

/* a monitor that is closed tells desktop_nic_gone() */
static void note(void *data, json_t *result, const struct err *err)
{
	struct nic_change *change = data;
	if (err && err->code != ERR_CANCELLED && !change->first_err.code)
		change->first_err = *err;
}

static void last(void *data, json_t *result, const struct err *err)
{
	struct nic_change *change = data;
	struct plan *plan = change->desktop->plan;
	if (err && err->code == ERR_CANCELLED)
		return;
	note(data, result, err);
	if (!plan_is_undoing(plan))
		plan_end_step(plan, change->first_err.code ? -1 : 0, &change->first_err);
}

static struct qmp *monitor(struct nic_change *change, struct plan *plan)
{
	struct err err;
	if (!change->desktop->qmp) {
		err_set(&err, ERR_UNAVAILABLE,
			"QEMU's monitor does not answer; try again, or stop desktop '%s' with force",
			change->desktop->row.name);
		plan_fail(plan, &err);
	}
	return change->desktop->qmp;
}

static json_t *named(const char *key, const char *prefix, int64_t number)
{
	char name[32];
	snprintf(name, sizeof(name), "%s%d", prefix, (int)number);
	return json_pack("{s:s}", key, name);
}

static void set_name(json_t *object, const char *key, const char *prefix, int64_t number)
{
	char name[32];
	snprintf(name, sizeof(name), "%s%d", prefix, (int)number);
	json_object_set_new(object, key, json_string(name));
}

/* struct fd_name - what QEMU calls one of the descriptors of a tap */
struct fd_name {
	char text[32];
};

static struct fd_name fd_name(const struct nic_change *change, size_t index)
{
	struct fd_name ret;
	snprintf(ret.text, sizeof(ret.text), "tap%d-%zu", (int)change->row.number, index);
	return ret;
}

static void set_fd_names(json_t *netdev, const char *key, const struct nic_change *change,
			 size_t from, size_t n)
{
	char text[QEMU_QUEUES_MAX * sizeof(struct fd_name)];
	size_t len = 0;
	for (size_t i = from; i < from + n; i++)
		len += (size_t)snprintf(text + len, sizeof(text) - len, "%s%s", i > from ? ":" : "",
					fd_name(change, i).text);
	json_object_set_new(netdev, key, json_string(text));
}

/* Hand over the descriptors, which is QEMU's way to take several, and say what they are. */
static void pass_tap(struct nic_change *change, struct qmp *qmp, json_t *netdev)
{
	const struct tap *tap = &change->tap;
	for (size_t i = 0; i < desktop_tap_n_fds(tap); i++)
		qmp_execute_fd(qmp, "getfd", json_pack("{s:s}", "fdname", fd_name(change, i).text),
			       tap->fd[i], 0, note, change);
	set_fd_names(netdev, "fds", change, 0, tap->queues);
	json_object_set_new(netdev, "vhost", json_boolean(tap->vhost));
	if (tap->vhost)
		set_fd_names(netdev, "vhostfds", change, tap->queues, tap->queues);
}

void nic_plug(struct plan *plan, void *ctx)
{
	struct nic_change *change = ctx;
	const struct db_nic *row = &change->row;
	const struct tap *tap = &change->tap;
	const struct nic nic = {.row = *row};
	const struct db_network *network = desktop_nic_network(change->desktop, &nic);
	if (!desktop_has_guest(change->desktop)) {
		plan_next(plan);
		return;
	}
	struct qmp *qmp = monitor(change, plan);
	if (!qmp)
		return;
	json_t *netdev = named("id", "net", row->number);
	json_t *device = named("id", "nic", row->number);
	json_object_set_new(netdev, "type", json_string(tap->queues ? "tap" : "user"));
	if (tap->queues)
		pass_tap(change, qmp, netdev);
	qmp_execute(qmp, "netdev_add", netdev, 0, note, change);
	json_object_set_new(device, "driver", json_string("virtio-net-pci"));
	json_object_set_new(device, "mac", json_string(row->mac));
	json_object_set_new(device, "romfile", json_string(""));
	set_name(device, "netdev", "net", row->number);
	set_name(device, "bus", "nicbus", row->number);
	if (network && network->mtu)
		json_object_set_new(device, "host_mtu", json_integer(network->mtu));
	if (tap->queues > 1) {
		json_object_set_new(device, "mq", json_true());
		json_object_set_new(device, "vectors", json_integer(QEMU_NIC_VECTORS(tap->queues)));
	}
	qmp_execute(qmp, "device_add", device, 0, row->link_up ? last : note, change);
	if (row->link_up)
		return;
	json_t *link = named("name", "nic", row->number);
	json_object_set_new(link, "up", json_false());
	qmp_execute(qmp, "set_link", link, 0, last, change);
}

/* The device is the last thing that is made: if it is there, nothing is undone. */
void nic_unplug_again(struct plan *plan, void *ctx)
{
	struct nic_change *change = ctx;
	struct qmp *qmp = change->desktop->qmp;
	if (qmp) {
		qmp_execute(qmp, "netdev_del", named("id", "net", change->row.number), 0, NULL,
			    NULL);
		for (size_t i = 0; i < desktop_tap_n_fds(&change->tap); i++)
			qmp_execute(qmp, "closefd",
				    json_pack("{s:s}", "fdname", fd_name(change, i).text), 0, NULL,
				    NULL);
	}
	plan_undone(plan);
}

static void too_slow(uv_timer_t *timer)
{
	struct desktop *desktop = timer->data;
	struct nic_change *change = desktop->nic_change;
	struct err err;
	desktop_retry_stop(desktop);
	change->unplugging = false;
	err_set(&err, ERR_TIMEOUT,
		"the guest of desktop '%s' did not let go of NIC %d; try again when it has booted, "
		"or stop it first",
		desktop->row.name, (int)change->old.number);
	plan_fail(desktop->plan, &err);
}

static void on_asked(void *data, json_t *result, const struct err *err)
{
	struct nic_change *change = data;
	if (!err || err->code == ERR_CANCELLED || !change->unplugging)
		return; /* DEVICE_DELETED follows */
	change->unplugging = false;
	desktop_retry_stop(change->desktop);
	plan_fail(change->desktop->plan, err);
}

void nic_unplug(struct plan *plan, void *ctx)
{
	struct nic_change *change = ctx;
	if (!desktop_has_guest(change->desktop)) {
		plan_next(plan);
		return;
	}
	struct qmp *qmp = monitor(change, plan);
	if (!qmp)
		return;
	change->unplugging = true;
	desktop_retry_after(change->desktop, NIC_UNPLUG_MS, too_slow);
	qmp_execute(qmp, "device_del", named("id", "nic", change->old.number), 0, on_asked, change);
}

void desktop_nic_event(struct desktop *desktop, const char *name, json_t *data)
{
	struct nic_change *change = desktop->nic_change;
	const char *device = json_string_value(json_object_get(data, "device"));
	char awaited[32];
	if (!change || !change->unplugging || strcmp(name, "DEVICE_DELETED") != 0 || !device)
		return;
	snprintf(awaited, sizeof(awaited), "nic%d", (int)change->old.number);
	if (strcmp(device, awaited) != 0)
		return;
	const struct nic nic = {.row = change->old};
	change->unplugging = false;
	desktop_retry_stop(desktop);
	/* the tap ends with its last descriptor, which is QEMU's */
	qmp_execute(desktop->qmp, "netdev_del", named("id", "net", change->old.number), 0, NULL,
		    NULL);
	desktop_tap_forget(desktop, &nic);
	plan_next(desktop->plan);
}

/* A guest asks for an address again when its cable comes back: so it does on a new network. */
void nic_set_cable(struct plan *plan, void *ctx)
{
	struct nic_change *change = ctx;
	bool moved = strcmp(change->row.network_id, change->old.network_id) != 0;
	if (!desktop_has_guest(change->desktop) ||
	    (!moved && change->row.link_up == change->old.link_up)) {
		plan_next(plan);
		return;
	}
	struct qmp *qmp = monitor(change, plan);
	if (!qmp)
		return;
	json_t *down = named("name", "nic", change->row.number), *up = json_deep_copy(down);
	json_object_set_new(down, "up", json_false());
	json_object_set_new(up, "up", json_boolean(change->row.link_up));
	qmp_execute(qmp, "set_link", down, 0, note, change);
	qmp_execute(qmp, "set_link", up, 0, last, change);
}
