/* What is in the tables: elements of sets, counters, chains, rules. */
#include <arpa/inet.h>
#include <endian.h>
#include <errno.h>
#include <linux/netfilter.h>
#include <linux/netfilter/nf_tables.h>
#include <linux/netfilter/nfnetlink.h>
#include <stdio.h>
#include <string.h>

#include "base/mem.h"
#include "netcfg/nft.h"

static void value_parse(struct nlattr *attr, uint8_t *ret, size_t room, size_t *ret_size)
{
	struct nlattr *data[NFTA_DATA_MAX + 1];
	if (!attr || nla_parse_nested(data, NFTA_DATA_MAX, attr, NULL) < 0 ||
	    !data[NFTA_DATA_VALUE] || (size_t)nla_len(data[NFTA_DATA_VALUE]) > room)
		return;
	*ret_size = (size_t)nla_len(data[NFTA_DATA_VALUE]);
	memcpy(ret, nla_data(data[NFTA_DATA_VALUE]), *ret_size);
}

static void jump_parse(struct nlattr *attr, char *ret, size_t room)
{
	struct nlattr *data[NFTA_DATA_MAX + 1], *verdict[NFTA_VERDICT_MAX + 1];
	if (attr && nla_parse_nested(data, NFTA_DATA_MAX, attr, NULL) == 0 &&
	    data[NFTA_DATA_VERDICT] &&
	    nla_parse_nested(verdict, NFTA_VERDICT_MAX, data[NFTA_DATA_VERDICT], NULL) == 0 &&
	    verdict[NFTA_VERDICT_CHAIN])
		snprintf(ret, room, "%.*s", nla_len(verdict[NFTA_VERDICT_CHAIN]),
			 (const char *)nla_data(verdict[NFTA_VERDICT_CHAIN]));
}

static void elems_parse(struct nlmsghdr *answer, void (*cb)(void *data, struct nlattr **elem),
			void *data)
{
	struct nlattr *attr[NFTA_SET_ELEM_LIST_MAX + 1], *elem[NFTA_SET_ELEM_MAX + 1], *one;
	int rest;
	if (nlmsg_parse(answer, sizeof(struct nfgenmsg), attr, NFTA_SET_ELEM_LIST_MAX, NULL) < 0 ||
	    !attr[NFTA_SET_ELEM_LIST_ELEMENTS])
		return;
	nla_for_each_nested(one, attr[NFTA_SET_ELEM_LIST_ELEMENTS], rest)
	{
		if (nla_parse_nested(elem, NFTA_SET_ELEM_MAX, one, NULL) == 0)
			cb(data, elem);
	}
}

static void get_one(void *data, struct nlattr **attr)
{
	struct nft_elem *elem = data;
	elem->jump[0] = '\0';
	elem->data_size = elem->note_size = 0;
	jump_parse(attr[NFTA_SET_ELEM_DATA], elem->jump, sizeof(elem->jump));
	value_parse(attr[NFTA_SET_ELEM_DATA], elem->data, sizeof(elem->data), &elem->data_size);
	struct nlattr *note = attr[NFTA_SET_ELEM_USERDATA];
	if (note && (size_t)nla_len(note) <= sizeof(elem->note)) {
		elem->note_size = (size_t)nla_len(note);
		memcpy(elem->note, nla_data(note), elem->note_size);
	}
}

static void get_answer(void *data, struct nlmsghdr *answer)
{
	elems_parse(answer, get_one, data);
}

int nft_elem_get(struct netcfg *netcfg, struct nft_elem *elem)
{
	struct nl_sock *sock = nft_sock(netcfg);
	if (!sock)
		return EPROTONOSUPPORT;
	return netcfg_ask(sock, nft_elem_msg(NFT_MSG_GETSETELEM, 0, elem, false), get_answer, elem);
}

struct walk {
	void (*cb)(void *data, const struct nft_found *found);
	void *data;
};

