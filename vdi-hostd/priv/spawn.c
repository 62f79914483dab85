#include "vdi-hostd/priv/spawn.h"

#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <linux/audit.h>
#include <linux/capability.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/mem.h"
#include "base/proc.h"

/* descriptors are first moved up here, out of the way of the numbers that they shall get */
#define HIGH_FD (SPAWN_FDS_MAX + 16)

enum stage {
	STAGE_FDS = 1,
	STAGE_SESSION,
	STAGE_CGROUP,
	STAGE_LIMITS,
	STAGE_IDENTITY,
	STAGE_CONFINE,
	STAGE_EXEC
};

static const char *const stage_names[] = {
	[STAGE_FDS] = "pass descriptors",    [STAGE_SESSION] = "start a session",
	[STAGE_CGROUP] = "join the cgroup",  [STAGE_LIMITS] = "set limits",
	[STAGE_IDENTITY] = "drop identity",  [STAGE_CONFINE] = "confine it",
	[STAGE_EXEC] = "execute the binary",
};

struct failure {
	int stage;
	int sys;
};

/* ---- in the child: system calls only ---- */

static int child_fds(const struct spawn *spawn, int *gate)
{
	int high[SPAWN_FDS_MAX];
	int null = open("/dev/null", O_RDWR | O_CLOEXEC);
	if (null < 0)
		return -1;
	for (size_t i = 0; i < spawn->n_fds; i++) {
		high[i] = -1;
		if (spawn->fds[i] < 0)
			continue;
		high[i] = fcntl(spawn->fds[i], F_DUPFD_CLOEXEC, HIGH_FD);
		if (high[i] < 0)
			return -1;
	}
	int high_gate = fcntl(*gate, F_DUPFD_CLOEXEC, HIGH_FD);
	int high_null = fcntl(null, F_DUPFD_CLOEXEC, HIGH_FD);
	if (high_gate < 0 || high_null < 0)
		return -1;
	*gate = high_gate;
	for (size_t i = 0; i < spawn->n_fds; i++)
		if (high[i] >= 0 && dup2(high[i], (int)i) < 0)
			return -1;
	if ((spawn->n_fds < 1 || high[0] < 0) && dup2(high_null, STDIN_FILENO) < 0)
		return -1;
	if ((spawn->n_fds < 2 || high[1] < 0) && dup2(STDERR_FILENO, STDOUT_FILENO) < 0)
		return -1;
	/* all the rest goes at exec; gaps below n_fds held something of the parent's */
	for (size_t i = 3; i < spawn->n_fds; i++)
		if (high[i] < 0)
			close((int)i);
	unsigned int from = spawn->n_fds > 3 ? (unsigned int)spawn->n_fds : 3;
	return (int)syscall(SYS_close_range, from, ~0u, 1u << 2 /* CLOSE_RANGE_CLOEXEC */);
}

static int child_session(void)
{
	sigset_t none;
	sigemptyset(&none);
	for (int sig = 1; sig < NSIG; sig++)
		signal(sig, SIG_DFL); /* the few that cannot be set do not matter */
	if (sigprocmask(SIG_SETMASK, &none, NULL) < 0)
		return -1;
	return setsid() < 0 ? -1 : 0;
}

static int child_limits(const struct spawn *spawn)
{
	for (size_t i = 0; i < spawn->n_limits; i++) {
		struct rlimit now;
		const struct spawn_limit *limit = &spawn->limits[i];
		if (getrlimit(limit->resource, &now) < 0)
			return -1;
		rlim_t value = limit->value < now.rlim_max ? limit->value : now.rlim_max;
		struct rlimit rlimit = {value, value};
		if (setrlimit(limit->resource, &rlimit) < 0)
			return -1;
	}
	return 0;
}

static int child_set_caps(uint64_t caps)
{
	struct __user_cap_header_struct header = {_LINUX_CAPABILITY_VERSION_3, 0};
	struct __user_cap_data_struct data[2] = {
		{(uint32_t)caps, (uint32_t)caps, (uint32_t)caps},
		{(uint32_t)(caps >> 32), (uint32_t)(caps >> 32), (uint32_t)(caps >> 32)},
	};
	return (int)syscall(SYS_capset, &header, data);
}

