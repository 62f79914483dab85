/*
 * The control API as a table: one row a method. From it come parameter checking, rpc.discover,
 * docs/api.md and vdictl. A handler returns a token that only api_reply(), api_fail() and
 * api_pending() make, so that no request can go unanswered.
 */
#pragma once

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>
#include <uv.h>

#include "base/err.h"
#include "base/json_fields.h"

enum api_role { API_ROLE_ANYONE, API_ROLE_USER, API_ROLE_OPERATOR, API_ROLE_ADMIN };

/** struct api_caller - who is asking, stamped at accept from SO_PEERCRED, never from the request */
struct api_caller {
	uid_t uid;
	pid_t pid;
	enum api_role role;
	char name[64];
};

struct api_call; /* one request under way */
struct api_token {
	const struct api_call *call;
};

typedef struct api_token (*api_handler)(struct api_call *call, const void *params);

enum {
	API_MUTATES = 1 << 0,  /* takes idempotency_key */
	API_JOB = 1 << 1,      /* answers {"job"}; takes wait */
	API_FILE = 1 << 2,     /* a descriptor may come with the line */
	API_NAMED = 1 << 3,    /* the first parameter is vdictl's [NAME] */
	API_FILE_OUT = 1 << 4, /* with API_FILE: it is written to */
};

/**
 * struct api_method - one row
 * @name:        "noun.verb"
 * @params:      read by json_fields_read() into @params_size bytes, which the handler gets
 * @result:      what it answers; for lists the fields of an item, with API_LIST
 */
struct api_method {
	const char *name;
	enum api_role role;
	unsigned int flags;
	const struct json_field *params;
	size_t params_size;
	const struct json_field *result;
	api_handler handler;
	const char *summary;
};

#define API_LIST (1u << 8)

/** struct api_host - what handlers work on; set up by main */
struct api_host {
	uv_loop_t *loop;
	struct db *db;
	struct jobs *jobs;
	struct priv *priv;
	struct images *images;
	struct networks *networks;
	struct desktops *desktops;
	struct disks *disks;
	struct broker *broker;
	const struct config *config;
	const struct host_info *info;
};

const struct api_host *api_call_host(const struct api_call *call);
const struct api_caller *api_call_caller(const struct api_call *call);
/** api_call_params() - the object as it came (to see which optional keys are there), borrowed */
json_t *api_call_params(const struct api_call *call);
/** api_call_take_fd() - the descriptor that came with the line, or -1 */
int api_call_take_fd(struct api_call *call);

struct api_token api_reply(struct api_call *call, json_t *result /* stolen */);
struct api_token api_fail(struct api_call *call, const struct err *err);
/** api_pending() - the answer comes later, by exactly one api_reply() or api_fail() whose token is
 * dropped; the caller may be gone by then, which is no concern of the handler */
struct api_token api_pending(struct api_call *call);
/** api_reply_job() - {"job": id} at once, or its end when the request said "wait": true */
struct api_token api_reply_job(struct api_call *call, const char *job_id);

/** the tables, one a noun; each ends with an empty row */
extern const struct api_method api_rpc_methods[], api_host_methods[], api_event_methods[],
	api_job_methods[], api_image_methods[], api_network_methods[], api_firewall_methods[],
	api_reservation_methods[], api_desktop_methods[], api_snapshot_methods[],
	api_forward_methods[], api_nic_methods[], api_iso_methods[], api_export_methods[],
	api_quota_methods[], api_recompose_methods[], api_store_methods[], api_backup_methods[],
	api_capture_methods[], api_cdrom_methods[], api_screen_methods[];

/** api_tables - all of them; ends with NULL */
extern const struct api_method *const api_tables[];
