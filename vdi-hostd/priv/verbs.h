/*
 * What can be asked for, as a table: check, then do. The same code runs in the privileged half
 * (server.c) and, for the verbs that need no privilege, in a rootless daemon (client.c).
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>

#include "vdi-hostd/priv/cgroup.h"
#include "vdi-hostd/priv/children.h"
#include "vdi-hostd/priv/priv.h"

#define PRIV_REPLY_FDS_MAX (2 * QEMU_QUEUES_MAX)
#define GUARDS_MAX         8

/** struct guard - a process that puts an uplink back unless it is told to go; @slot: 0: none */
struct guard {
	uint32_t slot;
	pid_t pid;
	int fd;
};

struct verbs {
	struct priv_config config;
	bool rootless;
	uint32_t kernel_features; /* PRIV_HAS_*, found while there was the privilege to */
	struct children children;
	struct cgroup cgroup;
	struct netcfg *netcfg; /* NULL: rootless */
	struct netcfg_monitor *monitor;
	int watch_fd; /* who is told of changes; 0: nobody yet */
	struct guard guards[GUARDS_MAX];
};

struct verb {
	const char *name;
	bool rootless; /* can be done without privilege */
	size_t n_fds;  /* exactly so many; VERB_FDS_BY_SPEC: as the request's fields say */
	int (*check)(const struct priv_request *req, const int *fds, size_t n_fds, struct err *err);
	int (*run)(struct verbs *verbs, const struct priv_request *req, const int *fds,
		   struct priv_reply *reply, int *reply_fds, struct err *err);
};

#define VERB_FDS_BY_SPEC ((size_t)-1)

/** verbs_name() - for messages; NULL if there is no such verb */
const char *verbs_name(uint32_t verb);

/**
 * verbs_check() - is the request well-formed: a verb that there is, all fields in range, the
 * descriptors as many and of the kind that it takes? A failure is a fault of the sender's.
 */
int verbs_check(const struct priv_request *req, const int *fds, size_t n_fds,
		struct err *err) warn_unused;

/**
 * verbs_run() - do what a request that passed verbs_check() asks for
 * @reply:     filled in, with the error if it failed
 * @reply_fds: room for PRIV_REPLY_FDS_MAX; reply->n_fds of them are the caller's to close
 */
void verbs_run(struct verbs *verbs, const struct priv_request *req, const int *fds,
	       struct priv_reply *reply, int *reply_fds);

void verbs_done(struct verbs *verbs);

/** verbs_see_events() - verbs->monitor is readable: tell who watches */
void verbs_see_events(struct verbs *verbs);

/** verbs_await_sweep() - is there anything for verbs_sweep()? */
bool verbs_await_sweep(const struct verbs *verbs);

/** verbs_sweep() - the links of taps that were deleted go; takes the kernel some 15 ms or more */
void verbs_sweep(struct verbs *verbs);

/** verbs_close_guards() - this half ends: what was not confirmed is put back */
void verbs_close_guards(struct verbs *verbs);

/* the verbs by noun: verbs_process.c, verbs_network.c, verbs_tap.c, verbs_firewall.c,
 * verbs_uplink.c, verbs_dnsmasq.c */
int verb_qemu_check(const struct priv_request *req, const int *fds, size_t n_fds, struct err *err);
int verb_qemu_spawn(struct verbs *verbs, const struct priv_request *req, const int *fds,
		    struct priv_reply *reply, int *reply_fds, struct err *err);
int verb_img_check(const struct priv_request *req, const int *fds, size_t n_fds, struct err *err);
int verb_img_spawn(struct verbs *verbs, const struct priv_request *req, const int *fds,
		   struct priv_reply *reply, int *reply_fds, struct err *err);
/** verb_process_open() - a pidfd of a process that runs under @uid; errors: as proc_open(),
 * ERR_DENIED
 */
int verb_process_open(pid_t pid, uint64_t start_time, uid_t uid, int *ret_pidfd,
		      struct err *err) warn_unused;
int verb_signal_check(const struct priv_request *req, const int *fds, size_t n_fds,
		      struct err *err);
int verb_signal(struct verbs *verbs, const struct priv_request *req, const int *fds,
		struct priv_reply *reply, int *reply_fds, struct err *err);
