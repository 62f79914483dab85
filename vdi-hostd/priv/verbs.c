#include "vdi-hostd/priv/verbs.h"

#include <fcntl.h>
#include <unistd.h>

#include "base/log.h"
#include "base/mem.h"
#include "netcfg/link.h"
#include "netcfg/monitor.h"
#include "netcfg/netcfg.h"
#include "vdi-hostd/priv/landlock.h"

static int check_nothing(const struct priv_request *req, const int *fds, size_t n_fds,
			 struct err *err)
{
	return 0;
}

static int check_slot(const struct priv_request *req, const int *fds, size_t n_fds, struct err *err)
{
	if (req->u.slot >= 1 && req->u.slot <= PRIV_SLOT_MAX)
		return 0;
	return err_set_field(err, "slot", "slot %u is not in 1 to %d", req->u.slot, PRIV_SLOT_MAX);
}

static int probe(struct verbs *verbs, const struct priv_request *req, const int *fds,
		 struct priv_reply *reply, int *reply_fds, struct err *err)
{
	uint32_t features = verbs->kernel_features;
	_cleanup_close_ int kvm = open("/dev/kvm", O_RDWR | O_CLOEXEC);

	if (kvm >= 0)
		features |= PRIV_HAS_KVM_DEVICE;
	if (access(verbs->config.dnsmasq_binary, X_OK) == 0)
		features |= PRIV_HAS_DNSMASQ;
	if (landlock_is_there())
		features |= PRIV_HAS_LANDLOCK;
	if (verbs->cgroup.memory)
		features |= PRIV_HAS_CGROUP_MEMORY;
	if (verbs->cgroup.cpu)
		features |= PRIV_HAS_CGROUP_CPU;
	reply->features = features;
	return 0;
}

static int delete_cgroup(struct verbs *verbs, const struct priv_request *req, const int *fds,
			 struct priv_reply *reply, int *reply_fds, struct err *err)
{
	return cgroup_delete(&verbs->cgroup, req->u.slot, err);
}

static const struct verb table[PRIV_VERBS_END] = {
	/* name, rootless, descriptors, check, run */
	[PRIV_PROBE] = {"probe", true, 0, check_nothing, probe},
	[PRIV_BRIDGE_ENSURE] = {"bridge-ensure", false, 0, verb_network_check, verb_bridge_ensure},
	[PRIV_BRIDGE_DELETE] = {"bridge-delete", false, 0, check_slot, verb_bridge_delete},
	[PRIV_TAP_CREATE] = {"tap-create", false, 0, verb_tap_check, verb_tap_create},
	[PRIV_TAP_DELETE] = {"tap-delete", false, 0, verb_tap_check, verb_tap_delete},
	[PRIV_DNSMASQ_SPAWN] = {"dnsmasq-spawn", false, 0, verb_network_check, verb_dnsmasq_spawn},
	[PRIV_DNSMASQ_SIGNAL] = {"dnsmasq-signal", false, 0, verb_signal_check, verb_signal},
	[PRIV_QEMU_SPAWN] = {"qemu-spawn", true, VERB_FDS_BY_SPEC, verb_qemu_check,
			     verb_qemu_spawn},
	[PRIV_QEMU_SIGNAL] = {"qemu-signal", true, 0, verb_signal_check, verb_signal},
	[PRIV_REAP] = {"reap", true, 0, verb_reap_check, verb_reap},
	[PRIV_CGROUP_DELETE] = {"cgroup-delete", true, 0, check_slot, delete_cgroup},
	[PRIV_IMG_SPAWN] = {"img-spawn", true, VERB_FDS_BY_SPEC, verb_img_check, verb_img_spawn},
	[PRIV_IMG_SIGNAL] = {"img-signal", true, 0, verb_signal_check, verb_signal},
	[PRIV_TAP_ATTACH] = {"tap-attach", false, 0, verb_tap_check, verb_tap_attach},
	[PRIV_NETWORK_LOOK] = {"network-look", false, 0, verb_network_check, verb_network_look},
	[PRIV_TAP_LOOK] = {"tap-look", false, 0, verb_tap_check, verb_tap_look},
	[PRIV_FORWARD_LOOK] = {"forward-look", false, 0, verb_forward_check, verb_forward_look},
	[PRIV_FORWARD_ENSURE] = {"forward-ensure", false, 0, verb_forward_check,
				 verb_forward_ensure},
	[PRIV_FORWARD_DELETE] = {"forward-delete", false, 0, verb_forward_check,
				 verb_forward_delete},
	[PRIV_GROUP_ENSURE] = {"group-ensure", false, 0, verb_group_check, verb_group_ensure},
	[PRIV_GROUP_DELETE] = {"group-delete", false, 0, verb_group_check, verb_group_delete},
	[PRIV_UPLINK_ENSLAVE] = {"uplink-enslave", false, 0, verb_uplink_check,
				 verb_uplink_enslave},
	[PRIV_UPLINK_CONFIRM] = {"uplink-confirm", false, 0, check_slot, verb_uplink_confirm},
	[PRIV_UPLINK_RELEASE] = {"uplink-release", false, 0, verb_uplink_check,
				 verb_uplink_release},
	[PRIV_WATCH] = {"watch", false, 0, check_nothing, verb_watch},
	[PRIV_DROPS] = {"drops", false, 0, verb_tap_check, verb_drops},
	[PRIV_DHCP_LISTEN] = {"dhcp-listen", false, 0, check_nothing, verb_dhcp_listen},
};

