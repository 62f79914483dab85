/* Requests to rtnetlink and their answers: several in one system call, each answered. */
#include <errno.h>
#include <linux/rtnetlink.h>
#include <netlink/socket.h>
#include <stdio.h>
#include <sys/socket.h>

#include "base/mem.h"
#include "netcfg/internal.h"

/* an answer is at most a page or so, dumps come in pieces of up to 32 KiB */
#define ANSWER_MAX 65536

struct nl_msg *netcfg_msg(int type, int flags, const void *head, size_t size)
{
	struct nl_msg *msg = nlmsg_alloc_simple(type, NLM_F_REQUEST | flags);
	/* as with mem_calloc(): the host is out of memory */
	if (!msg || nlmsg_append(msg, (void *)(uintptr_t)head, size, NLMSG_ALIGNTO) < 0)
		abort();
	return msg;
}

void netcfg_put(struct nl_msg *msg, int type, const void *data, size_t size)
{
	if (nla_put(msg, type, (int)size, data) < 0)
		abort();
}

void netcfg_put_u8(struct nl_msg *msg, int type, uint8_t value)
{
	netcfg_put(msg, type, &value, sizeof(value));
}

void netcfg_put_u16(struct nl_msg *msg, int type, uint16_t value)
{
	netcfg_put(msg, type, &value, sizeof(value));
}

void netcfg_put_u32(struct nl_msg *msg, int type, uint32_t value)
{
	netcfg_put(msg, type, &value, sizeof(value));
}

void netcfg_put_str(struct nl_msg *msg, int type, const char *value)
{
	netcfg_put(msg, type, value, strlen(value) + 1);
}

struct nlattr *netcfg_nest(struct nl_msg *msg, int type)
{
	struct nlattr *ret = nla_nest_start(msg, type);
	if (!ret)
		abort();
	return ret;
}

struct nl_msg *netcfg_batch_add(struct netcfg_batch *batch, const char *what, int type, int flags,
				const void *head, size_t size)
{
	if (batch->n == NETCFG_BATCH_MAX)
		abort();
	struct nl_msg *msg = netcfg_msg(type, NLM_F_ACK | flags, head, size);
	batch->what[batch->n] = what;
	batch->link[batch->n] = NULL;
	batch->sys[batch->n] = -1;
	batch->msg[batch->n++] = msg;
	return msg;
}

struct nl_msg *netcfg_link_add(struct netcfg_batch *batch, const char *what, int type,
			       int nlm_flags, int index, unsigned int flags, unsigned int change)
{
	const struct ifinfomsg head = {.ifi_family = AF_UNSPEC,
				       .ifi_index = index,
				       .ifi_flags = flags,
				       .ifi_change = change};
	return netcfg_batch_add(batch, what, type, nlm_flags, &head, sizeof(head));
}

void netcfg_find_add(struct netcfg_batch *batch, const char *name, struct netcfg_link *ret)
{
	struct nl_msg *msg = netcfg_link_add(batch, "look up a link", RTM_GETLINK, 0, 0, 0, 0);
	netcfg_put_str(msg, IFLA_IFNAME, name);
	netcfg_put_u32(msg, IFLA_EXT_MASK, RTEXT_FILTER_SKIP_STATS);
	batch->link[batch->n - 1] = ret;
	*ret = (struct netcfg_link){0};
}

void netcfg_batch_done(struct netcfg_batch *batch)
{
	for (size_t i = 0; i < batch->n; i++)
		nlmsg_free(batch->msg[i]);
	batch->n = 0;
}

/* One datagram of answers; 0 or an errno. */
static int answers_read(int fd, char *buf, size_t *ret_size)
{
	ssize_t n;
	do
		n = recv(fd, buf, ANSWER_MAX, MSG_TRUNC);
	while (n < 0 && errno == EINTR);
	if (n < 0)
		return errno;
	if (n > ANSWER_MAX)
		return EMSGSIZE;
	*ret_size = (size_t)n;
	return 0;
}

static int verdict_of(struct nlmsghdr *answer)
{
	const struct nlmsgerr *verdict = nlmsg_data(answer);
	if (answer->nlmsg_len < NLMSG_LENGTH(sizeof(verdict->error)))
		return EBADMSG;
	return -verdict->error;
}

