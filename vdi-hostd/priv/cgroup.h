/*
 * cgroup v2: one group a desktop, `vdi<slot>`, beside the daemon's own leaf `daemon` below the
 * group that the daemon was started in. Where there is no cgroup2 mount, or its controllers are
 * with version 1, desktops run without limits of this kind.
 *
 * Under systemd the unit has to say Delegate=yes. The kernel lets nobody into a group that hands
 * controllers down, so that a daemon that starts again while desktops run would not get in where
 * it began. systemd 254 and later: DelegateSubgroup=daemon. Before (Debian 12):
 *
 *   ExecStartPre=-/bin/sh -c 'echo "-memory -cpu" >G/cgroup.subtree_control'
 *
 * with G = /sys/fs/cgroup/system.slice/vdi-hostd.service (such commands run in a leaf of their
 * own). Limits fall off the desktops then until the daemon is up: each group carries its own in an
 * extended attribute, and cgroup_open() sets them again.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"

struct cgroup {
	char base[512]; /* the delegated group's folder, "" if there is none */
	bool memory, cpu;
};

/**
 * cgroup_open() - find the group that this process is in, move to its leaf `daemon`, hand the
 * memory and cpu controllers down, set the limits of groups that are there again; never fails: what
 * cannot be had is false in @ret
 * @self, @mounts: /proc/self/cgroup and /proc/self/mountinfo (elsewhere in tests)
 */
void cgroup_open(struct cgroup *ret, const char *self, const char *mounts);

/**
 * cgroup_create() - make a desktop's group with its limits
 * @memory_mib: of QEMU as a whole
 * @ret_procs: its cgroup.procs, to write to; -1 where there are no cgroups
 */
int cgroup_create(const struct cgroup *cgroup, uint32_t slot, uint64_t memory_mib, uint32_t vcpus,
		  int *ret_procs, struct err *err) warn_unused;

/** cgroup_delete() - idempotent. Errors: ERR_BUSY while processes are in it */
int cgroup_delete(const struct cgroup *cgroup, uint32_t slot, struct err *err) warn_unused;
