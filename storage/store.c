#include "storage/store.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include "base/mem.h"
#include "base/str.h"
#include "storage/file.h"

#define FOLDERS 6

static const char *const folder_names[FOLDERS] = {
	[STORE_IMAGES] = "images", [STORE_OVERLAYS] = "overlays", [STORE_TMP] = "tmp",
	[STORE_ISOS] = "isos",     [STORE_BACKUPS] = "backups",   [STORE_STATES] = "states",
};

struct store {
	int fds[FOLDERS];
};

DEFINE_FREEP(struct store, store_free);

static int open_folder(int top, const char *name, int *ret_fd, struct err *err)
{
	if (mkdirat(top, name, 0700) < 0 && errno != EEXIST)
		return err_set_sys(err, err_from_errno(errno), errno,
				   "cannot make the store's folder %s", name);
	int fd = openat(top, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	if (fd < 0)
		return err_set_sys(err, err_from_errno(errno), errno,
				   "cannot open the store's folder %s", name);
	*ret_fd = fd;
	return 0;
}

int store_open(const char *path, struct store **ret, struct err *err)
{
	_cleanup_(store_freep) struct store *store = mem_new(struct store);

	for (int i = 0; i < FOLDERS; i++)
		store->fds[i] = -1;
	_cleanup_close_ int top = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (top < 0)
		return err_set_sys(err, err_from_errno(errno), errno,
				   "cannot open the store %.128s", path);
	for (int i = 0; i < FOLDERS; i++)
		if (open_folder(top, folder_names[i], &store->fds[i], err) < 0)
			return -1;
	if (fsync(top) < 0)
		return err_set_sys(err, ERR_IO, errno, "cannot sync the store %.128s", path);
	*ret = TAKE_PTR(store);
	return 0;
}

void store_free(struct store *store)
{
	if (!store)
		return;
	for (int i = 0; i < FOLDERS; i++)
		if (store->fds[i] >= 0)
			close(store->fds[i]);
	free(store);
}

static int check_name(const char *file, struct err *err)
{
	if (storage_name_ok(file))
		return 0;
	return err_set(err, ERR_INVALID, "this is no name for a file of the store");
}

static int file_err(struct err *err, const char *what, enum store_folder folder, const char *file)
{
	return err_set_sys(err, err_from_errno(errno), errno, "cannot %s %s/%s", what,
			   folder_names[folder], file);
}

int store_open_file(struct store *store, enum store_folder folder, const char *file, int flags,
		    int *ret_fd, struct err *err)
{
	if (check_name(file, err) < 0)
		return -1;
	if (storage_open(store->fds[folder], file, flags, ret_fd, err) < 0)
		return err_prefix(err, "%s", folder_names[folder]);
	return 0;
}

int store_create_tmp(struct store *store, const char *file, unsigned int mode, int *ret_fd,
		     struct err *err)
{
	if (check_name(file, err) < 0)
		return -1;
	_cleanup_close_ int fd = openat(store->fds[STORE_TMP], file,
					O_RDWR | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
	if (fd < 0)
		return file_err(err, "make", STORE_TMP, file);
	if (fchmod(fd, mode) < 0) {
		file_err(err, "set the mode of", STORE_TMP, file);
		unlinkat(store->fds[STORE_TMP], file, 0);
		return -1;
	}
	*ret_fd = TAKE_FD(fd);
	return 0;
}

static int sync_folder(struct store *store, enum store_folder folder, struct err *err)
{
	if (fsync(store->fds[folder]) < 0)
		return err_set_sys(err, ERR_IO, errno, "cannot sync the store's folder %s",
				   folder_names[folder]);
	return 0;
}

int store_move(struct store *store, enum store_folder from, const char *file, enum store_folder to,
	       const char *to_file, struct err *err)
{
	int from_fd = store->fds[from], to_fd = store->fds[to];

	if (check_name(file, err) < 0 || check_name(to_file, err) < 0)
		return -1;
	/* a link never replaces what is there, on any file system; a rename may */
	if (linkat(from_fd, file, to_fd, to_file, 0) < 0)
		return file_err(err, "make", to, to_file);
	if (unlinkat(from_fd, file, 0) < 0) {
		file_err(err, "remove", from, file);
		unlinkat(to_fd, to_file, 0);
		return -1;
	}
	if (sync_folder(store, to, err) < 0)
		return -1;
	return from == STORE_TMP ? 0 : sync_folder(store, from, err);
}

int store_delete(struct store *store, enum store_folder folder, const char *file, struct err *err)
{
	if (check_name(file, err) < 0)
		return -1;
	if (unlinkat(store->fds[folder], file, 0) < 0) {
		if (errno == ENOENT)
			return 0;
		return file_err(err, "remove", folder, file);
	}
	return folder == STORE_TMP || folder == STORE_OVERLAYS ? 0
							       : sync_folder(store, folder, err);
}

int store_has(struct store *store, enum store_folder folder, const char *file, bool *ret,
	      struct err *err)
{
	struct stat st;

	if (check_name(file, err) < 0)
		return -1;
	if (fstatat(store->fds[folder], file, &st, AT_SYMLINK_NOFOLLOW) == 0)
		*ret = S_ISREG(st.st_mode);
	else if (errno == ENOENT)
		*ret = false;
	else
		return file_err(err, "look at", folder, file);
	return 0;
}

int store_each(struct store *store, enum store_folder folder,
	       int (*cb)(void *data, const char *file), void *data, struct err *err)
{
	int ret = 0;
	int fd = openat(store->fds[folder], ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	DIR *dir = fd < 0 ? NULL : fdopendir(fd);

	if (!dir) {
		err_set_sys(err, err_from_errno(errno), errno, "cannot list the store's folder %s",
			    folder_names[folder]);
		if (fd >= 0)
			close(fd);
		return -1;
	}
	for (struct dirent *entry; ret == 0 && (entry = readdir(dir));)
		if (strcmp(entry->d_name, ".") != 0 && strcmp(entry->d_name, "..") != 0)
			ret = cb(data, entry->d_name);
	closedir(dir);
	return ret;
}

int store_allocated(struct store *store, enum store_folder folder, const char *file, int64_t *ret,
		    struct err *err)
{
	struct stat st;

	if (check_name(file, err) < 0)
		return -1;
	if (fstatat(store->fds[folder], file, &st, AT_SYMLINK_NOFOLLOW) < 0)
		return file_err(err, "look at", folder, file);
	*ret = (int64_t)st.st_blocks * 512;
	return 0;
}

int store_space(struct store *store, int64_t *ret_free, int64_t *ret_total, struct err *err)
{
	struct statvfs st;

	if (fstatvfs(store->fds[STORE_IMAGES], &st) < 0)
		return err_set_sys(err, ERR_IO, errno, "cannot tell the store's free space");
	*ret_free = (int64_t)(st.f_bavail * st.f_frsize);
	*ret_total = (int64_t)(st.f_blocks * st.f_frsize);
	return 0;
}

void store_backing_name(enum store_folder folder, const char *file, char ret[160])
{
	snprintf(ret, 160, "../%s/%.128s", folder_names[folder], file);
}

/*
 * Name a finished file, by one commit of the file system's journal in place of two. What was
 * written is on the disk before the name is there, so that the name never shows less; the sync of
 * the file takes its new name along (ext4, XFS and btrfs commit or log both together).
 */
static int name_overlay(struct store *store, int fd, const char *tmp, const char *file,
			struct err *err)
{
	const unsigned int now =
		SYNC_FILE_RANGE_WAIT_BEFORE | SYNC_FILE_RANGE_WRITE | SYNC_FILE_RANGE_WAIT_AFTER;

	/* not every file system can; then the first sync is a whole one */
	if (sync_file_range(fd, 0, 0, now) < 0 && fdatasync(fd) < 0)
		return err_set_sys(err, err_from_errno(errno), errno, "cannot write the overlay");
	/* a link never replaces what is there */
	if (linkat(store->fds[STORE_TMP], tmp, store->fds[STORE_OVERLAYS], file, 0) < 0)
		return file_err(err, "make", STORE_OVERLAYS, file);
	if (unlinkat(store->fds[STORE_TMP], tmp, 0) < 0)
		file_err(err, "remove", STORE_TMP, tmp);
	else if (fsync(fd) < 0)
		err_set_sys(err, err_from_errno(errno), errno, "cannot sync the overlay");
	else
		return 0;
	unlinkat(store->fds[STORE_OVERLAYS], file, 0);
	return -1;
}

static int write_overlay(struct store *store, const char *tmp, const char *file,
			 uint64_t virtual_size, const char *backing, struct err *err)
{
	_cleanup_close_ int fd = -1;

	if (store_create_tmp(store, tmp, 0600, &fd, err) < 0 ||
	    qcow2_write(fd, virtual_size, backing, backing ? "qcow2" : NULL, err) < 0 ||
	    name_overlay(store, fd, tmp, file, err) < 0)
		return -1;
	return 0;
}

/* the size that a clone has at least */
static int backing_size(struct store *store, enum store_folder folder, const char *backing,
			uint64_t *ret, struct err *err)
{
	struct qcow2_header base;
	_cleanup_close_ int fd = -1;

	if (store_open_file(store, folder, backing, O_RDONLY, &fd, err) < 0)
		return -1;
	if (qcow2_read(fd, QCOW2_ALLOW_BACKING, &base, err) < 0)
		return err_prefix(err, "%s/%.64s", folder_names[folder], backing);
	/* an image made from a raw file may end in half a sector; the clone rounds up */
	*ret = (base.virtual_size + 511) & ~UINT64_C(511);
	return 0;
}

int store_create_overlay(struct store *store, const char *file, enum store_folder folder,
			 const char *backing, uint64_t virtual_size, struct err *err)
{
	char tmp[32] = "overlay-", name[160];
	uint64_t least = 0;
	bool there;

	if (store_has(store, STORE_OVERLAYS, file, &there, err) < 0 ||
	    (backing && backing_size(store, folder, backing, &least, err) < 0))
		return -1;
	if (there)
		return err_set(err, ERR_EXISTS, "there is an overlay %s already", file);
	if (virtual_size == 0)
		virtual_size = least;
	if (virtual_size < least)
		return err_set_field(
			err, "size",
			"a clone cannot be smaller than what it stands on, which has %llu bytes",
			(unsigned long long)least);
	if (backing)
		store_backing_name(folder, backing, name);
	str_random_hex(tmp + strlen(tmp), 8);
	if (write_overlay(store, tmp, file, virtual_size, backing ? name : NULL, err) < 0) {
		if (unlinkat(store->fds[STORE_TMP], tmp, 0) < 0 && errno != ENOENT)
			err_prefix(err, "and tmp/%s stays behind", tmp);
		return -1;
	}
	return 0;
}

/* what a file may stand on: "../images/FILE", or one of the two other folders with chains */
static int resolve_backing(struct store_layer *layer, enum store_folder *ret_folder,
			   const char **ret, struct err *err)
{
	static const enum store_folder folders[] = {STORE_IMAGES, STORE_OVERLAYS, STORE_BACKUPS};
	const char *name = layer->header.backing_name;

	for (size_t i = 0; i < ARRAY_LEN(folders); i++) {
		const char *folder = folder_names[folders[i]];
		size_t len = strlen(folder);
		if (strncmp(name, "../", 3) != 0 || strncmp(name + 3, folder, len) != 0 ||
		    name[3 + len] != '/' || !storage_name_ok(name + 4 + len) ||
		    strcmp(layer->header.backing_format, "qcow2") != 0)
			continue;
		*ret_folder = folders[i];
		*ret = name + 4 + len;
		return 0;
	}
	return err_set(err, ERR_CORRUPT, "%s/%s names a backing file outside the store",
		       folder_names[layer->folder], layer->file);
}

static int open_layer(struct store *store, enum store_folder folder, const char *file, int flags,
		      struct store_layer *layer, struct err *err)
{
	layer->fd = -1;
	layer->folder = folder;
	if (store_open_file(store, folder, file, flags, &layer->fd, err) < 0)
		return -1;
	if (str_copy(layer->file, sizeof(layer->file), file) < 0 ||
	    qcow2_read(layer->fd, QCOW2_ALLOW_BACKING, &layer->header, err) < 0) {
		close(TAKE_FD(layer->fd));
		return err_prefix(err, "%s/%s", folder_names[folder], file);
	}
	return 0;
}

/* by what it is, not by its name: it may have several */
static int refuse_circle(const struct store_layer *layers, size_t n, struct err *err)
{
	struct stat last, st;

	if (fstat(layers[n].fd, &last) < 0)
		return err_set_sys(err, ERR_IO, errno, "cannot look at the file");
	for (size_t i = 0; i < n; i++)
		if (fstat(layers[i].fd, &st) == 0 && st.st_dev == last.st_dev &&
		    st.st_ino == last.st_ino)
			return err_set(err, ERR_CORRUPT, "%s/%s stands on itself",
				       folder_names[layers[i].folder], layers[i].file);
	return 0;
}

int store_open_chain(struct store *store, enum store_folder folder, const char *file, int flags,
		     struct store_layer *layers, size_t max, size_t *ret_n, struct err *err)
{
	size_t n = 0;

	for (;;) {
		if (n == max) {
			err_set(err, ERR_LIMIT, "the chain of files has no end within %zu", max);
			break;
		}
		if (open_layer(store, folder, file, flags, &layers[n], err) < 0)
			break;
		n++;
		if (refuse_circle(layers, n - 1, err) < 0)
			break;
		if (layers[n - 1].header.backing_name[0] == '\0') {
			*ret_n = n;
			return 0;
		}
		if (resolve_backing(&layers[n - 1], &folder, &file, err) < 0)
			break;
		flags = O_RDONLY;
	}
	store_close_chain(layers, n);
	return -1;
}

void store_close_chain(struct store_layer *layers, size_t n)
{
	for (size_t i = 0; i < n; i++)
		if (layers[i].fd >= 0)
			close(TAKE_FD(layers[i].fd));
}

int store_folder_fd(const struct store *store, enum store_folder folder)
{
	return store->fds[folder];
}

const char *store_folder_name(enum store_folder folder)
{
	return folder_names[folder];
}

int store_read_backing(struct store *store, enum store_folder folder, const char *file,
		       enum store_folder *ret_folder, char ret[128], struct err *err)
{
	struct store_layer layer;
	const char *name = "";

	if (open_layer(store, folder, file, O_RDONLY, &layer, err) < 0)
		return -1;
	close(layer.fd);
	if (layer.header.backing_name[0] && resolve_backing(&layer, ret_folder, &name, err) < 0)
		return -1;
	snprintf(ret, 128, "%.127s", name);
	return 0;
}
