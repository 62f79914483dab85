#include "netcfg/monitor.h"

#include <arpa/inet.h>
#include <errno.h>
#include <linux/netfilter.h>
#include <linux/netfilter/nf_tables.h>
#include <linux/netfilter/nfnetlink.h>
#include <linux/rtnetlink.h>
#include <net/if.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>

#include "base/mem.h"
#include "netcfg/nft.h"

#define MESSAGES_MAX 256
#define MESSAGE_SIZE 65536
/* room for what happens while the program is busy, such as a host full of desktops starting */
#define SOCKET_ROOM (4 << 20)

#define GROUP(number) (1U << ((number)-1))

/* struct monitor_name - what a link was called when it was last heard of */
struct monitor_name {
	int index;
	char text[NETCFG_NAME_MAX + 1];
};

struct netcfg_monitor {
	int epoll, route, nft; /* nft: -1 without the privilege */
	uint32_t owner;
	struct monitor_name *name;
	size_t n_names, room;
	/* of the transaction that is being told: until its end it is not known whose it is */
	bool changed, gone;
	_Alignas(struct nlmsghdr) char buf[MESSAGE_SIZE];
};

/* struct reading - one netcfg_monitor_read() */
struct reading {
	struct netcfg_monitor *monitor;
	void (*cb)(void *data, const struct netcfg_event *event);
	void *data;
	bool table_changed, table_gone;
};

static int listen_open(int protocol, uint32_t groups, int epoll)
{
	const struct sockaddr_nl own = {.nl_family = AF_NETLINK, .nl_groups = groups};
	struct epoll_event wanted = {.events = EPOLLIN};
	_cleanup_close_ int fd =
		socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC | SOCK_NONBLOCK, protocol);
	if (fd < 0)
		return -1;
	const int room = SOCKET_ROOM;
	/* where more than the usual limit is not allowed, the usual limit will do */
	if (setsockopt(fd, SOL_SOCKET, SO_RCVBUFFORCE, &room, sizeof(room)) < 0 &&
	    setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &room, sizeof(room)) < 0)
		return -1;
	if (bind(fd, (const struct sockaddr *)&own, sizeof(own)) < 0 ||
	    epoll_ctl(epoll, EPOLL_CTL_ADD, fd, &wanted) < 0)
		return -1;
	return TAKE_FD(fd);
}

void netcfg_monitor_close(struct netcfg_monitor *monitor)
{
	if (!monitor)
		return;
	mem_closep(&monitor->epoll);
	mem_closep(&monitor->route);
	mem_closep(&monitor->nft);
	free(monitor->name);
	free(monitor);
}

int netcfg_monitor_open(struct netcfg_monitor **ret, uint32_t owner, struct err *err)
{
	_cleanup_(netcfg_monitor_closep) struct netcfg_monitor *monitor =
		mem_new(struct netcfg_monitor);
	monitor->route = monitor->nft = -1;
	monitor->owner = owner;
	monitor->epoll = epoll_create1(EPOLL_CLOEXEC);
	if (monitor->epoll < 0)
		return netcfg_err_sys(err, errno, "cannot watch the network");
	monitor->route = listen_open(NETLINK_ROUTE,
				     GROUP(RTNLGRP_LINK) | GROUP(RTNLGRP_IPV4_IFADDR) |
					     GROUP(RTNLGRP_IPV6_IFADDR) | GROUP(RTNLGRP_TC),
				     monitor->epoll);
	if (monitor->route < 0)
		return netcfg_err_sys(err, errno, "cannot watch the links");
	monitor->nft = listen_open(NETLINK_NETFILTER, GROUP(NFNLGRP_NFTABLES), monitor->epoll);
	*ret = TAKE_PTR(monitor);
	return 0;
}

bool netcfg_monitor_has_tables(const struct netcfg_monitor *monitor)
{
	return monitor->nft >= 0;
}

int netcfg_monitor_fd(const struct netcfg_monitor *monitor)
{
	return monitor->epoll;
}

/* ---- names ---- */

static struct monitor_name *name_find(struct netcfg_monitor *monitor, int index)
{
	for (size_t i = 0; i < monitor->n_names; i++)
		if (monitor->name[i].index == index)
			return &monitor->name[i];
	return NULL;
}

