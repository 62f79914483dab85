#include "vdi-hostd/image/gc.h"

#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "bench.h"
#include "vdi-hostd/db/desktop.h"
#include "vdi-hostd/image/graph.h"
#include "vdi-hostd/image/usage.h"

/* a version and a desktop on it with a layer below its disk that no row names */
struct world {
	struct db_image base;
	struct db_desktop desk;
	char below[96];
};

static void insert(struct bench *bench, struct db_desktop *row, const char *name, int slot)
{
	struct err err;

	snprintf(row->name, sizeof(row->name), "%s", name);
	snprintf(row->owner, sizeof(row->owner), "ada");
	row->slot = slot;
	if (db_desktop_insert(bench->db, row, &err) < 0)
		fail_msg("%s", err.msg);
}

static struct world make(struct bench *bench)
{
	struct world world = {0};
	struct db_desktop *desk = &world.desk;
	char *top = desk->disks[DB_DISK_SYSTEM].file;
	struct err err;

	assert_int_equal(help_run("rm -f img; qemu-img create -q -f qcow2 img 8M"), 0);
	world.base = *bench_import(bench, "base", "img");
	str_uuid_new(desk->id);
	memcpy(desk->image_id, world.base.id, sizeof(desk->image_id));
	images_layer_file(desk->id, world.below);
	images_layer_file(desk->id, top);
	desk->disks[DB_DISK_SYSTEM].bytes = 8 << 20;
	assert_int_equal(images_overlay_create(bench->images, &world.base, world.below, 0, &err),
			 0);
	assert_int_equal(images_layer_create(bench->images, top, world.below, 0, &err), 0);
	insert(bench, desk, "desk", 1);
	return world;
}

static json_t *run(struct bench *bench, const char *id, enum err_code code)
{
	struct db_job job = bench_wait(bench, id);

	if (job.err.code != code)
		fail_msg("%s", job.err.msg);
	json_t *result = job.result ? json_loads(job.result, 0, NULL) : NULL;
	db_job_done(&job);
	return result;
}

static json_t *gc(struct bench *bench, bool dry_run, int64_t min_age_s)
{
	const struct image_gc wanted = {dry_run, min_age_s};
	const char *id;
	struct err err;

	assert_int_equal(images_gc(bench->images, &wanted, &id, &err), 0);
	return run(bench, id, 0);
}

static int64_t files(json_t *result)
{
	return json_integer_value(json_object_get(result, "files"));
}

static void litter(void)
{
	assert_int_equal(help_run("for f in images/x.qcow2 overlays/y.qcow2 isos/z.iso backups/b "
				  "states/s; do head -c 10000 /dev/zero > $f; done; "
				  "mkdir -p overlays/folder; ln -sf /etc/passwd overlays/link; "
				  "touch 'images/.odd'"),
			 0);
}

static void check_world(const struct world *world)
{
	char path[160];

	snprintf(path, sizeof(path), "images/%s", world->base.file);
	assert_int_equal(access(path, F_OK), 0);
	snprintf(path, sizeof(path), "overlays/%s", world->below);
	assert_int_equal(access(path, F_OK), 0);
	snprintf(path, sizeof(path), "overlays/%s", world->desk.disks[DB_DISK_SYSTEM].file);
	assert_int_equal(access(path, F_OK), 0);
	/* what is none of ours is never touched */
	assert_int_equal(access("overlays/folder", F_OK), 0);
	assert_int_equal(access("overlays/link", F_OK), 0);
	assert_int_equal(access("images/.odd", F_OK), 0);
}

static void test_removes(void **state)
{
	struct bench *bench = *state;
	const struct world world = make(bench);
	json_t *result;

	litter();
	result = gc(bench, true, 0);
	assert_int_equal(files(result), 5);
	assert_int_equal(json_array_size(json_object_get(result, "items")), 5);
	assert_true(json_integer_value(json_object_get(result, "bytes")) >= 5 * 10000);
	json_decref(result);
	assert_int_equal(help_count("isos"), 1);
	/* young ones are left alone */
	result = gc(bench, false, 3600);
	assert_int_equal(files(result), 0);
	json_decref(result);
	assert_int_equal(help_count("isos"), 1);
	result = gc(bench, false, 0);
	assert_int_equal(files(result), 5);
	json_decref(result);
	check_world(&world);
	assert_int_equal(help_count("isos"), 0);
	assert_int_equal(help_count("backups"), 0);
	assert_int_equal(help_count("states"), 0);
	assert_int_equal(help_count("tmp"), 0);
	assert_int_equal(help_count("images"), 1);
	assert_int_equal(help_count("overlays"), 4);
	result = gc(bench, false, 0);
	assert_int_equal(files(result), 0);
	json_decref(result);
}

