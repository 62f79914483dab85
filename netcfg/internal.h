/* Shared inside netcfg/ only. */
#pragma once

#include <netlink/attr.h>
#include <netlink/msg.h>
#include <netlink/netlink.h>

#include "netcfg/dhcp.h"
#include "netcfg/link.h"
#include "netcfg/netcfg.h"

struct netcfg {
	struct nl_sock *sock; /* rtnetlink */
	struct nl_sock *nft;  /* nfnetlink; NULL until the first use */
	bool discarded;       /* there may be links for netcfg_links_sweep() */
};

/** netcfg_err_nl() - an error from what libnl returned (0 or negative NLE_*); returns -1 */
int netcfg_err_nl(struct err *err, int nle, const char *fmt, ...) printf_like(3, 4);

/** netcfg_err_sys() - an error from an errno of the kernel's answer; returns -1 */
int netcfg_err_sys(struct err *err, int sys, const char *fmt, ...) printf_like(3, 4);

/** netcfg_name_check() - ERR_INVALID for a name that no link of ours has; @what names it */
int netcfg_name_check(const char *what, const char *name, struct err *err) warn_unused;

/** netcfg_uplink_check() - the same for a link that the administrator named */
int netcfg_uplink_check(const char *what, const char *name, struct err *err) warn_unused;

/** netcfg_subnet_check() - an address of a host and a prefix that a network can have */
int netcfg_subnet_check(const struct netcfg_addr *address, struct err *err) warn_unused;

/** netcfg_addr_check() - a family that there is and a prefix within it */
int netcfg_addr_check(const char *what, const struct netcfg_addr *address,
		      struct err *err) warn_unused;

/** netcfg_addr_bytes() - where the address is, and how long: 4 or 16 */
const void *netcfg_addr_bytes(const struct netcfg_addr *address, size_t *ret_size);

/** netcfg_addr_set() - from the kernel's bytes; false when they are no address */
bool netcfg_addr_set(struct netcfg_addr *ret, int family, const void *bytes, size_t size,
		     unsigned int prefix);

/** netcfg_addr_network() - the host's bits set to 0 */
struct netcfg_addr netcfg_addr_network(const struct netcfg_addr *address);

/** netcfg_sysctl_write() - one value to a file below /proc/sys/net, if it is not there already */
int netcfg_sysctl_write(const char *path, const char *value, struct err *err) warn_unused;

/** netcfg_ipv6_set() - IPv6 of a link on or off; nothing where the kernel has none */
void netcfg_ipv6_set(const char *name, bool on);

/** netcfg_hash() - the same for the same text, everywhere and for ever */
uint64_t netcfg_hash(const char *text);

/** netcfg_mac_of_name() - a fixed address of the locally administered kind */
void netcfg_mac_of_name(const char *name, uint8_t mac[6]);

/** netcfg_bridge_mac() - what a bridge of that name has: @wish, or, where that is zeros, its name's
 */
void netcfg_bridge_mac(const char *name, const uint8_t wish[6], uint8_t ret[6]);

/* ---- requests (nl.c) ---- */

#define NETCFG_BATCH_MAX 104

/**
 * struct netcfg_batch - requests that go to the kernel in one system call, in this order
 * @what: for messages, borrowed
 * @link: where the answer of a question for a link goes, or NULL
 * @sys:  after netcfg_batch_send(): the errno of each, 0 for success, -1 where none came
 */
struct netcfg_batch {
	struct nl_msg *msg[NETCFG_BATCH_MAX];
	const char *what[NETCFG_BATCH_MAX];
	struct netcfg_link *link[NETCFG_BATCH_MAX];
	int sys[NETCFG_BATCH_MAX];
	size_t n;
};

/**
 * netcfg_batch_add() - one more; attributes follow by nla_put() to what is returned
 * @head, @size: the family's header
 * Ends the process without memory, as mem_calloc() does.
 */
struct nl_msg *netcfg_batch_add(struct netcfg_batch *batch, const char *what, int type, int flags,
				const void *head, size_t size);

/**
 * netcfg_batch_send() - send all, wait for the answers; the batch is empty then but for @sys
 *
 * Returns 0 when all went well or have an errno in @tolerate (ends in 0, or NULL). An error names
 * the first that did not; @subject is what the message is about. The kernel goes on past a failure.
 */
int netcfg_batch_send(struct netcfg *netcfg, struct netcfg_batch *batch, const char *subject,
		      const int *tolerate, struct err *err) warn_unused;

/** netcfg_batch_done() - free what was not sent */
void netcfg_batch_done(struct netcfg_batch *batch);

/**
 * netcfg_ask() - send one request, also a dump, and call @cb with each answer
 * @msg: freed. Returns 0 or an errno. EINTR: the dump was not consistent, ask again.
 */
int netcfg_ask(struct nl_sock *sock, struct nl_msg *msg,
	       void (*cb)(void *data, struct nlmsghdr *answer), void *data) warn_unused;

/** netcfg_msg() - a request of any family's; never NULL */
struct nl_msg *netcfg_msg(int type, int flags, const void *head, size_t size);

