/* QEMU and qemu-img: start, signal, and learn how they ended. */
#include "vdi-hostd/priv/verbs.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/capability.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include "base/mem.h"
#include "base/proc.h"
#include "vdi-hostd/priv/landlock.h"
#include "vdi-hostd/priv/spawn.h"
#include "vdi-hostd/priv/wire.h"

#define FIRST_FD 3
/* among the kernel's miscellaneous devices: linux Documentation/admin-guide/devices.txt */
#define MISC_MAJOR      10
#define TUN_MINOR       200
#define VHOST_NET_MINOR 238
_Static_assert(FIRST_FD + QEMU_FDS_MAX <= SPAWN_FDS_MAX, "QEMU has more than can be passed on");
_Static_assert(QEMU_FDS_MAX <= WIRE_FDS_MAX, "QEMU has more than one message carries");

void verb_reply_spawned(struct verbs *verbs, int pid, uint64_t start_time, int pidfd,
			struct priv_reply *reply, int *reply_fds)
{
	children_add(&verbs->children, pid, start_time);
	reply->pid = pid;
	reply->start_time = start_time;
	reply->n_fds = 1;
	reply_fds[0] = pidfd;
}

/* ---- kinds of descriptors ---- */

static int check_listening(int fd, const char *field, struct err *err)
{
	int domain = 0, listening = 0;
	socklen_t len = sizeof(int);
	if (getsockopt(fd, SOL_SOCKET, SO_DOMAIN, &domain, &len) == 0 && domain == AF_UNIX &&
	    getsockopt(fd, SOL_SOCKET, SO_ACCEPTCONN, &listening, &len) == 0 && listening)
		return 0;
	return err_set_field(err, field, "%s is no listening UNIX socket", field);
}

/* @modes: a mask of 1 << O_RDONLY, 1 << O_WRONLY, 1 << O_RDWR */
static int check_file(int fd, unsigned int modes, bool or_pipe, const char *field, struct err *err)
{
	struct stat st;
	int flags = fcntl(fd, F_GETFL);
	if (flags < 0 || fstat(fd, &st) < 0 || (flags & O_PATH) ||
	    !(S_ISREG(st.st_mode) || (or_pipe && S_ISFIFO(st.st_mode))))
		return err_set_field(err, field, "%s is no regular file", field);
	if (!(modes & (1u << (flags & O_ACCMODE))))
		return err_set_field(err, field, "%s is open in the wrong mode", field);
	return 0;
}

static int check_device(int fd, unsigned int minor, const char *field, struct err *err)
{
	struct stat st;
	if (fstat(fd, &st) == 0 && S_ISCHR(st.st_mode) && st.st_rdev == makedev(MISC_MAJOR, minor))
		return 0;
	return err_set_field(err, field, "%s is no such device", field);
}

static int check_queues(const struct qemu_nic *nic, const int *fds, struct err *err)
{
	for (size_t i = 0; i < nic->queues; i++)
		if (check_device(fds[nic->tap_fd[i]], TUN_MINOR, "tap_fd", err) < 0 ||
		    (nic->vhost &&
		     check_device(fds[nic->vhost_fd[i]], VHOST_NET_MINOR, "vhost_fd", err) < 0))
			return -1;
	return 0;
}

/* ---- QEMU ---- */

int verb_qemu_check(const struct priv_request *req, const int *fds, size_t n_fds, struct err *err)
{
	const struct qemu_spec *spec = &req->u.qemu;
	const unsigned int write_only = 1u << O_WRONLY, read_only = 1u << O_RDONLY,
			   both = 1u << O_RDWR;

	if (qemu_spec_check(spec, n_fds, err) < 0 ||
	    check_listening(fds[spec->qmp_fd], "qmp_fd", err) < 0 ||
	    check_listening(fds[spec->agent_fd], "agent_fd", err) < 0 ||
	    check_file(fds[spec->log_fd], write_only | both, true, "log_fd", err) < 0 ||
	    check_file(fds[spec->console_fd], write_only, false, "console_fd", err) < 0)
		return -1;
	for (size_t i = 0; i < spec->n_disks; i++)
		for (size_t level = 0; level < spec->disks[i].chain_len; level++)
			if (check_file(fds[spec->disks[i].fd[level]], level ? read_only : both,
				       false, "disk", err) < 0)
				return -1;
	for (size_t i = 0; i < spec->n_nics; i++)
		if (check_queues(&spec->nics[i], fds, err) < 0)
			return -1;
	return 0;
}