/* what a row comes to name between the walk and the removal stays */
static void test_row_comes_late(void **state)
{
	struct bench *bench = *state;
	const struct world world = make(bench);
	struct db_desktop late = {0};
	const struct image_gc wanted = {false, 0};
	char path[160];
	const char *id;
	struct err err;

	str_uuid_new(late.id);
	memcpy(late.image_id, world.base.id, sizeof(late.image_id));
	images_layer_file(late.id, late.disks[DB_DISK_SYSTEM].file);
	assert_int_equal(images_overlay_create(bench->images, &world.base,
					       late.disks[DB_DISK_SYSTEM].file, 0, &err),
			 0);
	assert_int_equal(images_gc(bench->images, &wanted, &id, &err), 0);
	insert(bench, &late, "late", 2);
	json_t *result = run(bench, id, 0);
	assert_int_equal(files(result), 0);
	json_decref(result);
	snprintf(path, sizeof(path), "overlays/%s", late.disks[DB_DISK_SYSTEM].file);
	assert_int_equal(access(path, F_OK), 0);
}

static void emit_one(void *data,
		     void (*emit)(void *out, enum store_folder folder, const char *file), void *out)
{
	emit(out, STORE_BACKUPS, data);
}

static void test_roots_of_others(void **state)
{
	struct bench *bench = *state;
	static char mine[] = "b";

	make(bench);
	litter();
	images_add_roots(bench->images, emit_one, mine);
	json_t *result = gc(bench, false, 0);
	assert_int_equal(files(result), 4);
	json_decref(result);
	assert_int_equal(help_count("backups"), 1);
}

/* below a file that cannot be read anything may stand */
static void test_unreadable_header(void **state)
{
	struct bench *bench = *state;
	const struct world world = make(bench);
	char path[160];

	snprintf(path, sizeof(path), "overlays/%s", world.desk.disks[DB_DISK_SYSTEM].file);
	help_poke(path, 0, "junk", 4);
	json_t *result = gc(bench, false, 0);
	assert_int_equal(files(result), 0);
	json_decref(result);
	snprintf(path, sizeof(path), "overlays/%s", world.below);
	assert_int_equal(access(path, F_OK), 0);
}

static void test_busy_and_cancelled(void **state)
{
	struct bench *bench = *state;
	const struct image_gc wanted = {false, 0};
	const struct image_scrub scrub = {0};
	const char *id, *other;
	struct err err;

	make(bench);
	litter();
	assert_int_equal(images_gc(bench->images, &wanted, &id, &err), 0);
	assert_int_equal(images_scrub(bench->images, &scrub, &other, &err), -1);
	assert_int_equal(err.code, ERR_BUSY);
	assert_int_equal(jobs_cancel(bench->jobs, id, &err), 0);
	assert_null(run(bench, id, ERR_CANCELLED));
	assert_int_equal(help_count("isos"), 1);
	/* the daemon ends in the middle of it */
	assert_int_equal(images_gc(bench->images, &wanted, &id, &err), 0);
	bench_reopen(bench);
	assert_int_equal(help_count("isos"), 1);
	json_t *result = gc(bench, false, 0);
	assert_int_equal(files(result), 5);
	json_decref(result);
}

static void test_killed(void **state)
{
	static const char *const points[] = {"image-gc:aside:before", "image-gc:aside:after",
					     "image-gc:file:before", "image-gc:file:after"};
	struct bench *bench = *state;
	const struct world world = make(bench);

	if (!BENCH_CRASH_POINTS)
		skip();
	for (size_t i = 0; i < ARRAY_LEN(points); i++) {
		litter();
		bench_close(bench);
		pid_t pid = fork();
		if (pid == 0) {
			struct bench child = {0};
			setenv("VDI_CRASH_AT", points[i], 1);
			memcpy(child.dir, bench->dir, sizeof(child.dir));
			bench_open(&child);
			gc(&child, false, 0);
			_exit(0);
		}
		int status = 0;
		assert_int_equal(waitpid(pid, &status, 0), pid);
		assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
		bench_open(bench);
		check_world(&world);
		assert_int_equal(help_count("tmp"), 0);
		json_decref(gc(bench, false, 0));
		check_world(&world);
		assert_int_equal(help_count("states"), 0);
	}
}

/* ---- scrub ---- */

static json_t *scrub(struct bench *bench, bool checksums, bool repair)
{
	const struct image_scrub wanted = {checksums, repair, 0};
	const char *id;
	struct err err;

	assert_int_equal(images_scrub(bench->images, &wanted, &id, &err), 0);
	json_t *result = run(bench, id, 0);
	json_t *findings = json_incref(json_object_get(result, "findings"));
	json_decref(result);
	return findings;
}

static size_t count(json_t *findings, const char *kind, bool repaired)
{
	size_t at, n = 0;
	json_t *finding;

	json_array_foreach(findings, at, finding) n +=
		strcmp(json_string_value(json_object_get(finding, "kind")), kind) == 0 &&
		json_is_true(json_object_get(finding, "repaired")) == repaired;
	return n;
}

static void test_scrub_whole(void **state)
{
	struct bench *bench = *state;

	make(bench);
	json_t *findings = scrub(bench, true, true);
	assert_int_equal(json_array_size(findings), 0);
	json_decref(findings);
}

