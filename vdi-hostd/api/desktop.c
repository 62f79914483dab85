#include "vdi-hostd/api/desktop.h"

#include <string.h>

#include "vdi-hostd/api/private.h"
#include "vdi-hostd/broker/broker.h"

#define GIB (1LL << 30)

const struct json_field api_desktop_fields[] = {
	{"id", JSON_FIELD_STRING, .doc = "UUID"},
	{"name", JSON_FIELD_NAME, .doc = "unique among desktops"},
	{"state", JSON_FIELD_ENUM, .values = desktop_state_names, .doc = "what it is doing"},
	{"state_reason", JSON_FIELD_STRING, JSON_FIELD_NULLABLE,
	 .doc = "why it is in that state, where that is not plain: QEMU's last words"},
	{"image", JSON_FIELD_STRING, JSON_FIELD_NULLABLE, .doc = "the image it is a clone of"},
	{"image_version", JSON_FIELD_INT, JSON_FIELD_NULLABLE, .doc = "and which version"},
	{"network", JSON_FIELD_STRING, JSON_FIELD_NULLABLE, .doc = "where its NIC is"},
	{"memory_mib", JSON_FIELD_INT, .doc = "memory of the guest"},
	{"vcpus", JSON_FIELD_INT, .doc = "processors of the guest"},
	{"disk_bytes", JSON_FIELD_INT, .doc = "virtual size of the system disk"},
	{"data_disk_bytes", JSON_FIELD_INT, JSON_FIELD_NULLABLE,
	 .doc = "virtual size of the data disk"},
	{"disposable", JSON_FIELD_BOOL,
	 .doc = "its system disk begins anew with each start; its data disk is kept"},
	{"next_image", JSON_FIELD_STRING, JSON_FIELD_NULLABLE,
	 .doc = "name:version that a disposable desktop's next start stands on"},
	{"previous_image", JSON_FIELD_STRING, JSON_FIELD_NULLABLE,
	 .doc = "name:version that a recompose can be undone to, until it is confirmed"},
	{"iso", JSON_FIELD_STRING, JSON_FIELD_NULLABLE, .doc = "the disc in its CD drive"},
	{"boot", JSON_FIELD_ENUM, .values = desktop_boot_names,
	 .doc = "what it tries to start from first"},
	{"mac", JSON_FIELD_STRING, JSON_FIELD_NULLABLE, .doc = "its first NIC's address"},
	{"ip", JSON_FIELD_STRING, JSON_FIELD_NULLABLE,
	 .doc = "the address kept for it on its network; on a bridged one the fixed one, or what the "
		"LAN's DHCP gave to it; null while that is not known, and on networks of kind user"},
	{"nics", JSON_FIELD_ARRAY, .fields = desktop_nic_fields, .doc = "all of them, by number"},
	{"work", JSON_FIELD_STRING, JSON_FIELD_NULLABLE,
	 .doc = "what is being done to its disks, beside its life: a merge, a backup"},
	{"pid", JSON_FIELD_INT, JSON_FIELD_NULLABLE, .doc = "of its QEMU"},
	{"owner", JSON_FIELD_STRING, JSON_FIELD_NULLABLE, .doc = "whose it is"},
	{"pool", JSON_FIELD_STRING, JSON_FIELD_NULLABLE,
	 .doc = "always null: there are no pools yet"},
	{"profile", JSON_FIELD_STRING, JSON_FIELD_NULLABLE, .doc = "its hardware profile"},
	{"autostart", JSON_FIELD_BOOL, .doc = "started with the host"},
	{"restart", JSON_FIELD_ENUM, .values = desktop_restart_names,
	 .doc = "what happens when it ends"},
	{"started_at", JSON_FIELD_TIME, JSON_FIELD_NULLABLE, .doc = "while it has a QEMU"},
	{"created_at", JSON_FIELD_TIME, .doc = "when it was made"},
	{0},
};

const struct json_field api_desktop_ref_fields[] = {API_DESKTOP_FIELD(api_desktop_ref), {0}};

struct desktop *api_desktop_find(struct api_call *call, const char *ref, struct err *err)
{
	return desktops_find(api_call_host(call)->desktops, ref, err);
}

