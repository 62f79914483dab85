/*
 * Bare QEMU: from its exec to running, by the shortest way (greeting, qmp_capabilities, cont).
 * Prints microseconds, then kills it.
 *
 *	bench_exec [--uid UID:GID] [--listen FD]... [--file FD:FLAGS:PATH]... [--tap FD] --qmp FD --
 *ARGV
 *
 * The descriptors have the numbers that ARGV names: a socket that listens, a file opened with
 * open(2)'s flags (octal, as in /proc/PID/fdinfo), a tap of its own. --qmp names the listening one
 * that is the monitor's.
 */
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <linux/if.h>
#include <linux/if_tun.h>
#include <poll.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>
#include <uv.h>

#include "base/mem.h"

#define FDS_MAX     64
#define HIGH_FD     128
#define PATIENCE_MS 30000

struct bench {
	int fds[FDS_MAX]; /* at their final number; -1 */
	struct sockaddr_un qmp;
	socklen_t qmp_len;
	uid_t uid;
	gid_t gid;
	bool drop;
};

static void die(const char *what)
{
	fprintf(stderr, "bench_exec: %s: %s\n", what, strerror(errno));
	exit(1);
}

static int slot(const char *text)
{
	int fd = atoi(text);
	if (fd < 3 || fd >= FDS_MAX)
		die(text);
	return fd;
}

/* moved up, so that making the next does not take a number that is promised */
static void keep(struct bench *bench, int number, int fd)
{
	if (fd < 0)
		die("a descriptor");
	bench->fds[number] = fcntl(fd, F_DUPFD_CLOEXEC, HIGH_FD);
	close(fd);
}

/* The kernel names the socket: nothing lies in a folder. */
static void make_listener(struct bench *bench, const char *text, bool qmp)
{
	struct sockaddr_un addr = {.sun_family = AF_UNIX};
	socklen_t len = sizeof(addr);
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (bind(fd, (struct sockaddr *)&addr, sizeof(addr.sun_family)) < 0 || listen(fd, 4) < 0 ||
	    getsockname(fd, (struct sockaddr *)&addr, &len) < 0)
		die("listen");
	keep(bench, slot(text), fd);
	if (qmp) {
		bench->qmp = addr;
		bench->qmp_len = len;
	}
}

static void open_file(struct bench *bench, const char *text)
{
	char *end;
	int number = slot(text);
	const char *flags_text = strchr(text, ':');
	if (!flags_text)
		die(text);
	int flags = (int)strtol(flags_text + 1, &end, 8);
	if (*end != ':')
		die(text);
	flags &= ~(O_CREAT | O_EXCL | O_TRUNC | O_CLOEXEC | O_NOFOLLOW);
	keep(bench, number, open(end + 1, flags | O_CLOEXEC));
}

static void open_tap(struct bench *bench, const char *text)
{
	struct ifreq req = {.ifr_flags = IFF_TAP | IFF_NO_PI | IFF_VNET_HDR};
	int fd = open("/dev/net/tun", O_RDWR | O_NONBLOCK | O_CLOEXEC);
	if (fd < 0 || ioctl(fd, TUNSETIFF, &req) < 0)
		die("tap");
	keep(bench, slot(text), fd);
}

static pid_t start(const struct bench *bench, char **argv)
{
	pid_t pid = vfork();
	if (pid != 0)
		return pid;
	/* a child of vfork(): system calls only */
	for (int i = 3; i < FDS_MAX; i++)
		if (bench->fds[i] >= 0)
			dup2(bench->fds[i], i);
	if (bench->drop &&
	    (setgroups(0, NULL) < 0 || setgid(bench->gid) < 0 || setuid(bench->uid) < 0))
		_exit(126);
	execv(argv[0], argv);
	_exit(127);
}

/* Reads until @word was seen; the answers of this conversation are short. */
static void expect(int fd, const char *word)
{
	static char buf[65536];
	static size_t used;
	char *found;
	while (!(found = memmem(buf, used, word, strlen(word)))) {
		if (poll(&(struct pollfd){.fd = fd, .events = POLLIN}, 1, PATIENCE_MS) <= 0)
			die("QEMU is silent");
		ssize_t n = recv(fd, buf + used, sizeof(buf) - used, 0);
		if (n <= 0)
			die("QEMU went away");
		used += (size_t)n;
	}
	size_t past = (size_t)(found - buf) + strlen(word);
	memmove(buf, buf + past, used - past);
	used -= past;
}

static void say(int fd, const char *text)
{
	if (send(fd, text, strlen(text), MSG_NOSIGNAL) != (ssize_t)strlen(text))
		die("QEMU takes no command");
}

static void resume(const struct bench *bench)
{
	_cleanup_close_ int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (connect(fd, (const struct sockaddr *)&bench->qmp, bench->qmp_len) < 0)
		die("connect");
	expect(fd, "\"QMP\"");
	say(fd, "{\"execute\":\"qmp_capabilities\",\"id\":\"a\"}\n");
	expect(fd, "\"id\": \"a\"");
	say(fd, "{\"execute\":\"cont\",\"id\":\"b\"}\n");
	expect(fd, "\"id\": \"b\"");
}

static char **parse(struct bench *bench, char **argv)
{
	for (int i = 0; i < FDS_MAX; i++)
		bench->fds[i] = -1;
	for (; argv[0] && strcmp(argv[0], "--") != 0; argv += 2) {
		if (!argv[1])
			die(argv[0]);
		else if (strcmp(argv[0], "--listen") == 0)
			make_listener(bench, argv[1], false);
		else if (strcmp(argv[0], "--qmp") == 0)
			make_listener(bench, argv[1], true);
		else if (strcmp(argv[0], "--file") == 0)
			open_file(bench, argv[1]);
		else if (strcmp(argv[0], "--tap") == 0)
			open_tap(bench, argv[1]);
		else if (strcmp(argv[0], "--uid") == 0)
			bench->drop = sscanf(argv[1], "%u:%u", &bench->uid, &bench->gid) == 2;
		else
			die(argv[0]);
	}
	if (!argv[0] || !argv[1] || bench->qmp_len == 0)
		die("usage: bench_exec [options] --qmp FD -- ARGV");
	return argv + 1;
}

int main(int argc, char **argv)
{
	struct bench bench = {0};
	char **qemu = parse(&bench, argv + 1);
	uint64_t begin = uv_hrtime();
	pid_t pid = start(&bench, qemu);
	if (pid < 0)
		die("vfork");
	resume(&bench);
	uint64_t end = uv_hrtime();
	kill(pid, SIGKILL);
	waitpid(pid, NULL, 0);
	printf("%.1f\n", (double)(end - begin) / 1000.0);
	return 0;
}