/* what QEMU needs beside its guest's memory: SPICE, the screen, caches; under TCG translated code
 */
static uint64_t memory_limit_mib(const struct qemu_spec *spec)
{
	uint64_t limit = (uint64_t)spec->memory_mib + spec->memory_mib / 8 + 512;
	return spec->accel == QEMU_ACCEL_TCG ? limit + 1024 : limit;
}

int verb_qemu_spawn(struct verbs *verbs, const struct priv_request *req, const int *fds,
		    struct priv_reply *reply, int *reply_fds, struct err *err)
{
	const struct qemu_spec *spec = &req->u.qemu;
	const uid_t uid = verbs->config.uid_base + spec->slot;
	int numbers[QEMU_FDS_MAX], mapped[FIRST_FD + QEMU_FDS_MAX];
	_cleanup_close_ int procs = -1;
	struct spawned spawned;

	mapped[0] = -1;
	mapped[1] = mapped[2] = fds[spec->log_fd];
	for (size_t i = 0; i < req->n_fds; i++) {
		numbers[i] = FIRST_FD + (int)i;
		mapped[FIRST_FD + i] = i == spec->log_fd ? -1 : fds[i];
	}
	if (!verbs->rootless && cgroup_create(&verbs->cgroup, spec->slot, memory_limit_mib(spec),
					      spec->vcpus, &procs, err) < 0)
		return -1;
	_cleanup_(argv_done) struct argv argv = {.n = 0};
	qemu_argv_build(spec, verbs->config.qemu_binary, numbers, &argv);
	struct spawn spawn = {
		.what = "QEMU",
		.advice = "install qemu-system-x86 or set qemu_binary",
		.argv = argv.arg,
		.fds = mapped,
		.n_fds = FIRST_FD + req->n_fds,
		.drop = !verbs->rootless,
		.uid = uid,
		.gid = uid,
		.extra_gid = spec->accel == QEMU_ACCEL_KVM ? spawn_kvm_group() : -1,
		.limits = {{RLIMIT_CORE, 0}, {RLIMIT_NOFILE, 4096}, {RLIMIT_NPROC, 1024}},
		/* the last counts all processes of the uid: only with one of its own */
		.n_limits = verbs->rootless ? 2 : 3,
		.cgroup_procs = procs,
		.landlock = -1,
	};
	if (spawn_process(&spawn, &spawned, err) < 0)
		return -1;
	verb_reply_spawned(verbs, spawned.pid, spawned.start_time, spawned.pidfd, reply, reply_fds);
	return 0;
}

/* ---- qemu-img ---- */

static const char *const img_formats[] = {
	[PRIV_IMG_QCOW2] = "qcow2", [PRIV_IMG_RAW] = "raw",   [PRIV_IMG_VMDK] = "vmdk",
	[PRIV_IMG_VDI] = "vdi",     [PRIV_IMG_VHDX] = "vhdx",
};

static bool is_img_format(uint8_t format)
{
	return format >= PRIV_IMG_QCOW2 && format <= PRIV_IMG_VHDX;
}

/* what follows the sources in the request's descriptors */
enum { IMG_TARGET, IMG_STDOUT, IMG_STDERR, IMG_OTHERS };

int verb_img_check(const struct priv_request *req, const int *fds, size_t n_fds, struct err *err)
{
	const struct priv_img *img = &req->u.img;
	const unsigned int write_only = 1u << O_WRONLY, both = 1u << O_RDWR;
	const size_t n = n_fds - IMG_OTHERS;

	if (n_fds <= IMG_OTHERS || n > QEMU_CHAIN_MAX)
		return err_set_field(err, "n_fds", "it takes 1 to %d sources, not %zd",
				     QEMU_CHAIN_MAX, (ssize_t)n);
	if (!is_img_format(img->source_format))
		return err_set_field(err, "source_format", "there is no source format %u",
				     img->source_format);
	if (n > 1 && img->source_format != PRIV_IMG_QCOW2)
		return err_set_field(err, "source_format", "only qcow2 files stand on others");
	if (!is_img_format(img->target_format))
		return err_set_field(err, "target_format", "there is no target format %u",
				     img->target_format);
	if (img->compress > 1)
		return err_set_field(err, "compress", "compress is %u, not 0 or 1", img->compress);
	for (size_t i = 0; i < n; i++)
		if (check_file(fds[i], 1u << O_RDONLY | both, false, "source", err) < 0)
			return -1;
	if (check_file(fds[n + IMG_TARGET], both, false, "target", err) < 0 ||
	    check_file(fds[n + IMG_STDOUT], write_only | both, true, "stdout", err) < 0 ||
	    check_file(fds[n + IMG_STDERR], write_only | both, true, "stderr", err) < 0)
		return -1;
	return 0;
}

