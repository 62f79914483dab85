/*
 * The same as test_park.c, with QEMU itself: the real parts beneath a desktop, without root and
 * without a network. Its guest boots from an empty disk, and is alive enough for that.
 */
#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/log.h"
#include "vdi-hostd/desktop/private.h"

#define QEMU     "/usr/bin/qemu-system-x86_64"
#define QEMU_IMG "/usr/bin/qemu-img"
#define DISK_MIB 8

struct parts {
	char dir[64];
	uv_loop_t loop;
	struct db *db;
	struct priv *priv;
	struct jobs *jobs;
	struct images *images;
	struct networks *networks;
	struct desktops *all;

	int ends, readies, gones, completed;
	struct desktop *got;
	struct err err;
	char status[32];
	bool answered, reconciled;
};

#define must(call)                                                                                 \
	do {                                                                                       \
		if ((call) < 0)                                                                    \
			fail_msg("%s: %s", #call, err.msg);                                        \
	} while (0)

/* until @cond holds, for at most twenty seconds */
#define until(parts, cond)                                                                         \
	do {                                                                                       \
		uint64_t until_ = uv_hrtime() + 20000000000u;                                      \
		while (!(cond) && uv_hrtime() < until_) {                                          \
			uv_run(&(parts)->loop, UV_RUN_NOWAIT);                                     \
			usleep(200);                                                               \
		}                                                                                  \
		assert_true(cond);                                                                 \
	} while (0)

static void on_lost(void *data)
{
	fail_msg("there is no privileged half to lose");
}

static void open_parts(struct parts *parts)
{
	struct priv_config config = {.uid = getuid(), .gid = getgid(), .tool_uid = getuid()};
	struct err err;
	char path[96];
	strcpy(config.qemu_binary, QEMU);
	strcpy(config.qemu_img_binary, QEMU_IMG);
	snprintf(path, sizeof(path), "%s/db", parts->dir);
	uv_loop_init(&parts->loop);
	must(db_open(path, &parts->db, &err));
	must(priv_open(&parts->loop, -1, &config, on_lost, NULL, &parts->priv, &err));
	must(jobs_new(&parts->loop, parts->db, &parts->jobs, &err));
	must(images_new(&parts->loop, parts->db, parts->jobs, parts->priv, parts->dir,
			&parts->images, &err));
	must(networks_new(&parts->loop, parts->db, parts->priv, parts->dir, &parts->networks,
			  &err));
	const struct desktops_env env = {
		.loop = &parts->loop,
		.db = parts->db,
		.priv = parts->priv,
		.images = parts->images,
		.networks = parts->networks,
		.accel = QEMU_ACCEL_TCG,
		.state_dir = parts->dir,
		.runtime_dir = parts->dir,
		.uid_base = getuid(),
		.start_timeout_s = 20,
		.stop_timeout_s = 20,
	};
	must(desktops_new(&env, &parts->all, &err));
}

static void close_parts(struct parts *parts)
{
	desktops_free(TAKE_PTR(parts->all));
	networks_free(TAKE_PTR(parts->networks));
	images_free(TAKE_PTR(parts->images));
	jobs_free(TAKE_PTR(parts->jobs));
	priv_close(TAKE_PTR(parts->priv));
	uv_run(&parts->loop, UV_RUN_DEFAULT);
	assert_int_equal(uv_loop_close(&parts->loop), 0);
	db_close(TAKE_PTR(parts->db));
}

static int setup(void **state)
{
	struct parts *parts = mem_new(struct parts);
	log_open("test", LOG_LEVEL_ERR);
	signal(SIGPIPE, SIG_IGN);
	snprintf(parts->dir, sizeof(parts->dir), "/tmp/test-park-XXXXXX");
	assert_non_null(mkdtemp(parts->dir));
	open_parts(parts);
	*state = parts;
	return 0;
}

static void on_end(void *data, struct desktop *desktop, const struct err *err)
{
	struct parts *parts = data;
	parts->ends++;
	parts->got = desktop;
	parts->err = err ? *err : (struct err){0};
}

static int teardown(void **state)
{
	struct parts *parts = *state;
	char command[96];
	struct err err;
	struct desktop *desktop = desktops_find(parts->all, "d", &err);
	if (desktop) {
		int ends = parts->ends;
		desktop_stop(desktop, true, 0, on_end, parts);
		until(parts, parts->ends > ends);
	}
	close_parts(parts);
	snprintf(command, sizeof(command), "rm -rf '%s'", parts->dir);
	int failed = system(command);
	free(parts);
	return failed;
}

static struct desktop *create(struct parts *parts)
{
	struct err err;
	static char block[1 << 20];
	char path[128];
	const char *job;
	snprintf(path, sizeof(path), "%s/disk.raw", parts->dir);
	int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
	memset(block, 'x', sizeof(block));
	for (int i = 0; i < DISK_MIB; i++)
		assert_int_equal(write(fd, block, sizeof(block)), sizeof(block));
	const struct image_import import = {.name = "img", .fd = fd, .publish = true};
	must(images_import(parts->images, &import, &job, &err));
	until(parts, images_find(parts->images, "img", &err) &&
			     images_find(parts->images, "img", &err)->state == DB_IMAGE_PUBLISHED);
	const struct desktop_create create = {.name = "d",
					      .image = "img",
					      .memory_mib = 64,
					      .vcpus = 1,
					      .data_disk_bytes = 1 << 30};
	desktops_create(parts->all, &create, on_end, parts);
	until(parts, parts->ends == 1);
	if (!parts->got)
		fail_msg("%s", parts->err.msg);
	return parts->got;
}

static void on_ready(void *data, const struct err *err)
{
	struct parts *parts = data;
	if (err)
		fail_msg("%s", err->msg);
	parts->readies++;
}

static void on_event(void *data, const char *name, json_t *event)
{
	struct parts *parts = data;
	if (strcmp(name, "BLOCK_JOB_COMPLETED") == 0)
		parts->completed++;
}

static void on_gone(void *data, const struct err *err)
{
	struct parts *parts = data;
	parts->gones++;
}

static void begin(struct parts *parts, struct desktop *desktop)
{
	const struct desktop_work work = {"test", on_event, on_gone, parts};
	struct err err;
	must(desktop_work_begin(desktop, &work, &err));
	int readies = parts->readies;
	desktop_work_open(desktop, on_ready);
	until(parts, parts->readies > readies);
}

static void on_answer(void *data, json_t *result, const struct err *err)
{
	struct parts *parts = data;
	const char *status = json_string_value(json_object_get(result, "status"));
	if (err)
		fail_msg("%s", err->msg);
	snprintf(parts->status, sizeof(parts->status), "%s", status ? status : "");
	parts->answered = true;
}

static void ask(struct parts *parts, struct desktop *desktop, const char *command, json_t *args)
{
	parts->answered = false;
	qmp_execute(desktop_qmp(desktop), command, args, 0, on_answer, parts);
	until(parts, parts->answered);
}

static void assert_ended(struct parts *parts, struct desktop *desktop)
{
	until(parts, desktop->park == PARK_NONE && !desktop->plan && !desktop->watch);
	assert_int_equal(desktop->row.pid, 0);
	assert_int_equal(desktop->row.op, DB_DESKTOP_OP_NONE);
	assert_int_equal(desktop_state(desktop), DESKTOP_STOPPED);
}

/* A stream into the system disk, begun while the desktop is stopped, ends while its guest runs. */
static void work_goes_on_in_a_start(void **state)
{
	struct parts *parts = *state;
	struct desktop *desktop = create(parts);
	char node[QEMU_NODE_MAX + 1];
	begin(parts, desktop);
	ask(parts, desktop, "query-status", NULL);
	assert_string_equal(parts->status, "prelaunch");
	assert_int_equal(desktop_state(desktop), DESKTOP_STOPPED);
	pid_t pid = (pid_t)desktop->row.pid;
	images_node(desktop->row.disks[DB_DISK_SYSTEM].file, node);
	/* so slow that it is under way for two seconds */
	ask(parts, desktop, "block-stream",
	    json_pack("{s:s, s:s, s:i}", "job-id", "j", "device", node, "speed", DISK_MIB << 19));
	int ends = parts->ends;
	uint64_t before = uv_hrtime();
	desktop_start(desktop, 0, on_end, parts);
	until(parts, parts->ends > ends);
	print_message("from parked to running: %.1f ms\n", (double)(uv_hrtime() - before) / 1e6);
	assert_ptr_equal(parts->got, desktop);
	assert_int_equal(desktop->row.pid, pid);
	ask(parts, desktop, "query-status", NULL);
	assert_string_equal(parts->status, "running");
	assert_int_equal(parts->completed, 0);
	until(parts, parts->completed == 1);
	assert_int_equal(parts->gones, 0);
	desktop_work_end(desktop);
	assert_int_equal(desktop_state(desktop), DESKTOP_RUNNING);
	/* and it stops beneath the next work */
	begin(parts, desktop);
	desktop_stop(desktop, true, 0, on_end, parts);
	until(parts, parts->gones == 1);
	desktop_work_open(desktop, on_ready);
	until(parts, parts->readies == 3);
	assert_int_not_equal(desktop->row.pid, pid);
	desktop_work_end(desktop);
	assert_ended(parts, desktop);
}

static void add_bitmap(struct parts *parts, struct desktop *desktop, const char *node)
{
	ask(parts, desktop, "block-dirty-bitmap-add",
	    json_pack("{s:s, s:s, s:b}", "node", node, "name", "kept", "persistent", true));
}

/* Ended by quit, whoever ends it, a QEMU leaves whole files and its bitmaps. */
static void its_files_are_closed_well(void **state)
{
	struct parts *parts = *state;
	struct desktop *desktop = create(parts);
	const char *file = desktop->row.disks[DB_DISK_DATA].file;
	char node[QEMU_NODE_MAX + 1], command[512];
	snprintf(command, sizeof(command),
		 "cd %s/overlays && qemu-img check -q %s && qemu-img info %s >../info && "
		 "grep -q 'name: kept' ../info && ! grep -q in-use ../info",
		 parts->dir, file, file);
	images_node(file, node);
	for (int stop = 0; stop < 2; stop++) {
		begin(parts, desktop);
		if (stop == 0)
			add_bitmap(parts, desktop, node);
		int ends = parts->ends;
		if (stop) {
			desktop_start(desktop, 0, on_end, parts);
			until(parts, parts->ends > ends);
		}
		desktop_work_end(desktop);
		if (stop) {
			desktop_stop(desktop, true, 0, on_end, parts);
			until(parts, parts->ends > ends + 1);
		}
		assert_ended(parts, desktop);
		assert_int_equal(system(command), 0);
	}
}

static void on_reconciled(void *data)
{
	struct parts *parts = data;
	parts->reconciled = true;
}

/* What a daemon leaves behind, the next one ends. */
static void the_next_daemon_ends_it(void **state)
{
	struct parts *parts = *state;
	struct err err;
	struct desktop *desktop = create(parts);
	begin(parts, desktop);
	pid_t pid = (pid_t)desktop->row.pid;
	close_parts(parts);
	assert_int_equal(kill(pid, 0), 0);
	open_parts(parts);
	desktops_reconcile(parts->all, on_reconciled, parts);
	until(parts, parts->reconciled);
	desktop = desktops_find(parts->all, "d", &err);
	assert_ended(parts, desktop);
	int ends = parts->ends;
	desktop_start(desktop, 0, on_end, parts);
	until(parts, parts->ends > ends);
	assert_ptr_equal(parts->got, desktop);
}

#ifdef VDI_CRASH_POINTS
/* Parks it and ends that, and is killed on the way. */
static void be_killed(struct parts *parts, const char *point)
{
	struct err err;
	setenv("VDI_CRASH_AT", point, 1);
	open_parts(parts);
	struct desktop *desktop = desktops_find(parts->all, "d", &err);
	begin(parts, desktop);
	desktop_work_end(desktop);
	uv_run(&parts->loop, UV_RUN_DEFAULT);
	_exit(0);
}

static void killed_at_each_step(void **state)
{
	static const char *const points[] = {
		"desktop-park:intent:before",   "desktop-park:intent:after",
		"desktop-park:tap:after",       "desktop-park:qemu:before",
		"desktop-park:qemu:after",      "desktop-park:handshake:before",
		"desktop-park:handshake:after", "desktop-unpark:quit:before",
		"desktop-unpark:quit:after",    "desktop-unpark:cleanup:before",
		"desktop-unpark:cleanup:after",
	};
	struct parts *parts = *state;
	struct err err;
	create(parts);
	for (size_t i = 0; i < ARRAY_LEN(points); i++) {
		int status;
		uint64_t start;
		pid_t qemu;
		close_parts(parts);
		pid_t pid = fork();
		if (pid == 0)
			be_killed(parts, points[i]);
		assert_int_equal(waitpid(pid, &status, 0), pid);
		if (!WIFSIGNALED(status))
			fail_msg("%s is nowhere", points[i]);
		open_parts(parts);
		parts->reconciled = false;
		desktops_reconcile(parts->all, on_reconciled, parts);
		until(parts, parts->reconciled);
		struct desktop *desktop = desktops_find(parts->all, "d", &err);
		assert_ended(parts, desktop);
		assert_int_equal(desktop_process_find(desktop, &qemu, &start, &err), -1);
		begin(parts, desktop);
		desktop_work_end(desktop);
		assert_ended(parts, desktop);
	}
}
#endif

int main(void)
{
	const struct CMUnitTest tests[] = {
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
		TEST(work_goes_on_in_a_start),
		TEST(its_files_are_closed_well),
		TEST(the_next_daemon_ends_it),
#ifdef VDI_CRASH_POINTS
		TEST(killed_at_each_step),
#endif
	};
	if (access(QEMU, X_OK) < 0) {
		print_message("skipped: there is no %s\n", QEMU);
		return 77;
	}
	return cmocka_run_group_tests(tests, NULL, NULL);
}
