#include "netcfg/dhcp.h"

#include <arpa/inet.h>
#include <endian.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/if_ether.h>
#include <linux/netfilter.h>
#include <linux/netfilter/nf_tables.h>
#include <linux/netfilter/nfnetlink.h>
#include <linux/netfilter/nfnetlink_log.h>
#include <net/if_arp.h>
#include <netinet/ip.h>
#include <netinet/udp.h>
#include <netlink/socket.h>
#include <string.h>
#include <sys/socket.h>

#include "base/mem.h"
#include "netcfg/nft.h"

#define MESSAGES_MAX 256
/* of a packet: more than an Ethernet frame holds, and servers send no more than that */
#define PACKET_MAX   2048
#define MESSAGE_SIZE 8192
/* room for what comes while the program is busy: some hundred answers */
#define SOCKET_ROOM (2 << 20)

/* ---- packets ---- */

#define PORT_SERVER 67
#define PORT_CLIENT 68
#define BOOTREPLY   2
#define DHCPACK     5
#define MAGIC       0x63825363

/* RFC 2132 */
enum {
	OPTION_PAD = 0,
	OPTION_LEASE_TIME = 51,
	OPTION_OVERLOAD = 52,
	OPTION_TYPE = 53,
	OPTION_SERVER = 54,
	OPTION_END = 255,
};

enum { OVERLOAD_FILE = 1, OVERLOAD_SNAME = 2 };

/* RFC 2131 2.; options follow */
struct bootp {
	uint8_t op, htype, hlen, hops;
	uint32_t xid;
	uint16_t secs, flags;
	uint32_t ciaddr, yiaddr, siaddr, giaddr;
	uint8_t chaddr[16];
	uint8_t sname[64];
	uint8_t file[128];
	uint32_t magic;
};
_Static_assert(sizeof(struct bootp) == 240, "it stands on the wire like that");

/* struct options - of them, those that say something here */
struct options {
	uint8_t type, overload;
	uint32_t server, seconds;
};

/* false: it has another length than it can have */
static bool option_read(struct options *options, uint8_t code, const uint8_t *value, size_t size)
{
	uint32_t seconds;
	switch (code) {
	case OPTION_TYPE:
		options->type = size ? value[0] : 0;
		return size == 1;
	case OPTION_OVERLOAD:
		options->overload = size ? value[0] : 0;
		return size == 1;
	case OPTION_SERVER:
		if (size == sizeof(options->server))
			memcpy(&options->server, value, size);
		return size == sizeof(options->server);
	case OPTION_LEASE_TIME:
		if (size != sizeof(seconds))
			return false;
		memcpy(&seconds, value, size);
		options->seconds = ntohl(seconds);
		return true;
	default:
		return true;
	}
}

/* One field of options. Some servers leave out the last one's end; false: one runs over it. */
static bool options_read(struct options *options, const uint8_t *at, size_t left)
{
	while (left > 0 && at[0] != OPTION_END) {
		size_t size = 1;
		if (at[0] != OPTION_PAD) {
			if (left < 2 || left - 2 < at[1])
				return false;
			size = 2u + at[1];
			if (!option_read(options, at[0], at + 2, at[1]))
				return false;
		}
		at += size;
		left -= size;
	}
	return true;
}

/* RFC 2131 4.1: the fields in this order; those that are lent to options say so in the first. */
static bool message_options(const struct bootp *head, const uint8_t *at, size_t size,
			    struct options *ret)
{
	*ret = (struct options){.seconds = NETCFG_LEASE_FOREVER};
	if (!options_read(ret, at, size))
		return false;
	const uint8_t overload = ret->overload;
	if (overload & OVERLOAD_FILE && !options_read(ret, head->file, sizeof(head->file)))
		return false;
	return !(overload & OVERLOAD_SNAME) || options_read(ret, head->sname, sizeof(head->sname));
}

static bool message_parse(const uint8_t *message, size_t size, struct netcfg_lease *ret)
{
	struct bootp head;
	struct options options;
	if (size < sizeof(head))
		return false;
	memcpy(&head, message, sizeof(head));
	if (head.op != BOOTREPLY || head.htype != ARPHRD_ETHER || head.hlen != ETH_ALEN ||
	    head.magic != htonl(MAGIC) || !netcfg_mac_is_valid(head.chaddr) ||
	    !message_options(&head, message + sizeof(head), size - sizeof(head), &options))
		return false;
	if (!netcfg_ipv4_is_unicast((struct in_addr){head.yiaddr}) || options.type != DHCPACK ||
	    options.seconds == 0)
		return false;
	memcpy(ret->mac, head.chaddr, sizeof(ret->mac));
	ret->address.s_addr = head.yiaddr;
	ret->server.s_addr = options.server;
	ret->seconds = options.seconds;
	return true;
}

bool netcfg_dhcp_parse(const uint8_t *packet, size_t size, struct netcfg_lease *ret)
{
	struct iphdr ip;
	struct udphdr udp;
	if (size < sizeof(ip))
		return false;
	memcpy(&ip, packet, sizeof(ip));
	const size_t head = 4u * ip.ihl, total = ntohs(ip.tot_len);
	if (ip.version != 4 || head < sizeof(ip) || total > size || total < head + sizeof(udp) ||
	    ntohs(ip.frag_off) & (IP_MF | IP_OFFMASK) || ip.protocol != IPPROTO_UDP)
		return false;
	memcpy(&udp, packet + head, sizeof(udp));
	const size_t length = ntohs(udp.len);
	if (ntohs(udp.source) != PORT_SERVER || ntohs(udp.dest) != PORT_CLIENT ||
	    length < sizeof(udp) || length > total - head)
		return false;
	return message_parse(packet + head + sizeof(udp), length - sizeof(udp), ret);
}

