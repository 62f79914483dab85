#include "vdi-hostd/priv/spawn.h"

#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/mem.h"
#include "base/proc.h"

/* run a shell script with its output in a pipe; what it said */
static void run(struct spawn *spawn, const char *script, char *ret, size_t size)
{
	int ends[2];
	char *argv[] = {mem_strdup("/bin/sh"), mem_strdup("-c"), mem_strdup(script), NULL};
	int fds[8] = {-1, -1, -1, -1, -1, -1, -1, -1};
	struct spawned spawned;
	struct err err;
	size_t len = 0;
	ssize_t n;

	assert_int_equal(pipe2(ends, O_CLOEXEC), 0);
	for (size_t i = 0; i < spawn->n_fds; i++)
		fds[i] = spawn->fds[i];
	fds[1] = fds[2] = ends[1];
	spawn->what = "a shell";
	spawn->argv = argv;
	spawn->fds = fds;
	if (spawn->n_fds < 3)
		spawn->n_fds = 3;
	if (spawn_process(spawn, &spawned, &err) < 0)
		fail_msg("%s", err.msg);
	close(ends[1]);
	while ((n = read(ends[0], ret + len, size - 1 - len)) > 0)
		len += (size_t)n;
	ret[len] = '\0';
	close(ends[0]);
	waitpid(spawned.pid, NULL, 0);
	close(spawned.pidfd);
	for (size_t i = 0; i < 3; i++)
		free(argv[i]);
}

static const struct spawn plain = {.cgroup_procs = -1, .landlock = -1, .extra_gid = -1};

/* whatever else is open here, the new process has only what it was given, at its place */
static void test_descriptors(void **state)
{
	struct spawn spawn = plain;
	char said[1024];
	int leaked = open("/dev/null", O_RDONLY); /* not even close-on-exec */
	int zero = open("/dev/zero", O_RDONLY | O_CLOEXEC);
	int full = open("/dev/full", O_WRONLY | O_CLOEXEC);
	/* crossed over: each stands where another has to go; 4 stays closed */
	int fds[] = {-1, -1, -1, full, -1, zero};

	spawn.fds = fds;
	spawn.n_fds = ARRAY_LEN(fds);
	run(&spawn,
	    "for i in 0 3 4 5 6 7 8; do printf '%s ' $i; readlink /proc/$$/fd/$i || echo; done",
	    said, sizeof(said));
	assert_string_equal(said, "0 /dev/null\n3 /dev/full\n4 \n5 /dev/zero\n6 \n7 \n8 \n");
	assert_int_equal(fcntl(leaked, F_GETFD), 0);
	close(leaked);
	close(zero);
	close(full);
}

static void test_surroundings(void **state)
{
	struct spawn spawn = plain;
	char said[1024];
	sigset_t blocked;

	setenv("SECRET", "x", 1);
	signal(SIGPIPE, SIG_IGN);
	sigemptyset(&blocked);
	sigaddset(&blocked, SIGTERM);
	sigprocmask(SIG_BLOCK, &blocked, NULL);
	run(&spawn,
	    "env | grep -c SECRET; pwd; umask; "
	    "test $(cut -d' ' -f6 /proc/$$/stat) = $$ && echo session; "
	    "grep -E 'SigBlk|SigIgn|NoNewPrivs' /proc/$$/status | sort",
	    said, sizeof(said));
	sigprocmask(SIG_UNBLOCK, &blocked, NULL);
	signal(SIGPIPE, SIG_DFL);
	assert_string_equal(said, "0\n/\n0077\nsession\n"
				  "NoNewPrivs:\t1\nSigBlk:\t0000000000000000\n"
				  "SigIgn:\t0000000000000000\n");
}

static void test_limits(void **state)
{
	struct spawn spawn = plain;
	char said[256];

	spawn.limits[0] = (struct spawn_limit){RLIMIT_NOFILE, 77};
	spawn.limits[1] = (struct spawn_limit){RLIMIT_CORE, RLIM_INFINITY};
	spawn.limits[2] = (struct spawn_limit){RLIMIT_FSIZE, 1 << 20};
	spawn.n_limits = 3;
	run(&spawn, "ulimit -n; ulimit -f; ulimit -Hn", said, sizeof(said));
	assert_string_equal(said, "77\n2048\n77\n");
}

static void test_identity(void **state)
{
	struct spawn spawn = plain;
	char said[1024];

	if (getuid() != 0) {
		print_message("not root: no identity to drop\n");
		skip();
	}
	spawn.drop = true;
	spawn.uid = 300001;
	spawn.gid = 300002;
	spawn.extra_gid = 300003;
	spawn.caps = 1ULL << 10; /* NET_BIND_SERVICE */
	run(&spawn, "id -u; id -G; grep Cap /proc/$$/status | tr -d '\\t'", said, sizeof(said));
	assert_string_equal(said, "300001\n300002 300003\nCapInh:0000000000000400\n"
				  "CapPrm:0000000000000400\nCapEff:0000000000000400\n"
				  "CapBnd:0000000000000400\nCapAmb:0000000000000400\n");
}

