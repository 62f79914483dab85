/* Taps: what is behind one is guarded before it is there. */
#include <arpa/inet.h>
#include <string.h>

#include "base/mem.h"
#include "netcfg/link.h"
#include "netcfg/nic.h"
#include "netcfg/rate.h"
#include "netcfg/tap.h"
#include "vdi-hostd/priv/network_names.h"
#include "vdi-hostd/priv/tap_file.h"

_Static_assert(QEMU_QUEUES_MAX <= NETCFG_TAP_QUEUES_MAX, "a NIC has more queues than a tap");

static bool is_guarded(const struct priv_tap *tap)
{
	static const uint8_t none[6];
	return memcmp(tap->mac, none, sizeof(none)) != 0;
}

static int check_rate(const struct netcfg_rate *rate, struct err *err)
{
	if (rate->bits_per_s &&
	    (rate->bits_per_s < NETCFG_RATE_MIN || rate->bits_per_s > NETCFG_RATE_MAX))
		return err_set_field(err, "rates", "a rate of %llu bit/s is not in %llu to %llu",
				     (unsigned long long)rate->bits_per_s, NETCFG_RATE_MIN,
				     NETCFG_RATE_MAX);
	if (rate->burst && (rate->burst < NETCFG_BURST_MIN || rate->burst > NETCFG_BURST_MAX))
		return err_set_field(err, "rates", "a burst of %u bytes is not in %u to %u",
				     rate->burst, NETCFG_BURST_MIN, NETCFG_BURST_MAX);
	return 0;
}

int verb_tap_check(const struct priv_request *req, const int *fds, size_t n_fds, struct err *err)
{
	const struct priv_tap *tap = &req->u.tap;

	if (network_check_slot(tap->desktop, "desktop", err) < 0)
		return -1;
	if (tap->nic >= QEMU_NICS_MAX)
		return err_set_field(err, "nic", "NIC %u is not in 0 to %d", tap->nic,
				     QEMU_NICS_MAX - 1);
	if (req->verb == PRIV_TAP_DELETE || req->verb == PRIV_DROPS)
		return 0;
	if (network_check_slot(tap->network, "network", err) < 0)
		return -1;
	if (is_guarded(tap) && !netcfg_mac_is_valid(tap->mac))
		return err_set_field(err, "mac", "a NIC's MAC must be a unicast one");
	if (tap->pid != 0 && (tap->pid < 2 || tap->start_time == 0))
		return err_set_field(err, "pid", "pid %d with start time %llu names no process",
				     tap->pid, (unsigned long long)tap->start_time);
	if (tap->mtu && (tap->mtu < PRIV_MTU_MIN || tap->mtu > PRIV_MTU_MAX))
		return err_set_field(err, "mtu", "MTU %u is not in %d to %d", tap->mtu,
				     PRIV_MTU_MIN, PRIV_MTU_MAX);
	if (tap->any_prefix6 > 1)
		return err_set_field(err, "any_prefix6", "%u is neither yes nor no",
				     tap->any_prefix6);
	if (tap->queues > QEMU_QUEUES_MAX)
		return err_set_field(err, "queues", "%u queues are over %d", tap->queues,
				     QEMU_QUEUES_MAX);
	if (tap->n_groups > NETCFG_NIC_GROUPS_MAX)
		return err_set_field(err, "n_groups", "%u groups are over %d", tap->n_groups,
				     NETCFG_NIC_GROUPS_MAX);
	for (size_t i = 0; i < tap->n_groups; i++)
		if (tap->groups[i] == 0)
			return err_set_field(err, "groups", "a group's id begins with 1");
	if (check_rate(&tap->rates.to_guest, err) < 0 ||
	    check_rate(&tap->rates.from_guest, err) < 0)
		return -1;
	return 0;
}

static struct netcfg_tap tap_of(const struct priv_tap *tap, const char *bridge)
{
	struct netcfg_tap ret = {
		.bridge = bridge, .mtu = tap->mtu, .down = tap->down, .rates = tap->rates};
	ret.port.isolated = tap->isolated;
	ret.port.fixed = is_guarded(tap);
	memcpy(ret.port.mac, tap->mac, sizeof(ret.port.mac));
	return ret;
}

static struct netcfg_nic nic_of(const struct priv_tap *tap, const char *name)
{
	struct netcfg_nic nic = {
		.tap = name, .any_address = tap->any_address, .any_prefix6 = tap->any_prefix6};
	struct in6_addr v6;

	memcpy(nic.mac, tap->mac, sizeof(nic.mac));
	memcpy(&v6, tap->address6, sizeof(v6));
	if (tap->address)
		nic.addresses[nic.n_addresses++] =
			netcfg_addr_v4((struct in_addr){tap->address}, 32);
	if (network_has_address6(tap->address6))
		nic.addresses[nic.n_addresses++] = netcfg_addr_v6(&v6, 128);
	nic.n_groups = tap->n_groups;
	memcpy(nic.groups, tap->groups, sizeof(nic.groups));
	return nic;
}

/* What a guest may send is there before it can send anything. */
static int guard(struct verbs *verbs, const struct priv_tap *tap, const char *name, struct err *err)
{
	const struct netcfg_nic nic = nic_of(tap, name);

	if (!is_guarded(tap))
		return netcfg_nics_delete(verbs->netcfg, &name, 1, err);
	return netcfg_nics_ensure(verbs->netcfg, &nic, 1, err);
}