/* ---- the socket ---- */

static void ignore(void *data, struct nlmsghdr *answer)
{
}

/*
 * The kernel tells who is not allowed to listen by the same number as who is not the first: then
 * the question is whether this process is allowed anything.
 */
static int listen_err(struct nl_sock *sock, int sys, struct err *err)
{
	if (sys == EPERM &&
	    netcfg_ask(sock, nft_msg(NFT_MSG_GETGEN, 0, AF_UNSPEC), ignore, NULL) != EPERM)
		return err_set(err, ERR_BUSY,
			       "cannot hear DHCP servers: another process listens to log group %d",
			       NETCFG_DHCP_LOG_GROUP);
	/* a subsystem that is not there */
	if (sys == EINVAL || sys == EOPNOTSUPP || sys == EPROTONOSUPPORT)
		return err_set_sys(err, ERR_UNSUPPORTED, sys,
				   "cannot hear DHCP servers: this kernel has no nfnetlink_log "
				   "(CONFIG_NETFILTER_NETLINK_LOG)");
	return netcfg_err_sys(err, sys, "cannot hear DHCP servers");
}

/* All in one message: from its first packet on each is told whole, and at once. */
static int group_bind(struct nl_sock *sock)
{
	const struct nfgenmsg head = {.nfgen_family = AF_UNSPEC,
				      .version = NFNETLINK_V0,
				      .res_id = htons(NETCFG_DHCP_LOG_GROUP)};
	const struct nfulnl_msg_config_cmd bind = {.command = NFULNL_CFG_CMD_BIND};
	const struct nfulnl_msg_config_mode mode = {.copy_range = htonl(PACKET_MAX),
						    .copy_mode = NFULNL_COPY_PACKET};
	struct nl_msg *msg =
		netcfg_msg(NFNL_SUBSYS_ULOG << 8 | NFULNL_MSG_CONFIG, 0, &head, sizeof(head));
	netcfg_put(msg, NFULA_CFG_CMD, &bind, sizeof(bind));
	netcfg_put(msg, NFULA_CFG_MODE, &mode, sizeof(mode));
	netcfg_put_u32(msg, NFULA_CFG_QTHRESH, htonl(1));
	return netcfg_ask(sock, msg, ignore, NULL);
}

int netcfg_dhcp_listen(int *ret, struct err *err)
{
	struct nl_sock *sock = nl_socket_alloc();
	if (!sock || nl_connect(sock, NETLINK_NETFILTER) < 0) {
		nl_socket_free(sock);
		return listen_err(NULL, EPROTONOSUPPORT, err);
	}
	const int room = SOCKET_ROOM, own = nl_socket_get_fd(sock);
	_cleanup_close_ int fd = -1;
	int sys = group_bind(sock), done = -1;
	/* where more than the usual room is not allowed, the usual room will do */
	(void)!setsockopt(own, SOL_SOCKET, SO_RCVBUFFORCE, &room, sizeof(room));
	if (sys != 0) {
		listen_err(sock, sys, err);
	} else if ((fd = fcntl(own, F_DUPFD_CLOEXEC, 3)) < 0 ||
		   fcntl(fd, F_SETFL, O_NONBLOCK) < 0) {
		err_set_sys(err, err_from_errno(errno), errno, "cannot hear DHCP servers");
	} else {
		*ret = TAKE_FD(fd);
		done = 0;
	}
	/* which closes its own descriptor of the same socket */
	nl_socket_free(sock);
	return done;
}

void netcfg_dhcp_told(uint8_t *datagram, size_t size,
		      void (*cb)(void *data, const struct netcfg_lease *lease), void *data)
{
	int left = (int)size;
	struct nlattr *attr[NFULA_MAX + 1];
	struct netcfg_lease lease;
	for (struct nlmsghdr *message = (struct nlmsghdr *)(void *)datagram;
	     nlmsg_ok(message, left); message = nlmsg_next(message, &left)) {
		if (message->nlmsg_type != (NFNL_SUBSYS_ULOG << 8 | NFULNL_MSG_PACKET) ||
		    nlmsg_parse(message, sizeof(struct nfgenmsg), attr, NFULA_MAX, NULL) < 0 ||
		    !attr[NFULA_PAYLOAD])
			continue;
		/* a bridge's packets are told without their Ethernet headers */
		if (netcfg_dhcp_parse(nla_data(attr[NFULA_PAYLOAD]),
				      (size_t)nla_len(attr[NFULA_PAYLOAD]), &lease))
			cb(data, &lease);
	}
}

int netcfg_dhcp_read(int fd, void (*cb)(void *data, const struct netcfg_lease *lease), void *data,
		     bool *ret_lost, struct err *err)
{
	_Alignas(struct nlmsghdr) uint8_t datagram[MESSAGE_SIZE];
	bool lost = false;
	for (int i = 0; i < MESSAGES_MAX; i++) {
		struct sockaddr_nl from = {0};
		socklen_t from_size = sizeof(from);
		ssize_t n = recvfrom(fd, datagram, sizeof(datagram), MSG_DONTWAIT | MSG_TRUNC,
				     (struct sockaddr *)&from, &from_size);
		if (n < 0 && errno == EAGAIN)
			break;
		if (n < 0 && errno != EINTR && errno != ENOBUFS)
			return err_set_sys(err, ERR_IO, errno, "DHCP servers are not heard");
		lost = lost || (n < 0 && errno == ENOBUFS);
		/* others with the privilege may write to a netlink socket, too */
		if (n > 0 && n <= (ssize_t)sizeof(datagram) && from.nl_pid == 0)
			netcfg_dhcp_told(datagram, (size_t)n, cb, data);
	}
	*ret_lost = lost;
	return 0;
}
