#include <sodium.h>
#include <stdio.h>
#include <string.h>

#include "base/log.h"
#include "vdi-hostd/desktop/private.h"
#include "vdi-hostd/image/iso.h"
#include "vdi-hostd/image/quota.h"

#define MEMORY_MIB_DEFAULT 2048
#define VCPUS_DEFAULT      2

static void write_row(struct plan *plan, void *ctx);
static void delete_row(struct plan *plan, void *ctx);
static void create_disks(struct plan *plan, void *ctx);
static void delete_disks(struct plan *plan, void *ctx);
static void publish_address(struct plan *plan, void *ctx);
static void settle(struct plan *plan, void *ctx);

static const struct plan_step create_plan[] = {
	{"row", write_row, delete_row},
	{"disks", create_disks, delete_disks},
	{"address", publish_address, NULL},
	{"settle", settle, NULL},
};

static int insert_rows(struct desktop *desktop, struct err *err)
{
	struct db *db = desktop->all->env.db;
	if (db_begin(db, __func__, err) < 0)
		return -1;
	int result = db_desktop_insert(db, &desktop->row, err);
	for (struct nic *nic = NULL; result == 0 && (nic = desktop_nic_next(desktop, nic));)
		result = db_nic_insert(db, &nic->row, err);
	if (result == 0)
		return db_commit(db, err);
	db_rollback(db);
	return -1;
}

static void write_row(struct plan *plan, void *ctx)
{
	struct desktop *desktop = ctx;
	const struct db_desktop *row = &desktop->row;
	int64_t bytes = row->disks[DB_DISK_SYSTEM].bytes + row->disks[DB_DISK_DATA].bytes;
	struct err err;
	int result = images_quota_charge_check(desktop->all->env.images, row->owner, bytes, &err);
	if (result == 0)
		result = insert_rows(desktop, &err);
	plan_end_step(plan, result, &err);
}

static void delete_row(struct plan *plan, void *ctx)
{
	struct desktop *desktop = ctx;
	struct err err;
	if (db_desktop_delete(desktop->all->env.db, desktop->row.id, &err) < 0 &&
	    err.code != ERR_NOT_FOUND)
		log_err("desktop %s: %s", desktop->row.name, err.msg);
	plan_undone(plan);
}

static int adopt_disks(struct desktop *desktop, struct err *err)
{
	for (size_t i = 0; i < DB_DISKS; i++)
		if (desktop->row.disks[i].file[0] &&
		    images_overlay_adopt(desktop->all->env.images, desktop->row.disks[i].file,
					 desktop->adopt[i], err) < 0)
			return -1;
	return 0;
}

static int make_disks(struct desktop *desktop, struct err *err)
{
	const struct db_disk *system = &desktop->row.disks[DB_DISK_SYSTEM];
	const struct db_disk *data = &desktop->row.disks[DB_DISK_DATA];
	struct images *images = desktop->all->env.images;
	if (desktop->adopt[DB_DISK_SYSTEM][0])
		return adopt_disks(desktop, err);
	const struct db_image *image = images_find(images, desktop->row.image_id, err);
	if (!image || images_overlay_create(images, image, system->file, system->bytes, err) < 0 ||
	    (data->file[0] && images_layer_create(images, data->file, NULL, data->bytes, err) < 0))
		return -1;
	return 0;
}

static void create_disks(struct plan *plan, void *ctx)
{
	struct err err;
	plan_end_step(plan, make_disks(ctx, &err), &err);
}

int desktop_delete_disks(struct desktop *desktop, struct err *err)
{
	for (size_t i = 0; i < DB_DISKS; i++)
		if (desktop->row.disks[i].file[0] &&
		    images_overlay_delete(desktop->all->env.images, desktop->row.disks[i].file,
					  err) < 0)
			return -1;
	return 0;
}

static void delete_disks(struct plan *plan, void *ctx)
{
	struct desktop *desktop = ctx;
	struct err err;
	if (desktop_delete_disks(desktop, &err) < 0)
		log_err("desktop %s: %s", desktop->row.name, err.msg);
	plan_undone(plan);
}

static void publish_address(struct plan *plan, void *ctx)
{
	struct desktop *desktop = ctx;
	struct err err;
	plan_end_step(plan, desktop_nics_hosts_changed(desktop, &err), &err);
}

static void settle(struct plan *plan, void *ctx)
{
	struct desktop *desktop = ctx;
	struct err err;
	desktop->row.op = DB_DESKTOP_OP_NONE;
	plan_end_step(plan, desktop_save(desktop, &err), &err);
}

/* The network's list of addresses is made from the objects. */
void desktop_forget(struct desktop *desktop)
{
	struct desktops *all = desktop->all;
	struct err err;
	struct nic nics[QEMU_NICS_MAX];
	memcpy(nics, desktop->nics, sizeof(nics));
	desktop_remove(desktop);
	for (size_t i = 0; i < QEMU_NICS_MAX; i++)
		if (nics[i].row.ip &&
		    networks_hosts_changed(all->env.networks, nics[i].row.network_id, &err) < 0)
			log_warn("the address list of a network is stale: %s", err.msg);
}

