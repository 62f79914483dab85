#include "netcfg/tap.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/if_link.h>
#include <linux/if_tun.h>
#include <linux/rtnetlink.h>
#include <linux/virtio_net.h>
#include <net/if.h>
#include <stdio.h>
#include <sys/ioctl.h>

#include "base/mem.h"
#include "netcfg/internal.h"

static int tap_check(const char *name, const struct netcfg_tap *tap, struct err *err)
{
	if (netcfg_name_check("tap", name, err) < 0 ||
	    netcfg_name_check("bridge", tap->bridge, err) < 0 ||
	    netcfg_port_check(&tap->port, err) < 0)
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

/* a port of the bridge, as asked, and up unless it is to be down */
static int tap_join(struct netcfg *netcfg, const char *name, int index,
		    const struct netcfg_link *bridge, const struct netcfg_tap *tap, struct err *err)
{
	struct netcfg_batch batch = {.n = 0};
	struct netcfg_link link;
	char subject[40];
	snprintf(subject, sizeof(subject), "tap %s", name);
	netcfg_port_add(&batch, index, bridge->index, &tap->port);
	struct nl_msg *msg = netcfg_link_add(&batch, tap->down ? "bring it down" : "bring it up",
					     RTM_NEWLINK, 0, index, tap->down ? 0 : IFF_UP, IFF_UP);
	netcfg_put_u32(msg, IFLA_MTU, tap->mtu ? tap->mtu : bridge->mtu);
	if (netcfg_batch_send(netcfg, &batch, subject, NULL, err) < 0)
		return -1;
	if (tap->port.isolated && (netcfg_link_find(netcfg, name, NULL, &link, err) < 0 ||
				   (link.index && !link.isolated)))
		return err_set(err, ERR_UNSUPPORTED, "%s: this kernel cannot isolate bridge ports",
			       subject);
	return 0;
}

static int bridge_find(struct netcfg *netcfg, const char *name, const struct netcfg_tap *tap,
		       struct netcfg_link *ret, struct err *err)
{
	if (netcfg_link_find(netcfg, tap->bridge, "bridge", ret, err) < 0)
		return -1;
	if (ret->index == 0)
		return err_set(err, ERR_NOT_FOUND, "tap %s: there is no bridge %s", name,
			       tap->bridge);
	return 0;
}

/* what a tap that has just been made becomes before anything passes it */
static int tap_begin(struct netcfg *netcfg, const char *name, const struct netcfg_link *bridge,
		     const struct netcfg_tap *tap, struct err *err)
{
	struct netcfg_link link;
	/* its own IPv6 is of no use to us and would only announce itself to guests */
	netcfg_ipv6_set(name, false);
	if (netcfg_link_find(netcfg, name, "tun", &link, err) < 0)
		return -1;
	return tap_join(netcfg, name, link.index, bridge, tap, err);
}

int netcfg_tap_create(struct netcfg *netcfg, const char *name, const struct netcfg_tap *tap,
		      int *ret_fds, struct err *err)
{
	struct netcfg_link bridge;
	int fds[NETCFG_TAP_QUEUES_MAX];
	unsigned int n = 0;
	const unsigned int queues = tap->queues > 1 ? tap->queues : 1;
	if (tap_check(name, tap, err) < 0 || bridge_find(netcfg, name, tap, &bridge, err) < 0 ||
	    netcfg_link_delete(netcfg, name, "tun", err) < 0)
		return -1;
	for (; n < queues; n++) {
		fds[n] = queue_open(name, queues > 1, err);
		if (fds[n] < 0)
			goto fail;
	}
	if (tap_begin(netcfg, name, &bridge, tap, err) < 0)
		goto fail;
	memcpy(ret_fds, fds, n * sizeof(*fds));
	return 0;
fail:
	while (n > 0)
		close(fds[--n]);
	return -1;
}

int netcfg_tap_renew(struct netcfg *netcfg, const char *name, const struct netcfg_tap *tap,
		     const int *fds, struct err *err)
{
	const int header = sizeof(struct virtio_net_hdr_mrg_rxbuf);
	const unsigned int queues = tap->queues > 1 ? tap->queues : 1;
	struct netcfg_link bridge;
	struct err ignored;
	if (tap_check(name, tap, err) < 0 || bridge_find(netcfg, name, tap, &bridge, err) < 0 ||
	    netcfg_link_delete(netcfg, name, "tun", err) < 0)
		return -1;
	for (unsigned int i = 0; i < queues; i++)
		if (queue_join(fds[i], name, queues > 1, err) < 0)
			goto fail;
	if (ioctl(fds[0], TUNSETVNETHDRSZ, &header) < 0) {
		err_set_sys(err, err_from_errno(errno), errno, "cannot set up tap %s", name);
		goto fail;
	}
	if (tap_begin(netcfg, name, &bridge, tap, err) == 0)
		return 0;
fail:
	/* the descriptors are not ours to close */
	(void)!netcfg_link_delete(netcfg, name, "tun", &ignored);
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
		while (i > 0)
			close(fds[--i]);
		return -1;
	}
	memcpy(ret_fds, fds, n * sizeof(*fds));
	return 0;
}

int netcfg_tap_attach(struct netcfg *netcfg, const char *name, const struct netcfg_tap *tap,
		      struct err *err)
{
	struct netcfg_link bridge, link;
	if (tap_check(name, tap, err) < 0 || bridge_find(netcfg, name, tap, &bridge, err) < 0 ||
	    netcfg_link_find(netcfg, name, "tun", &link, err) < 0)
		return -1;
	if (link.index == 0)
		return err_set(err, ERR_NOT_FOUND, "there is no tap %s for bridge %s", name,
			       tap->bridge);
	return tap_join(netcfg, name, link.index, &bridge, tap, err);
}

int netcfg_tap_delete(struct netcfg *netcfg, const char *name, struct err *err)
{
	return netcfg_link_delete(netcfg, name, "tun", err);
}
