#include "vdi-hostd/image/iso.h"

#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <utlist.h>

#include "base/log.h"
#include "base/mem.h"
#include "base/plan.h"
#include "vdi-hostd/db/event.h"
#include "vdi-hostd/image/iso_private.h"

struct iso *isos_add(struct images *images, const struct db_iso *row)
{
	struct iso *iso = mem_new(struct iso);

	iso->row = *row;
	DL_APPEND(images->isos, iso);
	return iso;
}

void isos_forget(struct images *images, struct iso *iso)
{
	DL_DELETE(images->isos, iso);
	free(iso);
}

void isos_tell(struct images *images, const struct db_iso *row, const char *what)
{
	struct err err;
	json_t *data = json_pack("{s:s, s:s}", "name", row->name, "state", what);

	log_info("iso %s: %s", row->name, what);
	if (db_event_append(images->db, "iso", row->id, data, &err) < 0)
		log_err("iso %s: its event is lost: %s", row->name, err.msg);
	json_decref(data);
}

static int load_row(void *data, const struct db_iso *row)
{
	isos_add(data, row);
	return 0;
}

/* on its way in or out when an earlier daemon ended */
static int clean_half(struct images *images, struct err *err)
{
	struct iso *next;

	for (struct iso *iso = images->isos; iso; iso = next) {
		next = iso->next;
		if (iso->row.state == DB_ISO_READY)
			continue;
		if (store_delete(images->store, STORE_ISOS, iso->row.file, err) < 0 ||
		    db_iso_delete(images->db, iso->row.id, err) < 0)
			return err_prefix(err, "iso %s, which is there by half", iso->row.name);
		log_info("iso %s: what was left of it is removed", iso->row.name);
		isos_forget(images, iso);
	}
	return 0;
}

int isos_load(struct images *images, struct err *err)
{
	if (db_iso_each(images->db, load_row, images, err) < 0)
		return -1;
	return clean_half(images, err);
}

void isos_unload(struct images *images)
{
	while (images->isos)
		isos_forget(images, images->isos);
}

static struct iso *find(struct images *images, const char *ref, struct err *err)
{
	for (struct iso *iso = images->isos; iso; iso = iso->next)
		if (strcmp(iso->row.name, ref) == 0 || strcmp(iso->row.id, ref) == 0)
			return iso;
	err_set(err, ERR_NOT_FOUND,
		"there is no ISO '%.63s'; `vdictl iso list` shows those there are", ref);
	return NULL;
}

const struct db_iso *isos_find(struct images *images, const char *ref, struct err *err)
{
	struct iso *iso = find(images, ref, err);

	return iso ? &iso->row : NULL;
}

static int compare(const struct iso *a, const struct iso *b)
{
	return strcmp(a->row.name, b->row.name);
}

void isos_each(struct images *images, void (*cb)(void *data, const struct db_iso *row), void *data)
{
	DL_SORT(images->isos, compare);
	for (const struct iso *iso = images->isos; iso; iso = iso->next)
		cb(data, &iso->row);
}

int isos_refuse_importing(const struct db_iso *row, struct err *err)
{
	if (row->state == DB_ISO_READY)
		return 0;
	return err_set(err, ERR_BUSY,
		       "ISO '%s' is still being imported; wait for its job, or cancel it",
		       row->name);
}

int isos_open(struct images *images, const char *iso_id, int *ret_fd, struct err *err)
{
	const struct db_iso *row = isos_find(images, iso_id, err);

	if (!row || isos_refuse_importing(row, err) < 0)
		return -1;
	return store_open_file(images->store, STORE_ISOS, row->file, O_RDONLY, ret_fd, err);
}

/* ---- delete: the row says that it is on its way out, then the file goes, then the row ---- */

static int delete_parts(struct images *images, struct iso *iso, struct err *err)
{
	static const char plan[] = "iso-delete";
	struct db_iso row = iso->row;
	struct err back;

	row.state = DB_ISO_IMPORTING;
	plan_crash_point(plan, "mark", "before");
	if (db_iso_update(images->db, &row, err) < 0)
		return -1;
	plan_crash_point(plan, "file", "before");
	if (store_delete(images->store, STORE_ISOS, row.file, err) < 0) {
		row.state = DB_ISO_READY;
		if (db_iso_update(images->db, &row, &back) < 0)
			log_err("iso %s goes at the next start: %s", row.name, back.msg);
		return -1;
	}
	plan_crash_point(plan, "row", "before");
	/* one that stays is found at the next start, and goes then */
	if (db_iso_delete(images->db, row.id, err) < 0)
		log_err("iso %s: %s", row.name, err->msg);
	plan_crash_point(plan, "row", "after");
	return 0;
}

int isos_delete(struct images *images, const char *ref,
		size_t (*in_use)(void *data, const char *iso_id, char *ret, size_t size),
		void *data, struct err *err)
{
	struct iso *iso = find(images, ref, err);
	char names[128];

	if (!iso || isos_refuse_importing(&iso->row, err) < 0)
		return -1;
	size_t n = in_use ? in_use(data, iso->row.id, names, sizeof(names)) : 0;
	if (n > 0)
		return err_set(err, ERR_CONFLICT, "ISO '%s' is in the drive of %s; eject it first",
			       iso->row.name, names);
	if (delete_parts(images, iso, err) < 0)
		return -1;
	isos_tell(images, &iso->row, "deleted");
	isos_forget(images, iso);
	return 0;
}
