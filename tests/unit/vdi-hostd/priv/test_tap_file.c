#include "vdi-hostd/priv/tap_file.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/if_tun.h>
#include <net/if.h>
#include <sched.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/mem.h"

#define SKIP     77
#define QEMU_UID 345678

/* struct holder - a process that has files of taps open, as QEMU has */
struct holder {
	pid_t pid;
	int pidfd;
};

static int make_tap(const char *name, uint32_t nic)
{
	struct ifreq req = {.ifr_flags = IFF_TAP | IFF_NO_PI | IFF_MULTI_QUEUE};
	struct err err;
	int fd = open("/dev/net/tun", O_RDWR | O_CLOEXEC);
	assert_true(fd >= 0);
	snprintf(req.ifr_name, sizeof(req.ifr_name), "%s", name);
	assert_int_equal(ioctl(fd, TUNSETIFF, &req), 0);
	assert_int_equal(tap_files_mark(&fd, 1, nic, &err), 0);
	return fd;
}

static int join_tap(int fd, const char *name)
{
	struct ifreq req = {.ifr_flags = IFF_TAP | IFF_NO_PI | IFF_MULTI_QUEUE};
	snprintf(req.ifr_name, sizeof(req.ifr_name), "%s", name);
	return ioctl(fd, TUNSETIFF, &req);
}

static void delete_tap(const char *name)
{
	char command[64];
	snprintf(command, sizeof(command), "ip link delete %s", name);
	assert_int_equal(system(command), 0);
}

/* Only the child has them from now on, by numbers of its own, and runs as QEMU does. */
static struct holder hold_as(bool dumpable, int *fds, size_t n)
{
	int told[2];
	char byte;
	assert_int_equal(pipe2(told, O_CLOEXEC), 0);
	struct holder ret = {.pid = fork()};
	assert_true(ret.pid >= 0);
	if (ret.pid == 0) {
		for (size_t i = 0; i < n; i++)
			if (fcntl(fds[i], F_DUPFD, 100 + 7 * (int)i) < 0 || close(fds[i]) < 0)
				_exit(1);
		if (setresgid(QEMU_UID, QEMU_UID, QEMU_UID) < 0 ||
		    setresuid(QEMU_UID, QEMU_UID, QEMU_UID) < 0)
			_exit(1);
		/* as after an exec */
		prctl(PR_SET_DUMPABLE, dumpable, 0, 0, 0);
		(void)!write(told[1], "x", 1);
		pause();
		_exit(0);
	}
	for (size_t i = 0; i < n; i++)
		close(fds[i]);
	ret.pidfd = (int)syscall(SYS_pidfd_open, ret.pid, 0);
	assert_true(ret.pidfd >= 0);
	assert_int_equal(read(told[0], &byte, 1), 1);
	close(told[0]);
	close(told[1]);
	return ret;
}

static struct holder hold(int *fds, size_t n)
{
	return hold_as(true, fds, n);
}

static void holder_end(struct holder *holder)
{
	kill(holder->pid, SIGKILL);
	waitpid(holder->pid, NULL, 0);
	close(holder->pidfd);
}

/* how many there were, or -1 */
static int take(const struct holder *holder, uint32_t nic, int *ret, size_t max, struct err *err)
{
	size_t n = 0;
	int done = tap_files_take(holder->pidfd, holder->pid, QEMU_UID, nic, ret, max, &n, err);
	return done < 0 ? -1 : (int)n;
}

static int setup(void **state)
{
	return unshare(CLONE_NEWNET);
}

/* Two NICs lose their taps at once: each file is told from the other. */
static void test_each_file_is_that_of_its_nic(void **state)
{
	int fds[] = {make_tap("vdi1n0", 0), make_tap("vdi1n7", 7)}, first, second;
	struct holder holder = hold(fds, ARRAY_LEN(fds));
	struct err err;
	delete_tap("vdi1n0");
	delete_tap("vdi1n7");
	assert_int_equal(take(&holder, 7, &second, 1, &err), 1);
	assert_int_equal(join_tap(second, "second"), 0);
	assert_int_equal(take(&holder, 0, &first, 1, &err), 1);
	assert_int_equal(join_tap(first, "first"), 0);
	assert_true(fcntl(first, F_GETFD) & FD_CLOEXEC);

	/* they live by the process that holds them */
	close(first);
	close(second);
	assert_true(if_nametoindex("first") && if_nametoindex("second"));
	holder_end(&holder);
	for (int i = 0; i < 5000 && if_nametoindex("first"); i++)
		usleep(10000);
	assert_int_equal(if_nametoindex("first"), 0);
}