static void assert_fails(struct spawn *spawn, enum err_code code, const char *words)
{
	struct spawned spawned = {.pidfd = -7};
	struct err err;
	assert_int_equal(spawn_process(spawn, &spawned, &err), -1);
	assert_int_equal(err.code, code);
	if (!strstr(err.msg, words))
		fail_msg("%s", err.msg);
	assert_int_equal(spawned.pidfd, -7);
	assert_int_equal(waitpid(-1, NULL, WNOHANG), -1); /* no child is left */
}

static void test_failures(void **state)
{
	struct spawn spawn = plain;
	char missing[] = "/no/such/binary", folder[] = "/tmp", *argv[] = {missing, NULL};
	int bad_fds[] = {-1, -1, -1, 999};
	int read_only = open("/dev/null", O_RDONLY | O_CLOEXEC);

	spawn.what = "it";
	spawn.advice = "do something";
	spawn.argv = argv;
	assert_fails(&spawn, ERR_UNAVAILABLE,
		     "cannot run it at /no/such/binary: No such file or directory; do something");
	argv[0] = folder;
	assert_fails(&spawn, ERR_UNAVAILABLE, "Permission denied");
	spawn.fds = bad_fds;
	spawn.n_fds = ARRAY_LEN(bad_fds);
	assert_fails(&spawn, ERR_IO, "pass descriptors");
	spawn.n_fds = SPAWN_FDS_MAX + 1;
	assert_fails(&spawn, ERR_INTERNAL, "too many");
	spawn.n_fds = 0;
	spawn.cgroup_procs = read_only;
	assert_fails(&spawn, ERR_IO, "join the cgroup");
	spawn.cgroup_procs = -1;
	spawn.landlock = read_only;
	assert_fails(&spawn, ERR_IO, "confine it");
	close(read_only);
}

/* ended before anybody looked: still a process with a start time and an exit status */
static void test_ends_at_once(void **state)
{
	char binary[] = "/bin/true", *argv[] = {binary, NULL};
	struct spawn spawn = plain;
	struct err err;

	spawn.argv = argv;
	for (int i = 0; i < 20; i++) {
		struct spawned spawned;
		int status;
		assert_int_equal(spawn_process(&spawn, &spawned, &err), 0);
		assert_true(spawned.start_time > 0);
		assert_int_equal(fcntl(spawned.pidfd, F_GETFD), FD_CLOEXEC);
		assert_int_equal(waitpid(spawned.pid, &status, 0), spawned.pid);
		assert_int_equal(status, 0);
		assert_false(proc_is_alive(spawned.pidfd));
		close(spawned.pidfd);
	}
}

/* a process in between starts one and ends; does that one live on? */
static bool outlives_its_starter(bool ends_with_us)
{
	const int tries = ends_with_us ? 2000 : 50;
	int ends[2];
	struct spawned spawned;
	struct err err;

	assert_int_equal(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends), 0);
	pid_t between = fork();
	if (between == 0) {
		char binary[] = "/bin/sleep", seconds[] = "60", *argv[] = {binary, seconds, NULL};
		struct spawn spawn = plain;
		spawn.what = "sleep";
		spawn.argv = argv;
		spawn.ends_with_us = ends_with_us;
		/* as qemu-img is started: the change of identity must not forget it */
		spawn.drop = geteuid() == 0;
		spawn.uid = spawn.gid = 12345;
		if (spawn_process(&spawn, &spawned, &err) == 0)
			(void)!write(ends[1], &spawned, sizeof(spawned));
		_exit(0);
	}
	close(ends[1]);
	assert_int_equal(read(ends[0], &spawned, sizeof(spawned)), sizeof(spawned));
	close(ends[0]);
	assert_int_equal(waitpid(between, NULL, 0), between);
	bool lives = true;
	for (int i = 0; lives && i < tries; i++) {
		_cleanup_close_ int pidfd = -1;
		usleep(10000);
		lives = proc_open(spawned.pid, spawned.start_time, &pidfd, &err) == 0 &&
			proc_is_alive(pidfd);
	}
	if (lives)
		kill(spawned.pid, SIGKILL);
	return lives;
}

static void test_ends_with_us(void **state)
{
	assert_false(outlives_its_starter(true));
	assert_true(outlives_its_starter(false));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_descriptors),  cmocka_unit_test(test_surroundings),
		cmocka_unit_test(test_limits),       cmocka_unit_test(test_identity),
		cmocka_unit_test(test_failures),     cmocka_unit_test(test_ends_at_once),
		cmocka_unit_test(test_ends_with_us),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