static uint64_t counter_of(struct nlattr *attr)
{
	uint64_t raw;
	if (!attr || nla_len(attr) < (int)sizeof(raw))
		return 0;
	memcpy(&raw, nla_data(attr), sizeof(raw));
	return be64toh(raw);
}

static void counter_parse(struct nlattr *attr, struct nft_found *ret)
{
	struct nlattr *expr[NFTA_EXPR_MAX + 1], *counter[NFTA_COUNTER_MAX + 1];
	if (!attr || nla_parse_nested(expr, NFTA_EXPR_MAX, attr, NULL) < 0 ||
	    !expr[NFTA_EXPR_NAME] || !expr[NFTA_EXPR_DATA] ||
	    nla_strcmp(expr[NFTA_EXPR_NAME], "counter") != 0 ||
	    nla_parse_nested(counter, NFTA_COUNTER_MAX, expr[NFTA_EXPR_DATA], NULL) < 0)
		return;
	ret->packets = counter_of(counter[NFTA_COUNTER_PACKETS]);
	ret->bytes = counter_of(counter[NFTA_COUNTER_BYTES]);
}

static void walk_one(void *data, struct nlattr **attr)
{
	const struct walk *walk = data;
	uint8_t key[NFT_KEY_MAX];
	struct nft_found found = {.key = key};
	value_parse(attr[NFTA_SET_ELEM_KEY], key, sizeof(key), &found.key_size);
	counter_parse(attr[NFTA_SET_ELEM_EXPR], &found);
	if (found.key_size)
		walk->cb(walk->data, &found);
}

static void walk_answer(void *data, struct nlmsghdr *answer)
{
	elems_parse(answer, walk_one, data);
}

int nft_elems_each(struct netcfg *netcfg, uint8_t family, const char *set,
		   void (*cb)(void *data, const struct nft_found *found), void *data)
{
	struct nl_sock *sock = nft_sock(netcfg);
	struct walk walk = {.cb = cb, .data = data};
	if (!sock)
		return EPROTONOSUPPORT;
	struct nl_msg *msg = nft_msg(NFT_MSG_GETSETELEM, NLM_F_DUMP, family);
	netcfg_put_str(msg, NFTA_SET_ELEM_LIST_TABLE, NFT_TABLE);
	netcfg_put_str(msg, NFTA_SET_ELEM_LIST_SET, set);
	int sys = netcfg_ask(sock, msg, walk_answer, &walk);
	return sys == ENOENT ? 0 : sys;
}

/* ---- chains ---- */

struct chains {
	uint32_t use;
	bool group;
};

static void chain_answer(void *data, struct nlmsghdr *answer)
{
	struct chains *chains = data;
	struct nlattr *attr[NFTA_CHAIN_MAX + 1];
	if (nlmsg_parse(answer, sizeof(struct nfgenmsg), attr, NFTA_CHAIN_MAX, NULL) < 0 ||
	    !attr[NFTA_CHAIN_NAME] || !attr[NFTA_CHAIN_TABLE] ||
	    nla_strcmp(attr[NFTA_CHAIN_TABLE], NFT_TABLE) != 0)
		return;
	const char *name = nla_data(attr[NFTA_CHAIN_NAME]);
	const size_t prefix = strlen("group-");
	if (nla_len(attr[NFTA_CHAIN_NAME]) > (int)prefix && strncmp(name, "group-", prefix) == 0 &&
	    name[prefix] >= '1' && name[prefix] <= '9')
		chains->group = true;
	if (attr[NFTA_CHAIN_USE])
		chains->use = ntohl(nla_get_u32(attr[NFTA_CHAIN_USE]));
}

