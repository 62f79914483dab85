/* Inside of api/ only: what the methods of desktops share. */
#pragma once

#include "vdi-hostd/api/api.h"
#include "vdi-hostd/desktop/desktop.h"

/** struct api_desktop_ref - the parameters of methods that take a desktop alone */
struct api_desktop_ref {
	const char *desktop;
};

/* in a struct of parameters, its member "desktop" */
#define API_DESKTOP_FIELD(params)                                                                  \
	{                                                                                          \
		"desktop", JSON_FIELD_REF, JSON_FIELD_REQUIRED, offsetof(struct params, desktop),  \
			.doc = "name or id"                                                        \
	}

extern const struct json_field api_desktop_fields[]; /* of what desktop.get answers */
extern const struct json_field api_desktop_ref_fields[];

struct desktop *api_desktop_find(struct api_call *call, const char *ref, struct err *err);
/** api_answer_desktop() - the end of an operation whose answer is the desktop as it is then */
void api_answer_desktop(void *data, struct desktop *desktop, const struct err *err);
