#include "help.h"

#include <dirent.h>
#include <endian.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

static void must(bool ok, const char *what)
{
	if (ok)
		return;
	perror(what);
	abort();
}

void help_dir(char *ret, size_t size)
{
	snprintf(ret, size, "/tmp/test-storage-XXXXXX");
	must(mkdtemp(ret) != NULL, "mkdtemp");
	must(chdir(ret) == 0, "chdir");
}

void help_remove_dir(const char *dir)
{
	must(chdir("/") == 0, "chdir");
	must(help_run("rm -rf '%s'", dir) == 0, "rm");
}

int help_run(const char *fmt, ...)
{
	char command[1024];
	va_list args;

	va_start(args, fmt);
	vsnprintf(command, sizeof(command), fmt, args);
	va_end(args);
	int status = system(command);
	return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

void help_write(const char *path, const void *bytes, size_t len)
{
	int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);

	must(fd >= 0 && write(fd, bytes, len) == (ssize_t)len, path);
	close(fd);
}

void help_poke(const char *path, uint64_t offset, const void *bytes, size_t len)
{
	int fd = open(path, O_WRONLY | O_CLOEXEC);

	must(fd >= 0 && pwrite(fd, bytes, len, (off_t)offset) == (ssize_t)len, path);
	close(fd);
}

void help_poke32(const char *path, uint64_t offset, uint32_t value)
{
	value = htobe32(value);
	help_poke(path, offset, &value, sizeof(value));
}

void help_poke64(const char *path, uint64_t offset, uint64_t value)
{
	value = htobe64(value);
	help_poke(path, offset, &value, sizeof(value));
}

size_t help_count(const char *path)
{
	DIR *dir = opendir(path);
	size_t n = 0;

	must(dir != NULL, path);
	for (struct dirent *entry; (entry = readdir(dir));)
		n += entry->d_name[0] != '.';
	closedir(dir);
	return n;
}

bool help_same(const char *a, const char *b)
{
	return help_run("cmp -s '%s' '%s'", a, b) == 0;
}
