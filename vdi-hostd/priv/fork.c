#include "vdi-hostd/priv/priv.h"

#include <errno.h>
#include <grp.h>
#include <linux/capability.h>
#include <signal.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cap-ng.h>

#include "base/log.h"
#include "base/mem.h"
#include "netcfg/probe.h"
#include "vdi-hostd/priv/server.h"
#include "vdi-hostd/priv/spawn.h"

/*
 * What the privileged half keeps of root's capabilities:
 * - NET_ADMIN: bridges, taps, firewall; NET_RAW and NET_BIND_SERVICE only to hand them to dnsmasq
 * - SETUID, SETGID, SETPCAP: give its children their identity, and take capabilities from them
 * - KILL: signal QEMUs under their own uids
 * - DAC_OVERRIDE, CHOWN: qemu-img's files; folders of the other half
 */
static const unsigned int kept[] = {
	CAP_NET_ADMIN, CAP_NET_RAW, CAP_NET_BIND_SERVICE, CAP_SETUID, CAP_SETGID,
	CAP_SETPCAP,   CAP_KILL,    CAP_DAC_OVERRIDE,     CAP_CHOWN,
};

static volatile sig_atomic_t other_half;

static void forward(int sig)
{
	int saved = errno;
	if (other_half > 0)
		kill((pid_t)other_half, sig);
	errno = saved;
}

static void set_signals(void)
{
	static const int forwarded[] = {SIGTERM, SIGHUP, SIGINT};
	struct sigaction action = {.sa_handler = forward, .sa_flags = SA_RESTART};

	for (size_t i = 0; i < ARRAY_LEN(forwarded); i++)
		sigaction(forwarded[i], &action, NULL);
	signal(SIGPIPE, SIG_IGN);
}

/* before capabilities are dropped: the probe makes a network namespace */
static uint32_t probe_kernel(void)
{
	static const struct {
		uint32_t found, feature;
	} rows[] = {
		{NETCFG_HAS_BRIDGE, PRIV_HAS_BRIDGE},
		{NETCFG_HAS_TUN, PRIV_HAS_TUN},
		{NETCFG_HAS_NFT, PRIV_HAS_NFT},
		{NETCFG_HAS_VLAN, PRIV_HAS_VLAN},
		{NETCFG_HAS_BRIDGE_VLAN, PRIV_HAS_BRIDGE_VLAN},
		{NETCFG_HAS_VHOST_NET, PRIV_HAS_VHOST_NET},
		{NETCFG_HAS_VXLAN, PRIV_HAS_VXLAN},
		{NETCFG_HAS_RATE_TO, PRIV_HAS_RATE_TO},
		{NETCFG_HAS_RATE_FROM, PRIV_HAS_RATE_FROM},
		{NETCFG_HAS_NFT_BRIDGE, PRIV_HAS_NFT_BRIDGE},
		{NETCFG_HAS_NFT_NETDEV, PRIV_HAS_NFT_NETDEV},
		{NETCFG_HAS_BRIDGE_CT, PRIV_HAS_BRIDGE_CT},
		{NETCFG_HAS_PORT_ISOLATION, PRIV_HAS_PORT_ISOLATION},
		{NETCFG_HAS_MULTI_QUEUE, PRIV_HAS_MULTI_QUEUE},
		{NETCFG_HAS_IPV6, PRIV_HAS_IPV6},
		{NETCFG_HAS_NFT_LOG, PRIV_HAS_NFT_LOG},
	};
	uint32_t found = 0, features = 0;
	struct err err;

	if (netcfg_probe(&found, &err) < 0)
		log_warn("the kernel's networking could not be probed: %s", err.msg);
	for (size_t i = 0; i < ARRAY_LEN(rows); i++)
		features |= found & rows[i].found ? rows[i].feature : 0;
	return features;
}

/* ---- the privileged half ---- */

static int keep_capabilities(struct err *err)
{
	capng_clear(CAPNG_SELECT_ALL);
	for (size_t i = 0; i < ARRAY_LEN(kept); i++)
		if (capng_have_capability(CAPNG_EFFECTIVE, kept[i]) ||
		    prctl(PR_CAPBSET_READ, kept[i], 0, 0, 0) == 1)
			capng_update(CAPNG_ADD,
				     CAPNG_EFFECTIVE | CAPNG_PERMITTED | CAPNG_BOUNDING_SET,
				     kept[i]);
	if (capng_apply(CAPNG_SELECT_ALL) < 0)
		return err_set_sys(err, ERR_DENIED, errno, "cannot drop capabilities");
	return 0;
}