static const struct verb *find(uint32_t verb)
{
	return verb < ARRAY_LEN(table) && table[verb].name ? &table[verb] : NULL;
}

const char *verbs_name(uint32_t verb)
{
	const struct verb *row = find(verb);
	return row ? row->name : NULL;
}

int verbs_check(const struct priv_request *req, const int *fds, size_t n_fds, struct err *err)
{
	const struct verb *verb = find(req->verb);
	if (!verb)
		return err_set_field(err, "verb", "there is no verb %u", req->verb);
	if (req->n_fds != n_fds)
		return err_set_field(err, "n_fds", "%s says %u descriptors and brings %zu",
				     verb->name, req->n_fds, n_fds);
	if (verb->n_fds != VERB_FDS_BY_SPEC && verb->n_fds != n_fds)
		return err_set_field(err, "n_fds", "%s takes %zu descriptors, not %zu", verb->name,
				     verb->n_fds, n_fds);
	if (verb->check(req, fds, n_fds, err) < 0)
		return err_prefix(err, "%s", verb->name);
	return 0;
}

void verbs_run(struct verbs *verbs, const struct priv_request *req, const int *fds,
	       struct priv_reply *reply, int *reply_fds)
{
	const struct verb *verb = find(req->verb);
	struct err err = {0};

	*reply = (struct priv_reply){.wait_status = -1};
	children_collect(&verbs->children);
	if (verbs->rootless && !verb->rootless)
		err_set(&err, ERR_UNSUPPORTED,
			"%s needs the privileged half; start vdi-hostd as root to have it",
			verb->name);
	else if (verb->run(verbs, req, fds, reply, reply_fds, &err) == 0)
		return;
	*reply = (struct priv_reply){.err = err, .wait_status = -1};
}

bool verbs_await_sweep(const struct verbs *verbs)
{
	return verbs->netcfg && netcfg_links_await_sweep(verbs->netcfg);
}

void verbs_sweep(struct verbs *verbs)
{
	struct err err;
	if (verbs_await_sweep(verbs) && netcfg_links_sweep(verbs->netcfg, &err) < 0)
		log_warn("taps that were deleted are still there: %s", err.msg);
}

void verbs_done(struct verbs *verbs)
{
	verbs_sweep(verbs);
	children_done(&verbs->children);
	verbs_close_guards(verbs);
	netcfg_monitor_close(verbs->monitor);
	if (verbs->watch_fd > 0)
		close(verbs->watch_fd);
	netcfg_close(verbs->netcfg);
}
