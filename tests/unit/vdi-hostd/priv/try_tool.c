/*
 * Stands in qemu-img's place and tries what a qemu-img taken over by an image might. Descriptors 3
 * and 4 are the two files; it reads the name of a folder with a file `secret` from the first, and
 * writes what it should not have been able to do into the second.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/ptrace.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/xattr.h>
#include <unistd.h>

static FILE *out;

static void must_fail(const char *what, long result)
{
	if (result >= 0)
		fprintf(out, "%s worked\n", what);
}

int main(void)
{
	char dir[256] = "", secret[300], other[300];
	FILE *in = fopen("/proc/self/fd/3", "r");
	out = fopen("/proc/self/fd/4", "w");
	if (!in || !out || !fgets(dir, sizeof(dir), in)) {
		fprintf(stderr, "its own files: %s\n", strerror(errno));
		return 1;
	}
	dir[strcspn(dir, "\n")] = '\0';
	snprintf(secret, sizeof(secret), "%s/secret", dir);
	snprintf(other, sizeof(other), "%s/other", dir);

	must_fail("reading /etc/shadow", open("/etc/shadow", O_RDONLY));
	must_fail("reading /etc/passwd", open("/etc/passwd", O_RDONLY));
	must_fail("reading", open(secret, O_RDONLY));
	must_fail("writing", open(secret, O_WRONLY));
	must_fail("creating", open(other, O_WRONLY | O_CREAT, 0600));
	must_fail("listing", open(dir, O_RDONLY | O_DIRECTORY));
	must_fail("writing its source", open("/proc/self/fd/3", O_WRONLY));
	must_fail("truncating", truncate(secret, 0));
	must_fail("setxattr", setxattr(secret, "user.x", "x", 1, 0));
	must_fail("chmod", chmod(secret, 0777));
	must_fail("chown", chown(secret, 0, 0));
	must_fail("utimes", utimensat(AT_FDCWD, secret, NULL, 0));
	must_fail("unlinking", unlink(secret));
	must_fail("renaming", rename(secret, other));
	must_fail("mkdir", mkdir(other, 0700));
	must_fail("symlink", symlink("x", other));
	must_fail("a UNIX socket", socket(AF_UNIX, SOCK_STREAM, 0));
	must_fail("an IP socket", socket(AF_INET, SOCK_STREAM, 0));
	must_fail("io_uring", syscall(SYS_io_uring_setup, 1, NULL));
	must_fail("ptrace", ptrace(PTRACE_TRACEME, 0, NULL, NULL));
	must_fail("setuid", setuid(0));
	must_fail("running a shell", execl("/bin/sh", "sh", "-c", ":", NULL));
	fprintf(out, "done\n");
	return fclose(out) == 0 ? 0 : 1;
}
