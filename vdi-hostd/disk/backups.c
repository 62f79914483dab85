/* The backups that there are: list, delete, verify. */
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>
#include <utlist.h>

#include "base/log.h"
#include "storage/store.h"
#include "vdi-hostd/db/event.h"
#include "vdi-hostd/disk/backup_private.h"

const char *const disks_backup_states[] = {"making", "ready", "broken", NULL};

#define LATEST "latest:"

void backup_tell(struct disks *disks, const struct db_backup *row, const char *what)
{
	struct err err;
	json_t *data = json_pack("{s:s, s:s, s:s}", "desktop", row->desktop_name, "desktop_id",
				 row->desktop_id, "state", what);

	log_info("backup %s of desktop %s: %s", row->id, row->desktop_name, what);
	if (db_event_append(disks->env.db, "backup", row->id, data, &err) < 0)
		log_err("backup %s: its event is lost: %s", row->id, err.msg);
	json_decref(data);
}

static json_t *text_json(const char *text)
{
	return text[0] ? json_string(text) : json_null();
}

json_t *backup_json(const struct db_backup *row)
{
	const struct db_disk *system = &row->disks[DB_DISK_SYSTEM];
	const struct db_disk *data = &row->disks[DB_DISK_DATA];
	char created[STR_TIME_MAX];

	str_format_time(row->created_at, created);
	return json_pack(
		"{s:s, s:s, s:s, s:o, s:b, s:s, s:s, s:I, s:I, s:o, s:o, s:I, s:I, s:I, "
		"s:o, s:s}",
		"id", row->id, "desktop", row->desktop_name, "desktop_id", row->desktop_id,
		"parent", text_json(row->parent_id), "full", !row->parent_id[0], "state",
		disks_backup_states[row->state], "image_id", row->image_id, "system_disk_bytes",
		(json_int_t)system->bytes, "data_disk_bytes", (json_int_t)data->bytes,
		"system_sha256", text_json(row->sha256[DB_DISK_SYSTEM]), "data_sha256",
		text_json(row->sha256[DB_DISK_DATA]), "stored_bytes", (json_int_t)row->stored_bytes,
		"memory_mib", (json_int_t)row->memory_mib, "vcpus", (json_int_t)row->vcpus, "owner",
		text_json(row->owner), "created_at", created);
}

static int add_to_list(void *data, const struct db_backup *row)
{
	json_array_append_new(data, backup_json(row));
	return 0;
}

int disks_backup_list(struct disks *disks, const char *desktop, json_t **ret, struct err *err)
{
	json_t *list = json_array();

	if (db_backup_each(disks->env.db, desktop, add_to_list, list, err) < 0) {
		json_decref(list);
		return -1;
	}
	*ret = list;
	return 0;
}

static int keep_newest(void *data, const struct db_backup *row)
{
	if (row->state == DB_BACKUP_READY)
		*(struct db_backup *)data = *row;
	return 0;
}

int backup_find(struct disks *disks, const char *ref, struct db_backup *ret, struct err *err)
{
	struct db_backup row = {0};

	if (strncmp(ref, LATEST, strlen(LATEST)) != 0)
		return db_backup_get(disks->env.db, ref, ret, err);
	const char *desktop = ref + strlen(LATEST);
	if (db_backup_each(disks->env.db, desktop, keep_newest, &row, err) < 0)
		return -1;
	if (!row.id[0])
		return err_set(err, ERR_NOT_FOUND,
			       "there is no backup of a desktop '%.63s'; `vdictl backup list` "
			       "shows those there are",
			       desktop);
	*ret = row;
	return 0;
}

int disks_backup_get(struct disks *disks, const char *id, json_t **ret, struct err *err)
{
	struct db_backup row;

	if (backup_find(disks, id, &row, err) < 0)
		return -1;
	*ret = backup_json(&row);
	return 0;
}

int backup_chain(struct disks *disks, const char *id, struct db_backup *ret, size_t *ret_n,
		 struct err *err)
{
	for (size_t n = 0; n < QEMU_CHAIN_MAX; n++) {
		if (db_backup_get(disks->env.db, id, &ret[n], err) < 0)
			return -1;
		if (ret[n].state != DB_BACKUP_READY)
			return err_set(err,
				       ret[n].state == DB_BACKUP_BROKEN ? ERR_CORRUPT : ERR_BUSY,
				       "backup %s is %s", ret[n].id,
				       ret[n].state == DB_BACKUP_BROKEN ? "broken: its files "
									  "changed"
									: "still being made");
		id = ret[n].parent_id;
		if (!id[0]) {
			*ret_n = n + 1;
			return 0;
		}
	}
	return err_set(err, ERR_CORRUPT, "backup %s stands on more than %d others", ret[0].id,
		       QEMU_CHAIN_MAX);
}

