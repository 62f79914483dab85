#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "help.h"
#include "storage/file.h"

static char dir[64];

static void test_names(void **state)
{
	char longest[STORAGE_FILE_NAME_MAX + 2];

	assert_true(storage_name_ok("a"));
	assert_true(storage_name_ok("0f-1.qcow2"));
	assert_false(storage_name_ok(""));
	assert_false(storage_name_ok("."));
	assert_false(storage_name_ok(".."));
	assert_false(storage_name_ok(".hidden"));
	assert_false(storage_name_ok("a/b"));
	assert_false(storage_name_ok("../a"));
	assert_false(storage_name_ok("a b"));
	assert_false(storage_name_ok("a\n"));
	memset(longest, 'a', sizeof(longest));
	longest[STORAGE_FILE_NAME_MAX] = '\0';
	assert_true(storage_name_ok(longest));
	longest[STORAGE_FILE_NAME_MAX] = 'a';
	longest[STORAGE_FILE_NAME_MAX + 1] = '\0';
	assert_false(storage_name_ok(longest));
}

static void refused(const char *path, enum err_code code, const char *word)
{
	struct err err = {0};
	int fd = -7;

	assert_int_equal(storage_open(AT_FDCWD, path, O_RDONLY, &fd, &err), -1);
	assert_int_equal(fd, -7);
	assert_int_equal(err.code, code);
	if (!strstr(err.msg, word))
		fail_msg("%s: \"%s\" does not say \"%s\"", path, err.msg, word);
}

static void make_socket(const char *path)
{
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

	strcpy(address.sun_path, path);
	assert_int_equal(bind(fd, (struct sockaddr *)&address, sizeof(address)), 0);
	close(fd);
}

static void test_only_regular_files(void **state)
{
	struct err err = {0};
	int fd;

	help_write("plain", "x", 1);
	assert_int_equal(symlink("plain", "link"), 0);
	assert_int_equal(mkfifo("fifo", 0600), 0);
	make_socket("socket");
	assert_int_equal(storage_open(AT_FDCWD, "plain", O_RDONLY, &fd, &err), 0);
	assert_true(fcntl(fd, F_GETFD) & FD_CLOEXEC);
	close(fd);
	refused("link", ERR_UNSUPPORTED, "symbolic link");
	refused("fifo", ERR_UNSUPPORTED, "FIFO");
	refused("socket", ERR_UNSUPPORTED, "socket");
	refused(".", ERR_UNSUPPORTED, "directory");
	refused("/dev/zero", ERR_UNSUPPORTED, "character device");
	refused("gone", ERR_NOT_FOUND, "gone");
	if (mknod("block", S_IFBLK | 0600, 0) == 0)
		refused("block", ERR_UNSUPPORTED, "block device");
}

static void test_permission_denied(void **state)
{
	if (geteuid() != 0)
		skip();
	help_write("secret", "x", 1);
	assert_int_equal(chmod("secret", 0600), 0);
	assert_int_equal(chmod(dir, 0755), 0);
	assert_int_equal(seteuid(65534), 0);
	refused("secret", ERR_DENIED, "Permission denied");
	assert_int_equal(seteuid(0), 0);
}

static int check(const char *path, int flags, struct err *err)
{
	int fd = open(path, flags | O_CLOEXEC);

	assert_true(fd >= 0);
	int ret = storage_check_fd(fd, err);
	close(fd);
	return ret;
}

static void test_passed_descriptors(void **state)
{
	struct err err = {0};
	int pipe_fds[2];

	assert_int_equal(check("plain", O_RDONLY, &err), 0);
	assert_int_equal(check("plain", O_RDWR, &err), 0);
	assert_int_equal(check("plain", O_WRONLY, &err), -1);
	assert_int_equal(err.code, ERR_DENIED);
	assert_int_equal(check("plain", O_PATH, &err), -1);
	assert_int_equal(err.code, ERR_DENIED);
	assert_int_equal(check(".", O_RDONLY, &err), -1);
	assert_int_equal(err.code, ERR_UNSUPPORTED);
	assert_int_equal(pipe2(pipe_fds, O_CLOEXEC), 0);
	assert_int_equal(storage_check_fd(pipe_fds[0], &err), -1);
	assert_non_null(strstr(err.msg, "FIFO"));
	close(pipe_fds[0]);
	close(pipe_fds[1]);
	assert_int_equal(storage_check_fd(pipe_fds[0], &err), -1);
	assert_int_equal(err.code, ERR_INVALID);
}

static void test_read_past_the_end(void **state)
{
	struct err err = {0};
	char bytes[4];
	int fd;

	help_write("four", "1234", 4);
	assert_int_equal(storage_open(AT_FDCWD, "four", O_RDONLY, &fd, &err), 0);
	assert_int_equal(storage_pread(fd, bytes, 4, 0, &err), 0);
	assert_memory_equal(bytes, "1234", 4);
	assert_int_equal(storage_pread(fd, bytes, 4, 1, &err), -1);
	assert_int_equal(err.code, ERR_CORRUPT);
	assert_int_equal(storage_pread(fd, bytes, 4, UINT64_MAX, &err), -1);
	assert_int_equal(storage_pwrite(fd, bytes, 4, 0, &err), -1);
	assert_int_equal(err.code, ERR_IO);
	close(fd);
}

static int setup(void **state)
{
	help_dir(dir, sizeof(dir));
	return 0;
}

static int teardown(void **state)
{
	help_remove_dir(dir);
	return 0;
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_names),
		cmocka_unit_test(test_only_regular_files),
		cmocka_unit_test(test_permission_denied),
		cmocka_unit_test(test_passed_descriptors),
		cmocka_unit_test(test_read_past_the_end),
	};

	return cmocka_run_group_tests(tests, setup, teardown);
}