/* our own choices, whatever the tool's own are: docs/decisions/qcow2-choices.md */
#define QCOW2_OPTIONS                                                                              \
	"compat=1.1,cluster_size=64k,extended_l2=off,lazy_refcounts=off,refcount_bits=16"

/*
 * Past the page cache what is written does not push the guests' files out of memory, and is soon
 * durable. A qcow2 file is read again for its checksum, which then would come from the disk: an
 * import takes half as long again. Not every file system can.
 */
static bool can_write_directly(int target)
{
	char path[32];
	snprintf(path, sizeof(path), "/proc/self/fd/%d", target);
	_cleanup_close_ int fd = open(path, O_RDWR | O_DIRECT | O_CLOEXEC);
	return fd >= 0;
}

/* a chain whose files are told one by one, so that no name in a header is followed */
static void push_chain(struct argv *argv, size_t n)
{
	_cleanup_free_ char *text = mem_strdup("null");

	for (size_t i = n; i-- > 0;) {
		_cleanup_free_ char *below = text;
		text = mem_printf("{\"driver\":\"qcow2\",\"file\":{\"driver\":\"file\","
				  "\"filename\":\"/proc/self/fd/%zu\"},\"backing\":%s}",
				  FIRST_FD + i, below);
	}
	argv_push(argv, "json:%s", text);
}

static void build_img_argv(const struct priv_img *img, const char *binary, size_t n, bool directly,
			   struct argv *argv)
{
	argv_push(argv, "%s", binary);
	argv_push(argv, "convert");
	argv_push(argv, "-p");
	if (directly) {
		argv_push(argv, "-t");
		argv_push(argv, "none");
	}
	if (img->compress)
		argv_push(argv, "-c");
	argv_push(argv, "-O");
	argv_push(argv, "%s", img_formats[img->target_format]);
	if (img->target_format == PRIV_IMG_QCOW2) {
		argv_push(argv, "-o");
		argv_push(argv, QCOW2_OPTIONS);
	}
	if (n > 1) {
		push_chain(argv, n);
	} else {
		argv_push(argv, "-f");
		argv_push(argv, "%s", img_formats[img->source_format]);
		argv_push(argv, "/proc/self/fd/%d", FIRST_FD);
	}
	argv_push(argv, "/proc/self/fd/%zu", FIRST_FD + n);
}

int verb_img_spawn(struct verbs *verbs, const struct priv_request *req, const int *fds,
		   struct priv_reply *reply, int *reply_fds, struct err *err)
{
	const size_t n = req->n_fds - IMG_OTHERS;
	int mapped[FIRST_FD + QEMU_CHAIN_MAX + 1];
	_cleanup_close_ int landlock = -1;
	struct spawned spawned;

	mapped[0] = -1;
	mapped[1] = fds[n + IMG_STDOUT];
	mapped[2] = fds[n + IMG_STDERR];
	memcpy(mapped + FIRST_FD, fds, (n + 1) * sizeof(fds[0]));
	if (landlock_is_there() && landlock_for_tool(verbs->config.qemu_img_binary, fds, n,
						     fds[n + IMG_TARGET], &landlock, err) < 0)
		return -1;
	_cleanup_(argv_done) struct argv argv = {.n = 0};
	build_img_argv(&req->u.img, verbs->config.qemu_img_binary, n,
		       req->u.img.target_format != PRIV_IMG_QCOW2 &&
			       can_write_directly(fds[n + IMG_TARGET]),
		       &argv);
	struct spawn spawn = {
		.what = "qemu-img",
		.advice = "install qemu-utils or set qemu_img_binary",
		.ends_with_us = true, /* nobody could use what it made */
		.argv = argv.arg,
		.fds = mapped,
		.n_fds = FIRST_FD + n + 1,
		.drop = !verbs->rootless,
		.uid = verbs->config.tool_uid,
		.gid = verbs->config.tool_uid,
		.extra_gid = -1,
		/*
		 * It opens the files again by /proc, which asks for their modes: an override,
		 * given only where Landlock leaves nothing else to open with it.
		 */
		.caps = landlock >= 0 ? 1ULL << CAP_DAC_OVERRIDE : 0,
		.limits = {{RLIMIT_CORE, 0},
			   {RLIMIT_NOFILE, 64},
			   {RLIMIT_AS, 4ULL << 30},
			   {RLIMIT_CPU, 24 * 3600},
			   {RLIMIT_FSIZE, 16ULL << 40},
			   {RLIMIT_NPROC, 256}},
		.n_limits = verbs->rootless ? 5 : 6,
		.cgroup_procs = -1,
		.landlock = landlock,
		.no_network = true,
	};
	if (spawn_process(&spawn, &spawned, err) < 0)
		return -1;
	verb_reply_spawned(verbs, spawned.pid, spawned.start_time, spawned.pidfd, reply, reply_fds);
	return 0;
}