int nft_chain_use(struct netcfg *netcfg, uint8_t family, const char *chain, bool *ret_there,
		  uint32_t *ret_use)
{
	struct nl_sock *sock = nft_sock(netcfg);
	struct chains chains = {0};
	if (!sock)
		return EPROTONOSUPPORT;
	struct nl_msg *msg = nft_msg(NFT_MSG_GETCHAIN, 0, family);
	netcfg_put_str(msg, NFTA_CHAIN_TABLE, NFT_TABLE);
	netcfg_put_str(msg, NFTA_CHAIN_NAME, chain);
	int sys = netcfg_ask(sock, msg, chain_answer, &chains);
	if (sys != 0 && sys != ENOENT)
		return sys;
	*ret_there = sys == 0;
	*ret_use = chains.use;
	return 0;
}

int nft_chain_exists(struct netcfg *netcfg, uint8_t family, const char *chain, bool *ret)
{
	uint32_t use;
	return nft_chain_use(netcfg, family, chain, ret, &use);
}

int nft_group_any(struct netcfg *netcfg, bool *ret)
{
	struct nl_sock *sock = nft_sock(netcfg);
	struct chains chains = {0};
	if (!sock)
		return EPROTONOSUPPORT;
	int sys;
	do {
		struct nl_msg *msg = nft_msg(NFT_MSG_GETCHAIN, NLM_F_DUMP, NFPROTO_BRIDGE);
		netcfg_put_str(msg, NFTA_CHAIN_TABLE, NFT_TABLE);
		sys = netcfg_ask(sock, msg, chain_answer, &chains);
	} while (sys == EINTR);
	if (sys == 0)
		*ret = chains.group;
	return sys;
}

/* ---- rules ---- */

struct rules {
	void (*cb)(void *data, const char *comment);
	void *data;
};

/* nft's notes are type, length, value, one after the other; a comment is of type 0 */
static void comment_parse(struct nlattr *notes, char *ret, size_t room)
{
	const uint8_t *at = notes ? nla_data(notes) : NULL;
	ptrdiff_t left = notes ? nla_len(notes) : 0;
	ret[0] = '\0';
	for (; left >= 2 && at[1] <= left - 2; left -= 2 + at[1], at += 2 + at[1])
		if (at[0] == 0)
			snprintf(ret, room, "%.*s", (int)at[1], (const char *)at + 2);
}

static void rule_answer(void *data, struct nlmsghdr *answer)
{
	const struct rules *rules = data;
	struct nlattr *attr[NFTA_RULE_MAX + 1];
	char comment[256];
	if (nlmsg_parse(answer, sizeof(struct nfgenmsg), attr, NFTA_RULE_MAX, NULL) < 0)
		return;
	comment_parse(attr[NFTA_RULE_USERDATA], comment, sizeof(comment));
	rules->cb(rules->data, comment);
}

int nft_rules_each(struct netcfg *netcfg, uint8_t family, const char *chain,
		   void (*cb)(void *data, const char *comment), void *data)
{
	struct nl_sock *sock = nft_sock(netcfg);
	struct rules rules = {cb, data};
	if (!sock)
		return EPROTONOSUPPORT;
	struct nl_msg *msg = nft_msg(NFT_MSG_GETRULE, NLM_F_DUMP, family);
	netcfg_put_str(msg, NFTA_RULE_TABLE, NFT_TABLE);
	netcfg_put_str(msg, NFTA_RULE_CHAIN, chain);
	return netcfg_ask(sock, msg, rule_answer, &rules);
}

static void owner_answer(void *data, struct nlmsghdr *answer)
{
	struct nlattr *attr[NFTA_GEN_MAX + 1];
	if (nlmsg_parse(answer, sizeof(struct nfgenmsg), attr, NFTA_GEN_MAX, NULL) == 0 &&
	    attr[NFTA_GEN_PROC_PID])
		*(uint32_t *)data = ntohl(nla_get_u32(attr[NFTA_GEN_PROC_PID]));
}

int nft_owner(struct netcfg *netcfg, uint32_t *ret)
{
	struct nl_sock *sock = nft_sock(netcfg);
	if (!sock)
		return EPROTONOSUPPORT;
	return netcfg_ask(sock, nft_msg(NFT_MSG_GETGEN, 0, AF_UNSPEC), owner_answer, ret);
}
