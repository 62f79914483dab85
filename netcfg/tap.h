/* Taps: links whose other end are descriptors that QEMU, or the kernel for it, reads and writes. */
#pragma once

#include "netcfg/port.h"
#include "netcfg/rate.h"

#define NETCFG_TAP_QUEUES_MAX 16

/**
 * struct netcfg_tap - what a tap is to be like
 * @bridge: what it is a port of
 * @queues: 0 and 1: one descriptor; 2 to NETCFG_TAP_QUEUES_MAX: IFF_MULTI_QUEUE, as many of them
 * @mtu:    68 to 65521; 0: the bridge's
 * @down:   attached, but not up: the guest's cable is out
 * @rates:  how fast it may be; see rate.h
 */
struct netcfg_tap {
	const char *bridge;
	struct netcfg_port port;
	struct netcfg_rates rates;
	unsigned int queues;
	uint32_t mtu;
	bool down;
};

/**
 * netcfg_tap_create() - a tap on a bridge, up, and its descriptors
 * @ret_fds: room for max(1, queues); IFF_TAP | IFF_NO_PI | IFF_VNET_HDR, close-on-exec,
 *           non-blocking; owned by the caller. The tap goes away with the last of them.
 *
 * An old tap of that name is replaced, whoever holds it: names are the caller's, so what is left
 * under one is a leftover. IPv6 is off on the tap. Errors: ERR_NOT_FOUND without the bridge;
 * ERR_CONFLICT when a link of that name is no tap, or @bridge is no bridge; ERR_BUSY when another
 * process takes the name at this very moment; ERR_UNSUPPORTED without /dev/net/tun.
 */
int netcfg_tap_create(struct netcfg *netcfg, const char *name, const struct netcfg_tap *tap,
		      int *ret_fds, struct err *err) warn_unused;

/**
 * netcfg_vhost_open() - descriptors by which QEMU has the kernel itself move a tap's packets
 * @n: one a queue, up to NETCFG_TAP_QUEUES_MAX; all or none of them
 * @ret_fds: room for @n; close-on-exec, the caller's
 *
 * Errors: ERR_NOT_FOUND without /dev/vhost-net.
 */
int netcfg_vhost_open(unsigned int n, int *ret_fds, struct err *err) warn_unused;

/**
 * netcfg_tap_attach() - a tap that is there is as @tap says (but for @queues), whoever holds it
 * For one whose bridge was deleted and made again, one that moves to another network, and changes
 * of its settings. Errors: ERR_NOT_FOUND without the tap or the bridge; ERR_CONFLICT when a link of
 * either name is none.
 */
int netcfg_tap_attach(struct netcfg *netcfg, const char *name, const struct netcfg_tap *tap,
		      struct err *err) warn_unused;

/**
 * netcfg_tap_renew() - a tap that somebody deleted, made again behind the descriptors it had
 * @fds: max(1, queues) of them, borrowed; none of them has a tap any more
 *
 * Whoever reads and writes them (QEMU, vhost-net) goes on and need not be told. What it had set up
 * is gone with the old tap: the header before each frame is taken to be that of virtio 1.0
 * (12 bytes), and nothing is offloaded to it, which is right for everybody and slower. Errors: as
 * netcfg_tap_create(); ERR_BUSY when one of @fds has another tap. On failure there is none, as
 * before.
 */
int netcfg_tap_renew(struct netcfg *netcfg, const char *name, const struct netcfg_tap *tap,
		     const int *fds, struct err *err) warn_unused;

/**
 * netcfg_tap_discard() - a tap is cut off, whoever holds it; one that is not there is fine
 * It is down at once, as is the ifb device of its limits, and both go with netcfg_links_sweep().
 * Errors: ERR_CONFLICT when the link is no tap.
 */
int netcfg_tap_discard(struct netcfg *netcfg, const char *name, struct err *err) warn_unused;

/** netcfg_tap_delete() - discard it and sweep: some 15 ms later there is nothing of it */
int netcfg_tap_delete(struct netcfg *netcfg, const char *name, struct err *err) warn_unused;
