/* What the files of the command line client share. */
#pragma once

#include <jansson.h>
#include <stdbool.h>

#include "base/err.h"

/* Exit statuses, as documented for scripts. */
enum {
	STATUS_DONE = 0,
	STATUS_FAILED = 1,
	STATUS_USAGE = 2,
	STATUS_NOT_FOUND = 3,
	STATUS_DENIED = 4,
	STATUS_CONFLICT = 5,
	STATUS_UNREACHABLE = 6,
};

/** struct options - what is said for every command alike */
struct options {
	const char *socket; /* NULL: the usual places */
	const char *output; /* a file for the result, or NULL */
	bool json, help, version;
};

/** struct vdictl - one run of the program */
struct vdictl {
	struct options options;
	struct client *client; /* NULL until vdictl_connect() */
	json_t *discover; /* the daemon's description of its API, NULL until vdictl_discover() */
};

/** vdictl_connect() - reach the daemon, once */
int vdictl_connect(struct vdictl *vdictl, struct err *err) warn_unused;

/** vdictl_discover() - connect and ask what there is, once */
int vdictl_discover(struct vdictl *vdictl, struct err *err) warn_unused;

/** vdictl_report() - "vdictl: message" on stderr; returns the exit status that fits */
int vdictl_report(const struct vdictl *vdictl, const struct err *err);

/* The commands; each takes the words after its own name and returns an exit status. */
int command_method(struct vdictl *vdictl, int argc, char **argv);
int command_call(struct vdictl *vdictl, int argc, char **argv);
int command_watch(struct vdictl *vdictl, int argc, char **argv);
int command_help(struct vdictl *vdictl, int argc, char **argv);
int command_completion(struct vdictl *vdictl, int argc, char **argv);
int command_complete(struct vdictl *vdictl, int argc, char **argv);