/* The end of an operation whose answer is the desktop as it is then. */
void api_answer_desktop(void *data, struct desktop *desktop, const struct err *err)
{
	struct api_call *call = data;
	if (err)
		api_fail(call, err);
	else
		api_reply(call, desktop ? desktop_to_json(desktop) : json_object());
}

/* desktop.create */

struct create_params {
	const char *name, *image, *network, *ip, *owner, *profile;
	int64_t memory_mib, vcpus, disk_gib, data_disk_gib;
	const char *iso;
	bool start, autostart, disposable;
	int restart, boot;
};

static const struct json_field create_fields[] = {
	{"name", JSON_FIELD_NAME, JSON_FIELD_REQUIRED, offsetof(struct create_params, name),
	 .doc = "unique among desktops"},
	{"image", JSON_FIELD_REF, JSON_FIELD_REQUIRED, offsetof(struct create_params, image),
	 .doc = "what it is a linked clone of: name (its newest published version), name:version or "
		"id"},
	{"network", JSON_FIELD_REF, 0, offsetof(struct create_params, network),
	 .doc = "where its NIC is; without one it has no NIC"},
	{"ip", JSON_FIELD_STRING, 0, offsetof(struct create_params, ip), .max = 15,
	 .doc = "the NIC's fixed address, on a bridged network"},
	{"memory_mib", JSON_FIELD_INT, 0, offsetof(struct create_params, memory_mib), 64, 4LL << 20,
	 2048, .doc = "memory of the guest"},
	{"vcpus", JSON_FIELD_INT, 0, offsetof(struct create_params, vcpus), 1, 255, 2,
	 .doc = "processors of the guest"},
	{"disk_gib", JSON_FIELD_INT, 0, offsetof(struct create_params, disk_gib), 1, 65536, 0,
	 .doc = "size of the system disk, at least the image's; without it the image's"},
	{"data_disk_gib", JSON_FIELD_INT, 0, offsetof(struct create_params, data_disk_gib), 1,
	 65536, 0, .doc = "a second, empty disk, which the user keeps whatever the image"},
	{"disposable", JSON_FIELD_BOOL, 0, offsetof(struct create_params, disposable),
	 .doc = "its system disk begins anew with each start; a data disk is kept"},
	{"iso", JSON_FIELD_REF, 0, offsetof(struct create_params, iso),
	 .doc = "a disc for its CD drive: name or id"},
	{"boot", JSON_FIELD_ENUM, 0, offsetof(struct create_params, boot),
	 .values = desktop_boot_names, .doc = "what it tries to start from first"},
	{"profile", JSON_FIELD_NAME, 0, offsetof(struct create_params, profile),
	 .doc = "hardware profile; `default` suits a desktop"},
	{"owner", JSON_FIELD_NAME, 0, offsetof(struct create_params, owner), .doc = "whose it is"},
	{"start", JSON_FIELD_BOOL, 0, offsetof(struct create_params, start),
	 .doc = "start it at once"},
	{"autostart", JSON_FIELD_BOOL, 0, offsetof(struct create_params, autostart),
	 .doc = "start it with the host"},
	{"restart", JSON_FIELD_ENUM, 0, offsetof(struct create_params, restart),
	 .values = desktop_restart_names, .doc = "what happens when it ends"},
	{0},
};

static void start_created(void *data, struct desktop *desktop, const struct err *err)
{
	if (err)
		api_answer_desktop(data, NULL, err);
	else
		desktop_start(desktop, 0, api_answer_desktop, data);
}

static struct api_token desktop_create(struct api_call *call, const void *data)
{
	const struct create_params *params = data;
	struct err err;
	if (params->profile && strcmp(params->profile, "default") != 0) {
		err_set_field(&err, "profile", "there is no profile '%s'; there is 'default'",
			      params->profile);
		return api_fail(call, &err);
	}
	const struct desktop_create create = {
		.name = params->name,
		.image = params->image,
		.network = params->network,
		.ip = params->ip,
		.owner = params->owner,
		.profile = params->profile,
		.memory_mib = params->memory_mib,
		.vcpus = params->vcpus,
		.disk_bytes = params->disk_gib * GIB,
		.data_disk_bytes = params->data_disk_gib * GIB,
		.disposable = params->disposable,
		.iso = params->iso,
		.boot = (enum db_desktop_boot)params->boot,
		.autostart = params->autostart,
		.restart = (enum db_desktop_restart)params->restart,
	};
	struct api_token token = api_pending(call);
	desktops_create(api_call_host(call)->desktops, &create,
			params->start ? start_created : api_answer_desktop, call);
	return token;
}

