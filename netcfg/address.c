/* The addresses that links have. */
#include <arpa/inet.h>
#include <errno.h>
#include <linux/if_addr.h>
#include <linux/rtnetlink.h>
#include <string.h>

#include "base/mem.h"
#include "netcfg/internal.h"

struct addresses {
	int index;
	struct netcfg_addr *ret;
	size_t max, n;
};

static void address_store(void *data, struct nlmsghdr *answer)
{
	struct addresses *addresses = data;
	struct nlattr *attr[IFA_MAX + 1];
	const struct ifaddrmsg *head = nlmsg_data(answer);
	struct netcfg_addr found;
	if (answer->nlmsg_type != RTM_NEWADDR ||
	    nlmsg_parse(answer, sizeof(*head), attr, IFA_MAX, NULL) < 0 ||
	    (int)head->ifa_index != addresses->index || addresses->n == addresses->max)
		return;
	/* where both are there, IFA_ADDRESS is the other end's */
	const struct nlattr *local = attr[IFA_LOCAL] ? attr[IFA_LOCAL] : attr[IFA_ADDRESS];
	if (local && netcfg_addr_set(&found, head->ifa_family, nla_data(local),
				     (size_t)nla_len(local), head->ifa_prefixlen))
		addresses->ret[addresses->n++] = found;
}

int netcfg_addresses_of(struct netcfg *netcfg, int index, struct netcfg_addr *ret, size_t max,
			size_t *ret_n, struct err *err)
{
	const struct ifaddrmsg head = {.ifa_family = AF_UNSPEC};
	struct addresses addresses;
	int sys;
	do {
		addresses = (struct addresses){.index = index, .ret = ret, .max = max};
		sys = netcfg_ask(netcfg->sock,
				 netcfg_msg(RTM_GETADDR, NLM_F_DUMP, &head, sizeof(head)),
				 address_store, &addresses);
	} while (sys == EINTR);
	if (sys != 0)
		return netcfg_err_sys(err, sys, "cannot list the addresses");
	*ret_n = addresses.n;
	return 0;
}

int netcfg_link_addresses(struct netcfg *netcfg, const char *name, struct netcfg_addr *ret,
			  size_t *ret_n, struct err *err)
{
	struct netcfg_link link;
	if (netcfg_uplink_check("link", name, err) < 0 ||
	    netcfg_link_find(netcfg, name, NULL, &link, err) < 0)
		return -1;
	if (link.index == 0)
		return err_set(err, ERR_NOT_FOUND, "there is no link %s", name);
	return netcfg_addresses_of(netcfg, link.index, ret, NETCFG_LINK_ADDRS_MAX, ret_n, err);
}

void netcfg_address_add(struct netcfg_batch *batch, int type, int index,
			const struct netcfg_addr *address)
{
	const bool v4 = address->family == AF_INET;
	const struct ifaddrmsg head = {.ifa_family = (uint8_t)address->family,
				       .ifa_prefixlen = address->prefix,
				       /* asking around for a twin only delays it: it is ours */
				       .ifa_flags = v4 ? 0 : IFA_F_NODAD,
				       .ifa_index = (uint32_t)index};
	struct nl_msg *msg = netcfg_batch_add(
		batch, type == RTM_NEWADDR ? "give it an address" : "take an address away", type,
		type == RTM_NEWADDR ? NLM_F_CREATE : 0, &head, sizeof(head));
	size_t size;
	const void *bytes = netcfg_addr_bytes(address, &size);
	netcfg_put(msg, IFA_LOCAL, bytes, size);
	netcfg_put(msg, IFA_ADDRESS, bytes, size);
	if (v4 && address->prefix < 31) {
		const uint32_t all = address->v4.s_addr | htonl(~netcfg_mask(address->prefix));
		netcfg_put(msg, IFA_BROADCAST, &all, sizeof(all));
	}
}

struct owner {
	const struct netcfg_addr *address;
	int index;
};

static void owner_look(void *data, struct nlmsghdr *answer)
{
	struct owner *owner = data;
	struct netcfg_addr found[1];
	const struct ifaddrmsg *head = nlmsg_data(answer);
	struct addresses addresses = {.index = (int)head->ifa_index, .ret = found, .max = 1};
	address_store(&addresses, answer);
	if (addresses.n == 0)
		return;
	found[0].prefix = owner->address->prefix;
	if (netcfg_addr_equal(&found[0], owner->address))
		owner->index = addresses.index;
}

int netcfg_address_link(struct netcfg *netcfg, const struct netcfg_addr *address, int *ret,
			struct err *err)
{
	const struct ifaddrmsg head = {.ifa_family = (uint8_t)address->family};
	struct owner owner = {.address = address};
	int sys;
	do
		sys = netcfg_ask(netcfg->sock,
				 netcfg_msg(RTM_GETADDR, NLM_F_DUMP, &head, sizeof(head)),
				 owner_look, &owner);
	while (sys == EINTR);
	if (sys != 0)
		return netcfg_err_sys(err, sys, "cannot list the addresses");
	*ret = owner.index;
	return 0;
}