static void name_keep(struct netcfg_monitor *monitor, const struct netcfg_link *link)
{
	struct monitor_name *name = name_find(monitor, link->index);
	if (!name) {
		if (monitor->n_names == monitor->room) {
			monitor->room = monitor->room ? 2 * monitor->room : 32;
			monitor->name =
				mem_realloc(monitor->name, monitor->room, sizeof(*monitor->name));
		}
		name = &monitor->name[monitor->n_names++];
		name->index = link->index;
	}
	memcpy(name->text, link->name, sizeof(name->text));
}

static void name_drop(struct netcfg_monitor *monitor, int index)
{
	struct monitor_name *name = name_find(monitor, index);
	if (name)
		*name = monitor->name[--monitor->n_names];
}

/* ---- links, their addresses and rates ---- */

static void tell(struct reading *reading, const struct netcfg_event *event)
{
	reading->cb(reading->data, event);
}

static void link_told(struct reading *reading, struct nlmsghdr *message)
{
	struct nlattr *attr[IFLA_MAX + 1];
	const struct ifinfomsg *head = nlmsg_data(message);
	struct netcfg_link link;
	const bool gone = message->nlmsg_type == RTM_DELLINK;
	if (nlmsg_parse(message, sizeof(*head), attr, IFLA_MAX, NULL) < 0)
		return;
	/*
	 * A bridge speaks of its ports in messages of its own: the only ones that tell of a port's
	 * isolation, and of leaving it they say no more than the link itself.
	 */
	if (head->ifi_family != AF_UNSPEC && (head->ifi_family != AF_BRIDGE || gone))
		return;
	message->nlmsg_type = RTM_NEWLINK;
	if (!netcfg_link_parse(message, &link))
		return;
	name_keep(reading->monitor, &link);
	const struct netcfg_event event = {.kind = gone ? NETCFG_EVENT_LINK_GONE
							: NETCFG_EVENT_LINK,
					   .link = link.name,
					   .index = link.index,
					   .master = link.master,
					   .up = link.up};
	tell(reading, &event);
	if (gone)
		name_drop(reading->monitor, link.index);
}

/* @found: room for a name that nobody has kept */
static const char *name_of(struct netcfg_monitor *monitor, int index, char found[IF_NAMESIZE])
{
	const struct monitor_name *name = name_find(monitor, index);
	found[0] = '\0';
	if (name)
		return name->text;
	return if_indextoname((unsigned int)index, found) ? found : "";
}

static void address_told(struct reading *reading, struct nlmsghdr *message)
{
	struct nlattr *attr[IFA_MAX + 1];
	const struct ifaddrmsg *head = nlmsg_data(message);
	char found[IF_NAMESIZE];
	if (nlmsg_parse(message, sizeof(*head), attr, IFA_MAX, NULL) < 0)
		return;
	const struct nlattr *local = attr[IFA_LOCAL] ? attr[IFA_LOCAL] : attr[IFA_ADDRESS];
	struct netcfg_event event = {.kind = message->nlmsg_type == RTM_NEWADDR
						     ? NETCFG_EVENT_ADDRESS
						     : NETCFG_EVENT_ADDRESS_GONE,
				     .index = (int)head->ifa_index};
	if (!local || !netcfg_addr_set(&event.address, head->ifa_family, nla_data(local),
				       (size_t)nla_len(local), head->ifa_prefixlen))
		return;
	event.link = name_of(reading->monitor, event.index, found);
	tell(reading, &event);
}

static void rate_told(struct reading *reading, const struct nlmsghdr *message)
{
	const struct tcmsg *head = nlmsg_data(message);
	char found[IF_NAMESIZE];
	if (nlmsg_datalen(message) < (int)sizeof(*head))
		return;
	const struct netcfg_event event = {
		.kind = NETCFG_EVENT_RATE,
		.link = name_of(reading->monitor, head->tcm_ifindex, found),
		.index = head->tcm_ifindex};
	tell(reading, &event);
}

static void route_told(struct reading *reading, struct nlmsghdr *message)
{
	switch (message->nlmsg_type) {
	case RTM_NEWLINK:
	case RTM_DELLINK:
		link_told(reading, message);
		break;
	case RTM_NEWADDR:
	case RTM_DELADDR:
		address_told(reading, message);
		break;
	case RTM_NEWQDISC:
	case RTM_DELQDISC:
	case RTM_NEWTFILTER:
	case RTM_DELTFILTER:
		rate_told(reading, message);
		break;
	default:
		break;
	}
}