static void test_scrub(void **state)
{
	struct bench *bench = *state;
	const struct world world = make(bench);
	char second[160];
	struct err err;

	const struct db_image *other = bench_import(bench, "other", "img");
	snprintf(second, sizeof(second), "images/%s", other->file);
	litter();
	assert_int_equal(help_run("touch tmp/left; chmod 644 images/%s; echo >> %s; chmod 440 %s",
				  world.base.file, second, second),
			 0);
	json_t *findings = scrub(bench, true, false);
	assert_int_equal(count(findings, "unreachable", false), 5);
	assert_int_equal(count(findings, "foreign", false), 3);
	assert_int_equal(count(findings, "mode", false), 1);
	assert_int_equal(count(findings, "tmp", false), 1);
	assert_int_equal(count(findings, "checksum", false), 1);
	assert_int_equal(json_array_size(findings), 11);
	json_decref(findings);
	assert_int_equal(help_count("isos"), 1);
	assert_string_equal(other->broken, "");

	findings = scrub(bench, true, true);
	assert_int_equal(count(findings, "unreachable", true), 5);
	assert_int_equal(count(findings, "mode", true), 1);
	assert_int_equal(count(findings, "checksum", true), 1);
	json_decref(findings);
	assert_true(other->broken[0]);
	check_world(&world);
	assert_int_equal(help_run("test $(stat -c %%a images/%s) = 440", world.base.file), 0);

	/* a row without its file; and the version that stands on it */
	assert_int_equal(help_run("rm -f images/%s overlays/%s", world.base.file,
				  world.desk.disks[DB_DISK_SYSTEM].file),
			 0);
	findings = scrub(bench, false, true);
	assert_int_equal(count(findings, "missing", true), 1);
	assert_int_equal(count(findings, "missing", false), 1);
	json_decref(findings);
	assert_true(images_find(bench->images, "base:1", &err)->broken[0]);
}

static void test_scrub_chains(void **state)
{
	struct bench *bench = *state;
	const struct world world = make(bench);
	const char *top = world.desk.disks[DB_DISK_SYSTEM].file;
	const char *const hows[] = {"../images/gone.qcow2", "/etc/passwd",
				    "../overlays/other.qcow2", top};
	char name[160];

	assert_int_equal(help_run("cp overlays/%s overlays/other.qcow2", world.below), 0);
	for (size_t i = 0; i < ARRAY_LEN(hows); i++) {
		snprintf(name, sizeof(name), "%s%s", hows[i] == top ? "../overlays/" : "", hows[i]);
		assert_int_equal(help_run("qemu-img rebase -u -f qcow2 -b %s -F qcow2 overlays/%s",
					  name, top),
				 0);
		json_t *findings = scrub(bench, false, false);
		assert_int_equal(count(findings, "chain", false), 1);
		json_decref(findings);
	}
}

/* ---- usage ---- */

static void on_usage(void *data, json_t *usage, const struct err *err)
{
	*(json_t **)data = usage;
}

static int64_t number(const json_t *json, const char *key)
{
	return json_integer_value(json_object_get(json, key));
}

static void test_usage(void **state)
{
	struct bench *bench = *state;
	const struct world world = make(bench);
	json_t *usage = NULL;
	struct err err;

	litter();
	assert_int_equal(images_usage(bench->images, NULL, true, on_usage, &usage, &err), 0);
	while (!usage)
		uv_run(&bench->loop, UV_RUN_ONCE);
	assert_true(number(usage, "used_bytes") > number(usage, "reclaimable_bytes"));
	assert_true(number(usage, "reclaimable_bytes") >= 5 * 10000);
	assert_true(number(usage, "total_bytes") > 0);
	const json_t *image = json_array_get(json_object_get(usage, "images"), 0);
	assert_int_equal(number(image, "bytes"), world.base.file_size);
	assert_int_equal(number(image, "clones"), 1);
	const json_t *owners = json_object_get(usage, "owners");
	assert_int_equal(json_array_size(owners), 2);
	assert_int_equal(number(json_array_get(owners, 1), "counted_bytes"), 8 << 20);
	assert_int_equal(json_array_size(json_object_get(usage, "desktops")), 1);
	json_decref(usage);
	usage = NULL;
	assert_int_equal(images_usage(bench->images, "bob", true, on_usage, &usage, &err), 0);
	while (!usage)
		uv_run(&bench->loop, UV_RUN_ONCE);
	assert_int_equal(json_array_size(json_object_get(usage, "owners")), 0);
	assert_int_equal(json_array_size(json_object_get(usage, "desktops")), 0);
	json_decref(usage);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
#define TEST(name) cmocka_unit_test_setup_teardown(name, bench_new, bench_free)
		TEST(test_removes),
		TEST(test_row_comes_late),
		TEST(test_roots_of_others),
		TEST(test_unreadable_header),
		TEST(test_busy_and_cancelled),
		TEST(test_killed),
		TEST(test_scrub_whole),
		TEST(test_scrub),
		TEST(test_scrub_chains),
		TEST(test_usage),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