/** netcfg_put() and kin - nla_put() to a message that has room; never fails */
void netcfg_put(struct nl_msg *msg, int type, const void *data, size_t size);
void netcfg_put_u8(struct nl_msg *msg, int type, uint8_t value);
void netcfg_put_u16(struct nl_msg *msg, int type, uint16_t value);
void netcfg_put_u32(struct nl_msg *msg, int type, uint32_t value);
void netcfg_put_str(struct nl_msg *msg, int type, const char *value);
struct nlattr *netcfg_nest(struct nl_msg *msg, int type);

/** netcfg_link_add() - one more RTM_NEWLINK or RTM_DELLINK; @flags and @change of the link */
struct nl_msg *netcfg_link_add(struct netcfg_batch *batch, const char *what, int type,
			       int nlm_flags, int index, unsigned int flags, unsigned int change);

/**
 * netcfg_find_add() - one more question: the link of that name, as netcfg_link_find() tells it
 * @ret: borrowed; filled in by netcfg_batch_send(), @ret->index is 0 where there is none
 */
void netcfg_find_add(struct netcfg_batch *batch, const char *name, struct netcfg_link *ret);

/* ---- links ---- */

/* The group of links that netcfg_links_sweep() deletes; a number that nobody else will have. */
#define NETCFG_LINK_GROUP_DISCARDED 0x76646967U

/** netcfg_discard_add() - link @index is down at once, and goes with netcfg_links_sweep() */
void netcfg_discard_add(struct netcfg *netcfg, struct netcfg_batch *batch, int index);

/** netcfg_keep_put() - to an RTM_NEWLINK: should it have been discarded, it stays after all */
void netcfg_keep_put(struct nl_msg *msg);

/** netcfg_link_check_kind() - ERR_CONFLICT for a link that is there and of another kind */
int netcfg_link_check_kind(const struct netcfg_link *link, const char *kind,
			   struct err *err) warn_unused;

/** netcfg_link_find() - like netcfg_link_get(), but without counters and the master's name, and a
 * missing link is no error: @ret->index is 0 then. @kind: ERR_CONFLICT for another; or NULL */
int netcfg_link_find(struct netcfg *netcfg, const char *name, const char *kind,
		     struct netcfg_link *ret, struct err *err) warn_unused;

/** netcfg_veth_create() - a pair that is not there yet; both ends are down */
int netcfg_veth_create(struct netcfg *netcfg, const char *name, const char *peer,
		       struct err *err) warn_unused;

/** netcfg_link_parse() - what an RTM_NEWLINK says; false when it says no link */
bool netcfg_link_parse(struct nlmsghdr *answer, struct netcfg_link *ret);

/** netcfg_addresses_of() - those of a link by index */
int netcfg_addresses_of(struct netcfg *netcfg, int index, struct netcfg_addr *ret, size_t max,
			size_t *ret_n, struct err *err) warn_unused;

/** netcfg_address_add() - one more RTM_NEWADDR or RTM_DELADDR */
void netcfg_address_add(struct netcfg_batch *batch, int type, int index,
			const struct netcfg_addr *address);

/** netcfg_address_link() - the index of the link that has this address, or 0 */
int netcfg_address_link(struct netcfg *netcfg, const struct netcfg_addr *address, int *ret,
			struct err *err) warn_unused;

/* ---- ports and rates ---- */

struct netcfg_port;
struct netcfg_rate;
struct netcfg_rates;

/** netcfg_port_add() - the requests that make link @index a port, with all but "up" */
void netcfg_port_add(struct netcfg_batch *batch, int index, int bridge,
		     const struct netcfg_port *port);

/** netcfg_port_check() - is all in range? */
int netcfg_port_check(const struct netcfg_port *port, struct err *err) warn_unused;

/** netcfg_rates_check() - are both in range? */
int netcfg_rates_check(const char *name, const struct netcfg_rates *rates,
		       struct err *err) warn_unused;

/** netcfg_rate_add() - the request that limits what leaves by link @index; the rate is not 0 */
void netcfg_rate_add(struct netcfg_batch *batch, int index, const struct netcfg_rate *rate);

/** netcfg_rate_missing() - @rc; a failure for want of a qdisc or an action is ERR_UNSUPPORTED */
int netcfg_rate_missing(int rc, struct err *err) warn_unused;

/**
 * netcfg_rate_from_set() - what comes in by link @index is limited, or is not
 * @ifb: its ifb device, as found; index 0: there is none yet
 */
int netcfg_rate_from_set(struct netcfg *netcfg, const char *name, int index,
			 const struct netcfg_link *ifb, const struct netcfg_rate *rate,
			 struct err *err) warn_unused;

/** struct netcfg_ifb_name - the ifb device of a link: told by the link's name alone */
struct netcfg_ifb_name {
	char text[NETCFG_NAME_MAX + 1];
};

struct netcfg_ifb_name netcfg_ifb_name(const char *link);

/* ---- what is heard ---- */

/** netcfg_dhcp_told() - the leases in one datagram of nfnetlink_log's, aligned for its header */
void netcfg_dhcp_told(uint8_t *datagram, size_t size,
		      void (*cb)(void *data, const struct netcfg_lease *lease), void *data);
