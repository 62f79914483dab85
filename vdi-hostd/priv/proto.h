/*
 * The wire between the two halves: fixed-size structs over a SOCK_SEQPACKET socketpair, descriptors
 * by SCM_RIGHTS. Requests are answered in order. The privileged half believes nothing: a request of
 * the wrong size, with an unknown verb or a field out of range ends it (and with it the daemon;
 * desktops go on). Slots are small integers from which it derives every name itself: bridge
 * vdibr<slot>, VXLAN vdivx<slot>, VLAN vdivl<slot>, veths vdiup<slot> and vdidn<slot>, tap
 * vdi<slot>n<nic>, uid uid_base + slot, cgroup vdi<slot>. The one name that comes over is an
 * uplink's.
 */
#pragma once

#include <stdint.h>
#include <sys/types.h>

#include "base/err.h"
#include "netcfg/forward.h"
#include "netcfg/group.h"
#include "netcfg/link.h"
#include "netcfg/nic.h"
#include "netcfg/rate.h"
#include "netcfg/uplink.h"
#include "vdi-hostd/priv/qemu_spec.h"

#define PRIV_SLOT_MAX 65535

/*
 * What each takes out of the union, and what comes back. Making is idempotent where a crash may
 * repeat it, removing always. Signals: a process that is gone is no error; one that runs under
 * another uid than the verb's is ERR_DENIED.
 */
enum priv_verb {
	PRIV_PROBE = 1,     /* nothing -> features */
	PRIV_BRIDGE_ENSURE, /* network: firewall of it, then bridge with its addresses, up; VXLAN or
			       VLAN as a port of it; joined to its uplink */
	PRIV_BRIDGE_DELETE, /* slot: bridge, VXLAN, VLAN, veths and firewall gone; no uplink */
	PRIV_TAP_CREATE, /* tap -> its descriptors, guarded before it is there; an old one of that
			    name is replaced */
	PRIV_TAP_DELETE, /* tap, and its guard; its network is not looked at; cut off when it is
			    answered, gone when nobody has asked for anything for a while */
	PRIV_DNSMASQ_SPAWN,  /* network -> process; see below */
	PRIV_DNSMASQ_SIGNAL, /* process: SIGHUP, SIGTERM, SIGKILL */
	PRIV_QEMU_SPAWN,     /* qemu, descriptors as it says -> process */
	PRIV_QEMU_SIGNAL,    /* process: SIGTERM, SIGKILL */
	PRIV_REAP,           /* process that was spawned and ended -> wait_status; ERR_BUSY: runs */
	PRIV_CGROUP_DELETE,  /* slot: a desktop's cgroup gone; ERR_BUSY while QEMU is in it */
	PRIV_IMG_SPAWN,      /* img, descriptors sources, target, stdout, stderr -> process */
	PRIV_IMG_SIGNAL,     /* process (whatever its slot): SIGTERM, SIGKILL */
	PRIV_TAP_ATTACH,     /* tap of a QEMU that runs: guarded, up and on its network's bridge;
				made again where somebody deleted it */
	PRIV_NETWORK_LOOK,   /* network -> missing */
	PRIV_TAP_LOOK,       /* tap -> missing */
	PRIV_FORWARD_ENSURE, /* forward */
	PRIV_FORWARD_LOOK,   /* forward -> missing */
	PRIV_FORWARD_DELETE, /* forward; nothing there is fine */
	PRIV_GROUP_ENSURE,   /* group: for all NICs that carry it, at once */
	PRIV_GROUP_DELETE,   /* group's id; ERR_BUSY while a NIC carries it */
	PRIV_UPLINK_ENSLAVE, /* uplink: a port of its network's bridge, which takes over its
				addresses and routes; put back after timeout_s unless confirmed,
				also when this half dies before */
	PRIV_UPLINK_CONFIRM, /* slot: it stays; ERR_NOT_FOUND when it was put back by then */
	PRIV_UPLINK_RELEASE, /* uplink: all as it was */
	PRIV_WATCH,          /* nothing -> a pipe that says when others changed our tables */
	PRIV_DROPS,          /* tap -> traffic, drops */
	PRIV_DHCP_LISTEN,    /* nothing -> a socket for netcfg_dhcp_read(), the only one */
	PRIV_VERBS_END,
};

