#include <ctype.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include "base/log.h"
#include "vdi-hostd/desktop/private.h"

#define QUIT_MS 2000

/* The desktop may be deleted while the answer is under way: it is found again by its id. */
struct reap {
	struct desktops *all;
	char id[STR_UUID_LEN + 1];
	int64_t pid;
};

static void on_reaped(void *data, const struct priv_reply *reply, int *fds, const struct err *err)
{
	_cleanup_free_ struct reap *reap = data;
	if (err && err->code == ERR_CANCELLED)
		return; /* the daemon is on its way out, and the manager may be gone */
	struct desktop *desktop = NULL;
	HASH_FIND(by_id, reap->all->by_id, reap->id, strlen(reap->id), desktop);
	if (!desktop || desktop->row.pid != reap->pid)
		return;
	desktop->wait_status = err ? -1 : reply->wait_status;
	if (desktop->ended) {
		void (*ended)(struct desktop *) = TAKE_PTR(desktop->ended);
		ended(desktop);
		return;
	}
	desktop_on_end(desktop);
}

/* The process is gone; how it went is known to the half that spawned it. */
static void on_ended(void *data)
{
	struct desktop *desktop = data;
	desktop_monitor_close(desktop);
	desktop_process_release(desktop);

	struct reap *reap = mem_new(struct reap);
	reap->all = desktop->all;
	reap->pid = desktop->row.pid;
	memcpy(reap->id, desktop->row.id, sizeof(reap->id));
	struct priv_request req = {.verb = PRIV_REAP};
	req.u.process = (struct priv_process){
		.slot = (uint32_t)desktop->row.slot,
		.pid = (int32_t)desktop->row.pid,
		.start_time = desktop->row.start_time,
	};
	priv_call(desktop->all->env.priv, &req, NULL, 0, on_reaped, reap);
}

int desktop_process_adopt(struct desktop *desktop, int pidfd, struct err *err)
{
	desktop->pidfd = pidfd;
	desktop->wait_status = -1;
	desktop->guest_ended = false;
	desktop->disk_error = (struct err){0};
	desktop_logs_watch(desktop);
	return proc_watch(desktop->all->env.loop, pidfd, on_ended, desktop, &desktop->watch, err);
}

void desktop_process_release(struct desktop *desktop)
{
	desktop_logs_unwatch(desktop);
	proc_unwatch(TAKE_PTR(desktop->watch));
	if (desktop->pidfd >= 0)
		close(TAKE_FD(desktop->pidfd));
}

static void on_signalled(void *data, const struct priv_reply *reply, int *fds,
			 const struct err *err)
{
	if (err && err->code != ERR_NOT_FOUND && err->code != ERR_CANCELLED)
		log_warn("a signal to QEMU was refused: %s", err->msg);
}

void desktop_process_signal(struct desktop *desktop, int sig)
{
	if (desktop->row.pid == 0)
		return;
	struct priv_request req = {.verb = PRIV_QEMU_SIGNAL};
	req.u.process = (struct priv_process){
		.slot = (uint32_t)desktop->row.slot,
		.pid = (int32_t)desktop->row.pid,
		.start_time = desktop->row.start_time,
		.sig = sig,
	};
	priv_call(desktop->all->env.priv, &req, NULL, 0, on_signalled, NULL);
}

static void lose_patience(uv_timer_t *timer)
{
	struct desktop *desktop = timer->data;
	desktop_retry_stop(desktop);
	desktop_process_signal(desktop, SIGKILL);
}

void desktop_process_quit(struct desktop *desktop, void (*ended)(struct desktop *desktop))
{
	desktop->ended = ended;
	if (!desktop->qmp) {
		desktop_process_signal(desktop, SIGKILL);
		return;
	}
	/* what counts is its end, not the answer */
	qmp_execute(desktop->qmp, "quit", NULL, 0, NULL, NULL);
	desktop_retry_after(desktop, QUIT_MS, lose_patience);
}

/* Does this process' command line hold "-uuid", then the id? */
static bool carries_uuid(const char *pid, const char *uuid)
{
	char path[64], line[16384];
	snprintf(path, sizeof(path), "/proc/%.20s/cmdline", pid);
	_cleanup_close_ int fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return false;
	ssize_t n = read(fd, line, sizeof(line) - 1);
	if (n <= 0)
		return false;
	line[n] = '\0';
	for (char *arg = line; arg < line + n; arg += strlen(arg) + 1) {
		if (strcmp(arg, "-uuid") != 0)
			continue;
		arg += strlen(arg) + 1;
		return arg < line + n && strcmp(arg, uuid) == 0;
	}
	return false;
}

int desktop_process_find(const struct desktop *desktop, pid_t *ret_pid, uint64_t *ret_start,
			 struct err *err)
{
	uid_t uid = priv_is_rootless(desktop->all->env.priv)
			    ? getuid()
			    : desktop->all->env.uid_base + (uid_t)desktop->row.slot;
	DIR *proc = opendir("/proc");
	if (!proc)
		return err_set_sys(err, ERR_IO, errno, "cannot read /proc");
	int result = err_set(err, ERR_NOT_FOUND, "no QEMU runs desktop '%s'", desktop->row.name);
	for (struct dirent *entry; result < 0 && (entry = readdir(proc));) {
		char path[64];
		struct stat st;
		if (!isdigit((unsigned char)entry->d_name[0]))
			continue;
		snprintf(path, sizeof(path), "/proc/%.20s", entry->d_name);
		/* a process that is not dumpable shows as root's; then only the id speaks for it */
		if (stat(path, &st) < 0 || (st.st_uid != uid && st.st_uid != 0) ||
		    !carries_uuid(entry->d_name, desktop->row.id))
			continue;
		pid_t pid = atoi(entry->d_name);
		uint64_t start;
		if (proc_start_time(pid, &start, NULL) < 0)
			continue;
		*ret_pid = pid;
		*ret_start = start;
		result = 0;
	}
	closedir(proc);
	return result;
}

void desktop_last_words(const struct desktop *desktop, struct err *ret)
{
	size_t len;
	_cleanup_free_ char *log =
		desktop_log_tail(desktop, DESKTOP_QEMU_LOG, DESKTOP_LOG_TAIL, &len);
	while (len > 0 && isspace((unsigned char)log[len - 1]))
		log[--len] = '\0';
	const char *words = strrchr(log, '\n');
	words = words ? words + 1 : log;

	int status = desktop->wait_status;
	char how[64] = "QEMU ended";
	if (status >= 0 && WIFSIGNALED(status))
		snprintf(how, sizeof(how), "QEMU was killed by signal %d (%s)", WTERMSIG(status),
			 strsignal(WTERMSIG(status)));
	else if (status >= 0 && WIFEXITED(status))
		snprintf(how, sizeof(how), "QEMU ended with status %d", WEXITSTATUS(status));
	if (words[0])
		err_set(ret, ERR_UNAVAILABLE, "%s: %.160s", how, words);
	else
		err_set(ret, ERR_UNAVAILABLE, "%s without a word", how);
}
