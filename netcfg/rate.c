/*
 * The requests are made by hand, on libnl's messages: its own tbf has rates of 32 bits of bytes at
 * most, and sends a table that kernels since 3.13 have no use for.
 */
#include "netcfg/rate.h"

#include <arpa/inet.h>
#include <errno.h>
#include <linux/if_ether.h>
#include <linux/if_link.h>
#include <linux/pkt_cls.h>
#include <linux/pkt_sched.h>
#include <linux/rtnetlink.h>
#include <linux/tc_act/tc_mirred.h>
#include <net/if.h>
#include <stdio.h>
#include <string.h>

#include "base/mem.h"
#include "netcfg/internal.h"

/* handles that nobody else will have taken */
#define TBF_HANDLE     TC_H_MAKE(0x7d1 << 16, 0)
#define INGRESS_HANDLE TC_H_MAKE(TC_H_INGRESS, 0)
#define FILTER_HANDLE  0x80000800U /* u32's first: table 800, bucket 0, entry 800 */
#define LATENCY_MS     50
#define TICK_NS        64 /* the kernel's PSCHED_SHIFT */

/* So it is found when the link is gone. */
struct netcfg_ifb_name netcfg_ifb_name(const char *link)
{
	struct netcfg_ifb_name ret;
	uint8_t mac[6];
	if (strlen(link) + strlen("ifb-") <= NETCFG_NAME_MAX) {
		snprintf(ret.text, sizeof(ret.text), "ifb-%.11s", link);
		return ret;
	}
	netcfg_mac_of_name(link, mac);
	snprintf(ret.text, sizeof(ret.text), "ifb-%02x%02x%02x%02x%02x", mac[1], mac[2], mac[3],
		 mac[4], mac[5]);
	return ret;
}

static int rate_check(const char *name, const struct netcfg_rate *rate, struct err *err)
{
	if (rate->bits_per_s == 0)
		return 0;
	if (rate->bits_per_s < NETCFG_RATE_MIN || rate->bits_per_s > NETCFG_RATE_MAX)
		return err_set(err, ERR_INVALID,
			       "rate of %s: %llu bits a second are not in %llu to %llu", name,
			       (unsigned long long)rate->bits_per_s, NETCFG_RATE_MIN,
			       NETCFG_RATE_MAX);
	if (rate->burst && (rate->burst < NETCFG_BURST_MIN || rate->burst > NETCFG_BURST_MAX))
		return err_set(err, ERR_INVALID,
			       "rate of %s: a burst of %u bytes is not in %u to %u", name,
			       rate->burst, NETCFG_BURST_MIN, NETCFG_BURST_MAX);
	return 0;
}

int netcfg_rates_check(const char *name, const struct netcfg_rates *rates, struct err *err)
{
	if (rate_check(name, &rates->to_guest, err) < 0)
		return -1;
	return rate_check(name, &rates->from_guest, err);
}

static uint32_t burst_of(const struct netcfg_rate *rate)
{
	if (rate->burst)
		return rate->burst;
	const uint64_t usual = rate->bits_per_s / 8 / 100;
	return usual < 65536 ? 65536 : usual > NETCFG_BURST_MAX ? NETCFG_BURST_MAX : usual;
}

static struct nl_msg *tc_add(struct netcfg_batch *batch, const char *what, int type, int flags,
			     int index, uint32_t parent, uint32_t handle, uint32_t info)
{
	const struct tcmsg head = {.tcm_family = AF_UNSPEC,
				   .tcm_ifindex = index,
				   .tcm_handle = handle,
				   .tcm_parent = parent,
				   .tcm_info = info};
	return netcfg_batch_add(batch, what, type, flags, &head, sizeof(head));
}

/* With the same handle as before the kernel changes what is there and keeps what waits in it. */
void netcfg_rate_add(struct netcfg_batch *batch, int index, const struct netcfg_rate *rate)
{
	const uint64_t bytes = rate->bits_per_s / 8;
	const uint32_t burst = burst_of(rate);
	const uint64_t waiting = burst + bytes * LATENCY_MS / 1000;
	const struct tc_tbf_qopt opt = {
		.rate = {.linklayer = TC_LINKLAYER_ETHERNET,
			 .rate = bytes > UINT32_MAX ? UINT32_MAX : (uint32_t)bytes},
		.limit = waiting > UINT32_MAX ? UINT32_MAX : (uint32_t)waiting,
	};
	struct nl_msg *msg = tc_add(batch, "set its rate (tbf)", RTM_NEWQDISC,
				    NLM_F_CREATE | NLM_F_REPLACE, index, TC_H_ROOT, TBF_HANDLE, 0);
	netcfg_put_str(msg, TCA_KIND, "tbf");
	struct nlattr *options = netcfg_nest(msg, TCA_OPTIONS);
	netcfg_put(msg, TCA_TBF_PARMS, &opt, sizeof(opt));
	netcfg_put_u32(msg, TCA_TBF_BURST, burst);
	if (bytes > UINT32_MAX)
		netcfg_put(msg, TCA_TBF_RATE64, &bytes, sizeof(bytes));
	nla_nest_end(msg, options);
}