static void test_files_that_have_a_tap_are_left_alone(void **state)
{
	int fds[] = {make_tap("vdi1n0", 0)}, found = -7;
	struct holder holder = hold(fds, ARRAY_LEN(fds));
	struct err err;
	assert_int_equal(take(&holder, 0, &found, 1, &err), -1);
	assert_int_equal(err.code, ERR_NOT_FOUND);
	assert_int_equal(found, -7);
	holder_end(&holder);
}

static void test_one_for_each_queue(void **state)
{
	int fds[] = {make_tap("vdi1n2", 2), make_tap("vdi1n2", 2), make_tap("vdi1n1", 1)};
	int found[4] = {-7, -7, -7, -7};
	struct holder holder = hold(fds, ARRAY_LEN(fds));
	struct err err;
	delete_tap("vdi1n2");
	assert_int_equal(take(&holder, 2, found, 1, &err), -1);
	assert_int_equal(err.code, ERR_UNAVAILABLE);
	assert_int_equal(take(&holder, 2, found, 4, &err), 2);
	assert_int_equal(join_tap(found[0], "again"), 0);
	assert_int_equal(join_tap(found[1], "again"), 0);
	close(found[0]);
	close(found[1]);
	holder_end(&holder);
}

/* A file that nobody marked, and one of another device, are not it. */
static void test_strangers_are_not_it(void **state)
{
	int tun = open("/dev/net/tun", O_RDWR | O_CLOEXEC), null = open("/dev/null", O_RDWR);
	int fds[] = {tun, null}, found;
	struct err err;
	assert_int_equal(tap_files_mark(&null, 1, 0, &err), 0);
	struct holder holder = hold(fds, ARRAY_LEN(fds));
	assert_int_equal(take(&holder, 0, &found, 1, &err), -1);
	assert_int_equal(err.code, ERR_NOT_FOUND);
	holder_end(&holder);
}

/* Where the kernel keeps them to itself, nothing is had, and the advice is what is left. */
static void test_denied(void **state)
{
	int fds[] = {make_tap("vdi1n0", 0)}, found = -7;
	struct holder holder = hold_as(false, fds, ARRAY_LEN(fds));
	struct err err;
	size_t n = 7;
	delete_tap("vdi1n0");
	assert_int_equal(take(&holder, 0, &found, 1, &err), -1);
	assert_int_equal(err.code, ERR_DENIED);
	assert_non_null(strstr(err.msg, "start it again"));
	assert_int_equal(found, -7);
	/* another uid's files are nobody's business */
	assert_int_equal(
		tap_files_take(holder.pidfd, holder.pid, QEMU_UID + 1, 0, &found, 1, &n, &err), -1);
	assert_int_equal(err.code, ERR_DENIED);
	assert_int_equal(n, 7);
	holder_end(&holder);
}

static void test_process_that_ended(void **state)
{
	int fds[] = {make_tap("vdi1n0", 0)}, found;
	struct holder holder = hold(fds, ARRAY_LEN(fds));
	struct err err;
	kill(holder.pid, SIGKILL);
	assert_int_equal(waitid(P_PID, (id_t)holder.pid, NULL, WNOWAIT | WEXITED), 0);
	assert_int_equal(take(&holder, 0, &found, 1, &err), -1);
	assert_int_equal(err.code, ERR_NOT_FOUND);
	holder_end(&holder);
	assert_int_equal(take(&holder, 0, &found, 1, &err), -1);
	assert_int_equal(err.code, ERR_NOT_FOUND);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup(test_each_file_is_that_of_its_nic, setup),
		cmocka_unit_test_setup(test_files_that_have_a_tap_are_left_alone, setup),
		cmocka_unit_test_setup(test_one_for_each_queue, setup),
		cmocka_unit_test_setup(test_strangers_are_not_it, setup),
		cmocka_unit_test_setup(test_denied, setup),
		cmocka_unit_test_setup(test_process_that_ended, setup),
	};
	if (unshare(CLONE_NEWNET) < 0) {
		printf("skipped: no network namespace of our own (not root)\n");
		return SKIP;
	}
	return cmocka_run_group_tests(tests, NULL, NULL);
}