static int child_identity(const struct spawn *spawn)
{
	if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0)
		return -1;
	if (!spawn->drop)
		return 0;
	gid_t extra = (gid_t)spawn->extra_gid;
	for (int cap = 0; cap <= 63; cap++) {
		if (cap < 63 && (spawn->caps & (1ULL << cap)))
			continue;
		if (prctl(PR_CAPBSET_DROP, cap, 0, 0, 0) < 0 && errno == EINVAL)
			break; /* past the kernel's last */
	}
	if (prctl(PR_SET_KEEPCAPS, spawn->caps != 0, 0, 0, 0) < 0 ||
	    setgroups(spawn->extra_gid >= 0, &extra) < 0 ||
	    setresgid(spawn->gid, spawn->gid, spawn->gid) < 0 ||
	    setresuid(spawn->uid, spawn->uid, spawn->uid) < 0 || child_set_caps(spawn->caps) < 0)
		return -1;
	if (prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0) < 0)
		return -1;
	for (int cap = 0; cap < 63; cap++)
		if ((spawn->caps & (1ULL << cap)) &&
		    prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE, cap, 0, 0) < 0)
			return -1;
	return 0;
}

#define DENY(nr)                                                                                   \
	BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, (nr), 0, 1),                                           \
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | EPERM)

/*
 * No network, and none of the calls by which a process that may override file modes could change
 * files that Landlock keeps it from opening (older Landlocks do not know truncate(2), none knows
 * extended attributes or mode bits).
 */
static int child_filter(void)
{
	static const struct sock_filter filter[] = {
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, arch)),
#if defined(__x86_64__)
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, AUDIT_ARCH_X86_64, 1, 0),
#elif defined(__aarch64__)
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, AUDIT_ARCH_AARCH64, 1, 0),
#else
#error "name this architecture's AUDIT_ARCH"
#endif
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_KILL_PROCESS),
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
#if defined(__x86_64__)
		/* the x32 numbers */
		BPF_JUMP(BPF_JMP | BPF_JGE | BPF_K, 0x40000000, 0, 1),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_KILL_PROCESS),
		DENY(SYS_chmod),
		DENY(SYS_chown),
		DENY(SYS_lchown),
		DENY(SYS_utime),
		DENY(SYS_utimes),
		DENY(SYS_futimesat),
#endif
		DENY(SYS_socket),
		DENY(SYS_connect),
		DENY(SYS_io_uring_setup),
		DENY(SYS_truncate),
		DENY(SYS_setxattr),
		DENY(SYS_lsetxattr),
		DENY(SYS_removexattr),
		DENY(SYS_lremovexattr),
		DENY(SYS_fchmodat),
		DENY(SYS_fchownat),
		DENY(SYS_utimensat),
		DENY(463 /* setxattrat */),
		DENY(466 /* removexattrat */),
		DENY(452 /* fchmodat2 */),
		DENY(SYS_ptrace),
		DENY(SYS_process_vm_readv),
		DENY(SYS_process_vm_writev),
		DENY(SYS_unshare),
		DENY(SYS_bpf),
		DENY(SYS_keyctl),
		DENY(SYS_add_key),
		DENY(SYS_request_key),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
	};
	struct sock_fprog program = {
		.len = ARRAY_LEN(filter),
		.filter = (struct sock_filter *)(uintptr_t)filter,
	};
	return prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program, 0, 0);
}

/* a change of identity forgets the death signal, hence after it; the parent may be gone by then */
static int child_follow(pid_t parent)
{
	if (prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0) < 0)
		return -1;
	if (getppid() != parent)
		_exit(127);
	return 0;
}

static int child_confine(const struct spawn *spawn, int landlock)
{
	if (landlock >= 0 && syscall(SYS_landlock_restrict_self, landlock, 0) < 0)
		return -1;
	return spawn->no_network ? child_filter() : 0;
}

static void child_fail(int gate, int stage)
{
	struct failure failure = {stage, errno};
	ssize_t ignored = send(gate, &failure, sizeof(failure), MSG_NOSIGNAL);
	(void)ignored;
	_exit(127);
}

