#include "netcfg/tap.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/if_link.h>
#include <linux/if_tun.h>
#include <linux/rtnetlink.h>
#include <linux/virtio_net.h>
#include <net/if.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>

#include "base/mem.h"
#include "netcfg/internal.h"

static int tap_check(const char *name, const struct netcfg_tap *tap, struct err *err)
{
	if (netcfg_name_check("tap", name, err) < 0 ||
	    netcfg_name_check("bridge", tap->bridge, err) < 0 ||
	    netcfg_port_check(&tap->port, err) < 0 ||
	    netcfg_rates_check(name, &tap->rates, err) < 0)
		return -1;
	if (tap->queues > NETCFG_TAP_QUEUES_MAX)
		return err_set(err, ERR_INVALID, "tap %s: %u queues are over %d", name, tap->queues,
			       NETCFG_TAP_QUEUES_MAX);
	if (tap->mtu && (tap->mtu < 68 || tap->mtu > 65521))
		return err_set(err, ERR_INVALID, "tap %s: MTU %u is not in 68 to 65521", name,
			       tap->mtu);
	return 0;
}

/* One queue of a tap; the first makes it, and it lives as long as any of them. */
static int queue_join(int fd, const char *name, bool multi, struct err *err)
{
	struct ifreq req = {.ifr_flags = (short)(IFF_TAP | IFF_NO_PI | IFF_VNET_HDR |
						 (multi ? IFF_MULTI_QUEUE : 0))};
	snprintf(req.ifr_name, sizeof(req.ifr_name), "%s", name);
	if (ioctl(fd, TUNSETIFF, &req) < 0)
		return err_set_sys(err, errno == EEXIST ? ERR_BUSY : err_from_errno(errno), errno,
				   "cannot make tap %s", name);
	return 0;
}

static int queue_open(const char *name, bool multi, struct err *err)
{
	_cleanup_close_ int fd = open("/dev/net/tun", O_RDWR | O_CLOEXEC | O_NONBLOCK);
	if (fd < 0) {
		bool missing = errno == ENOENT || errno == ENODEV || errno == ENXIO;
		return err_set_sys(err, missing ? ERR_UNSUPPORTED : err_from_errno(errno), errno,
				   "cannot open /dev/net/tun for tap %s", name);
	}
	if (queue_join(fd, name, multi, err) < 0)
		return -1;
	return TAKE_FD(fd);
}

/* struct links - what a tap has to do with, as found; index 0: not there */
struct links {
	struct netcfg_link bridge, tap, ifb;
};

static int links_find(struct netcfg *netcfg, const char *name, const struct netcfg_tap *tap,
		      struct links *ret, struct err *err)
{
	const struct netcfg_ifb_name ifb = netcfg_ifb_name(name);
	struct netcfg_batch batch = {.n = 0};
	netcfg_find_add(&batch, tap->bridge, &ret->bridge);
	netcfg_find_add(&batch, name, &ret->tap);
	netcfg_find_add(&batch, ifb.text, &ret->ifb);
	if (netcfg_batch_send(netcfg, &batch, name, NULL, err) < 0 ||
	    netcfg_link_check_kind(&ret->bridge, "bridge", err) < 0 ||
	    netcfg_link_check_kind(&ret->tap, "tun", err) < 0 ||
	    netcfg_link_check_kind(&ret->ifb, "ifb", err) < 0)
		return -1;
	if (ret->bridge.index == 0)
		return err_set(err, ERR_NOT_FOUND, "tap %s: there is no bridge %s", name,
			       tap->bridge);
	return 0;
}

/*
 * A port of the bridge, as asked, and up unless it is to be down.
 * @to: its limit; set while it is down the kernel need not wait for what is on its way; or NULL
 */
static int tap_join(struct netcfg *netcfg, const char *name, const struct links *links,
		    const struct netcfg_tap *tap, const struct netcfg_rate *to, struct err *err)
{
	struct netcfg_batch batch = {.n = 0};
	struct netcfg_link now;
	char subject[40];
	snprintf(subject, sizeof(subject), "tap %s", name);
	netcfg_port_add(&batch, links->tap.index, links->bridge.index, &tap->port);
	if (to)
		netcfg_rate_add(&batch, links->tap.index, to);
	struct nl_msg *msg =
		netcfg_link_add(&batch, tap->down ? "bring it down" : "bring it up", RTM_NEWLINK, 0,
				links->tap.index, tap->down ? 0 : IFF_UP, IFF_UP);
	netcfg_put_u32(msg, IFLA_MTU, tap->mtu ? tap->mtu : links->bridge.mtu);
	netcfg_keep_put(msg);
	netcfg_find_add(&batch, name, &now);
	int rc = netcfg_batch_send(netcfg, &batch, subject, NULL, err);
	if (rc < 0)
		return to ? netcfg_rate_missing(rc, err) : rc;
	if (tap->port.isolated && now.index && !now.isolated)
		return err_set(err, ERR_UNSUPPORTED, "%s: this kernel cannot isolate bridge ports",
			       subject);
	return 0;
}