static void redirect_add(struct netcfg_batch *batch, int index, int ifb)
{
	/* a selector and its one key: no bit of the packet is looked at */
	uint8_t all[sizeof(struct tc_u32_sel) + sizeof(struct tc_u32_key)] = {0};
	const struct tc_u32_sel sel = {.flags = TC_U32_TERMINAL, .nkeys = 1};
	memcpy(all, &sel, sizeof(sel));
	const struct tc_mirred mirred = {
		.action = TC_ACT_STOLEN, .eaction = TCA_EGRESS_REDIR, .ifindex = (uint32_t)ifb};
	struct nl_msg *msg =
		tc_add(batch, "look at what it sends (ingress)", RTM_NEWQDISC,
		       NLM_F_CREATE | NLM_F_EXCL, index, TC_H_INGRESS, INGRESS_HANDLE, 0);
	netcfg_put_str(msg, TCA_KIND, "ingress");
	msg = tc_add(batch, "redirect what it sends (u32, mirred)", RTM_NEWTFILTER,
		     NLM_F_CREATE | NLM_F_EXCL, index, INGRESS_HANDLE, FILTER_HANDLE,
		     TC_H_MAKE(1 << 16, htons(ETH_P_ALL)));
	netcfg_put_str(msg, TCA_KIND, "u32");
	struct nlattr *options = netcfg_nest(msg, TCA_OPTIONS);
	netcfg_put(msg, TCA_U32_SEL, all, sizeof(all));
	struct nlattr *actions = netcfg_nest(msg, TCA_U32_ACT);
	struct nlattr *action = netcfg_nest(msg, 1);
	netcfg_put_str(msg, TCA_ACT_KIND, "mirred");
	struct nlattr *parms = netcfg_nest(msg, TCA_ACT_OPTIONS);
	netcfg_put(msg, TCA_MIRRED_PARMS, &mirred, sizeof(mirred));
	nla_nest_end(msg, parms);
	nla_nest_end(msg, action);
	nla_nest_end(msg, actions);
	nla_nest_end(msg, options);
}

int netcfg_rate_missing(int rc, struct err *err)
{
	/* an unknown qdisc, classifier or action is "no such file"; a link that is gone, "no
	 * device" */
	if (rc < 0 && err && err->sys == ENOENT)
		err->code = ERR_UNSUPPORTED;
	return rc;
}

static int ifb_create(struct netcfg *netcfg, const char *name, struct netcfg_link *ret,
		      struct err *err)
{
	struct netcfg_batch batch = {.n = 0};
	struct nl_msg *msg = netcfg_link_add(&batch, "make its ifb device", RTM_NEWLINK,
					     NLM_F_CREATE | NLM_F_EXCL, 0, IFF_UP, IFF_UP);
	netcfg_put_str(msg, IFLA_IFNAME, name);
	struct nlattr *info = netcfg_nest(msg, IFLA_LINKINFO);
	netcfg_put_str(msg, IFLA_INFO_KIND, "ifb");
	nla_nest_end(msg, info);
	netcfg_find_add(&batch, name, ret);
	return netcfg_batch_send(netcfg, &batch, name, NULL, err);
}

static int from_ensure(struct netcfg *netcfg, const char *name, int index,
		       const struct netcfg_link *ifb, const struct netcfg_rate *rate,
		       struct err *err)
{
	static const int fine[] = {EEXIST, ENOENT, EINVAL, 0};
	const struct netcfg_ifb_name own = netcfg_ifb_name(name);
	struct netcfg_batch batch = {.n = 0};
	struct netcfg_link made = *ifb;
	if (made.index == 0) {
		if (ifb_create(netcfg, own.text, &made, err) < 0)
			return -1;
		/* what led to an earlier device would lead nowhere now */
		tc_add(&batch, "start anew", RTM_DELQDISC, 0, index, TC_H_INGRESS, INGRESS_HANDLE,
		       0);
		if (netcfg_batch_send(netcfg, &batch, name, fine, err) < 0)
			return -1;
	}
	netcfg_keep_put(netcfg_link_add(&batch, "bring its ifb device up", RTM_NEWLINK, 0,
					made.index, IFF_UP, IFF_UP));
	netcfg_rate_add(&batch, made.index, rate);
	redirect_add(&batch, index, made.index);
	return netcfg_rate_missing(
		netcfg_batch_send(netcfg, &batch, name, (const int[]){EEXIST, 0}, err), err);
}