/* ---- delete ---- */

int backup_delete_files(struct disks *disks, const struct db_backup *row, struct err *err)
{
	struct store *store = images_store(disks->env.images);

	for (unsigned int i = 0; i < DB_DISKS; i++)
		if (row->disks[i].file[0] &&
		    (store_delete(store, STORE_TMP, row->disks[i].file, err) < 0 ||
		     store_delete(store, STORE_BACKUPS, row->disks[i].file, err) < 0))
			return -1;
	return 0;
}

struct children {
	const char *id;
	char text[160];
	size_t n;
};

static int note_child(void *data, const struct db_backup *row)
{
	struct children *children = data;
	size_t len = strlen(children->text);

	if (strcmp(row->parent_id, children->id) != 0)
		return 0;
	if (children->n++ < 3)
		snprintf(children->text + len, sizeof(children->text) - len, "%s%s",
			 len ? ", " : "", row->id);
	return 0;
}

int disks_backup_delete(struct disks *disks, const char *id, struct err *err)
{
	struct children children = {.n = 0};
	struct db_backup row;

	if (backup_find(disks, id, &row, err) < 0)
		return -1;
	if (row.state == DB_BACKUP_MAKING)
		return err_set(err, ERR_BUSY,
			       "backup %s is still being made; cancel its job instead", row.id);
	children.id = row.id;
	if (db_backup_each(disks->env.db, NULL, note_child, &children, err) < 0)
		return -1;
	if (children.n > 0)
		return err_set(err, ERR_CONFLICT,
			       "%zu later %s on backup %s: %s%s; delete the newest first",
			       children.n, children.n > 1 ? "backups stand" : "backup stands",
			       row.id, children.text, children.n > 3 ? ", ..." : "");
	/* from here on a crash ends in its being gone */
	row.state = DB_BACKUP_MAKING;
	plan_crash_point("backup-delete", "mark", "before");
	if (db_backup_update(disks->env.db, &row, err) < 0)
		return -1;
	plan_crash_point("backup-delete", "files", "before");
	if (backup_delete_files(disks, &row, err) < 0)
		return -1;
	plan_crash_point("backup-delete", "row", "before");
	if (db_backup_delete(disks->env.db, row.id, err) < 0)
		return -1;
	plan_crash_point("backup-delete", "row", "after");
	backup_tell(disks, &row, "deleted");
	return 0;
}

/* ---- verify: one file after the other ---- */

struct verify {
	struct disks *disks;
	struct job *job; /* NULL once it was settled */
	struct db_backup chain[QEMU_CHAIN_MAX];
	size_t n, at;
	unsigned int disk;
	int fd;
	int64_t done, total;
	struct bulk *bulk;
	bool cancelled;
	uv_timer_t *begin;
	struct verify *prev, *next;
};

static void on_timer_closed(uv_handle_t *handle)
{
	free(handle);
}

static void verify_free(struct verify *verify)
{
	mem_closep(&verify->fd);
	if (verify->begin)
		uv_close((uv_handle_t *)verify->begin, on_timer_closed);
	free(verify);
}

static void verify_end(struct verify *verify, const struct err *err)
{
	struct job *job = TAKE_PTR(verify->job);
	json_t *json = json_pack("{s:s, s:I}", "backup", verify->chain[0].id, "files",
				 (json_int_t)verify->at);

	DL_DELETE(verify->disks->verifies, verify);
	verify_free(verify);
	if (err) {
		json_decref(json);
		job_fail(job, err);
	} else {
		job_done(job, json);
	}
}

static void mark_broken(struct verify *verify, struct err *why)
{
	struct db_backup *row = &verify->chain[verify->at];
	struct err err;

	err_prefix(why, "backup %s", row->id);
	row->state = DB_BACKUP_BROKEN;
	if (db_backup_update(verify->disks->env.db, row, &err) < 0)
		log_err("backup %s is broken, which is not recorded: %s", row->id, err.msg);
	backup_tell(verify->disks, row, "broken");
}

static void verify_next(struct verify *verify);

