/*
 * What DHCP servers (RFC 2131) give to NICs, heard as it passes: DHCP snooping. Servers of others
 * give addresses out on a bridged network; what they gave is what a NIC may send from.
 *
 * Only answers on their way to the NIC whose MAC stands in them (`chaddr`) are heard: the firewall
 * logs them past its tap (NFLOG: nfnetlink_log), for NICs with netcfg_nic.any_prefix6, as long as
 * there is a network with netcfg_firewall.hears_dhcp. A NIC that is sent very many (over 20 a
 * second for a while) is not heard for each of them.
 */
#pragma once

#include "netcfg/netcfg.h"

#define NETCFG_LEASE_FOREVER UINT32_MAX

/* Of nfnetlink_log's 65536 groups, the one that netcfg_dhcp_listen() takes. */
#define NETCFG_DHCP_LOG_GROUP 30308

/**
 * struct netcfg_lease - an address that a server acknowledged
 * @mac:     whose
 * @address: a unicast address
 * @server:  its identifier, or 0 where it gave none
 * @seconds: from now on, never 0; NETCFG_LEASE_FOREVER also where the server said nothing
 *
 * Addresses are in network byte order.
 */
struct netcfg_lease {
	uint8_t mac[6];
	struct in_addr address, server;
	uint32_t seconds;
};

/**
 * netcfg_dhcp_listen() - begin to hear; @ret: readable when there is something, O_NONBLOCK and
 * close-on-exec, the caller's
 *
 * nfnetlink needs CAP_NET_ADMIN to begin with, and none later: the descriptor may be given to a
 * process without privilege, which can read from it and do nothing else. One listener a network
 * namespace, until the last copy of the descriptor is closed. Tables need not be there yet, and may
 * come and go. Errors: ERR_UNSUPPORTED without nfnetlink_log; ERR_BUSY when somebody else listens.
 */
int netcfg_dhcp_listen(int *ret, struct err *err) warn_unused;

/**
 * netcfg_dhcp_read() - tell of all leases that were heard by now; never blocks
 * Bounded: at most some hundred messages a call; the descriptor stays readable for the rest. What
 * is no acknowledgement, or is broken, is passed over. Lost messages (ENOBUFS) are no error:
 * @ret_lost says so, what they were is not known. Errors: ERR_IO when the socket is broken.
 */
int netcfg_dhcp_read(int fd, void (*cb)(void *data, const struct netcfg_lease *lease), void *data,
		     bool *ret_lost, struct err *err) warn_unused;

/**
 * netcfg_dhcp_parse() - an IPv4 packet of a server's, as it stands on the wire
 * @size: of what there is of it; what is behind the packet's own end is not looked at
 * Checksums are not looked at: one that a network card has yet to fill in is not there.
 * Returns false when it is no DHCPACK that gives an Ethernet NIC an address, or is cut off.
 */
bool netcfg_dhcp_parse(const uint8_t *packet, size_t size, struct netcfg_lease *ret);