/* no limit on what link @index sends; 0: the link is gone */
static int from_remove(struct netcfg *netcfg, const char *name, int index,
		       const struct netcfg_link *ifb, struct err *err)
{
	static const int fine[] = {ENOENT, EINVAL, ENODEV, 0};
	struct netcfg_batch batch = {.n = 0};
	if (ifb->index == 0)
		return 0;
	if (index)
		tc_add(&batch, "let it send", RTM_DELQDISC, 0, index, TC_H_INGRESS, INGRESS_HANDLE,
		       0);
	netcfg_discard_add(netcfg, &batch, ifb->index);
	return netcfg_batch_send(netcfg, &batch, name, fine, err);
}

int netcfg_rate_from_set(struct netcfg *netcfg, const char *name, int index,
			 const struct netcfg_link *ifb, const struct netcfg_rate *rate,
			 struct err *err)
{
	return rate->bits_per_s ? from_ensure(netcfg, name, index, ifb, rate, err)
				: from_remove(netcfg, name, index, ifb, err);
}

static int to_ensure(struct netcfg *netcfg, const char *name, int index,
		     const struct netcfg_rate *rate, struct err *err)
{
	struct netcfg_batch batch = {.n = 0};
	if (rate->bits_per_s) {
		netcfg_rate_add(&batch, index, rate);
		return netcfg_rate_missing(netcfg_batch_send(netcfg, &batch, name, NULL, err), err);
	}
	tc_add(&batch, "take its limit away", RTM_DELQDISC, 0, index, TC_H_ROOT, TBF_HANDLE, 0);
	return netcfg_batch_send(netcfg, &batch, name, (const int[]){ENOENT, EINVAL, ENODEV, 0},
				 err);
}

/* a link and its ifb device */
static int both_find(struct netcfg *netcfg, const char *name, struct netcfg_link *ret_link,
		     struct netcfg_link *ret_ifb, struct err *err)
{
	const struct netcfg_ifb_name own = netcfg_ifb_name(name);
	struct netcfg_batch batch = {.n = 0};
	netcfg_find_add(&batch, name, ret_link);
	netcfg_find_add(&batch, own.text, ret_ifb);
	if (netcfg_batch_send(netcfg, &batch, name, NULL, err) < 0)
		return -1;
	return netcfg_link_check_kind(ret_ifb, "ifb", err);
}

int netcfg_rates_ensure(struct netcfg *netcfg, const char *name, const struct netcfg_rates *rates,
			struct err *err)
{
	struct netcfg_link link, ifb;
	struct err own;
	if (!err)
		err = &own;
	if (netcfg_name_check("link", name, err) < 0 || netcfg_rates_check(name, rates, err) < 0 ||
	    both_find(netcfg, name, &link, &ifb, err) < 0)
		return -1;
	if (link.index == 0)
		return err_set(err, ERR_NOT_FOUND, "rate: there is no link %s", name);
	if (to_ensure(netcfg, name, link.index, &rates->to_guest, err) < 0)
		return -1;
	return netcfg_rate_from_set(netcfg, name, link.index, &ifb, &rates->from_guest, err);
}

int netcfg_rates_remove(struct netcfg *netcfg, const char *name, struct err *err)
{
	static const struct netcfg_rate none;
	struct netcfg_link link, ifb;
	if (netcfg_name_check("link", name, err) < 0 ||
	    both_find(netcfg, name, &link, &ifb, err) < 0 ||
	    from_remove(netcfg, name, link.index, &ifb, err) < 0)
		return -1;
	return link.index ? to_ensure(netcfg, name, link.index, &none, err) : 0;
}

/* ---- reading ---- */