/* ---- signals ---- */

static int check_process(const struct priv_process *process, struct err *err)
{
	if (process->pid < 2 || process->start_time == 0)
		return err_set_field(err, "pid", "pid %d with start time %llu names no process",
				     process->pid, (unsigned long long)process->start_time);
	return 0;
}

int verb_signal_check(const struct priv_request *req, const int *fds, size_t n_fds, struct err *err)
{
	const struct priv_process *process = &req->u.process;
	const bool any_slot = req->verb == PRIV_IMG_SIGNAL;

	if (check_process(process, err) < 0)
		return -1;
	if (!any_slot && (process->slot < 1 || process->slot > PRIV_SLOT_MAX))
		return err_set_field(err, "slot", "slot %u is not in 1 to %d", process->slot,
				     PRIV_SLOT_MAX);
	if (process->sig == SIGTERM || process->sig == SIGKILL ||
	    (process->sig == SIGHUP && req->verb == PRIV_DNSMASQ_SIGNAL))
		return 0;
	return err_set_field(err, "sig", "signal %d is not for this verb", process->sig);
}

/* all four uids of a process, or -1 */
static int read_uid(pid_t pid, uid_t *ret)
{
	char path[64], line[256];
	unsigned int uid[4] = {0};
	int found = -1;
	snprintf(path, sizeof(path), "/proc/%d/status", (int)pid);
	FILE *f = fopen(path, "re");
	while (f && found < 0 && fgets(line, sizeof(line), f))
		if (sscanf(line, "Uid: %u %u %u %u", &uid[0], &uid[1], &uid[2], &uid[3]) == 4)
			found = 0;
	if (f)
		fclose(f);
	if (found < 0 || uid[0] != uid[1] || uid[0] != uid[2] || uid[0] != uid[3])
		return -1;
	*ret = uid[0];
	return 0;
}

static uid_t expected_uid(const struct verbs *verbs, const struct priv_request *req)
{
	if (verbs->rootless)
		return getuid();
	if (req->verb == PRIV_QEMU_SIGNAL)
		return verbs->config.uid_base + req->u.process.slot;
	if (req->verb == PRIV_IMG_SIGNAL)
		return verbs->config.tool_uid;
	return verbs->config.uid;
}

int verb_process_open(pid_t pid, uint64_t start_time, uid_t uid, int *ret_pidfd, struct err *err)
{
	_cleanup_close_ int pidfd = -1;
	uid_t found;

	if (proc_open(pid, start_time, &pidfd, err) < 0)
		return -1;
	/* should the pid change hands right here, the pidfd is still that of the first */
	if (read_uid(pid, &found) < 0 || found != uid)
		return err_set(err, ERR_DENIED,
			       "process %d is not the one that was asked for: it runs under "
			       "another uid",
			       (int)pid);
	*ret_pidfd = TAKE_FD(pidfd);
	return 0;
}

int verb_signal(struct verbs *verbs, const struct priv_request *req, const int *fds,
		struct priv_reply *reply, int *reply_fds, struct err *err)
{
	const struct priv_process *process = &req->u.process;
	struct err why;
	_cleanup_close_ int pidfd = -1;

	/* nothing is remembered: the daemon may have been started again since */
	if (verb_process_open(process->pid, process->start_time, expected_uid(verbs, req), &pidfd,
			      &why) < 0) {
		if (why.code == ERR_NOT_FOUND)
			return 0;
		*err = why;
		return -1;
	}
	return proc_signal(pidfd, process->sig, err);
}

int verb_reap_check(const struct priv_request *req, const int *fds, size_t n_fds, struct err *err)
{
	return check_process(&req->u.process, err);
}

int verb_reap(struct verbs *verbs, const struct priv_request *req, const int *fds,
	      struct priv_reply *reply, int *reply_fds, struct err *err)
{
	return children_reap(&verbs->children, req->u.process.pid, req->u.process.start_time,
			     &reply->wait_status, err);
}
