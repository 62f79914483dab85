/* What others do to links, addresses and our tables, as it happens. */
#pragma once

#include "netcfg/netcfg.h"

/* struct netcfg_monitor - sockets of its own, apart from struct netcfg's; one thread */
struct netcfg_monitor;

enum netcfg_event_kind {
	NETCFG_EVENT_LINK = 1,      /* new or changed, itself or as a port: @link, @index, @master,
				       @up */
	NETCFG_EVENT_LINK_GONE,     /* @link, @index */
	NETCFG_EVENT_ADDRESS,       /* given: @link, @address */
	NETCFG_EVENT_ADDRESS_GONE,  /* @link, @address */
	NETCFG_EVENT_RATE,          /* a qdisc or filter of @link's came, went or changed */
	NETCFG_EVENT_TABLE_GONE,    /* one of our tables was deleted by another program */
	NETCFG_EVENT_TABLE_CHANGED, /* something in one of our tables was, by another program */
	NETCFG_EVENT_RESYNC,        /* messages were lost: look at everything again */
};

/**
 * struct netcfg_event - one thing that happened; pointers are good during the callback
 * @link:   its name, or "" where it is not known any more
 * @master: index of the bridge it is a port of, or 0
 */
struct netcfg_event {
	enum netcfg_event_kind kind;
	const char *link;
	int index, master;
	bool up;
	struct netcfg_addr address;
};

/**
 * netcfg_monitor_open() - begin to listen; needs no privilege for links and addresses
 * @owner: netcfg_firewall_owner() of the process whose changes to nftables are no news; or 0
 *
 * nftables needs CAP_NET_ADMIN to begin with, and none later: a process may open it, drop its
 * privileges and go on. Without it the tables are not watched: see netcfg_monitor_has_tables().
 */
int netcfg_monitor_open(struct netcfg_monitor **ret, uint32_t owner, struct err *err) warn_unused;

/** netcfg_monitor_has_tables() - does it hear of changes to nftables? */
bool netcfg_monitor_has_tables(const struct netcfg_monitor *monitor);

/** netcfg_monitor_close() - NULL is fine */
void netcfg_monitor_close(struct netcfg_monitor *monitor);

DEFINE_FREEP(struct netcfg_monitor, netcfg_monitor_close);

/** netcfg_monitor_fd() - readable when there are events: for an event loop; not to be closed */
int netcfg_monitor_fd(const struct netcfg_monitor *monitor);

/**
 * netcfg_monitor_read() - tell all that is there by now; never blocks
 * Bounded: at most some hundred messages a call; the descriptor stays readable while there are
 * more. Changes of one table in one call are one event. Errors: ERR_IO when a socket is broken.
 */
int netcfg_monitor_read(struct netcfg_monitor *monitor,
			void (*cb)(void *data, const struct netcfg_event *event), void *data,
			struct err *err) warn_unused;
