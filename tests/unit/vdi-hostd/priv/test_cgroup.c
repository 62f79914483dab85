#include "vdi-hostd/priv/cgroup.h"

#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/xattr.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/mem.h"

/*
 * A tree of plain files stands in for cgroup2: what is written can be read back.
 */
struct tree {
	char dir[64], self[96], mounts[96];
};

static void put(const struct tree *tree, const char *file, const char *text)
{
	char path[256];
	snprintf(path, sizeof(path), "%s/%s", tree->dir, file);
	FILE *f = fopen(path, "we");
	assert_non_null(f);
	fputs(text, f);
	fclose(f);
}

static void make_dir(const struct tree *tree, const char *name)
{
	char path[256];
	snprintf(path, sizeof(path), "%s/%s", tree->dir, name);
	assert_int_equal(mkdir(path, 0755), 0);
}

static void assert_file(const struct tree *tree, const char *file, const char *expect)
{
	char path[256], text[256] = "";
	snprintf(path, sizeof(path), "%s/%s", tree->dir, file);
	_cleanup_close_ int fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0 || read(fd, text, sizeof(text) - 1) < 0)
		fail_msg("%s cannot be read", path);
	assert_string_equal(text, expect);
}

static int setup(void **state)
{
	unsetenv("INVOCATION_ID");
	struct tree *tree = mem_new(struct tree);
	char mounts[256];
	strcpy(tree->dir, "/tmp/vdi-cgroup-XXXXXX");
	assert_non_null(mkdtemp(tree->dir));
	snprintf(tree->self, sizeof(tree->self), "%s/self", tree->dir);
	snprintf(tree->mounts, sizeof(tree->mounts), "%s/mounts", tree->dir);
	snprintf(mounts, sizeof(mounts),
		 "21 1 0:20 / /proc rw - proc proc rw\n"
		 "30 21 0:26 / %s rw,nosuid shared:4 - cgroup2 cgroup2 rw\n",
		 tree->dir);
	put(tree, "mounts", mounts);
	put(tree, "self", "1:name=systemd:/\n0::/service\n");
	make_dir(tree, "service");
	make_dir(tree, "service/daemon");
	put(tree, "service/cgroup.controllers", "cpuset cpu io memory pids\n");
	put(tree, "service/cgroup.subtree_control", "");
	put(tree, "service/cgroup.procs", "");
	put(tree, "service/daemon/cgroup.procs", "");
	*state = tree;
	return 0;
}

static int teardown(void **state)
{
	struct tree *tree = *state;
	char command[128];
	snprintf(command, sizeof(command), "rm -rf %s", tree->dir);
	assert_int_equal(system(command), 0);
	free(tree);
	return 0;
}

/* the files that a kernel would make with the folder */
static void make_group(const struct tree *tree, const char *name)
{
	static const char *const files[] = {"cgroup.procs", "memory.max", "cpu.weight"};
	char path[128];
	make_dir(tree, name);
	for (size_t i = 0; i < ARRAY_LEN(files); i++) {
		snprintf(path, sizeof(path), "%s/%s", name, files[i]);
		put(tree, path, "");
	}
}

static void test_delegated(void **state)
{
	const struct tree *tree = *state;
	struct cgroup cgroup;
	struct err err = {0};
	int procs;

	cgroup_open(&cgroup, tree->self, tree->mounts);
	assert_true(cgroup.memory);
	assert_true(cgroup.cpu);
	assert_file(tree, "service/daemon/cgroup.procs", "0");
	make_group(tree, "service/vdi7");
	if (cgroup_create(&cgroup, 7, 2048, 4, &procs, &err) < 0)
		fail_msg("%s", err.msg);
	assert_true(procs >= 0);
	close(procs);
	assert_file(tree, "service/vdi7/memory.max", "2147483648");
	assert_file(tree, "service/vdi7/cpu.weight", "400");
	/* the kernel's files go with the folder; here they keep it busy */
	assert_int_equal(cgroup_delete(&cgroup, 7, &err), -1);
	assert_int_equal(cgroup_delete(&cgroup, 8, &err), 0);
}

