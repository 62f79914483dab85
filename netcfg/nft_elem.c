/*
 * Elements of sets and maps as nfnetlink messages (linux/netfilter/nf_tables.h): some ten
 * microseconds a change, where text through libnftables takes a hundred times that.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <linux/netfilter.h>
#include <linux/netfilter/nf_tables.h>
#include <linux/netfilter/nfnetlink.h>
#include <netlink/socket.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>

#include "base/mem.h"
#include "netcfg/nft.h"

#define SEND_ROOM (8 << 20)

struct nl_sock *nft_sock(struct netcfg *netcfg)
{
	if (netcfg->nft)
		return netcfg->nft;
	struct nl_sock *sock = nl_socket_alloc();
	if (!sock || nl_connect(sock, NETLINK_NETFILTER) < 0) {
		nl_socket_free(sock);
		return NULL;
	}
	nl_socket_disable_seq_check(sock);
	/* a transaction goes in one piece; where this is not allowed, large ones fail */
	const int room = SEND_ROOM;
	if (setsockopt(nl_socket_get_fd(sock), SOL_SOCKET, SO_SNDBUFFORCE, &room, sizeof(room)) < 0)
		errno = 0;
	netcfg->nft = sock;
	return sock;
}

int nft_err(struct err *err, int sys, const char *what)
{
	/* the socket's protocol, or the messages' subsystem */
	if (sys == EPROTONOSUPPORT || sys == EAFNOSUPPORT || sys == EOPNOTSUPP)
		return err_set_sys(err, ERR_UNSUPPORTED, sys,
				   "firewall: this kernel has no nftables for bridges "
				   "(CONFIG_NF_TABLES_BRIDGE): cannot %s",
				   what);
	return netcfg_err_sys(err, sys, "firewall: cannot %s", what);
}

void nft_elem_key(struct nft_elem *elem, const void *bytes, size_t size)
{
	const size_t padded = (size + 3) & ~(size_t)3;
	if (elem->key_size + padded > sizeof(elem->key))
		abort();
	memset(elem->key + elem->key_size, 0, padded);
	memcpy(elem->key + elem->key_size, bytes, size);
	elem->key_size += padded;
}

void nft_elem_key_name(struct nft_elem *elem, const char *name)
{
	char padded[NFT_IFNAME_SIZE] = "";
	snprintf(padded, sizeof(padded), "%s", name);
	nft_elem_key(elem, padded, sizeof(padded));
}

void nft_elem_data(struct nft_elem *elem, const void *bytes, size_t size)
{
	const size_t padded = (size + 3) & ~(size_t)3;
	if (elem->data_size + padded > sizeof(elem->data))
		abort();
	memset(elem->data + elem->data_size, 0, padded);
	memcpy(elem->data + elem->data_size, bytes, size);
	elem->data_size += padded;
}

struct nl_msg *nft_msg(int type, int flags, uint8_t family)
{
	const struct nfgenmsg head = {.nfgen_family = family, .version = NFNETLINK_V0};
	return netcfg_msg(NFNL_SUBSYS_NFTABLES << 8 | type, flags, &head, sizeof(head));
}

static void put_value(struct nl_msg *msg, int type, const void *bytes, size_t size)
{
	struct nlattr *nest = netcfg_nest(msg, type | NLA_F_NESTED);
	netcfg_put(msg, NFTA_DATA_VALUE, bytes, size);
	nla_nest_end(msg, nest);
}

static void put_jump(struct nl_msg *msg, const char *chain)
{
	struct nlattr *data = netcfg_nest(msg, NFTA_SET_ELEM_DATA | NLA_F_NESTED);
	struct nlattr *verdict = netcfg_nest(msg, NFTA_DATA_VERDICT | NLA_F_NESTED);
	netcfg_put_u32(msg, NFTA_VERDICT_CODE, htonl((uint32_t)NFT_JUMP));
	netcfg_put_str(msg, NFTA_VERDICT_CHAIN, chain);
	nla_nest_end(msg, verdict);
	nla_nest_end(msg, data);
}