/*
 * dnsmasq runs as the unprivileged half's user with the few capabilities that it needs. That half
 * makes <runtime_dir>/networks/<slot>/ and in it `hosts` (dhcp-hostsfile) and `names` (addn-hosts;
 * SIGHUP reads both again);
 * dnsmasq writes `leases` there. It logs to the daemon's stderr.
 */

#define PRIV_PEERS_MAX     16
#define PRIV_RULES_MAX     64
#define PRIV_CONFIRM_MAX_S 3600
#define PRIV_MTU_MIN       576
#define PRIV_MTU_MAX       9216

enum priv_network_kind {
	PRIV_NETWORK_NAT = 1,
	PRIV_NETWORK_ISOLATED,
	PRIV_NETWORK_ROUTED,
	PRIV_NETWORK_BRIDGED,
};

/**
 * struct priv_network
 * @address:  the bridge's own, network byte order; 0 for kind bridged, and for no other
 * @prefix:   8..30; 0 for kind bridged
 * @address6: the bridge's own in a /64, or zeros
 * @mtu:      0: the kernel's choice
 * @no_dns:   bool: dnsmasq gives addresses only
 * @uplink:   of kind bridged, and of no other
 * @vlan:     of kind bridged: 1..4094, or 0: the uplink itself is the port. Where the uplink is a
 *            bridge that filters VLANs the network's is joined to it, else it is a sub-interface
 * @joined:   bool: of kind bridged without @vlan: the uplink is a bridge, to which the network's is
 *            joined; UPLINK_ENSLAVE is not for it
 * @vni:      0, or the VXLAN's, with @underlay, @vxlan_port (0: 4789) and at least one peer; not
 *            for kind bridged
 * @openings: what guests may reach on the host besides DHCP and DNS; none for kind bridged
 * @hears_dhcp: bool: of kind bridged, and of no other: for PRIV_DHCP_LISTEN
 */
struct priv_network {
	uint32_t slot;
	uint8_t kind;
	uint8_t prefix;
	uint32_t address;
	uint8_t no_dns;
	uint8_t n_peers, n_openings, joined, hears_dhcp;
	uint16_t mtu, vlan, vxlan_port;
	uint32_t vni, underlay;
	uint8_t address6[16];
	uint32_t peers[PRIV_PEERS_MAX];
	char uplink[NETCFG_NAME_MAX + 1];
	struct netcfg_opening openings[NETCFG_FIREWALL_OPENINGS_MAX];
};

/* what is not as wished, by PRIV_*_LOOK */
enum {
	PRIV_MISSING_FIREWALL = 1 << 0,
	PRIV_MISSING_GUARD = 1 << 1,
	PRIV_MISSING_FORWARD = 1 << 2,
	PRIV_MISSING_MAC = 1 << 3, /* the bridge has another than it should have */
};

/**
 * struct priv_tap - a NIC of a desktop
 * @mac: its only one; zeros: nothing is guarded (PRIV_TAP_DELETE looks at none of these)
 * @address, @address6: the only ones that it sends from (network byte order), or zeros
 * @any_address: bool: others than we give addresses out: MACs are guarded only
 * @any_prefix6: bool: others give addresses out and announce IPv6 prefixes: identifiers are
 * guarded, and what DHCP servers give is heard, see netcfg/nic.h
 * @isolated: bool: nothing passes to other isolated ports of the bridge
 * @down: bool: the cable is out
 * @queues: of PRIV_TAP_CREATE only; 0: as 1. One is made where the kernel has no more
 * @groups: firewall groups by id, which PRIV_GROUP_ENSURE made
 * @rates: how fast it may be
 * @pid, @start_time: TAP_ATTACH: the desktop's QEMU, which has the tap's descriptors; zeros: a tap
 *                    that is not there is ERR_NOT_FOUND
 */
struct priv_tap {
	uint32_t desktop;
	uint32_t nic;
	uint32_t network;
	uint32_t address;
	uint8_t address6[16];
	uint8_t mac[6];
	uint16_t mtu;
	uint8_t any_address, any_prefix6, isolated, down, queues, n_groups;
	uint32_t groups[NETCFG_NIC_GROUPS_MAX];
	struct netcfg_rates rates;
	int32_t pid;
	uint64_t start_time;
};

