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

/*
 * What each takes out of the union, and what comes back. Making is idempotent where a crash may
 * repeat it, removing always. Signals: a process that is gone is no error; one that runs under
 * another uid than the verb's is ERR_DENIED.
 */
enum priv_verb {
	PRIV_PROBE = 1,      /* nothing -> features */
	PRIV_BRIDGE_ENSURE,  /* network: firewall of it, then bridge with its address, up */
	PRIV_BRIDGE_DELETE,  /* slot: bridge and firewall gone */
	PRIV_TAP_CREATE,     /* tap -> its descriptor; an old one of that name is replaced */
	PRIV_TAP_DELETE,     /* tap; its network is not looked at */
	PRIV_DNSMASQ_SPAWN,  /* network -> process; see below */
	PRIV_DNSMASQ_SIGNAL, /* process: SIGHUP, SIGTERM, SIGKILL */
	PRIV_QEMU_SPAWN,     /* qemu, descriptors as it says -> process */
	PRIV_QEMU_SIGNAL,    /* process: SIGTERM, SIGKILL */
	PRIV_REAP,           /* process that was spawned and ended -> wait_status; ERR_BUSY: runs */
	PRIV_CGROUP_DELETE,  /* slot: a desktop's cgroup gone; ERR_BUSY while QEMU is in it */
	PRIV_IMG_SPAWN,      /* img, descriptors source, target, stdout, stderr -> process */
	PRIV_IMG_SIGNAL,     /* process (whatever its slot): SIGTERM, SIGKILL */
	PRIV_TAP_ATTACH,     /* tap that is there: up and on its network's bridge */
	PRIV_VERBS_END,
};

/*
 * dnsmasq runs as the unprivileged half's user with the few capabilities that it needs. That half
 * makes <runtime_dir>/networks/<slot>/ and `hosts` in it (dhcp-hostsfile; SIGHUP reads it again);
 * dnsmasq writes `leases` there. It logs to the daemon's stderr.
 */

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

/**
 * struct priv_img - qemu-img convert -p
 *
 * @target_format: enum priv_img_format
 * @compress: bool
 *
 * Source: a regular file, readable; target: a regular file open O_RDWR, overwritten. Progress comes
 * as "    (12.34/100%)\r" on stdout.
 */
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
 * Descriptors: TAP_CREATE the tap; *_SPAWN a pidfd. A *_SPAWN is answered when the program really
 * runs; one that is missing or may not be executed is ERR_UNAVAILABLE. @wait_status as waitpid(2)
 * gives it, -1 if unknown (not a child of this half, or asked for before).
 */
struct priv_reply {
	struct err err;
	uint32_t features;
	int32_t pid;
	uint64_t start_time;
	int32_t wait_status;
	uint32_t n_fds;
};
