#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/mem.h"
#include "guest.h"
#include "vdi-hostd/priv/landlock.h"
#include "vdi-hostd/priv/verbs.h"

#define TOOL_UID 300001

struct bench {
	char dir[64];
	struct verbs verbs;
	int fds[4];
	int progress; /* the reading end of its stdout */
};

static int setup(void **state)
{
	struct bench *bench = mem_new(struct bench);
	*bench = (struct bench){
		.dir = "/tmp/vdi-img-XXXXXX",
		.verbs = {.rootless = getuid() != 0,
			  .config = {.tool_uid = TOOL_UID, .qemu_img_binary = "/usr/bin/qemu-img"}},
		.fds = {-1, -1, -1, -1},
		.progress = -1,
	};
	assert_non_null(mkdtemp(bench->dir));
	*state = bench;
	return 0;
}

static int teardown(void **state)
{
	struct bench *bench = *state;
	char command[128];
	for (size_t i = 0; i < ARRAY_LEN(bench->fds); i++)
		mem_closep(&bench->fds[i]);
	mem_closep(&bench->progress);
	verbs_done(&bench->verbs);
	snprintf(command, sizeof(command), "rm -rf %s", bench->dir);
	assert_int_equal(system(command), 0);
	free(bench);
	return 0;
}

/* run a shell command in the bench's folder */
static int shell(const struct bench *bench, const char *what)
{
	char command[1024];
	snprintf(command, sizeof(command), "cd %s && { %s; } >/dev/null 2>&1", bench->dir, what);
	return system(command);
}

static int open_in(const struct bench *bench, const char *file, int flags)
{
	char path[128];
	snprintf(path, sizeof(path), "%s/%s", bench->dir, file);
	int fd = open(path, flags | O_CLOEXEC, 0600);
	assert_true(fd >= 0);
	return fd;
}

static void open_files(struct bench *bench)
{
	int ends[2];
	assert_int_equal(pipe2(ends, O_CLOEXEC), 0);
	bench->progress = ends[0];
	bench->fds[0] = open_in(bench, "source", O_RDONLY);
	bench->fds[1] = open_in(bench, "target", O_RDWR | O_CREAT);
	bench->fds[2] = ends[1];
	bench->fds[3] = open_in(bench, "errors", O_RDWR | O_CREAT | O_APPEND);
}

static struct priv_reply spawn_files(struct bench *bench, const struct priv_img *img,
				     const int *fds, size_t n, int *pidfd)
{
	struct priv_request req = {.verb = PRIV_IMG_SPAWN, .n_fds = (uint32_t)n};
	struct priv_reply reply;
	struct err err;

	req.u.img = *img;
	if (verbs_check(&req, fds, n, &err) < 0)
		fail_msg("%s", err.msg);
	verbs_run(&bench->verbs, &req, fds, &reply, pidfd);
	if (reply.err.code)
		fail_msg("%s", reply.err.msg);
	return reply;
}

static struct priv_reply spawn(struct bench *bench, uint8_t from, uint8_t to, uint8_t compress,
			       int *pidfd)
{
	return spawn_files(bench, &(struct priv_img){from, to, compress}, bench->fds, 4, pidfd);
}

/* the exit status of a whole conversion */
static int convert_files(struct bench *bench, const struct priv_img *img, const int *fds, size_t n)
{
	struct priv_reply reaped;
	int pidfd;
	struct priv_reply spawned = spawn_files(bench, img, fds, n, &pidfd);
	struct priv_request req = {.verb = PRIV_REAP};

	guest_await_end(pidfd);
	close(pidfd);
	req.u.process = (struct priv_process){0, spawned.pid, spawned.start_time, 0};
	verbs_run(&bench->verbs, &req, NULL, &reaped, NULL);
	assert_int_equal(reaped.err.code, 0);
	assert_true(WIFEXITED(reaped.wait_status));
	return WEXITSTATUS(reaped.wait_status);
}

static int convert(struct bench *bench, uint8_t from, uint8_t to, uint8_t compress)
{
	return convert_files(bench, &(struct priv_img){from, to, compress}, bench->fds, 4);
}

static void show_errors(const struct bench *bench)
{
	char command[128];
	snprintf(command, sizeof(command), "cat %s/errors", bench->dir);
	if (system(command) != 0)
		fail();
}