/** struct priv_uplink - @timeout_s: 0: it is confirmed already; RELEASE does not look at it */
struct priv_uplink {
	uint32_t slot;
	uint32_t timeout_s;
	struct netcfg_uplink before;
};

/** struct priv_group - a firewall group; see netcfg/group.h */
struct priv_group {
	uint32_t id;
	uint8_t drop_in, drop_out, revoke, n_rules;
	struct netcfg_rule rules[PRIV_RULES_MAX];
};

/** struct priv_process - a process by pid and start time; @slot says whose it must be */
struct priv_process {
	uint32_t slot;
	int32_t pid;
	uint64_t start_time;
	int32_t sig;
};

enum priv_img_format {
	PRIV_IMG_QCOW2 = 1,
	PRIV_IMG_RAW,
	PRIV_IMG_VMDK,
	PRIV_IMG_VDI,
	PRIV_IMG_VHDX
};

/**
 * struct priv_img - qemu-img convert -p
 *
 * @source_format, @target_format: enum priv_img_format
 * @compress: bool
 *
 * Sources: regular files, readable: one, or 2 to QEMU_CHAIN_MAX qcow2 ones of which each stands on
 * the next and the last on nothing, whatever their headers say. Target: a regular file open O_RDWR,
 * overwritten. Progress comes as "    (12.34/100%)\r" on stdout.
 */
struct priv_img {
	uint8_t source_format;
	uint8_t target_format;
	uint8_t compress;
};

struct priv_request {
	uint32_t verb;
	uint32_t n_fds;
	union {
		struct priv_network network;
		struct priv_tap tap;
		struct priv_process process;
		struct qemu_spec qemu;
		struct priv_img img;
		struct netcfg_forward forward;
		struct priv_group group;
		struct priv_uplink uplink;
		uint32_t slot;
	} u;
};

enum {
	PRIV_HAS_BRIDGE = 1 << 0,
	PRIV_HAS_TUN = 1 << 1,
	PRIV_HAS_NFT = 1 << 2,
	PRIV_HAS_DNSMASQ = 1 << 3,
	PRIV_HAS_CGROUP_MEMORY = 1 << 4,
	PRIV_HAS_CGROUP_CPU = 1 << 5,
	PRIV_HAS_VHOST_NET = 1 << 6,
	PRIV_HAS_VLAN = 1 << 7,
	PRIV_HAS_BRIDGE_VLAN = 1 << 8,
	PRIV_HAS_LANDLOCK = 1 << 9,
	PRIV_HAS_KVM_DEVICE = 1 << 10,
	PRIV_HAS_VXLAN = 1 << 11,
	PRIV_HAS_RATE_TO = 1 << 12,
	PRIV_HAS_RATE_FROM = 1 << 13,
	PRIV_HAS_NFT_BRIDGE = 1 << 14,
	PRIV_HAS_NFT_NETDEV = 1 << 15,
	PRIV_HAS_BRIDGE_CT = 1 << 16,
	PRIV_HAS_PORT_ISOLATION = 1 << 17,
	PRIV_HAS_MULTI_QUEUE = 1 << 18,
	PRIV_HAS_IPV6 = 1 << 19,
	PRIV_HAS_NFT_LOG = 1 << 20,
};

/**
 * struct priv_reply - @err.code is 0 on success
 *
 * Descriptors: TAP_CREATE those of @queues queues of the tap, then as many of vhost-net where the
 * host has it; *_SPAWN a pidfd; WATCH the pipe's end; DHCP_LISTEN the socket. A *_SPAWN is answered
 * when the program really runs; one that is missing or may not be executed is ERR_UNAVAILABLE.
 * @vhost_sys: why there are none of vhost-net though the host has it: an errno, or 0
 * @wait_status as waitpid(2) gives it, -1 if unknown (not a child of this half, or asked for
 * before).
 */
struct priv_reply {
	struct err err;
	uint32_t features;
	int32_t pid;
	uint64_t start_time;
	int32_t wait_status;
	uint32_t missing; /* PRIV_MISSING_* */
	uint32_t queues;
	int32_t vhost_sys;
	struct netcfg_counters traffic;
	struct netcfg_nic_drops drops;
	uint32_t n_fds;
};