static void test_started_in_leaf(void **state)
{
	const struct tree *tree = *state;
	struct cgroup cgroup;

	put(tree, "self", "0::/service/daemon\n");
	cgroup_open(&cgroup, tree->self, tree->mounts);
	assert_true(cgroup.memory);
	assert_int_equal(strcmp(cgroup.base + strlen(cgroup.base) - 8, "/service"), 0);
	assert_file(tree, "service/daemon/cgroup.procs", "");
}

static void assert_none(const struct tree *tree)
{
	struct cgroup cgroup;
	struct err err;
	int procs = 99;

	cgroup_open(&cgroup, tree->self, tree->mounts);
	assert_false(cgroup.memory);
	assert_false(cgroup.cpu);
	assert_string_equal(cgroup.base, "");
	assert_int_equal(cgroup_create(&cgroup, 7, 2048, 4, &procs, &err), 0);
	assert_int_equal(procs, -1);
	assert_int_equal(cgroup_delete(&cgroup, 7, &err), 0);
}

static void test_absent(void **state)
{
	const struct tree *tree = *state;

	put(tree, "service/cgroup.controllers", "\n");
	assert_none(tree);
	put(tree, "service/cgroup.controllers", "memorycpu pids\n");
	assert_none(tree);
	put(tree, "service/cgroup.controllers", "memory cpu\n");
	put(tree, "self", "0::/\n");
	assert_none(tree);
	put(tree, "self", "4:memory:/x\n");
	assert_none(tree);
	put(tree, "self", "0::/gone\n");
	assert_none(tree);
	put(tree, "self", "0::/service\n");
	put(tree, "mounts", "30 21 0:26 / /x rw - cgroup cgroup rw,memory\n");
	assert_none(tree);
	unlink(tree->mounts);
	assert_none(tree);
	unlink(tree->self);
	assert_none(tree);
}

/* one controller is better than none */
static void test_memory_alone(void **state)
{
	const struct tree *tree = *state;
	struct cgroup cgroup;

	put(tree, "service/cgroup.controllers", "memory\n");
	cgroup_open(&cgroup, tree->self, tree->mounts);
	assert_true(cgroup.memory);
	assert_false(cgroup.cpu);
}

/* the controllers were away, and with them the limits of what runs */
static void test_restored(void **state)
{
	const struct tree *tree = *state;
	struct cgroup cgroup;
	struct err err;
	char path[128];
	int procs;

	cgroup_open(&cgroup, tree->self, tree->mounts);
	make_group(tree, "service/vdi7");
	make_group(tree, "service/vdi8"); /* nothing is known of this one */
	assert_int_equal(cgroup_create(&cgroup, 7, 2048, 4, &procs, &err), 0);
	close(procs);
	snprintf(path, sizeof(path), "%s/service/vdi7", tree->dir);
	if (getxattr(path, "user.vdi-hostd.limits", NULL, 0) < 0) {
		print_message("no extended attributes here\n");
		skip();
	}
	put(tree, "service/vdi7/memory.max", "");
	put(tree, "service/vdi7/cpu.weight", "");
	cgroup_open(&cgroup, tree->self, tree->mounts);
	assert_file(tree, "service/vdi7/memory.max", "2147483648");
	assert_file(tree, "service/vdi7/cpu.weight", "400");
	assert_file(tree, "service/vdi8/memory.max", "");
}

/* what systemd did not give away stays as it is */
static void test_not_delegated(void **state)
{
	const struct tree *tree = *state;
	struct cgroup cgroup;
	char path[128];

	setenv("INVOCATION_ID", "0123", 1);
	assert_none(tree);
	assert_file(tree, "service/daemon/cgroup.procs", "");
	snprintf(path, sizeof(path), "%s/service", tree->dir);
	if (setxattr(path, "user.delegate", "1", 1, 0) == 0) {
		cgroup_open(&cgroup, tree->self, tree->mounts);
		assert_true(cgroup.memory);
	}
	unsetenv("INVOCATION_ID");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_delegated, setup, teardown),
		cmocka_unit_test_setup_teardown(test_started_in_leaf, setup, teardown),
		cmocka_unit_test_setup_teardown(test_absent, setup, teardown),
		cmocka_unit_test_setup_teardown(test_memory_alone, setup, teardown),
		cmocka_unit_test_setup_teardown(test_restored, setup, teardown),
		cmocka_unit_test_setup_teardown(test_not_delegated, setup, teardown),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