/* desktop.list, desktop.get */

static void add_to_list(void *data, struct desktop *desktop)
{
	json_array_append_new(data, desktop_to_json(desktop));
}

static struct api_token desktop_list(struct api_call *call, const void *data)
{
	json_t *items = json_array();
	desktops_each(api_call_host(call)->desktops, add_to_list, items);
	return api_reply(call, items);
}

static struct api_token desktop_get(struct api_call *call, const void *data)
{
	const struct api_desktop_ref *params = data;
	struct err err;
	struct desktop *desktop = api_desktop_find(call, params->desktop, &err);
	return desktop ? api_reply(call, desktop_to_json(desktop)) : api_fail(call, &err);
}

/* desktop.update */

struct update_params {
	const char *desktop, *name, *owner;
	int64_t memory_mib, vcpus, disk_gib, data_disk_gib;
	bool autostart, disposable;
	int restart, boot;
};

static const struct json_field update_fields[] = {
	API_DESKTOP_FIELD(update_params),
	{"name", JSON_FIELD_NAME, 0, offsetof(struct update_params, name), .doc = "a new name"},
	{"owner", JSON_FIELD_NAME, 0, offsetof(struct update_params, owner), .doc = "whose it is"},
	{"memory_mib", JSON_FIELD_INT, 0, offsetof(struct update_params, memory_mib), 64, 4LL << 20,
	 .doc = "counts from the next start"},
	{"vcpus", JSON_FIELD_INT, 0, offsetof(struct update_params, vcpus), 1, 255,
	 .doc = "counts from the next start"},
	{"disposable", JSON_FIELD_BOOL, 0, offsetof(struct update_params, disposable),
	 .doc = "its system disk begins anew: from the next end or start on"},
	{"disk_gib", JSON_FIELD_INT, 0, offsetof(struct update_params, disk_gib), 1, 65536, 0,
	 .doc = "a larger system disk, at once; what the guest makes of it is its own affair"},
	{"data_disk_gib", JSON_FIELD_INT, 0, offsetof(struct update_params, data_disk_gib), 1,
	 65536, 0, .doc = "a larger data disk"},
	{"boot", JSON_FIELD_ENUM, 0, offsetof(struct update_params, boot),
	 .values = desktop_boot_names, .doc = "counts from the next start"},
	{"autostart", JSON_FIELD_BOOL, 0, offsetof(struct update_params, autostart),
	 .doc = "start it with the host"},
	{"restart", JSON_FIELD_ENUM, 0, offsetof(struct update_params, restart),
	 .values = desktop_restart_names, .doc = "what happens when it ends"},
	{0},
};

static struct api_token desktop_update_method(struct api_call *call, const void *data)
{
	const struct update_params *params = data;
	json_t *given = api_call_params(call);
	struct err err;
	struct desktop *desktop = api_desktop_find(call, params->desktop, &err);
	if (!desktop)
		return api_fail(call, &err);
	const struct desktop_update update = {
		.name = params->name,
		.owner = params->owner,
		.memory_mib = params->memory_mib,
		.vcpus = params->vcpus,
		.autostart = json_object_get(given, "autostart") ? params->autostart : -1,
		.restart = json_object_get(given, "restart") ? params->restart : -1,
		.disposable = json_object_get(given, "disposable") ? params->disposable : -1,
		.boot = json_object_get(given, "boot") ? params->boot : -1,
	};
	if (desktop_update(desktop, &update, &err) < 0)
		return api_fail(call, &err);
	if (!params->disk_gib && !params->data_disk_gib)
		return api_reply(call, desktop_to_json(desktop));
	const int64_t bytes[DB_DISKS] = {[DB_DISK_SYSTEM] = params->disk_gib * GIB,
					 [DB_DISK_DATA] = params->data_disk_gib * GIB};
	struct api_token token = api_pending(call);
	desktop_grow(desktop, bytes, api_answer_desktop, call);
	return token;
}

