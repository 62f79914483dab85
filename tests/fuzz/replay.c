/*
 * Runs a fuzz target over a corpus without a fuzzer: each file whole, and each of its beginnings
 * (input that ends too early). `replay DIR...`
 */
#include <dirent.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define INPUT_MAX    (1u << 20)
#define PREFIXES_MAX 2048

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static size_t read_file(const char *path, uint8_t *ret)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	size_t size = 0;
	ssize_t n;
	while (fd >= 0 && (n = read(fd, ret + size, INPUT_MAX - size)) > 0)
		size += (size_t)n;
	if (fd >= 0)
		close(fd);
	return size;
}

/* in memory of its own, so that a sanitizer sees reading past the end */
static void run(const uint8_t *data, size_t size)
{
	uint8_t *copy = malloc(size ? size : 1);
	if (!copy)
		abort();
	memcpy(copy, data, size);
	LLVMFuzzerTestOneInput(copy, size);
	free(copy);
}

static int replay_dir(const char *dir, uint8_t *buffer)
{
	int files = 0;
	DIR *d = opendir(dir);
	for (struct dirent *entry; d && (entry = readdir(d));) {
		char path[4096];
		if (entry->d_name[0] == '.')
			continue;
		snprintf(path, sizeof(path), "%s/%s", dir, entry->d_name);
		size_t size = read_file(path, buffer);
		for (size_t n = 0; n < size && n < PREFIXES_MAX; n++)
			run(buffer, n);
		run(buffer, size);
		files++;
	}
	if (d)
		closedir(d);
	return files;
}

int main(int argc, char **argv)
{
	uint8_t *buffer = malloc(INPUT_MAX);
	int files = 0;
	for (int i = 1; buffer && i < argc; i++)
		files += replay_dir(argv[i], buffer);
	free(buffer);
	printf("%d inputs\n", files);
	return files > 0 ? 0 : 1; /* a corpus that is not there proves nothing */
}
