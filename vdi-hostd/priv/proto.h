/*
 * The wire between the two halves: fixed-size structs over a SOCK_SEQPACKET socketpair, descriptors
 * by SCM_RIGHTS. Requests are answered in order. The privileged half believes nothing: a request of
 * the wrong size, with an unknown verb or a field out of range ends it (and with it the daemon;
 * desktops go on). Slots are small integers from which it derives every name itself: bridge
 * vdibr<slot>, tap vdi<slot>n<nic>, uid uid_base + slot, cgroup vdi<slot>.
 */
#pragma once

#include <stdint.h>
#include <sys/types.h>

#include "base/err.h"
#include "vdi-hostd/priv/qemu_spec.h"

#define PRIV_SLOT_MAX 65535

enum priv_verb {
	PRIV_PROBE = 1,     /* which kernel features are there */
	PRIV_BRIDGE_ENSURE, /* bridge with its address, up; firewall of its network */
	PRIV_BRIDGE_DELETE, /* bridge and firewall gone */
	PRIV_TAP_CREATE, /* tap on a bridge -> its descriptor; an old one of that name is replaced
			  */
	PRIV_TAP_DELETE,
	PRIV_DNSMASQ_SPAWN,  /* -> process */
	PRIV_DNSMASQ_SIGNAL, /* SIGHUP, SIGTERM, SIGKILL */
	PRIV_QEMU_SPAWN,     /* -> process */
	PRIV_QEMU_SIGNAL,    /* SIGTERM, SIGKILL */
	PRIV_REAP,           /* exit status of a process that was spawned and ended */
	PRIV_CGROUP_DELETE,  /* a desktop's cgroup gone */
	PRIV_IMG_SPAWN,      /* qemu-img convert: fds source, target, stdout, stderr -> process */
	PRIV_IMG_SIGNAL,
	PRIV_VERBS_END,
};

enum priv_network_kind { PRIV_NETWORK_NAT = 1, PRIV_NETWORK_ISOLATED };

/** struct priv_network - @address is the bridge's own, network byte order; @prefix 8..30 */
struct priv_network {
	uint32_t slot;
	uint8_t kind;
	uint8_t prefix;
	uint32_t address;
};

struct priv_tap {
	uint32_t desktop;
	uint32_t nic;
	uint32_t network;
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

/** struct priv_img - source format in, qcow2 out, as qemu-img convert -p */
struct priv_img {
	uint8_t source_format; /* enum priv_img_format */
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
};

/**
 * struct priv_reply - @err.code is 0 on success
 *
 * Descriptors: TAP_CREATE the tap; *_SPAWN a pidfd. @wait_status as waitpid(2) gives it, -1 if
 * unknown (not a child of this half).
 */
struct priv_reply {
	struct err err;
	uint32_t features;
	int32_t pid;
	uint64_t start_time;
	int32_t wait_status;
	uint32_t n_fds;
};