/* desktop.start, stop, reset, pause, resume, delete */

struct start_params {
	const char *desktop;
	int64_t timeout_s;
};

static const struct json_field start_fields[] = {
	API_DESKTOP_FIELD(start_params),
	{"timeout_s", JSON_FIELD_INT, 0, offsetof(struct start_params, timeout_s), 1, 3600, 0,
	 .doc = "how long it may take; without it as configured"},
	{0},
};

static struct api_token desktop_start_method(struct api_call *call, const void *data)
{
	const struct start_params *params = data;
	struct err err;
	struct desktop *desktop = api_desktop_find(call, params->desktop, &err);
	if (!desktop)
		return api_fail(call, &err);
	struct api_token token = api_pending(call);
	desktop_start(desktop, params->timeout_s, api_answer_desktop, call);
	return token;
}

static const char *const stop_modes[] = {"graceful", "force", NULL};

struct stop_params {
	const char *desktop;
	int mode;
	int64_t timeout_s;
};

static const struct json_field stop_fields[] = {
	API_DESKTOP_FIELD(stop_params),
	{"mode", JSON_FIELD_ENUM, 0, offsetof(struct stop_params, mode), .values = stop_modes,
	 .doc = "graceful presses the power button and switches off once the time is over; force "
		"switches off"},
	{"timeout_s", JSON_FIELD_INT, 0, offsetof(struct stop_params, timeout_s), 1, 3600, 0,
	 .doc = "how long the guest may take; without it as configured"},
	{0},
};

static struct api_token desktop_stop_method(struct api_call *call, const void *data)
{
	const struct stop_params *params = data;
	struct err err;
	struct desktop *desktop = api_desktop_find(call, params->desktop, &err);
	if (!desktop)
		return api_fail(call, &err);
	struct api_token token = api_pending(call);
	desktop_stop(desktop, params->mode == 1, params->timeout_s, api_answer_desktop, call);
	return token;
}

/* methods that take the desktop alone and answer it */
static struct api_token do_plainly(struct api_call *call, const struct api_desktop_ref *params,
				   void (*operation)(struct desktop *, desktop_cb, void *))
{
	struct err err;
	struct desktop *desktop = api_desktop_find(call, params->desktop, &err);
	if (!desktop)
		return api_fail(call, &err);
	struct api_token token = api_pending(call);
	operation(desktop, api_answer_desktop, call);
	return token;
}

static struct api_token desktop_reset_method(struct api_call *call, const void *data)
{
	return do_plainly(call, data, desktop_reset);
}

static struct api_token desktop_pause_method(struct api_call *call, const void *data)
{
	return do_plainly(call, data, desktop_pause);
}

static struct api_token desktop_resume_method(struct api_call *call, const void *data)
{
	return do_plainly(call, data, desktop_resume);
}

struct delete_params {
	const char *desktop;
	bool force;
};

static const struct json_field delete_fields[] = {
	API_DESKTOP_FIELD(delete_params),
	{"force", JSON_FIELD_BOOL, 0, offsetof(struct delete_params, force),
	 .doc = "switch it off first where it runs"},
	{0},
};

static struct api_token desktop_delete_method(struct api_call *call, const void *data)
{
	const struct delete_params *params = data;
	struct err err;
	struct desktop *desktop = api_desktop_find(call, params->desktop, &err);
	if (!desktop)
		return api_fail(call, &err);
	struct api_token token = api_pending(call);
	desktop_delete(desktop, params->force, api_answer_desktop, call);
	return token;
}

/* desktop.connect */

static const char *const protocols[] = {"spice", "rdp", NULL};

struct connect_params {
	const char *desktop, *user;
	int protocol;
};

static const struct json_field connect_fields[] = {
	API_DESKTOP_FIELD(connect_params),
	{"protocol", JSON_FIELD_ENUM, 0, offsetof(struct connect_params, protocol),
	 .values = protocols, .doc = "rdp is not there yet"},
	{"user", JSON_FIELD_NAME, 0, offsetof(struct connect_params, user),
	 .doc = "for whom; kept for the record"},
	{0},
};

