/* Taps: what is behind one is guarded before it is there. */
#include <arpa/inet.h>
#include <string.h>
#include <unistd.h>

#include "base/mem.h"
#include "netcfg/link.h"
#include "netcfg/nic.h"
#include "netcfg/tap.h"
#include "vdi-hostd/priv/network_names.h"

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
	if (tap->mtu && (tap->mtu < PRIV_MTU_MIN || tap->mtu > PRIV_MTU_MAX))
		return err_set_field(err, "mtu", "MTU %u is not in %d to %d", tap->mtu,
				     PRIV_MTU_MIN, PRIV_MTU_MAX);
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
	struct netcfg_nic nic = {.tap = name, .any_address = tap->any_address};
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

int verb_tap_create(struct verbs *verbs, const struct priv_request *req, const int *fds,
		    struct priv_reply *reply, int *reply_fds, struct err *err)
{
	const struct priv_tap *tap = &req->u.tap;
	const struct link_name name = tap_name(tap->desktop, tap->nic);
	const struct link_name bridge = bridge_name(tap->network);
	const struct netcfg_tap wish = tap_of(tap, bridge.text);
	const char *const names[] = {name.text};

	if (network_need_netcfg(verbs, err) < 0 || guard(verbs, tap, name.text, err) < 0)
		return -1;
	if (netcfg_tap_create(verbs->netcfg, name.text, &wish, reply_fds, err) < 0) {
		(void)!netcfg_nics_delete(verbs->netcfg, names, 1, NULL);
		return -1;
	}
	reply->n_fds = 1;
	return 0;
}

int verb_tap_attach(struct verbs *verbs, const struct priv_request *req, const int *fds,
		    struct priv_reply *reply, int *reply_fds, struct err *err)
{
	const struct priv_tap *tap = &req->u.tap;
	const struct link_name name = tap_name(tap->desktop, tap->nic);
	const struct link_name bridge = bridge_name(tap->network);
	const struct netcfg_tap wish = tap_of(tap, bridge.text);
	bool there;

	if (network_need_netcfg(verbs, err) < 0 ||
	    netcfg_link_exists(verbs->netcfg, name.text, &there, err) < 0)
		return -1;
	if (!there)
		return err_set(err, ERR_NOT_FOUND, "there is no tap %s", name.text);
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
