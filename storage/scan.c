#include "storage/scan.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/mem.h"
#include "storage/file.h"

static int64_t newest(const struct stat *st)
{
	const struct timespec *m = &st->st_mtim, *c = &st->st_ctim;
	const struct timespec *t = c->tv_sec > m->tv_sec ? c : m;

	return (int64_t)t->tv_sec * 1000 + t->tv_nsec / 1000000;
}

int scan_look(struct store *store, enum store_folder folder, const char *file,
	      struct scan_file *ret, struct err *err)
{
	struct stat st;

	if (fstatat(store_folder_fd(store, folder), file, &st, AT_SYMLINK_NOFOLLOW) < 0)
		return err_set_sys(err, err_from_errno(errno), errno, "cannot look at %s/%.100s",
				   store_folder_name(folder), file);
	*ret = (struct scan_file){
		.folder = folder,
		.file = file,
		.regular = S_ISREG(st.st_mode) && storage_name_ok(file),
		.mode = st.st_mode & 07777,
		.allocated = (int64_t)st.st_blocks * 512,
		.changed_ms = newest(&st),
	};
	return 0;
}

struct scan {
	struct store *store;
	enum store_folder folder;
	int (*cb)(void *data, const struct scan_file *file);
	void *data;
	struct err *err;
};

static int look(void *data, const char *name)
{
	const struct scan *scan = data;
	struct scan_file file;
	struct err err;

	if (scan_look(scan->store, scan->folder, name, &file, &err) == 0)
		return scan->cb(scan->data, &file);
	if (err.code == ERR_NOT_FOUND)
		return 0;
	if (scan->err)
		*scan->err = err;
	return -1;
}

int scan_folder(struct store *store, enum store_folder folder,
		int (*cb)(void *data, const struct scan_file *file), void *data, struct err *err)
{
	struct scan scan = {store, folder, cb, data, err};

	return store_each(store, folder, look, &scan, err);
}

int scan_set_mode(struct store *store, enum store_folder folder, const char *file,
		  unsigned int mode, struct err *err)
{
	_cleanup_close_ int fd = -1;

	if (store_open_file(store, folder, file, O_RDONLY, &fd, err) < 0)
		return -1;
	if (fchmod(fd, mode) < 0)
		return err_set_sys(err, err_from_errno(errno), errno,
				   "cannot set the mode of %s/%.100s", store_folder_name(folder),
				   file);
	return 0;
}

int scan_set_aside(struct store *store, enum store_folder folder, const char *file, const char *tmp,
		   struct err *err)
{
	if (storage_name_ok(file) && storage_name_ok(tmp) &&
	    renameat2(store_folder_fd(store, folder), file, store_folder_fd(store, STORE_TMP), tmp,
		      RENAME_NOREPLACE) == 0)
		return 0;
	return err_set_sys(err, err_from_errno(errno), errno, "cannot remove %s/%.100s",
			   store_folder_name(folder), file);
}