static const struct json_field connect_result[] = {
	{"protocol", JSON_FIELD_ENUM, .values = protocols, .doc = "as asked"},
	{"expires_at", JSON_FIELD_TIME, .doc = "until when the file opens the screen"},
	{"file_name", JSON_FIELD_STRING, .doc = "what to call the file"},
	{"file", JSON_FIELD_STRING, JSON_FIELD_SECRET,
	 .doc = "text of a .vv file that remote-viewer opens as it is"},
	{0},
};

static void answer_way(void *data, const struct broker_way *way, const struct err *err)
{
	struct api_call *call = data;
	if (err) {
		api_fail(call, err);
		return;
	}
	char until[STR_TIME_MAX];
	str_format_time(way->expires_at, until);
	api_reply(call, json_pack("{s:s, s:s, s:s, s:s}", "protocol", "spice", "expires_at", until,
				  "file_name", way->file_name, "file", way->file));
}

static struct api_token desktop_connect_method(struct api_call *call, const void *data)
{
	const struct connect_params *params = data;
	struct err err;
	if (params->protocol == 1) {
		err_set(&err, ERR_UNSUPPORTED,
			"this version offers screens over spice only; ask with protocol spice");
		return api_fail(call, &err);
	}
	struct desktop *desktop = api_desktop_find(call, params->desktop, &err);
	if (!desktop)
		return api_fail(call, &err);
	struct api_token token = api_pending(call);
	broker_connect_spice(api_call_host(call)->broker, desktop, answer_way, call);
	return token;
}

#define CHANGES (API_MUTATES | API_NAMED)

const struct api_method api_desktop_methods[] = {
	{"desktop.create", API_ROLE_ADMIN, CHANGES, create_fields, sizeof(struct create_params),
	 api_desktop_fields, desktop_create, "Make a desktop: a linked clone of an image."},
	{"desktop.list", API_ROLE_OPERATOR, API_LIST, NULL, 0, api_desktop_fields, desktop_list,
	 "List the desktops."},
	{"desktop.get", API_ROLE_OPERATOR, API_NAMED, api_desktop_ref_fields,
	 sizeof(struct api_desktop_ref), api_desktop_fields, desktop_get, "Show one desktop."},
	{"desktop.update", API_ROLE_ADMIN, CHANGES, update_fields, sizeof(struct update_params),
	 api_desktop_fields, desktop_update_method, "Change a desktop; what is left out stays."},
	{"desktop.start", API_ROLE_OPERATOR, CHANGES, start_fields, sizeof(struct start_params),
	 api_desktop_fields, desktop_start_method, "Start a desktop; answers when it runs."},
	{"desktop.stop", API_ROLE_OPERATOR, CHANGES, stop_fields, sizeof(struct stop_params),
	 api_desktop_fields, desktop_stop_method, "Stop a desktop; answers when it is off."},
	{"desktop.reset", API_ROLE_OPERATOR, CHANGES, api_desktop_ref_fields,
	 sizeof(struct api_desktop_ref), api_desktop_fields, desktop_reset_method,
	 "Press a desktop's reset button."},
	{"desktop.pause", API_ROLE_OPERATOR, CHANGES, api_desktop_ref_fields,
	 sizeof(struct api_desktop_ref), api_desktop_fields, desktop_pause_method,
	 "Halt a desktop's processors."},
	{"desktop.resume", API_ROLE_OPERATOR, CHANGES, api_desktop_ref_fields,
	 sizeof(struct api_desktop_ref), api_desktop_fields, desktop_resume_method,
	 "Let a paused desktop go on."},
	{"desktop.delete", API_ROLE_ADMIN, CHANGES, delete_fields, sizeof(struct delete_params),
	 NULL, desktop_delete_method, "Delete a desktop with its disk."},
	{"desktop.connect", API_ROLE_OPERATOR, API_MUTATES | API_NAMED, connect_fields,
	 sizeof(struct connect_params), connect_result, desktop_connect_method,
	 "Open the way to a desktop's screen, starting it where it must."},
	{0},
};
