#include "vdi-hostd/priv/cgroup.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/xattr.h>
#include <unistd.h>

#include "base/mem.h"

#define LEAF "daemon"

/* "MEMORY_BYTES WEIGHT" on a desktop's group (kernel 5.7 has them on cgroup2) */
#define LIMITS_XATTR "user.vdi-hostd.limits"

static int write_file(const char *dir, const char *file, const char *text)
{
	char path[640];
	snprintf(path, sizeof(path), "%s/%s", dir, file);
	_cleanup_close_ int fd = open(path, O_WRONLY | O_CLOEXEC);
	if (fd < 0)
		return -1;
	return write(fd, text, strlen(text)) < 0 ? -1 : 0;
}

static bool file_has_word(const char *dir, const char *file, const char *word)
{
	char path[640], text[512];
	snprintf(path, sizeof(path), "%s/%s", dir, file);
	_cleanup_close_ int fd = open(path, O_RDONLY | O_CLOEXEC);
	ssize_t n = fd < 0 ? -1 : read(fd, text, sizeof(text) - 1);
	if (n < 0)
		return false;
	text[n] = '\0';
	char *save = NULL;
	for (char *w = strtok_r(text, " \n", &save); w; w = strtok_r(NULL, " \n", &save))
		if (strcmp(w, word) == 0)
			return true;
	return false;
}

/* proc(5): "... ROOT MOUNT_POINT OPTIONS ... - cgroup2 ..." */
static bool find_mount(const char *mounts, char *ret, size_t size)
{
	char line[1024], point[512];
	bool found = false;
	FILE *f = fopen(mounts, "re");
	while (f && !found && fgets(line, sizeof(line), f)) {
		if (!strstr(line, " - cgroup2 ") ||
		    sscanf(line, "%*s %*s %*s %*s %511s", point) != 1)
			continue;
		found = snprintf(ret, size, "%s", point) < (int)size;
	}
	if (f)
		fclose(f);
	return found;
}

/* cgroups(7): version 2 is the line "0::PATH" */
static bool find_self(const char *self, char *ret, size_t size)
{
	char line[1024];
	bool found = false;
	FILE *f = fopen(self, "re");
	while (f && !found && fgets(line, sizeof(line), f)) {
		if (strncmp(line, "0::", 3) != 0)
			continue;
		line[strcspn(line, "\n")] = '\0';
		found = snprintf(ret, size, "%s", line + 3) < (int)size;
	}
	if (f)
		fclose(f);
	return found;
}

/* a group with processes of its own may not hand controllers down: the daemon goes into a leaf */
static bool move_to_leaf(const char *base)
{
	char leaf[576];
	snprintf(leaf, sizeof(leaf), "%s/" LEAF, base);
	if (mkdir(leaf, 0755) < 0 && errno != EEXIST)
		return false;
	return write_file(leaf, "cgroup.procs", "0") == 0;
}

static void move_back(const char *base)
{
	char leaf[576];
	snprintf(leaf, sizeof(leaf), "%s/" LEAF, base);
	if (write_file(base, "cgroup.procs", "0") == 0)
		rmdir(leaf);
}

/* systemd.exec(5) INVOCATION_ID; it marks the groups that it gave away (CGROUP_DELEGATION.md) */
static bool is_ours(const char *base)
{
	char value[8] = "";
	if (!getenv("INVOCATION_ID"))
		return true;
	if (getxattr(base, "trusted.delegate", value, sizeof(value) - 1) < 0 &&
	    getxattr(base, "user.delegate", value, sizeof(value) - 1) < 0)
		return false;
	return strcmp(value, "1") == 0;
}

static int set_limits(const struct cgroup *cgroup, const char *path, unsigned long long memory,
		      unsigned int weight)
{
	char value[32];
	snprintf(value, sizeof(value), "%llu", memory);
	if (cgroup->memory && write_file(path, "memory.max", value) < 0)
		return -1;
	snprintf(value, sizeof(value), "%u", weight);
	return cgroup->cpu ? write_file(path, "cpu.weight", value) : 0;
}