int verb_reap_check(const struct priv_request *req, const int *fds, size_t n_fds, struct err *err);
int verb_reap(struct verbs *verbs, const struct priv_request *req, const int *fds,
	      struct priv_reply *reply, int *reply_fds, struct err *err);

int verb_network_check(const struct priv_request *req, const int *fds, size_t n_fds,
		       struct err *err);
int verb_bridge_ensure(struct verbs *verbs, const struct priv_request *req, const int *fds,
		       struct priv_reply *reply, int *reply_fds, struct err *err);
int verb_bridge_delete(struct verbs *verbs, const struct priv_request *req, const int *fds,
		       struct priv_reply *reply, int *reply_fds, struct err *err);
int verb_network_look(struct verbs *verbs, const struct priv_request *req, const int *fds,
		      struct priv_reply *reply, int *reply_fds, struct err *err);
int verb_tap_check(const struct priv_request *req, const int *fds, size_t n_fds, struct err *err);
int verb_tap_create(struct verbs *verbs, const struct priv_request *req, const int *fds,
		    struct priv_reply *reply, int *reply_fds, struct err *err);
int verb_tap_attach(struct verbs *verbs, const struct priv_request *req, const int *fds,
		    struct priv_reply *reply, int *reply_fds, struct err *err);
int verb_tap_delete(struct verbs *verbs, const struct priv_request *req, const int *fds,
		    struct priv_reply *reply, int *reply_fds, struct err *err);
int verb_tap_look(struct verbs *verbs, const struct priv_request *req, const int *fds,
		  struct priv_reply *reply, int *reply_fds, struct err *err);
int verb_forward_look(struct verbs *verbs, const struct priv_request *req, const int *fds,
		      struct priv_reply *reply, int *reply_fds, struct err *err);
int verb_drops(struct verbs *verbs, const struct priv_request *req, const int *fds,
	       struct priv_reply *reply, int *reply_fds, struct err *err);
int verb_forward_check(const struct priv_request *req, const int *fds, size_t n_fds,
		       struct err *err);
int verb_forward_ensure(struct verbs *verbs, const struct priv_request *req, const int *fds,
			struct priv_reply *reply, int *reply_fds, struct err *err);
int verb_forward_delete(struct verbs *verbs, const struct priv_request *req, const int *fds,
			struct priv_reply *reply, int *reply_fds, struct err *err);
int verb_group_check(const struct priv_request *req, const int *fds, size_t n_fds, struct err *err);
int verb_group_ensure(struct verbs *verbs, const struct priv_request *req, const int *fds,
		      struct priv_reply *reply, int *reply_fds, struct err *err);
int verb_group_delete(struct verbs *verbs, const struct priv_request *req, const int *fds,
		      struct priv_reply *reply, int *reply_fds, struct err *err);
int verb_uplink_check(const struct priv_request *req, const int *fds, size_t n_fds,
		      struct err *err);
int verb_uplink_enslave(struct verbs *verbs, const struct priv_request *req, const int *fds,
			struct priv_reply *reply, int *reply_fds, struct err *err);
int verb_uplink_confirm(struct verbs *verbs, const struct priv_request *req, const int *fds,
			struct priv_reply *reply, int *reply_fds, struct err *err);
int verb_uplink_release(struct verbs *verbs, const struct priv_request *req, const int *fds,
			struct priv_reply *reply, int *reply_fds, struct err *err);
int verb_watch(struct verbs *verbs, const struct priv_request *req, const int *fds,
	       struct priv_reply *reply, int *reply_fds, struct err *err);
int verb_dhcp_listen(struct verbs *verbs, const struct priv_request *req, const int *fds,
		     struct priv_reply *reply, int *reply_fds, struct err *err);
int verb_dnsmasq_spawn(struct verbs *verbs, const struct priv_request *req, const int *fds,
		       struct priv_reply *reply, int *reply_fds, struct err *err);

/** verb_reply_spawned() - put a started process into the reply and the table of children */
void verb_reply_spawned(struct verbs *verbs, int pid, uint64_t start_time, int pidfd,
			struct priv_reply *reply, int *reply_fds);