static void child_run(const struct spawn *spawn, pid_t parent, int gate)
{
	char go, path[] = "PATH=/usr/sbin:/usr/bin:/sbin:/bin", lang[] = "LC_ALL=C.UTF-8";
	char *environment[] = {path, lang, NULL};
	int landlock = spawn->landlock, cgroup = spawn->cgroup_procs;

	/* the parent reads our start time first, while we are surely there */
	if (read(gate, &go, 1) != 1)
		_exit(127);
	if (cgroup >= 0 && write(cgroup, "0", 1) != 1)
		child_fail(gate, STAGE_CGROUP);
	if (landlock >= 0 && (landlock = fcntl(landlock, F_DUPFD_CLOEXEC, HIGH_FD)) < 0)
		child_fail(gate, STAGE_FDS);
	if (child_fds(spawn, &gate) < 0)
		child_fail(gate, STAGE_FDS);
	if (child_session() < 0)
		child_fail(gate, STAGE_SESSION);
	if (child_limits(spawn) < 0)
		child_fail(gate, STAGE_LIMITS);
	if (child_identity(spawn) < 0 || (spawn->ends_with_us && child_follow(parent) < 0))
		child_fail(gate, STAGE_IDENTITY);
	umask(077);
	if (chdir("/") < 0 || child_confine(spawn, landlock) < 0)
		child_fail(gate, STAGE_CONFINE);
	execve(spawn->argv[0], spawn->argv, environment);
	child_fail(gate, STAGE_EXEC);
}

/* ---- in the parent ---- */

static int fail_spawn(const struct spawn *spawn, const struct failure *failure, struct err *err)
{
	if (failure->stage == STAGE_EXEC)
		return err_set(err, ERR_UNAVAILABLE, "cannot run %s at %s: %s; %s", spawn->what,
			       spawn->argv[0], strerror(failure->sys), spawn->advice);
	if (failure->stage >= STAGE_FDS && failure->stage < STAGE_EXEC)
		return err_set_sys(err, ERR_IO, failure->sys, "cannot run %s: cannot %s",
				   spawn->what, stage_names[failure->stage]);
	return err_set(err, ERR_INTERNAL, "cannot run %s: it ended before it began", spawn->what);
}

/* let it go on, and hear whether it got to its exec */
static int await_exec(const struct spawn *spawn, int gate, struct err *err)
{
	struct failure failure = {0};
	if (send(gate, "g", 1, MSG_NOSIGNAL) != 1)
		return fail_spawn(spawn, &failure, err);
	ssize_t n;
	do {
		n = read(gate, &failure, sizeof(failure));
	} while (n < 0 && errno == EINTR);
	if (n == 0)
		return 0;
	return fail_spawn(spawn, &failure, err);
}

int spawn_process(const struct spawn *spawn, struct spawned *ret, struct err *err)
{
	int gates[2];
	if (spawn->n_fds > SPAWN_FDS_MAX || spawn->n_limits > SPAWN_LIMITS_MAX)
		return err_set(err, ERR_INTERNAL, "cannot run %s: too many descriptors or limits",
			       spawn->what);
	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, gates) < 0)
		return err_set_sys(err, ERR_LIMIT, errno, "cannot run %s", spawn->what);
	const pid_t us = getpid();
	pid_t pid = fork();
	if (pid == 0) {
		close(gates[0]);
		child_run(spawn, us, gates[1]);
	}
	close(gates[1]);
	_cleanup_close_ int gate = gates[0];
	if (pid < 0)
		return err_set_sys(err, ERR_LIMIT, errno, "cannot run %s", spawn->what);

	_cleanup_close_ int pidfd = (int)syscall(SYS_pidfd_open, pid, 0);
	uint64_t start_time = 0;
	int failed = 0;
	if (pidfd < 0)
		failed = err_set_sys(err, ERR_IO, errno, "cannot hold %s by a pidfd", spawn->what);
	else if (proc_start_time(pid, &start_time, err) < 0 || await_exec(spawn, gate, err) < 0)
		failed = -1;
	if (failed < 0) {
		kill(pid, SIGKILL);
		waitpid(pid, NULL, 0);
		return -1;
	}
	*ret = (struct spawned){pid, TAKE_FD(pidfd), start_time};
	return 0;
}

int64_t spawn_kvm_group(void)
{
	struct stat st;
	if (stat("/dev/kvm", &st) < 0 || (st.st_mode & 0060) != 0060 || st.st_gid == 0)
		return -1;
	return st.st_gid;
}