/* the status to end with: the other half's */
static int await_other_half(pid_t pid)
{
	int status = 0;
	while (waitpid(pid, &status, 0) < 0)
		if (errno != EINTR)
			return 1;
	return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

static void privileged_half(int fd, pid_t child, struct verbs *verbs)
{
	struct err err = {0};

	if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0 || keep_capabilities(&err) < 0) {
		log_err("privileged half: %s", err.code ? err.msg : "cannot set no_new_privs");
		kill(child, SIGKILL);
		_exit(1);
	}
	prctl(PR_SET_NAME, "vdi-hostd: priv", 0, 0, 0);
	if (netcfg_open(&verbs->netcfg, &err) < 0)
		log_warn("networks cannot be made: %s", err.msg);
	server_run(fd, verbs);
	verbs_done(verbs);
	close(fd);
	_exit(await_other_half(child));
}

/* ---- the other ---- */

static int drop_all(const struct priv_config *config, struct err *err)
{
	capng_clear(CAPNG_SELECT_BOTH);
	if (capng_apply(CAPNG_SELECT_BOUNDS) < 0)
		return err_set_sys(err, ERR_DENIED, errno, "cannot clear the bounding set");
	/* the daemon finds out itself whether KVM works */
	const int64_t kvm = spawn_kvm_group();
	const gid_t group = (gid_t)kvm;
	if (setgroups(kvm >= 0, &group) < 0 ||
	    setresgid(config->gid, config->gid, config->gid) < 0 ||
	    setresuid(config->uid, config->uid, config->uid) < 0)
		return err_set_sys(err, ERR_DENIED, errno, "cannot become uid %u, gid %u",
				   config->uid, config->gid);
	/* the change of uid cleared all but the inheritable set; ambient ones went with it */
	if (capng_apply(CAPNG_SELECT_CAPS) < 0 ||
	    prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0) < 0)
		return err_set_sys(err, ERR_DENIED, errno, "cannot drop capabilities");
	if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0 || prctl(PR_SET_DUMPABLE, 0, 0, 0, 0) < 0)
		return err_set_sys(err, ERR_DENIED, errno, "cannot confine the daemon");
	if (setuid(0) == 0 || setgid(0) == 0)
		return err_set(err, ERR_INTERNAL, "privileges could be taken back after the drop");
	return 0;
}

/* a change of credentials forgets the death signal, hence after it; the parent may be gone by then
 */
static int follow_parent(pid_t parent, struct err *err)
{
	if (prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0) < 0)
		return err_set_sys(err, ERR_INTERNAL, errno, "cannot follow the privileged half");
	if (getppid() != parent)
		return err_set(err, ERR_UNAVAILABLE, "the privileged half is gone");
	return 0;
}

int priv_fork(const struct priv_config *config, int *ret_fd, struct err *err)
{
	int ends[2];
	struct verbs verbs = {.config = *config};
	sigset_t all, before;
	const pid_t parent = getpid();

	if (config->uid == 0 || config->gid == 0 || config->uid_base == 0 || config->tool_uid == 0)
		return err_set(
			err, ERR_INVALID,
			"the daemon, its tools and its desktops cannot run as root: set user, "
			"group, uid_base and tool_uid");
	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends) < 0)
		return err_set_sys(err, ERR_LIMIT, errno, "cannot split in two halves");
	cgroup_open(&verbs.cgroup, "/proc/self/cgroup", "/proc/self/mountinfo");
	verbs.kernel_features = probe_kernel();

	/* no signal may come before the parent knows whom to tell */
	sigfillset(&all);
	sigprocmask(SIG_BLOCK, &all, &before);
	pid_t child = fork();
	if (child > 0) {
		other_half = child;
		set_signals();
		sigprocmask(SIG_SETMASK, &before, NULL);
		close(ends[1]);
		privileged_half(ends[0], child, &verbs);
	}
	sigprocmask(SIG_SETMASK, &before, NULL);
	close(ends[0]);
	_cleanup_close_ int end = ends[1];
	if (child < 0)
		return err_set_sys(err, ERR_LIMIT, errno, "cannot split in two halves");
	if (drop_all(config, err) < 0 || follow_parent(parent, err) < 0)
		return -1;
	*ret_fd = TAKE_FD(end);
	return 0;
}
