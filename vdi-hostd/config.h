/* The configuration: INI, every key with a default, unknown keys refused. See docs/operating.md. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "base/err.h"

enum config_accel { CONFIG_ACCEL_AUTO, CONFIG_ACCEL_KVM, CONFIG_ACCEL_TCG };

struct config {
	/* [daemon] */
	char state_dir[128], runtime_dir[128], socket[108];
	char user[64], group[64];
	bool debug;
	/* [qemu] */
	char qemu_binary[128], qemu_img_binary[128];
	enum config_accel accel;
	int64_t uid_base, tool_uid;
	/* [desktops] */
	int64_t memory_reserve_mib; /* kept free for the host */
	int64_t stop_timeout_s, start_timeout_s;
	/* [network] */
	char dnsmasq_binary[128];
	/* [spice] */
	char spice_listen[64]; /* address */
	int64_t spice_port;
	char spice_public_host[256]; /* what .vv files name; "": the listen address */
	int64_t ticket_ttl_s;
};

/** config_defaults() - @rootless: XDG folders and the caller's own uid */
int config_defaults(struct config *ret, bool rootless, struct err *err) warn_unused;
/** config_load() - read a file over what is in @config; errors name file, line and key */
int config_load(struct config *config, const char *path, struct err *err) warn_unused;
/** config_parse() - the same from memory (the fuzz target's door); @name is named in errors */
int config_parse(struct config *config, const char *name, const char *text, size_t len,
		 struct err *err) warn_unused;