static void test_formats(void **state)
{
	struct bench *bench = *state;
	static const struct {
		const char *make;
		uint8_t from, compress;
	} rows[] = {
		{"cp raw source", PRIV_IMG_RAW, 0},
		{"qemu-img convert -O qcow2 raw source", PRIV_IMG_QCOW2, 1},
		{"qemu-img convert -O vmdk raw source", PRIV_IMG_VMDK, 0},
		{"qemu-img convert -O vdi raw source", PRIV_IMG_VDI, 0},
		{"qemu-img convert -O vhdx raw source", PRIV_IMG_VHDX, 0},
	};
	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		char progress[4096] = "";
		assert_int_equal(shell(bench, "rm -f *; head -c 3M /dev/urandom >raw; "
					      "truncate -s 8M raw"),
				 0);
		assert_int_equal(shell(bench, rows[i].make), 0);
		/* neither file is the tool's by its modes */
		assert_int_equal(shell(bench, "chmod 0600 source"), 0);
		open_files(bench);
		int status = convert(bench, rows[i].from, PRIV_IMG_QCOW2, rows[i].compress);
		if (status != 0)
			show_errors(bench);
		assert_int_equal(status, 0);
		assert_int_equal(shell(bench, "qemu-img compare -f raw -F qcow2 raw target"), 0);
		assert_int_equal(shell(bench, "qemu-img check -f qcow2 target"), 0);
		assert_true(read(bench->progress, progress, sizeof(progress) - 1) > 0);
		assert_non_null(strstr(progress, "(100.00/100%)"));
		for (size_t k = 0; k < ARRAY_LEN(bench->fds); k++)
			close(TAKE_FD(bench->fds[k]));
		close(TAKE_FD(bench->progress));
	}
}

/* a chain of files, of which each is given; what their headers name is not there */
static void test_chain(void **state)
{
	struct bench *bench = *state;
	static const struct {
		const char *name;
		uint8_t format, compress;
	} targets[] = {
		{"qcow2", PRIV_IMG_QCOW2, 0}, {"qcow2", PRIV_IMG_QCOW2, 1},
		{"raw", PRIV_IMG_RAW, 0},     {"vmdk", PRIV_IMG_VMDK, 0},
		{"vhdx", PRIV_IMG_VHDX, 0},
	};
	assert_int_equal(
		shell(bench,
		      "head -c 8M /dev/urandom >raw; qemu-img convert -f raw -O qcow2 raw base; "
		      "qemu-img create -f qcow2 -b base -F qcow2 middle; "
		      "qemu-io -c 'write -P 1 1M 1M' middle; "
		      "qemu-img create -f qcow2 -b middle -F qcow2 source 16M; "
		      "qemu-io -c 'write -P 2 2M 64k' -c 'write -z 0 64k' source; "
		      "qemu-img convert -f qcow2 -O raw source expected; "
		      "qemu-img rebase -u -f qcow2 -b /not/there -F qcow2 middle; "
		      "qemu-img rebase -u -f qcow2 -b nbd://127.0.0.1:1/x -F raw source; "
		      "chmod 0400 source middle base"),
		0);
	open_files(bench);
	const int fds[] = {bench->fds[0],
			   open_in(bench, "middle", O_RDONLY),
			   open_in(bench, "base", O_RDONLY),
			   bench->fds[1],
			   bench->fds[2],
			   bench->fds[3]};
	for (size_t i = 0; i < ARRAY_LEN(targets); i++) {
		char compare[128];
		struct priv_img img = {PRIV_IMG_QCOW2, targets[i].format, targets[i].compress};
		int status = convert_files(bench, &img, fds, ARRAY_LEN(fds));
		if (status != 0)
			show_errors(bench);
		assert_int_equal(status, 0);
		snprintf(compare, sizeof(compare), "qemu-img compare -f raw -F %s expected target",
			 targets[i].name);
		assert_int_equal(shell(bench, compare), 0);
	}
	close(fds[1]);
	close(fds[2]);
}

static void test_bad_chains(void **state)
{
	struct bench *bench = *state;
	struct priv_request req = {.verb = PRIV_IMG_SPAWN};
	int fds[QEMU_CHAIN_MAX + 4];
	struct err err;

	assert_int_equal(shell(bench, "echo source >source"), 0);
	open_files(bench);
	for (size_t i = 0; i < ARRAY_LEN(fds); i++)
		fds[i] = bench->fds[i < ARRAY_LEN(fds) - 3 ? 0 : i + 4 - ARRAY_LEN(fds)];
	for (req.n_fds = 0; req.n_fds <= 3; req.n_fds++) {
		req.u.img = (struct priv_img){PRIV_IMG_QCOW2, PRIV_IMG_RAW, 0};
		assert_int_equal(verbs_check(&req, fds, req.n_fds, &err), -1);
		assert_string_equal(err.field, "n_fds");
	}
	req.n_fds = ARRAY_LEN(fds);
	assert_int_equal(verbs_check(&req, fds, req.n_fds, &err), -1);
	assert_string_equal(err.field, "n_fds");
	/* one fewer is as many as there may be */
	req.n_fds--;
	assert_int_equal(verbs_check(&req, fds + 1, req.n_fds, &err), 0);
	req.u.img.source_format = PRIV_IMG_VMDK;
	assert_int_equal(verbs_check(&req, fds + 1, req.n_fds, &err), -1);
	assert_string_equal(err.field, "source_format");
	/* a pipe in the middle */
	req.u.img.source_format = PRIV_IMG_QCOW2;
	fds[3] = bench->progress;
	assert_int_equal(verbs_check(&req, fds + 1, req.n_fds, &err), -1);
	assert_string_equal(err.field, "source");
}