/* what a tap that has just been made becomes before anything passes it */
static int tap_begin(struct netcfg *netcfg, const char *name, struct links *links,
		     const struct netcfg_tap *tap, struct err *err)
{
	const struct netcfg_rates *rates = &tap->rates;
	/* its own IPv6 is of no use to us and would only announce itself to guests */
	netcfg_ipv6_set(name, false);
	if (netcfg_link_find(netcfg, name, "tun", &links->tap, err) < 0 ||
	    tap_join(netcfg, name, links, tap, rates->to_guest.bits_per_s ? &rates->to_guest : NULL,
		     err) < 0)
		return -1;
	return netcfg_rate_from_set(netcfg, name, links->tap.index, &links->ifb, &rates->from_guest,
				    err);
}

/* what there is for a tap that is to be made; an old one of its name is not */
static int name_free(struct netcfg *netcfg, const char *name, const struct netcfg_tap *tap,
		     struct links *ret, struct err *err)
{
	if (tap_check(name, tap, err) < 0 || links_find(netcfg, name, tap, ret, err) < 0)
		return -1;
	return ret->tap.index ? netcfg_link_delete(netcfg, name, "tun", err) : 0;
}

int netcfg_tap_create(struct netcfg *netcfg, const char *name, const struct netcfg_tap *tap,
		      int *ret_fds, struct err *err)
{
	struct links links;
	int fds[NETCFG_TAP_QUEUES_MAX];
	unsigned int n = 0;
	const unsigned int queues = tap->queues > 1 ? tap->queues : 1;
	if (name_free(netcfg, name, tap, &links, err) < 0)
		return -1;
	for (; n < queues; n++) {
		fds[n] = queue_open(name, queues > 1, err);
		if (fds[n] < 0)
			goto fail;
	}
	if (tap_begin(netcfg, name, &links, tap, err) < 0)
		goto fail;
	memcpy(ret_fds, fds, n * sizeof(*fds));
	return 0;
fail:
	/* its ifb device does not go with it; what others made under that name is theirs */
	if (n > 0)
		(void)!netcfg_tap_discard(netcfg, name, NULL);
	mem_close_all(fds, n);
	return -1;
}

int netcfg_tap_renew(struct netcfg *netcfg, const char *name, const struct netcfg_tap *tap,
		     const int *fds, struct err *err)
{
	const int header = sizeof(struct virtio_net_hdr_mrg_rxbuf);
	const unsigned int queues = tap->queues > 1 ? tap->queues : 1;
	struct links links;
	if (name_free(netcfg, name, tap, &links, err) < 0)
		return -1;
	for (unsigned int i = 0; i < queues; i++)
		if (queue_join(fds[i], name, queues > 1, err) < 0)
			goto fail;
	if (ioctl(fds[0], TUNSETVNETHDRSZ, &header) < 0) {
		err_set_sys(err, err_from_errno(errno), errno, "cannot set up tap %s", name);
		goto fail;
	}
	if (tap_begin(netcfg, name, &links, tap, err) == 0)
		return 0;
fail:
	/* the descriptors are not ours to close */
	(void)!netcfg_tap_delete(netcfg, name, NULL);
	return -1;
}

int netcfg_vhost_open(unsigned int n, int *ret_fds, struct err *err)
{
	int fds[NETCFG_TAP_QUEUES_MAX];
	for (unsigned int i = 0; i < n; i++) {
		fds[i] = open("/dev/vhost-net", O_RDWR | O_CLOEXEC);
		if (fds[i] >= 0)
			continue;
		err_set_sys(err, err_from_errno(errno), errno, "cannot open /dev/vhost-net");
		mem_close_all(fds, i);
		return -1;
	}
	memcpy(ret_fds, fds, n * sizeof(*fds));
	return 0;
}

int netcfg_tap_attach(struct netcfg *netcfg, const char *name, const struct netcfg_tap *tap,
		      struct err *err)
{
	struct links links;
	if (tap_check(name, tap, err) < 0 || links_find(netcfg, name, tap, &links, err) < 0)
		return -1;
	if (links.tap.index == 0)
		return err_set(err, ERR_NOT_FOUND, "there is no tap %s for bridge %s", name,
			       tap->bridge);
	if (tap_join(netcfg, name, &links, tap, NULL, err) < 0)
		return -1;
	return netcfg_rates_ensure(netcfg, name, &tap->rates, err);
}

int netcfg_tap_discard(struct netcfg *netcfg, const char *name, struct err *err)
{
	/* a tap whose holder ended meanwhile is gone by itself */
	static const int gone[] = {ENODEV, 0};
	const struct netcfg_ifb_name own = netcfg_ifb_name(name);
	struct netcfg_batch batch = {.n = 0};
	struct netcfg_link tap, ifb;
	char subject[40];
	if (netcfg_name_check("tap", name, err) < 0)
		return -1;
	snprintf(subject, sizeof(subject), "tap %s", name);
	netcfg_find_add(&batch, name, &tap);
	netcfg_find_add(&batch, own.text, &ifb);
	if (netcfg_batch_send(netcfg, &batch, subject, NULL, err) < 0 ||
	    netcfg_link_check_kind(&tap, "tun", err) < 0)
		return -1;
	if (tap.index)
		netcfg_discard_add(netcfg, &batch, tap.index);
	if (strcmp(ifb.kind, "ifb") == 0)
		netcfg_discard_add(netcfg, &batch, ifb.index);
	return netcfg_batch_send(netcfg, &batch, subject, gone, err);
}

int netcfg_tap_delete(struct netcfg *netcfg, const char *name, struct err *err)
{
	if (netcfg_tap_discard(netcfg, name, err) < 0)
		return -1;
	return netcfg_links_sweep(netcfg, err);
}
