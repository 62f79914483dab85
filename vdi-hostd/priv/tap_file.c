#include "vdi-hostd/priv/tap_file.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <linux/if_tun.h>
#include <net/if.h>
#include <poll.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/mem.h"
#include "vdi-hostd/priv/wire.h"

#define MARK(nic) (SIGNAL_FIRST + (int)(nic))
/* no program's own: signals of that number are for applications, and those here have no use for it
 */
#define SIGNAL_FIRST 48

#define TUN_MAJOR 10
#define TUN_MINOR 200

#define FIRST_FD  3
#define FINDER_MS 1000
#define ENDING_MS 200

#define RESTART "stop the desktop and start it again to have its network back"
#define DENIED  "the kernel keeps the files of its QEMU to itself; " RESTART

DEFINE_FREEP(DIR, closedir);

int tap_files_mark(const int *fds, size_t n, uint32_t nic, struct err *err)
{
	for (size_t i = 0; i < n; i++)
		if (fcntl(fds[i], F_SETSIG, MARK(nic)) < 0)
			return err_set_sys(err, ERR_IO, errno, "cannot mark a tap as NIC %u's",
					   nic);
	return 0;
}

static bool is_lost_file_of(int fd, uint32_t nic)
{
	struct ifreq req = {0};
	struct stat st;
	return fstat(fd, &st) == 0 && S_ISCHR(st.st_mode) &&
	       st.st_rdev == makedev(TUN_MAJOR, TUN_MINOR) && fcntl(fd, F_GETSIG) == MARK(nic) &&
	       ioctl(fd, TUNGETIFF, &req) < 0 && errno == EBADFD;
}

/* -1: it is none, or was closed meanwhile */
static int take(int pidfd, const char *number, uint32_t nic, struct err *err)
{
	char *end;
	long theirs = strtol(number, &end, 10);
	if (*number == '.' || *end)
		return -1;
	_cleanup_close_ int fd = (int)syscall(SYS_pidfd_getfd, pidfd, (int)theirs, 0);
	if (fd < 0 && errno != EBADF)
		err_set_sys(err, ERR_DENIED, errno,
			    "the files of its QEMU cannot be had; " RESTART);
	return fd >= 0 && is_lost_file_of(fd, nic) ? TAKE_FD(fd) : -1;
}

/* some, @max at most, or none and an error */
static int find(int pidfd, pid_t pid, uint32_t nic, int *ret, size_t max, size_t *ret_n,
		struct err *err)
{
	struct err denied = {0};
	size_t n = 0;
	char path[64];
	snprintf(path, sizeof(path), "/proc/%d/fd", (int)pid);
	_cleanup_(closedirp) DIR *dir = opendir(path);
	if (!dir && errno == EACCES)
		err_set_sys(&denied, ERR_DENIED, errno, DENIED);
	for (struct dirent *entry; dir && (entry = readdir(dir));) {
		int fd = take(pidfd, entry->d_name, nic, &denied);
		if (fd < 0)
			continue;
		if (n < max)
			ret[n] = fd;
		else
			close(fd);
		n++;
	}
	if (n > 0 && n <= max) {
		*ret_n = n;
		return 0;
	}
	mem_close_all(ret, n < max ? n : max);
	if (denied.code) {
		*err = denied;
		return -1;
	}
	if (n == 0)
		return err_set(err, ERR_NOT_FOUND, "its QEMU has no file of it");
	return err_set(err, ERR_UNAVAILABLE, "its QEMU has too many files of it; " RESTART);
}

/* ---- the child ---- */

/*
 * The kernel lets a process have a file of another that it could trace (pidfd_getfd(2)). The
 * capability for that would open every process of the host to this half; being who QEMU is opens
 * that QEMU. Nobody under that uid can look into the child: a change of uid makes it undumpable.
 */
static void be_finder(int wire, int pidfd, pid_t pid, uid_t uid, uint32_t nic, size_t max)
{
	int found[WIRE_FDS_MAX];
	struct err err = {0};
	size_t n = 0;
	/* nothing of this half's may be in there when the uid changes, the wire least of all */
	int high_wire = fcntl(wire, F_DUPFD_CLOEXEC, FIRST_FD + 2);
	int high_pidfd = fcntl(pidfd, F_DUPFD_CLOEXEC, FIRST_FD + 2);
	if (dup2(high_wire, FIRST_FD) < 0 || dup2(high_pidfd, FIRST_FD + 1) < 0 ||
	    close_range(FIRST_FD + 2, ~0U, 0) < 0 || setgroups(0, NULL) < 0 ||
	    setresgid(uid, uid, uid) < 0 || setresuid(uid, uid, uid) < 0)
		_exit(1);
	(void)!find(FIRST_FD + 1, pid, nic, found, max, &n, &err);
	_exit(wire_send(FIRST_FD, &err, sizeof(err), found, n) < 0);
}

/* what it says and brings; it runs under QEMU's uid, so that both are looked at again */
static int hear_finder(int wire, uint32_t nic, int *ret, size_t max, size_t *ret_n, struct err *err)
{
	struct pollfd ready = {.fd = wire, .events = POLLIN};
	int fds[WIRE_FDS_MAX];
	size_t n_fds = 0;
	struct err told = {0};
	if (poll(&ready, 1, FINDER_MS) != 1 ||
	    wire_receive(wire, &told, sizeof(told), fds, &n_fds) != 1)
		return err_set(err, ERR_UNAVAILABLE,
			       "the files of its QEMU could not be fetched; " RESTART);
	bool good = told.code == 0 && n_fds > 0 && n_fds <= max;
	for (size_t i = 0; i < n_fds; i++)
		good = good && is_lost_file_of(fds[i], nic);
	if (good) {
		memcpy(ret, fds, n_fds * sizeof(*fds));
		*ret_n = n_fds;
		return 0;
	}
	mem_close_all(fds, n_fds);
	if (told.code == 0)
		err_set(&told, ERR_UNAVAILABLE, "its QEMU changed them meanwhile; " RESTART);
	told.msg[sizeof(told.msg) - 1] = '\0';
	*err = told;
	return -1;
}

int tap_files_take(int pidfd, pid_t pid, uid_t uid, uint32_t nic, int *ret, size_t max,
		   size_t *ret_n, struct err *err)
{
	int ends[2];
	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends) < 0)
		return err_set_sys(err, ERR_LIMIT, errno, "the files of its QEMU cannot be had");
	_cleanup_close_ int ours = ends[0];
	pid_t child = fork();
	if (child == 0)
		be_finder(ends[1], pidfd, pid, uid, nic, max);
	close(ends[1]);
	if (child < 0)
		return err_set_sys(err, ERR_LIMIT, errno, "the files of its QEMU cannot be had");
	int done = hear_finder(ours, nic, ret, max, ret_n, err);
	kill(child, SIGKILL);
	while (waitpid(child, NULL, 0) < 0 && errno == EINTR)
		;
	/* one that is on its way out shows nobody its files */
	struct pollfd ended = {.fd = pidfd, .events = POLLIN};
	if (done < 0 && poll(&ended, 1, ENDING_MS) == 1)
		return err_set(err, ERR_NOT_FOUND, "its QEMU has ended");
	return done;
}