/* a backing name in the header leads to a file that is no other's: it is not opened */
static void test_foreign_backing(void **state)
{
	struct bench *bench = *state;
	if (!landlock_is_there()) {
		print_message("the kernel has no Landlock\n");
		skip();
	}
	assert_int_equal(shell(bench, "head -c 1M /dev/zero >secret; chmod 0644 secret; "
				      "chmod 0755 .; qemu-img create -f qcow2 -F raw -b "
				      "$PWD/secret source"),
			 0);
	open_files(bench);
	assert_int_equal(convert(bench, PRIV_IMG_QCOW2, PRIV_IMG_QCOW2, 0), 1);
	assert_int_equal(shell(bench, "grep -q 'Permission denied' errors"), 0);
}

/* the same without a privileged half, where the files are one's own */
static void test_rootless(void **state)
{
	struct bench *bench = *state;
	bench->verbs.rootless = true;
	assert_int_equal(shell(bench, "head -c 1M /dev/urandom >source"), 0);
	open_files(bench);
	int status = convert(bench, PRIV_IMG_RAW, PRIV_IMG_QCOW2, 0);
	if (status != 0)
		show_errors(bench);
	assert_int_equal(status, 0);
	assert_int_equal(shell(bench, "qemu-img compare -f raw -F qcow2 source target"), 0);
}

static void test_confined(void **state)
{
	struct bench *bench = *state;
	struct priv_reply reply;
	struct priv_request req = {.verb = PRIV_IMG_SIGNAL};
	int pidfd;

	if (getuid() != 0) {
		print_message("not root: no uid of its own to test\n");
		skip();
	}
	/* enough that it still runs while looked at: its progress fills nobody's pipe */
	assert_int_equal(shell(bench, "head -c 64M /dev/urandom >source"), 0);
	open_files(bench);
	reply = spawn(bench, PRIV_IMG_RAW, PRIV_IMG_QCOW2, 1, &pidfd);
	assert_string_equal(guest_status(reply.pid, "Uid"), "300001\t300001\t300001\t300001");
	assert_string_equal(guest_status(reply.pid, "Groups"), "");
	assert_string_equal(guest_status(reply.pid, "NoNewPrivs"), "1");
	assert_string_equal(guest_status(reply.pid, "Seccomp"), "2");
	assert_string_equal(guest_status(reply.pid, "CapEff"),
			    landlock_is_there() ? "0000000000000002" : "0000000000000000");
	assert_string_equal(guest_status(reply.pid, "CapBnd"), guest_status(reply.pid, "CapEff"));
	req.u.process = (struct priv_process){0, reply.pid, reply.start_time, SIGKILL};
	verbs_run(&bench->verbs, &req, NULL, &reply, NULL);
	assert_int_equal(reply.err.code, 0);
	guest_await_end(pidfd);
	close(pidfd);
}

/* what the confinement refuses, though the capability would override every file's modes */
static void test_refusals(void **state)
{
	struct bench *bench = *state;
	if (!landlock_is_there()) {
		print_message("the kernel has no Landlock\n");
		skip();
	}
	assert_int_equal(shell(bench, "chmod 0755 .; echo secret >secret; chmod 0666 secret; "
				      "pwd >source"),
			 0);
	open_files(bench);
	strcpy(bench->verbs.config.qemu_img_binary, TRY_TOOL);
	int status = convert(bench, PRIV_IMG_RAW, PRIV_IMG_QCOW2, 0);
	if (status != 0)
		show_errors(bench);
	assert_int_equal(status, 0);
	if (shell(bench, "test \"$(cat target)\" = done") != 0) {
		char command[128];
		snprintf(command, sizeof(command), "cat %s/target", bench->dir);
		assert_int_equal(system(command), 0);
		fail();
	}
	assert_int_equal(shell(bench, "test \"$(cat secret)\" = secret"), 0);
}

static void test_missing_binary(void **state)
{
	struct bench *bench = *state;
	struct priv_request req = {.verb = PRIV_IMG_SPAWN, .n_fds = 4};
	struct priv_reply reply;

	assert_int_equal(shell(bench, "echo source >source"), 0);
	open_files(bench);
	req.u.img = (struct priv_img){PRIV_IMG_RAW, PRIV_IMG_QCOW2, 0};
	strcpy(bench->verbs.config.qemu_img_binary, "/no/such/tool");
	verbs_run(&bench->verbs, &req, bench->fds, &reply, NULL);
	assert_int_equal(reply.err.code, ERR_UNAVAILABLE);
	assert_string_equal(reply.err.msg,
			    "cannot run qemu-img at /no/such/tool: No such file or directory; "
			    "install qemu-utils or set qemu_img_binary");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_formats, setup, teardown),
		cmocka_unit_test_setup_teardown(test_chain, setup, teardown),
		cmocka_unit_test_setup_teardown(test_bad_chains, setup, teardown),
		cmocka_unit_test_setup_teardown(test_foreign_backing, setup, teardown),
		cmocka_unit_test_setup_teardown(test_rootless, setup, teardown),
		cmocka_unit_test_setup_teardown(test_confined, setup, teardown),
		cmocka_unit_test_setup_teardown(test_refusals, setup, teardown),
		cmocka_unit_test_setup_teardown(test_missing_binary, setup, teardown),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
