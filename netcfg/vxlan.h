/* VXLAN: one network over several hosts, as a link to be a port of a bridge. */
#pragma once

#include "netcfg/netcfg.h"

#define NETCFG_VXLAN_PEERS_MAX 32
#define NETCFG_VXLAN_PORT      4789
#define NETCFG_VXLAN_OVERHEAD  50 /* of the MTU, over IPv4; 70 over IPv6 */

/**
 * struct netcfg_vxlan - one end
 * @vni:   1 to 16777215
 * @local: this host's address towards the peers, of the same family as theirs
 * @port:  UDP, the same on all hosts; 0: NETCFG_VXLAN_PORT
 * @peers: the other hosts: broadcast, multicast and unknown frames go to each; prefixes are not
 *         looked at
 * @mtu:   0: that of the link that has @local, less the overhead
 */
struct netcfg_vxlan {
	uint32_t vni;
	struct netcfg_addr local;
	uint16_t port;
	struct netcfg_addr peers[NETCFG_VXLAN_PEERS_MAX];
	unsigned int n_peers;
	uint32_t mtu;
};

/**
 * netcfg_vxlan_ensure() - link @name is this VXLAN, up, with exactly these peers
 *
 * Where only peers or MTU differ they are changed and traffic goes on; else the link is made
 * again. MACs behind peers are learned. VXLAN neither hides nor authenticates: peers must be on a
 * network where nobody else sends. Errors: ERR_NOT_FOUND when no link has @local; ERR_CONFLICT
 * when a link of that name is no VXLAN or another one has this VNI and port; ERR_UNSUPPORTED.
 */
int netcfg_vxlan_ensure(struct netcfg *netcfg, const char *name, const struct netcfg_vxlan *vxlan,
			struct err *err) warn_unused;

/** netcfg_vxlan_delete() - no VXLAN of that name; errors: ERR_CONFLICT when the link is none */
int netcfg_vxlan_delete(struct netcfg *netcfg, const char *name, struct err *err) warn_unused;

/** netcfg_vxlan_peers() - the peers as the kernel has them; @ret has NETCFG_VXLAN_PEERS_MAX */
int netcfg_vxlan_peers(struct netcfg *netcfg, const char *name, struct netcfg_addr *ret,
		       size_t *ret_n, struct err *err) warn_unused;