/* desktops that run on from before lost theirs if the controllers were away meanwhile */
static void restore_limits(const struct cgroup *cgroup)
{
	DIR *dir = opendir(cgroup->base);
	for (struct dirent *entry; dir && (entry = readdir(dir));) {
		char path[PATH_MAX], value[64] = "";
		unsigned long long memory;
		unsigned int weight;
		if (strncmp(entry->d_name, "vdi", 3) != 0)
			continue;
		snprintf(path, sizeof(path), "%s/%s", cgroup->base, entry->d_name);
		if (getxattr(path, LIMITS_XATTR, value, sizeof(value) - 1) > 0 &&
		    sscanf(value, "%llu %u", &memory, &weight) == 2)
			(void)!set_limits(cgroup, path, memory, weight);
	}
	if (dir)
		closedir(dir);
}

void cgroup_open(struct cgroup *ret, const char *self, const char *mounts)
{
	char mount[256], path[256];
	*ret = (struct cgroup){0};
	if (!find_mount(mounts, mount, sizeof(mount)) || !find_self(self, path, sizeof(path)))
		return;
	/* started by a supervisor that put us into the leaf itself */
	char *last = strrchr(path, '/');
	bool in_leaf = last && strcmp(last, "/" LEAF) == 0;
	if (in_leaf)
		*last = '\0';
	if (path[0] == '\0' || strcmp(path, "/") == 0)
		return; /* the root group is nobody's to divide */
	char base[sizeof(ret->base)];
	if (snprintf(base, sizeof(base), "%s%s", mount, path) >= (int)sizeof(base))
		return;
	bool memory = file_has_word(base, "cgroup.controllers", "memory");
	bool cpu = file_has_word(base, "cgroup.controllers", "cpu");
	if ((!memory && !cpu) || !is_ours(base) || (!in_leaf && !move_to_leaf(base)))
		return;
	ret->memory = memory && write_file(base, "cgroup.subtree_control", "+memory") == 0;
	ret->cpu = cpu && write_file(base, "cgroup.subtree_control", "+cpu") == 0;
	if (ret->memory || ret->cpu) {
		memcpy(ret->base, base, sizeof(base));
		restore_limits(ret);
	} else if (!in_leaf) {
		move_back(base);
	}
}

static void group_path(const struct cgroup *cgroup, uint32_t slot, char *ret, size_t size)
{
	snprintf(ret, size, "%s/vdi%u", cgroup->base, slot);
}

int cgroup_create(const struct cgroup *cgroup, uint32_t slot, uint64_t memory_mib, uint32_t vcpus,
		  int *ret_procs, struct err *err)
{
	char path[576], procs[640], value[64];
	const unsigned long long memory = (unsigned long long)memory_mib << 20;
	const unsigned int weight = vcpus > 100 ? 10000 : vcpus * 100;
	if (!cgroup->base[0]) {
		*ret_procs = -1;
		return 0;
	}
	group_path(cgroup, slot, path, sizeof(path));
	if (mkdir(path, 0755) < 0 && errno != EEXIST)
		return err_set_sys(err, ERR_IO, errno, "cannot make the cgroup %s", path);
	snprintf(value, sizeof(value), "%llu %u", memory, weight);
	if (set_limits(cgroup, path, memory, weight) < 0)
		return err_set_sys(err, ERR_IO, errno, "cannot set the limits of %s", path);
	/* where attributes cannot be had, limits do not outlive the daemon's leave: no reason to
	 * refuse a desktop */
	(void)setxattr(path, LIMITS_XATTR, value, strlen(value), 0);
	snprintf(procs, sizeof(procs), "%s/cgroup.procs", path);
	int fd = open(procs, O_WRONLY | O_CLOEXEC);
	if (fd < 0)
		return err_set_sys(err, ERR_IO, errno, "cannot open %s", procs);
	*ret_procs = fd;
	return 0;
}

int cgroup_delete(const struct cgroup *cgroup, uint32_t slot, struct err *err)
{
	char path[576];
	if (!cgroup->base[0])
		return 0;
	group_path(cgroup, slot, path, sizeof(path));
	if (rmdir(path) == 0 || errno == ENOENT)
		return 0;
	return err_set_sys(err, err_from_errno(errno), errno, "cannot remove the cgroup %s", path);
}