struct nl_msg *nft_elem_msg(int type, int flags, const struct nft_elem *elem, bool all)
{
	struct nl_msg *msg = nft_msg(type, flags, elem->family);
	netcfg_put_str(msg, NFTA_SET_ELEM_LIST_TABLE, NFT_TABLE);
	netcfg_put_str(msg, NFTA_SET_ELEM_LIST_SET, elem->set);
	struct nlattr *list = netcfg_nest(msg, NFTA_SET_ELEM_LIST_ELEMENTS | NLA_F_NESTED);
	struct nlattr *one = netcfg_nest(msg, NFTA_LIST_ELEM | NLA_F_NESTED);
	put_value(msg, NFTA_SET_ELEM_KEY, elem->key, elem->key_size);
	if (all && elem->jump[0])
		put_jump(msg, elem->jump);
	else if (all && elem->data_size)
		put_value(msg, NFTA_SET_ELEM_DATA, elem->data, elem->data_size);
	if (all && elem->note_size)
		netcfg_put(msg, NFTA_SET_ELEM_USERDATA, elem->note, elem->note_size);
	nla_nest_end(msg, one);
	nla_nest_end(msg, list);
	return msg;
}

/* ---- batches ---- */

static void batch_append(struct nft_batch *batch, struct nl_msg *msg, uint32_t seq)
{
	struct nlmsghdr *head = nlmsg_hdr(msg);
	const size_t size = NLMSG_ALIGN(head->nlmsg_len);
	while (batch->size + size > batch->room) {
		batch->room = batch->room ? 2 * batch->room : 8192;
		batch->buf = mem_realloc(batch->buf, batch->room, 1);
	}
	head->nlmsg_seq = seq;
	memset(batch->buf + batch->size, 0, size);
	memcpy(batch->buf + batch->size, head, head->nlmsg_len);
	batch->size += size;
	nlmsg_free(msg);
}

static void batch_edge(struct nft_batch *batch, int type, uint32_t seq)
{
	const struct nfgenmsg head = {.nfgen_family = AF_UNSPEC,
				      .version = NFNETLINK_V0,
				      .res_id = htons(NFNL_SUBSYS_NFTABLES)};
	batch_append(batch, netcfg_msg(type, 0, &head, sizeof(head)), seq);
}

/* Changes are numbered from 1 in their messages; the edges have 0. */
static void batch_change(struct nft_batch *batch, struct nl_msg *msg)
{
	if (batch->n == 0)
		batch_edge(batch, NFNL_MSG_BATCH_BEGIN, 0);
	batch_append(batch, msg, ++batch->n);
}

void nft_batch_add(struct nft_batch *batch, const struct nft_elem *elem)
{
	batch_change(batch, nft_elem_msg(NFT_MSG_NEWSETELEM, NLM_F_CREATE, elem, true));
}

void nft_batch_delete(struct nft_batch *batch, const struct nft_elem *elem)
{
	batch_change(batch, nft_elem_msg(NFT_MSG_DELSETELEM, 0, elem, false));
}

void nft_batch_done(struct nft_batch *batch)
{
	free(batch->buf);
	*batch = (struct nft_batch){0};
}

/* Whatever the kernel has to say was queued before the sending returned. */
static int batch_verdict(int fd, uint32_t *ret_at)
{
	_cleanup_free_ char *buf = mem_calloc(1, 65536);
	int sys = 0;
	for (;;) {
		ssize_t n = recv(fd, buf, 65536, MSG_DONTWAIT);
		if (n < 0 && (errno == EINTR || errno == ENOBUFS)) {
			/* so many refusals that some were lost */
			sys = sys || errno == EINTR ? sys : ENOBUFS;
			continue;
		}
		if (n < 0)
			return errno == EAGAIN ? sys : errno;
		int rest = (int)n;
		for (struct nlmsghdr *answer = (struct nlmsghdr *)(void *)buf;
		     nlmsg_ok(answer, rest); answer = nlmsg_next(answer, &rest)) {
			const struct nlmsgerr *verdict = nlmsg_data(answer);
			if (answer->nlmsg_type != NLMSG_ERROR || verdict->error == 0 || sys != 0)
				continue;
			sys = -verdict->error;
			*ret_at = answer->nlmsg_seq ? answer->nlmsg_seq - 1 : 0;
		}
	}
}

int nft_batch_commit(struct netcfg *netcfg, struct nft_batch *batch, uint32_t *ret_at)
{
	if (batch->n == 0)
		return 0;
	int sys = EPROTONOSUPPORT;
	struct nl_sock *sock = nft_sock(netcfg);
	if (sock) {
		batch_edge(batch, NFNL_MSG_BATCH_END, 0);
		ssize_t n = send(nl_socket_get_fd(sock), batch->buf, batch->size, 0);
		sys = n < 0 ? errno : batch_verdict(nl_socket_get_fd(sock), ret_at);
	}
	nft_batch_done(batch);
	return sys;
}
