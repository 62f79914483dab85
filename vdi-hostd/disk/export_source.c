/* What an export reads: an image version, or a desktop's disk, which stands still meanwhile. */
#include <stdio.h>
#include <string.h>

#include "vdi-hostd/disk/export_private.h"

static struct desktop *desktop_of(struct export *export)
{
	return export->desktop_id[0] && export->disks && !export->disks->closing
		       ? desktops_find(export->disks->env.desktops, export->desktop_id, NULL)
		       : NULL;
}

static int take_layers(struct export *export, const struct disks_frozen *frozen, struct err *err)
{
	export->frozen = true;
	export->quiesced = frozen->quiesced;
	for (unsigned int i = 0; i < DB_DISKS; i++) {
		struct image_layer layers[QEMU_CHAIN_MAX];
		memcpy(layers, frozen->layers[i], sizeof(layers));
		if (i != export->disk) {
			images_chain_close(layers, frozen->n_layers[i]);
			continue;
		}
		memcpy(export->layers, layers, sizeof(layers));
		export->n_layers = frozen->n_layers[i];
	}
	if (export->n_layers > 0)
		return 0;
	return err_set_field(err, "disk", "desktop '%s' has no such disk", export->name);
}

static void on_frozen(void *data, const struct disks_frozen *frozen, const struct err *err)
{
	struct export *export = data;
	struct err none;

	export->asked = false;
	if (frozen && take_layers(export, frozen, &none) < 0)
		err = &none;
	export_proceed(export, err);
}

void export_freeze(struct plan *plan, void *ctx)
{
	struct export *export = ctx;
	struct desktop *desktop = desktop_of(export);

	if (!desktop) {
		plan_next(plan);
		return;
	}
	export->asked = true;
	disks_freeze(export->disks, desktop, export->want, on_frozen, export);
}

void export_let_go(struct export *export)
{
	struct desktop *desktop = desktop_of(export);

	images_chain_close(export->layers, export->n_layers);
	export->n_layers = 0;
	if (desktop && export->works)
		desktop_work_end(desktop);
	if (desktop && export->frozen)
		disks_unfreeze(export->disks, desktop);
}

static int begin_work(struct export *export, const struct disks_export *wanted, struct err *err)
{
	const struct desktop_work work = {.what = "it is being exported", .data = export};
	struct desktop *desktop = desktops_find(export->disks->env.desktops, wanted->desktop, err);

	if (!desktop || desktop_work_begin(desktop, &work, err) < 0)
		return -1;
	memcpy(export->desktop_id, desktop_row(desktop)->id, sizeof(export->desktop_id));
	snprintf(export->name, sizeof(export->name), "%s", desktop_row(desktop)->name);
	export->works = true;
	return 0;
}

int export_open_source(struct export *export, const struct disks_export *wanted, struct err *err)
{
	if (wanted->desktop)
		return begin_work(export, wanted, err);
	const struct db_image *row = images_find(export->images, wanted->image, err);

	if (!row || images_open(export->images, row, export->layers, &export->n_layers, err) < 0)
		return -1;
	snprintf(export->name, sizeof(export->name), "%s", row->name);
	return 0;
}