static void on_created(void *ctx, const struct err *err)
{
	struct desktop *desktop = ctx;
	desktop->plan = NULL;
	if (!err) {
		log_info("desktop %s: created", desktop->row.name);
		desktop_tell(desktop, "new");
		desktop_end(desktop, NULL);
		return;
	}
	desktop_cb done = TAKE_PTR(desktop->done);
	void *data = desktop->done_data;
	desktop_forget(desktop);
	done(data, NULL, err);
}

static int choose_iso(struct desktops *all, const struct desktop_create *create,
		      struct db_desktop *row, struct err *err)
{
	if (!create->iso)
		return 0;
	const struct db_iso *iso = isos_find(all->env.images, create->iso, err);
	if (!iso || isos_refuse_importing(iso, err) < 0)
		return -1;
	memcpy(row->iso_id, iso->id, sizeof(row->iso_id));
	return 0;
}

static int fill_row(struct desktops *all, const struct desktop_create *create,
		    struct db_desktop *row, struct err *err)
{
	const struct db_image *image = images_find(all->env.images, create->image, err);
	if (!image)
		return -1;
	const bool adopts = create->adopt[DB_DISK_SYSTEM];
	if (!adopts && (image->state == DB_IMAGE_IMPORTING || image->state == DB_IMAGE_RETIRED))
		return err_set(err, ERR_CONFLICT,
			       "image '%s' version %lld is %s; name a version that is published",
			       image->name, (long long)image->version,
			       image->state == DB_IMAGE_RETIRED ? "retired" : "still imported");
	if (!adopts && images_refuse_broken(all->env.images, image, err) < 0)
		return -1;
	if (!adopts && create->disk_bytes && create->disk_bytes < image->virtual_size)
		return err_set_field(err, "disk_gib",
				     "the disk cannot be smaller than its image (%lld bytes)",
				     (long long)image->virtual_size);
	if (db_desktop_free_slot(all->env.db, &row->slot, err) < 0 ||
	    choose_iso(all, create, row, err) < 0)
		return -1;
	str_uuid_new(row->id);
	snprintf(row->name, sizeof(row->name), "%s", create->name);
	snprintf(row->image_id, sizeof(row->image_id), "%s", image->id);
	images_layer_file(row->id, row->disks[DB_DISK_SYSTEM].file);
	row->disks[DB_DISK_SYSTEM].bytes =
		create->disk_bytes ? create->disk_bytes : image->virtual_size;
	if (create->data_disk_bytes) {
		images_layer_file(row->id, row->disks[DB_DISK_DATA].file);
		row->disks[DB_DISK_DATA].bytes = create->data_disk_bytes;
	}
	snprintf(row->owner, sizeof(row->owner), "%s", create->owner ? create->owner : "");
	snprintf(row->profile, sizeof(row->profile), "%s",
		 create->profile ? create->profile : "default");
	row->memory_mib = create->memory_mib ? create->memory_mib : MEMORY_MIB_DEFAULT;
	row->vcpus = create->vcpus ? create->vcpus : VCPUS_DEFAULT;
	row->disposable = create->disposable;
	row->boot = create->boot;
	row->autostart = create->autostart;
	row->restart = create->restart;
	row->op = DB_DESKTOP_OP_CREATE;
	row->created_at = str_now_ms();
	return 0;
}

static int fill_nic(struct desktops *all, const struct desktop_create *create, struct db_nic *nic,
		    struct err *err)
{
	if (!create->network && create->ip)
		return err_set_field(err, "ip", "a desktop without a network has no address");
	if (create->network && desktop_nic_fill(all, create->network, create->name, nic, err) < 0)
		return -1;
	return create->ip ? desktop_nic_fix(all, create->ip, nic, err) : 0;
}

void desktops_create(struct desktops *all, const struct desktop_create *create, desktop_cb cb,
		     void *data)
{
	struct db_desktop row = {0};
	struct err err;
	if (desktops_find(all, create->name, NULL)) {
		err_set(&err, ERR_EXISTS, "there is a desktop '%s' already", create->name);
		cb(data, NULL, &err);
		return;
	}
	struct db_nic nic = {.link_up = true, .queues = 1};
	if (fill_row(all, create, &row, &err) < 0 || fill_nic(all, create, &nic, &err) < 0) {
		cb(data, NULL, &err);
		return;
	}
	struct desktop *desktop = desktop_add(all, &row);
	if (create->network) {
		memcpy(nic.desktop_id, row.id, sizeof(nic.desktop_id));
		desktop_nic_make_mac(nic.mac);
		desktop_nic_set(desktop, &nic);
	}
	for (size_t i = 0; i < DB_DISKS; i++)
		if (create->adopt[i])
			snprintf(desktop->adopt[i], sizeof(desktop->adopt[i]), "%s",
				 create->adopt[i]);
	desktop->done = cb;
	desktop->done_data = data;
	desktop->plan = plan_start(all->env.loop, "desktop-create", create_plan,
				   ARRAY_LEN(create_plan), desktop, on_created);
}

void desktop_create_undo(struct desktop *desktop, plan_done_cb done)
{
	desktop->plan = plan_undo(desktop->all->env.loop, "desktop-create", create_plan,
				  ARRAY_LEN(create_plan), desktop, done);
}