int verb_tap_look(struct verbs *verbs, const struct priv_request *req, const int *fds,
		  struct priv_reply *reply, int *reply_fds, struct err *err)
{
	const struct priv_tap *tap = &req->u.tap;
	const struct link_name name = tap_name(tap->desktop, tap->nic);
	const struct netcfg_nic nic = nic_of(tap, name.text);
	bool there = true;

	if (network_need_netcfg(verbs, err) < 0 ||
	    (is_guarded(tap) && netcfg_nic_has(verbs->netcfg, &nic, &there, err) < 0))
		return -1;
	reply->missing = there ? 0 : PRIV_MISSING_GUARD;
	return 0;
}

static bool has(const struct verbs *verbs, uint32_t feature)
{
	return verbs->kernel_features & feature;
}

/* It makes a NIC faster, and is no reason for having none. */
static void add_vhost(const struct verbs *verbs, struct priv_reply *reply, int *reply_fds)
{
	struct err why;

	if (!verbs->config.vhost || !has(verbs, PRIV_HAS_VHOST_NET))
		return;
	if (netcfg_vhost_open(reply->queues, reply_fds + reply->queues, &why) < 0)
		reply->vhost_sys = why.sys;
	else
		reply->n_fds += reply->queues;
}

int verb_tap_create(struct verbs *verbs, const struct priv_request *req, const int *fds,
		    struct priv_reply *reply, int *reply_fds, struct err *err)
{
	const struct priv_tap *tap = &req->u.tap;
	const struct link_name name = tap_name(tap->desktop, tap->nic);
	const struct link_name bridge = bridge_name(tap->network);
	struct netcfg_tap wish = tap_of(tap, bridge.text);
	const char *const names[] = {name.text};

	wish.queues = tap->queues > 1 && has(verbs, PRIV_HAS_MULTI_QUEUE) ? tap->queues : 1;
	if (network_need_netcfg(verbs, err) < 0 || guard(verbs, tap, name.text, err) < 0)
		return -1;
	bool made = netcfg_tap_create(verbs->netcfg, name.text, &wish, reply_fds, err) == 0;
	if (!made || tap_files_mark(reply_fds, wish.queues, tap->nic, err) < 0) {
		if (made) {
			(void)!netcfg_tap_discard(verbs->netcfg, name.text, NULL);
			mem_close_all(reply_fds, wish.queues);
		}
		(void)!netcfg_nics_delete(verbs->netcfg, names, 1, NULL);
		return -1;
	}
	reply->n_fds = reply->queues = wish.queues;
	add_vhost(verbs, reply, reply_fds);
	return 0;
}

/*
 * Somebody deleted the tap. QEMU still has its files, which are good for another one: so its guest
 * never misses it.
 */
static int renew(struct verbs *verbs, const struct priv_tap *tap, const char *name,
		 struct netcfg_tap *wish, struct err *err)
{
	const uid_t uid = verbs->config.uid_base + tap->desktop;
	_cleanup_close_ int pidfd = -1;
	int files[QEMU_QUEUES_MAX];
	size_t n = 0;

	if (tap->pid == 0)
		return err_set(err, ERR_NOT_FOUND, "there is no tap %s", name);
	if (verb_process_open(tap->pid, tap->start_time, uid, &pidfd, err) < 0)
		return -1;
	if (tap_files_take(pidfd, tap->pid, uid, tap->nic, files, ARRAY_LEN(files), &n, err) < 0)
		return err_prefix(err, "tap %s was deleted", name);
	wish->queues = (unsigned int)n;
	int done = guard(verbs, tap, name, err);
	if (done == 0)
		done = netcfg_tap_renew(verbs->netcfg, name, wish, files, err);
	mem_close_all(files, n);
	return done;
}

int verb_tap_attach(struct verbs *verbs, const struct priv_request *req, const int *fds,
		    struct priv_reply *reply, int *reply_fds, struct err *err)
{
	const struct priv_tap *tap = &req->u.tap;
	const struct link_name name = tap_name(tap->desktop, tap->nic);
	const struct link_name bridge = bridge_name(tap->network);
	struct netcfg_tap wish = tap_of(tap, bridge.text);
	bool there;

	if (network_need_netcfg(verbs, err) < 0 ||
	    netcfg_link_exists(verbs->netcfg, name.text, &there, err) < 0)
		return -1;
	if (!there)
		return renew(verbs, tap, name.text, &wish, err);
	if (guard(verbs, tap, name.text, err) < 0)
		return -1;
	return netcfg_tap_attach(verbs->netcfg, name.text, &wish, err);
}

int verb_tap_delete(struct verbs *verbs, const struct priv_request *req, const int *fds,
		    struct priv_reply *reply, int *reply_fds, struct err *err)
{
	const struct link_name name = tap_name(req->u.tap.desktop, req->u.tap.nic);
	const char *const names[] = {name.text};

	/* nobody waits while the kernel takes its time: verbs_sweep() */
	if (network_need_netcfg(verbs, err) < 0 ||
	    netcfg_tap_discard(verbs->netcfg, name.text, err) < 0)
		return -1;
	return netcfg_nics_delete(verbs->netcfg, names, 1, err);
}

int verb_drops(struct verbs *verbs, const struct priv_request *req, const int *fds,
	       struct priv_reply *reply, int *reply_fds, struct err *err)
{
	const struct link_name name = tap_name(req->u.tap.desktop, req->u.tap.nic);

	struct netcfg_link link;

	if (network_need_netcfg(verbs, err) < 0 ||
	    netcfg_link_get(verbs->netcfg, name.text, &link, err) < 0)
		return -1;
	reply->traffic = link.counters;
	return netcfg_nic_drops(verbs->netcfg, name.text, &reply->drops, err);
}
