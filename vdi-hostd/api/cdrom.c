#include "vdi-hostd/desktop/cdrom.h"
#include "vdi-hostd/api/desktop.h"

struct cdrom_params {
	const char *desktop, *iso;
	bool force;
};

#define FORCE_TRAY                                                                                 \
	{                                                                                          \
		"force", JSON_FIELD_BOOL, 0, offsetof(struct cdrom_params, force),                 \
			.doc = "also where the guest has locked the tray and does not let go"      \
	}

static const struct json_field insert_fields[] = {
	API_DESKTOP_FIELD(cdrom_params),
	{"iso", JSON_FIELD_REF, JSON_FIELD_REQUIRED, offsetof(struct cdrom_params, iso),
	 .doc = "name or id"},
	FORCE_TRAY,
	{0},
};

static const struct json_field eject_fields[] = {API_DESKTOP_FIELD(cdrom_params), FORCE_TRAY, {0}};

static struct api_token cdrom_insert(struct api_call *call, const void *data)
{
	const struct cdrom_params *params = data;
	struct err err;
	struct desktop *desktop = api_desktop_find(call, params->desktop, &err);
	if (!desktop)
		return api_fail(call, &err);
	struct api_token token = api_pending(call);
	desktop_cdrom_insert(desktop, params->iso, params->force, api_answer_desktop, call);
	return token;
}

static struct api_token cdrom_eject(struct api_call *call, const void *data)
{
	const struct cdrom_params *params = data;
	struct err err;
	struct desktop *desktop = api_desktop_find(call, params->desktop, &err);
	if (!desktop)
		return api_fail(call, &err);
	struct api_token token = api_pending(call);
	desktop_cdrom_eject(desktop, params->force, api_answer_desktop, call);
	return token;
}

#define CHANGES (API_MUTATES | API_NAMED)

const struct api_method api_cdrom_methods[] = {
	{"desktop.cdrom.insert", API_ROLE_OPERATOR, CHANGES, insert_fields,
	 sizeof(struct cdrom_params), api_desktop_fields, cdrom_insert,
	 "Put a disc of the ISO library into a desktop's CD drive."},
	{"desktop.cdrom.eject", API_ROLE_OPERATOR, CHANGES, eject_fields,
	 sizeof(struct cdrom_params), api_desktop_fields, cdrom_eject,
	 "Take the disc out of a desktop's CD drive."},
	{0},
};