/* The verdict on each message from sequence number @first on. */
static int batch_answers(int fd, struct netcfg_batch *batch, uint32_t first)
{
	_cleanup_free_ char *buf = mem_calloc(1, ANSWER_MAX);
	size_t left = batch->n, size;
	while (left > 0) {
		int sys = answers_read(fd, buf, &size);
		if (sys != 0)
			return sys;
		int rest = (int)size;
		for (struct nlmsghdr *answer = (struct nlmsghdr *)(void *)buf;
		     nlmsg_ok(answer, rest); answer = nlmsg_next(answer, &rest)) {
			uint32_t i = answer->nlmsg_seq - first;
			if (i >= batch->n || batch->sys[i] != -1)
				continue;
			if (answer->nlmsg_type == RTM_NEWLINK && batch->link[i])
				netcfg_link_parse(answer, batch->link[i]);
			if (answer->nlmsg_type != NLMSG_ERROR)
				continue;
			batch->sys[i] = verdict_of(answer);
			left--;
		}
	}
	return 0;
}

static int batch_talk(struct nl_sock *sock, struct netcfg_batch *batch)
{
	struct iovec iov[NETCFG_BATCH_MAX];
	uint32_t first = 0;
	for (size_t i = 0; i < batch->n; i++) {
		struct nlmsghdr *head = nlmsg_hdr(batch->msg[i]);
		head->nlmsg_seq = nl_socket_use_seq(sock);
		head->nlmsg_pid = nl_socket_get_local_port(sock);
		if (i == 0)
			first = head->nlmsg_seq;
		iov[i] = (struct iovec){head, NLMSG_ALIGN(head->nlmsg_len)};
	}
	struct sockaddr_nl kernel = {.nl_family = AF_NETLINK};
	const struct msghdr msg = {.msg_name = &kernel,
				   .msg_namelen = sizeof(kernel),
				   .msg_iov = iov,
				   .msg_iovlen = batch->n};
	if (sendmsg(nl_socket_get_fd(sock), &msg, 0) < 0)
		return errno;
	return batch_answers(nl_socket_get_fd(sock), batch, first);
}

static bool tolerated(int sys, const int *tolerate)
{
	for (; tolerate && *tolerate; tolerate++)
		if (*tolerate == sys)
			return true;
	return false;
}

int netcfg_batch_send(struct netcfg *netcfg, struct netcfg_batch *batch, const char *subject,
		      const int *tolerate, struct err *err)
{
	if (batch->n == 0)
		return 0;
	size_t n = batch->n;
	int sys = batch_talk(netcfg->sock, batch);
	netcfg_batch_done(batch);
	if (sys != 0)
		return netcfg_err_sys(err, sys, "%s: cannot talk to the kernel", subject);
	for (size_t i = 0; i < n; i++)
		if (batch->sys[i] != 0 && !(batch->link[i] && batch->sys[i] == ENODEV) &&
		    !tolerated(batch->sys[i], tolerate))
			return netcfg_err_sys(err, batch->sys[i], "%s: cannot %s", subject,
					      batch->what[i]);
	return 0;
}

int netcfg_ask(struct nl_sock *sock, struct nl_msg *msg,
	       void (*cb)(void *data, struct nlmsghdr *answer), void *data)
{
	struct nlmsghdr *head = nlmsg_hdr(msg);
	const bool dump = head->nlmsg_flags & NLM_F_DUMP;
	/* with an acknowledgement every exchange has an end of its own */
	if (!dump)
		head->nlmsg_flags |= NLM_F_ACK;
	const uint32_t seq = head->nlmsg_seq = nl_socket_use_seq(sock);
	head->nlmsg_pid = nl_socket_get_local_port(sock);
	struct sockaddr_nl kernel = {.nl_family = AF_NETLINK};
	ssize_t sent = sendto(nl_socket_get_fd(sock), head, head->nlmsg_len, 0,
			      (struct sockaddr *)&kernel, sizeof(kernel));
	int sys = sent < 0 ? errno : 0;
	nlmsg_free(msg);
	if (sys != 0)
		return sys;
	_cleanup_free_ char *buf = mem_calloc(1, ANSWER_MAX);
	bool torn = false;
	for (;;) {
		size_t size;
		sys = answers_read(nl_socket_get_fd(sock), buf, &size);
		if (sys != 0)
			return sys;
		int rest = (int)size;
		for (struct nlmsghdr *answer = (struct nlmsghdr *)(void *)buf;
		     nlmsg_ok(answer, rest); answer = nlmsg_next(answer, &rest)) {
			if (answer->nlmsg_seq != seq)
				continue;
			torn = torn || answer->nlmsg_flags & NLM_F_DUMP_INTR;
			if (answer->nlmsg_type == NLMSG_DONE)
				return torn ? EINTR : 0;
			if (answer->nlmsg_type == NLMSG_ERROR)
				return verdict_of(answer);
			cb(data, answer);
		}
	}
}