static void tbf_parse(void *data, struct nlmsghdr *answer)
{
	struct netcfg_rate *ret = data;
	struct nlattr *attr[TCA_MAX + 1], *options[TCA_TBF_MAX + 1];
	struct tc_tbf_qopt opt;
	if (nlmsg_parse(answer, sizeof(struct tcmsg), attr, TCA_MAX, NULL) < 0 || !attr[TCA_KIND] ||
	    !attr[TCA_OPTIONS] || nla_strcmp(attr[TCA_KIND], "tbf") != 0 ||
	    nla_parse_nested(options, TCA_TBF_MAX, attr[TCA_OPTIONS], NULL) < 0 ||
	    !options[TCA_TBF_PARMS] || nla_len(options[TCA_TBF_PARMS]) < (int)sizeof(opt))
		return;
	memcpy(&opt, nla_data(options[TCA_TBF_PARMS]), sizeof(opt));
	uint64_t bytes = opt.rate.rate;
	if (options[TCA_TBF_RATE64] && nla_len(options[TCA_TBF_RATE64]) >= (int)sizeof(bytes))
		memcpy(&bytes, nla_data(options[TCA_TBF_RATE64]), sizeof(bytes));
	ret->bits_per_s = bytes * 8;
	/* the kernel keeps the time that a burst takes, rounded down */
	const double burst = (double)opt.buffer * TICK_NS * (double)bytes / 1e9;
	ret->burst = burst > NETCFG_BURST_MAX ? NETCFG_BURST_MAX : (uint32_t)(burst + 0.5);
}

static int rate_get(struct netcfg *netcfg, const char *name, int index, struct netcfg_rate *ret,
		    struct err *err)
{
	const struct tcmsg head = {
		.tcm_family = AF_UNSPEC, .tcm_ifindex = index, .tcm_handle = TBF_HANDLE};
	*ret = (struct netcfg_rate){0};
	/* without "echo" the answer goes to those who listen to changes, and to them alone */
	int sys =
		netcfg_ask(netcfg->sock, netcfg_msg(RTM_GETQDISC, NLM_F_ECHO, &head, sizeof(head)),
			   tbf_parse, ret);
	/* some other qdisc, or none */
	if (sys != 0 && sys != ENOENT && sys != EINVAL)
		return netcfg_err_sys(err, sys, "cannot read the rate of %s", name);
	return 0;
}

static void redirect_seen(void *data, struct nlmsghdr *answer)
{
	*(bool *)data = true;
}

int netcfg_rates_get(struct netcfg *netcfg, const char *name, struct netcfg_rates *ret,
		     struct err *err)
{
	struct netcfg_link link, ifb;
	struct netcfg_rates rates = {0};
	if (netcfg_name_check("link", name, err) < 0 ||
	    both_find(netcfg, name, &link, &ifb, err) < 0)
		return -1;
	if (link.index == 0)
		return err_set(err, ERR_NOT_FOUND, "rate: there is no link %s", name);
	if (rate_get(netcfg, name, link.index, &rates.to_guest, err) < 0)
		return -1;
	/* a limit that nothing is led to is none */
	const struct tcmsg head = {.tcm_family = AF_UNSPEC,
				   .tcm_ifindex = link.index,
				   .tcm_parent = INGRESS_HANDLE,
				   .tcm_handle = FILTER_HANDLE,
				   .tcm_info = TC_H_MAKE(1 << 16, htons(ETH_P_ALL))};
	struct nl_msg *msg = netcfg_msg(RTM_GETTFILTER, 0, &head, sizeof(head));
	netcfg_put_str(msg, TCA_KIND, "u32");
	bool led = false;
	int sys = netcfg_ask(netcfg->sock, msg, redirect_seen, &led);
	if (sys == 0 && led && ifb.index && ifb.up &&
	    rate_get(netcfg, name, ifb.index, &rates.from_guest, err) < 0)
		return -1;
	*ret = rates;
	return 0;
}

static bool rate_is(const struct netcfg_rate *now, const struct netcfg_rate *wish)
{
	if (now->bits_per_s / 8 != wish->bits_per_s / 8 || wish->bits_per_s == 0)
		return now->bits_per_s / 8 == wish->bits_per_s / 8;
	const uint32_t burst = burst_of(wish);
	const uint64_t tick = wish->bits_per_s / 8 * TICK_NS / 1000000000;
	return now->burst <= burst && now->burst + tick + 1 >= burst;
}

int netcfg_rates_has(struct netcfg *netcfg, const char *name, const struct netcfg_rates *rates,
		     bool *ret, struct err *err)
{
	struct netcfg_rates now;
	if (netcfg_rates_get(netcfg, name, &now, err) < 0)
		return -1;
	*ret = rate_is(&now.to_guest, &rates->to_guest) &&
	       rate_is(&now.from_guest, &rates->from_guest);
	return 0;
}
