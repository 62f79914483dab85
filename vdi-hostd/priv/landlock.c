#include "vdi-hostd/priv/landlock.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/landlock.h>
#include <stdint.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/mem.h"

/* rights of later ABIs, which Debian 12's headers do not name yet */
#define ACCESS_TRUNCATE  (1ULL << 14) /* ABI 3 */
#define ACCESS_IOCTL_DEV (1ULL << 15) /* ABI 5 */

static const char *const library_dirs[] = {"/usr/lib", "/usr/lib64", "/lib", "/lib64",
					   "/usr/local/lib"};
static const char *const library_files[] = {"/etc/ld.so.cache", "/etc/ld.so.preload",
					    "/dev/urandom", "/dev/null"};

static int abi(void)
{
	return (int)syscall(SYS_landlock_create_ruleset, NULL, 0, LANDLOCK_CREATE_RULESET_VERSION);
}

bool landlock_is_there(void)
{
	return abi() >= 1;
}

static uint64_t handled(int version)
{
	/* all of ABI 1 */
	uint64_t rights = (LANDLOCK_ACCESS_FS_MAKE_SYM << 1) - 1;
	if (version >= 2)
		rights |= LANDLOCK_ACCESS_FS_REFER;
	if (version >= 3)
		rights |= ACCESS_TRUNCATE;
	if (version >= 5)
		rights |= ACCESS_IOCTL_DEV;
	return rights;
}

static int allow_fd(int ruleset, int fd, uint64_t rights)
{
	struct landlock_path_beneath_attr rule = {.allowed_access = rights, .parent_fd = fd};
	return (int)syscall(SYS_landlock_add_rule, ruleset, LANDLOCK_RULE_PATH_BENEATH, &rule, 0);
}

/* what is not there needs no rule */
static int allow_path(int ruleset, const char *path, uint64_t rights)
{
	_cleanup_close_ int fd = open(path, O_PATH | O_CLOEXEC);
	return fd < 0 ? 0 : allow_fd(ruleset, fd, rights);
}

int landlock_for_tool(const char *binary, const int *read, size_t n_read, int both, int *ret_fd,
		      struct err *err)
{
	const int version = abi();
	const uint64_t library = LANDLOCK_ACCESS_FS_READ_FILE | LANDLOCK_ACCESS_FS_EXECUTE;
	uint64_t write = LANDLOCK_ACCESS_FS_READ_FILE | LANDLOCK_ACCESS_FS_WRITE_FILE;
	struct landlock_ruleset_attr attr = {.handled_access_fs = handled(version)};

	if (version < 1)
		return err_set(err, ERR_UNSUPPORTED, "the kernel has no Landlock");
	if (version >= 3)
		write |= ACCESS_TRUNCATE;
	_cleanup_close_ int ruleset =
		(int)syscall(SYS_landlock_create_ruleset, &attr, sizeof(attr), 0);
	if (ruleset < 0)
		return err_set_sys(err, ERR_IO, errno, "cannot make a Landlock ruleset");
	bool ok = allow_path(ruleset, binary, library) == 0 &&
		  /* where it finds out how to lock files */
		  allow_path(ruleset, "/dev/null", write) == 0 &&
		  allow_fd(ruleset, both, write) == 0;
	for (size_t i = 0; ok && i < n_read; i++)
		ok = allow_fd(ruleset, read[i], LANDLOCK_ACCESS_FS_READ_FILE) == 0;
	for (size_t i = 0; ok && i < ARRAY_LEN(library_dirs); i++)
		ok = allow_path(ruleset, library_dirs[i], library | LANDLOCK_ACCESS_FS_READ_DIR) ==
		     0;
	for (size_t i = 0; ok && i < ARRAY_LEN(library_files); i++)
		ok = allow_path(ruleset, library_files[i], LANDLOCK_ACCESS_FS_READ_FILE) == 0;
	if (!ok)
		return err_set_sys(err, ERR_IO, errno, "cannot fill a Landlock ruleset");
	*ret_fd = TAKE_FD(ruleset);
	return 0;
}
