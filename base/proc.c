#include "base/proc.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/mem.h"
#include "base/str.h"

static int read_small_file(const char *path, char *ret, size_t size, struct err *err)
{
	_cleanup_close_ int fd = open(path, O_RDONLY | O_CLOEXEC);
	ssize_t n = fd < 0 ? -1 : read(fd, ret, size - 1);
	if (n < 0)
		return err_set_sys(err, err_from_errno(errno), errno, "cannot read %s", path);
	ret[n] = '\0';
	return 0;
}

struct stat_line {
	char state;
	uint64_t utime, stime, start_time, rss_pages;
};

/* proc(5): the second field is the name in parentheses and may hold anything, parentheses included
 */
static int read_stat(pid_t pid, struct stat_line *ret, struct err *err)
{
	char path[64], text[1024];
	snprintf(path, sizeof(path), "/proc/%d/stat", (int)pid);
	if (read_small_file(path, text, sizeof(text), err) < 0)
		return -1;
	const char *rest = strrchr(text, ')');
	struct stat_line line;
	if (!rest ||
	    sscanf(rest + 1,
		   " %c %*d %*d %*d %*d %*d %*u %*u %*u %*u %*u %" SCNu64 " %" SCNu64
		   " %*d %*d %*d %*d %*d %*d %" SCNu64 " %*u %" SCNu64,
		   &line.state, &line.utime, &line.stime, &line.start_time, &line.rss_pages) != 5)
		return err_set(err, ERR_CORRUPT, "%s is not as proc(5) says", path);
	*ret = line;
	return 0;
}

static int no_such_process(pid_t pid, struct err *err)
{
	return err_set(err, ERR_NOT_FOUND, "process %d is gone", (int)pid);
}

int proc_start_time(pid_t pid, uint64_t *ret, struct err *err)
{
	struct stat_line line;
	if (pid <= 0 || read_stat(pid, &line, err) < 0 || line.state == 'Z' || line.state == 'X')
		return no_such_process(pid, err);
	*ret = line.start_time;
	return 0;
}

int proc_boot_id(char *ret, struct err *err)
{
	char text[64];
	if (read_small_file("/proc/sys/kernel/random/boot_id", text, sizeof(text), err) < 0)
		return -1;
	text[strcspn(text, "\n")] = '\0';
	if (!str_is_uuid(text))
		return err_set(err, ERR_CORRUPT, "the kernel's boot id is no UUID");
	memcpy(ret, text, STR_UUID_LEN + 1);
	return 0;
}

int proc_open(pid_t pid, uint64_t start_time, int *ret_fd, struct err *err)
{
	if (pid <= 0)
		return no_such_process(pid, err);
	_cleanup_close_ int fd = (int)syscall(SYS_pidfd_open, pid, 0);
	if (fd < 0)
		return errno == ESRCH ? no_such_process(pid, err)
				      : err_set_sys(err, err_from_errno(errno), errno,
						    "cannot hold process %d", (int)pid);
	/* in this order: what the descriptor holds now cannot become another */
	uint64_t start;
	if (proc_start_time(pid, &start, err) < 0 || start != start_time)
		return no_such_process(pid, err);
	*ret_fd = TAKE_FD(fd);
	return 0;
}

int proc_signal(int pidfd, int sig, struct err *err)
{
	if (syscall(SYS_pidfd_send_signal, pidfd, sig, NULL, 0) == 0 || errno == ESRCH)
		return 0;
	return err_set_sys(err, err_from_errno(errno), errno, "cannot send signal %d", sig);
}

bool proc_is_alive(int pidfd)
{
	struct pollfd poll_fd = {.fd = pidfd, .events = POLLIN};
	int n;
	do
		n = poll(&poll_fd, 1, 0);
	while (n < 0 && errno == EINTR);
	return n == 0;
}

struct proc_watch {
	int fd;
	uv_poll_t poll;
	void (*ended)(void *data);
	void *data;
};

static void on_closed(uv_handle_t *handle)
{
	struct proc_watch *watch = handle->data;
	close(watch->fd);
	free(watch);
}

static void on_end(uv_poll_t *poll, int status, int events)
{
	struct proc_watch *watch = poll->data;
	uv_poll_stop(poll);
	watch->ended(watch->data);
}

int proc_watch(uv_loop_t *loop, int pidfd, void (*ended)(void *data), void *data,
	       struct proc_watch **ret, struct err *err)
{
	int fd = fcntl(pidfd, F_DUPFD_CLOEXEC, 0);
	if (fd < 0)
		return err_set_sys(err, err_from_errno(errno), errno, "cannot watch a process");
	struct proc_watch *watch = mem_new(struct proc_watch);
	watch->fd = fd;
	watch->ended = ended;
	watch->data = data;
	int failed = uv_poll_init(loop, &watch->poll, fd);
	if (failed) {
		close(fd);
		free(watch);
		return err_set_sys(err, ERR_IO, -failed, "cannot watch a process");
	}
	watch->poll.data = watch;
	uv_poll_start(&watch->poll, UV_READABLE, on_end);
	*ret = watch;
	return 0;
}

void proc_unwatch(struct proc_watch *watch)
{
	if (watch)
		uv_close((uv_handle_t *)&watch->poll, on_closed);
}

int proc_stat_read(pid_t pid, struct proc_stat *ret, struct err *err)
{
	struct stat_line line;
	if (pid <= 0 || read_stat(pid, &line, NULL) < 0 || line.state == 'Z')
		return no_such_process(pid, err);
	uint64_t ticks = (uint64_t)sysconf(_SC_CLK_TCK);
	ret->cpu_ms = (line.utime + line.stime) * 1000 / ticks;
	ret->rss_bytes = line.rss_pages * (uint64_t)sysconf(_SC_PAGESIZE);
	return 0;
}