/* ---- tables ---- */

/* Is it about one of ours? In tables, sets, chains and rules alike the table's name comes first. */
static bool is_ours(struct nlmsghdr *message)
{
	struct nlattr *attr[2];
	const struct nfgenmsg *head = nlmsg_data(message);
	if (nlmsg_parse(message, sizeof(*head), attr, 1, NULL) < 0 || !attr[NFTA_TABLE_NAME] ||
	    nla_strcmp(attr[NFTA_TABLE_NAME], NFT_TABLE) != 0)
		return false;
	return head->nfgen_family == NFPROTO_INET || head->nfgen_family == NFPROTO_BRIDGE;
}

/* The end of a transaction says whose it was. */
static void transaction_ends(struct reading *reading, struct nlmsghdr *message)
{
	struct netcfg_monitor *monitor = reading->monitor;
	struct nlattr *attr[NFTA_GEN_MAX + 1];
	uint32_t who = 0;
	if (nlmsg_parse(message, sizeof(struct nfgenmsg), attr, NFTA_GEN_MAX, NULL) == 0 &&
	    attr[NFTA_GEN_PROC_PID])
		who = ntohl(nla_get_u32(attr[NFTA_GEN_PROC_PID]));
	if (who == 0 || who != monitor->owner) {
		reading->table_changed = reading->table_changed || monitor->changed;
		reading->table_gone = reading->table_gone || monitor->gone;
	}
	monitor->changed = monitor->gone = false;
}

static void nft_told(struct reading *reading, struct nlmsghdr *message)
{
	const int subsystem = message->nlmsg_type >> 8, type = message->nlmsg_type & 0xff;
	if (subsystem != NFNL_SUBSYS_NFTABLES)
		return;
	if (type == NFT_MSG_NEWGEN)
		transaction_ends(reading, message);
	else if (is_ours(message) && type == NFT_MSG_DELTABLE)
		reading->monitor->gone = true;
	else if (is_ours(message))
		reading->monitor->changed = true;
}

/* ---- reading ---- */

/* Some messages of one socket. */
static int drain(struct reading *reading, int fd,
		 void (*told)(struct reading *reading, struct nlmsghdr *message), struct err *err)
{
	char *buf = reading->monitor->buf;
	for (int i = 0; i < MESSAGES_MAX; i++) {
		struct sockaddr_nl from = {0};
		struct iovec iov = {buf, MESSAGE_SIZE};
		struct msghdr msg = {.msg_name = &from,
				     .msg_namelen = sizeof(from),
				     .msg_iov = &iov,
				     .msg_iovlen = 1};
		ssize_t n = recvmsg(fd, &msg, 0);
		if (n < 0 && errno == EAGAIN)
			return 0;
		if (n < 0 && errno == EINTR)
			continue;
		if ((n < 0 && errno == ENOBUFS) || msg.msg_flags & MSG_TRUNC) {
			const struct netcfg_event event = {.kind = NETCFG_EVENT_RESYNC, .link = ""};
			tell(reading, &event);
			continue;
		}
		if (n < 0)
			return netcfg_err_sys(err, errno, "cannot hear what the network does");
		/* other programs can send here too; the kernel's port is 0 */
		if (from.nl_pid != 0)
			continue;
		int rest = (int)n;
		for (struct nlmsghdr *message = (struct nlmsghdr *)(void *)buf;
		     nlmsg_ok(message, rest); message = nlmsg_next(message, &rest))
			told(reading, message);
	}
	return 0;
}

int netcfg_monitor_read(struct netcfg_monitor *monitor,
			void (*cb)(void *data, const struct netcfg_event *event), void *data,
			struct err *err)
{
	struct reading reading = {.monitor = monitor, .cb = cb, .data = data};
	int rc = drain(&reading, monitor->route, route_told, err);
	if (monitor->nft >= 0 && rc == 0)
		rc = drain(&reading, monitor->nft, nft_told, err);
	struct netcfg_event event = {.link = ""};
	if (reading.table_gone) {
		event.kind = NETCFG_EVENT_TABLE_GONE;
		tell(&reading, &event);
	} else if (reading.table_changed) {
		event.kind = NETCFG_EVENT_TABLE_CHANGED;
		tell(&reading, &event);
	}
	return rc;
}