static void on_sum(void *data, const char *sha256, const struct err *err)
{
	struct verify *verify = data;
	struct err wrong;

	verify->bulk = NULL;
	if (!verify->disks) {
		verify_free(verify);
		return;
	}
	if (err) {
		verify_end(verify, err);
		return;
	}
	if (strcmp(sha256, verify->chain[verify->at].sha256[verify->disk]) != 0) {
		err_set(&wrong, ERR_CORRUPT,
			"its file %.100s is not as it was written: its SHA-256 is %s",
			verify->chain[verify->at].disks[verify->disk].file, sha256);
		mark_broken(verify, &wrong);
		verify_end(verify, &wrong);
		return;
	}
	close(TAKE_FD(verify->fd));
	verify->disk++;
	verify_next(verify);
}

static void on_sum_progress(void *data, uint64_t done, uint64_t total)
{
	struct verify *verify = data;

	if (verify->job)
		job_progress(verify->job, verify->done + (int64_t)done, verify->total);
}

static const struct bulk_ops sum_ops = {on_sum_progress, on_sum};

/* does it stand on what its row says? */
static int check_file(struct verify *verify, const struct db_backup *row, struct err *err)
{
	const struct db_disk *disk = &row->disks[verify->disk];
	struct qcow2_header header;
	char below[160] = "";

	if (store_open_file(images_store(verify->disks->env.images), STORE_BACKUPS, disk->file,
			    O_RDONLY, &verify->fd, err) < 0 ||
	    qcow2_read(verify->fd, QCOW2_ALLOW_BACKING, &header, err) < 0)
		return -1;
	if (row->parent_id[0])
		store_backing_name(STORE_BACKUPS,
				   verify->chain[verify->at + 1].disks[verify->disk].file, below);
	if (strcmp(below, header.backing_name) != 0 || (int64_t)header.virtual_size != disk->bytes)
		return err_set(err, ERR_CORRUPT, "its file %.100s is not the one that was written",
			       disk->file);
	return 0;
}

static void verify_next(struct verify *verify)
{
	struct err err;

	while (verify->at < verify->n && (verify->disk == DB_DISKS ||
					  !verify->chain[verify->at].disks[verify->disk].file[0])) {
		if (++verify->disk >= DB_DISKS) {
			verify->done += verify->chain[verify->at++].stored_bytes;
			verify->disk = 0;
		}
	}
	if (verify->at == verify->n) {
		verify_end(verify, NULL);
		return;
	}
	if (check_file(verify, &verify->chain[verify->at], &err) < 0) {
		if (err.code == ERR_CORRUPT || err.code == ERR_NOT_FOUND ||
		    err.code == ERR_UNSUPPORTED)
			mark_broken(verify, &err);
		verify_end(verify, &err);
		return;
	}
	verify->bulk = bulk_sha256(verify->disks->env.loop, verify->fd, &sum_ops, verify);
}

static void on_begin(uv_timer_t *timer)
{
	struct verify *verify = timer->data;

	verify_next(verify);
}

static void cancel_verify(void *data)
{
	struct verify *verify = data;
	struct err err;

	if (verify->bulk) {
		bulk_cancel(verify->bulk);
		return;
	}
	err_set(&err, ERR_CANCELLED, "it was cancelled");
	verify_end(verify, &err);
}

void verifies_free(struct disks *disks)
{
	struct verify *verify, *next;
	struct err err;

	err_set(&err, ERR_CANCELLED, "the daemon was stopped; verify the backup again");
	DL_FOREACH_SAFE(disks->verifies, verify, next)
	{
		DL_DELETE(disks->verifies, verify);
		job_fail(TAKE_PTR(verify->job), &err);
		verify->disks = NULL;
		if (verify->bulk)
			bulk_cancel(verify->bulk);
		else
			verify_free(verify);
	}
}

int disks_backup_verify(struct disks *disks, const char *id, const char **ret_job_id,
			struct err *err)
{
	struct verify *verify = mem_new(struct verify);
	struct db_backup row;

	verify->disks = disks;
	verify->fd = -1;
	if (backup_find(disks, id, &row, err) < 0 ||
	    backup_chain(disks, row.id, verify->chain, &verify->n, err) < 0 ||
	    job_start(disks->env.jobs, "backup.verify", row.id, "bytes", cancel_verify, verify,
		      &verify->job, err) < 0) {
		verify_free(verify);
		return -1;
	}
	for (size_t i = 0; i < verify->n; i++)
		verify->total += verify->chain[i].stored_bytes;
	DL_APPEND(disks->verifies, verify);
	verify->begin = mem_new(uv_timer_t);
	uv_timer_init(disks->env.loop, verify->begin);
	verify->begin->data = verify;
	uv_timer_start(verify->begin, on_begin, 0, 0);
	*ret_job_id = job_id(verify->job);
	return 0;
}
