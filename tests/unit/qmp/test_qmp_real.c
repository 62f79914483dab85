/* The client against QEMU itself: one conversation, and another after it. */
#include "qmp/qmp.h"

#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/mem.h"

#define QEMU        "/usr/bin/qemu-system-x86_64"
#define PATIENCE_MS 30000

struct host {
	uv_loop_t loop;
	char dir[32], path[64];
	pid_t pid;
	struct qmp *qmp;
	bool ready, closed, answered, refused, shutdown_seen;
	struct err err;
	char status[32];
};

static void on_ready(struct qmp *qmp, void *owner)
{
	((struct host *)owner)->ready = true;
}

static void on_event(struct qmp *qmp, void *owner, const char *name, json_t *data)
{
	if (strcmp(name, "SHUTDOWN") == 0)
		((struct host *)owner)->shutdown_seen = true;
}

static void on_closed(struct qmp *qmp, void *owner, const struct err *err)
{
	struct host *host = owner;
	host->closed = true;
	host->err = *err;
}

static const struct qmp_ops ops = {.ready = on_ready, .event = on_event, .closed = on_closed};

static void on_answer(void *data, json_t *result, const struct err *err)
{
	struct host *host = data;
	host->answered = true;
	host->refused = err != NULL;
	if (err)
		host->err = *err;
	const char *status = json_string_value(json_object_get(result, "status"));
	snprintf(host->status, sizeof(host->status), "%s", status ? status : "");
}

static void run_until(struct host *host, const bool *flag)
{
	uint64_t end = uv_hrtime() + PATIENCE_MS * 1000000ull;
	while (!*flag && uv_hrtime() < end)
		uv_run(&host->loop, UV_RUN_ONCE);
	if (!*flag)
		fail_msg("nothing came: %s", host->err.msg);
}

static void execute(struct host *host, const char *command, json_t *args, int fd)
{
	host->answered = host->refused = false;
	qmp_execute_fd(host->qmp, command, args, fd, PATIENCE_MS, on_answer, host);
	run_until(host, &host->answered);
}

/* The monitor's socket listens before QEMU starts, so nobody waits for a file to appear. */
static int listen_at(const char *path)
{
	struct sockaddr_un addr = {.sun_family = AF_UNIX};
	snprintf(addr.sun_path, sizeof(addr.sun_path), "%s", path);
	int fd = socket(AF_UNIX, SOCK_STREAM, 0);
	assert_int_equal(bind(fd, (struct sockaddr *)&addr, sizeof(addr)), 0);
	assert_int_equal(listen(fd, 1), 0);
	return fd;
}

static void start_qemu(struct host *host)
{
	int fd = listen_at(host->path);
	char chardev[64];
	snprintf(chardev, sizeof(chardev), "socket,id=qmp,fd=%d,server=on,wait=off", fd);
	host->pid = fork();
	if (host->pid == 0) {
		execl(QEMU, QEMU, "-nodefaults", "-no-user-config", "-S", "-M", "q35,accel=tcg",
		      "-m", "32", "-display", "none", "-chardev", chardev, "-mon",
		      "chardev=qmp,mode=control", NULL);
		_exit(127);
	}
	close(fd);
}

static void connect_qemu(struct host *host)
{
	host->ready = host->closed = false;
	int failed = qmp_connect(&host->loop, host->path, &ops, host, PATIENCE_MS, &host->qmp,
				 &host->err);
	if (failed)
		fail_msg("%s", host->err.msg);
	run_until(host, &host->ready);
}

static void expect_status(struct host *host, const char *status)
{
	execute(host, "query-status", NULL, -1);
	assert_false(host->refused);
	assert_string_equal(host->status, status);
}

static void test_conversation(void **state)
{
	struct host *host = *state;
	start_qemu(host);
	connect_qemu(host);
	expect_status(host, "prelaunch");

	_cleanup_close_ int fd = open("/dev/null", O_RDONLY | O_CLOEXEC);
	execute(host, "getfd", json_pack("{s:s}", "fdname", "null"), fd);
	assert_false(host->refused);
	execute(host, "closefd", json_pack("{s:s}", "fdname", "null"), -1);
	assert_false(host->refused);
	execute(host, "getfd", json_pack("{s:s}", "fdname", "null"), -1);
	assert_true(host->refused);
	execute(host, "no-such-command", NULL, -1);
	assert_int_equal(host->err.code, ERR_UNSUPPORTED);

	/* a restarted daemon connects again */
	qmp_close(TAKE_PTR(host->qmp));
	connect_qemu(host);
	execute(host, "cont", NULL, -1);
	expect_status(host, "running");

	execute(host, "quit", NULL, -1);
	assert_false(host->refused);
	run_until(host, &host->closed);
	assert_int_equal(host->err.code, ERR_UNAVAILABLE);
	assert_true(host->shutdown_seen);
	int status;
	assert_int_equal(waitpid(host->pid, &status, 0), host->pid);
	host->pid = -1;
	assert_int_equal(status, 0);
}

/* Many commands in one write, one of them with a descriptor: QEMU keeps them apart and in order. */
static void test_pipeline(void **state)
{
	struct host *host = *state;
	start_qemu(host);
	connect_qemu(host);
	_cleanup_close_ int fd = open("/dev/null", O_RDONLY | O_CLOEXEC);
	for (int i = 0; i < 50; i++)
		qmp_execute(host->qmp, "query-version", NULL, PATIENCE_MS, NULL, NULL);
	qmp_execute_fd(host->qmp, "getfd", json_pack("{s:s}", "fdname", "a"), fd, PATIENCE_MS, NULL,
		       NULL);
	for (int i = 0; i < 50; i++)
		qmp_execute(host->qmp, "query-version", NULL, PATIENCE_MS, NULL, NULL);
	execute(host, "closefd", json_pack("{s:s}", "fdname", "a"), -1);
	assert_false(host->refused);
	assert_false(host->closed);
}

static int setup(void **state)
{
	struct host *host = mem_new(struct host);
	uv_loop_init(&host->loop);
	snprintf(host->dir, sizeof(host->dir), "/tmp/test-qmp-real-XXXXXX");
	assert_non_null(mkdtemp(host->dir));
	snprintf(host->path, sizeof(host->path), "%s/qmp", host->dir);
	host->pid = -1;
	*state = host;
	return 0;
}

static int teardown(void **state)
{
	struct host *host = *state;
	qmp_close(TAKE_PTR(host->qmp));
	uv_run(&host->loop, UV_RUN_DEFAULT);
	uv_loop_close(&host->loop);
	if (host->pid > 0) {
		kill(host->pid, SIGKILL);
		waitpid(host->pid, NULL, 0);
	}
	unlink(host->path);
	rmdir(host->dir);
	free(host);
	return 0;
}

int main(void)
{
	if (access(QEMU, X_OK) < 0) {
		printf("skipped: no %s here\n", QEMU);
		return 77;
	}
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_conversation, setup, teardown),
		cmocka_unit_test_setup_teardown(test_pipeline, setup, teardown),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
