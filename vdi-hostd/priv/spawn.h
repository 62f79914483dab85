/*
 * Starting a program with exactly the descriptors, identity and limits that it shall have. Used by
 * the privileged half, and in rootless mode by the daemon itself (which has threads: between fork
 * and exec only system calls are made).
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/resource.h>
#include <sys/types.h>

#include "base/err.h"

#define SPAWN_FDS_MAX    208
#define SPAWN_LIMITS_MAX 8

struct spawn_limit {
	int resource; /* RLIMIT_* */
	rlim_t value;
};

/**
 * struct spawn - what to start
 * @what, @advice: for messages: "cannot run WHAT at PATH: ...; ADVICE"
 * @argv:     ends with NULL; argv[0] is the absolute path of the binary
 * @fds:      descriptor i becomes number i in the new process; -1: left closed (0: /dev/null,
 *            1 and 2: the caller's own stderr)
 * @drop:     take on @uid and @gid with no supplementary group but @extra_gid (-1: none), and
 *            no capability but @caps (a mask of 1 << CAP_*; kept as ambient ones)
 * @cgroup_procs: an open cgroup.procs to join, or -1
 * @landlock: a Landlock ruleset to obey, or -1
 * @ends_with_us: it is killed when the caller's process ends, however that comes
 * @no_network: a seccomp filter that refuses sockets and a few other ways round
 */
struct spawn {
	const char *what, *advice;
	char *const *argv;
	const int *fds;
	size_t n_fds;
	bool drop;
	uid_t uid;
	gid_t gid;
	int64_t extra_gid;
	uint64_t caps;
	struct spawn_limit limits[SPAWN_LIMITS_MAX];
	size_t n_limits;
	int cgroup_procs;
	int landlock;
	bool ends_with_us;
	bool no_network;
};

struct spawned {
	pid_t pid;
	int pidfd; /* close-on-exec, the caller's */
	uint64_t start_time;
};

/**
 * spawn_process() - start it, in a session of its own, with no_new_privs and an empty environment
 * but PATH
 *
 * Returns once the program is really running (exec succeeded). Errors: ERR_UNAVAILABLE (not there,
 * not executable), ERR_LIMIT, ERR_IO. A process that ends at once after exec is no error.
 */
int spawn_process(const struct spawn *spawn, struct spawned *ret, struct err *err) warn_unused;

/** spawn_kvm_group() - the group whose members may open /dev/kvm, or -1 */
int64_t spawn_kvm_group(void);
