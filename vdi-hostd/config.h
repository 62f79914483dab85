/* The configuration: INI, every key with a default, unknown keys refused. See docs/operating.md. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "base/err.h"

/*
 * Desktops' QEMUs run under CONFIG_UID_BASE + slot (slots are 1 to 65535), qemu-img under
 * CONFIG_UID_BASE itself. Where others take theirs: accounts below 65536; systemd 61184 to 65519
 * and 524288 to 1879048191 (systemd.io/UIDS-GIDS); subordinate uids from 100000; SSSD and FreeIPA
 * 200000 to 2000200000. Some tools keep uids in 31 bits.
 */
#define CONFIG_UID_BASE 2100000000

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
	int64_t merge_rate_mib_s; /* of merges that nobody gave another rate; 0: no limit */
	/* [store] */
	int64_t space_low_percent, space_critical_percent, space_critical_mib;
	int64_t verify_interval_h; /* how often each is compared with its checksum; 0: never */
	/* [network] */
	char dnsmasq_binary[128];
	bool vhost; /* the kernel moves desktops' packets, where it can */
	/* [spice] */
	char spice_listen[64]; /* address */
	int64_t spice_port;
	char spice_public_host[256]; /* what .vv files name; "": the listen address */
	int64_t ticket_ttl_s;
};

/**
 * config_defaults() - @rootless: XDG folders, the caller's own uid, no user and group to change to
 *
 * Structs that are equal are so for memcmp(3), too.
 */
int config_defaults(struct config *ret, bool rootless, struct err *err) warn_unused;
/** config_load() - read a file over what is in @config; errors name file, line and key */
int config_load(struct config *config, const char *path, struct err *err) warn_unused;
/**
 * config_parse() - the same from memory (the fuzz target's door); @name is named in errors
 *
 * On failure @config is untouched. A line may have up to 198 bytes. A key that stands twice is an
 * error.
 */
int config_parse(struct config *config, const char *name, const char *text, size_t len,
		 struct err *err) warn_unused;
