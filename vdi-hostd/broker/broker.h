/*
 * The broker: who may see a desktop's screen, for how long, and the way there. No QEMU listens on
 * the network: one TCP port of the daemon takes HTTP CONNECT with a token, and hands the socket
 * over.
 */
#pragma once

#include <uv.h>

#include "vdi-hostd/desktop/desktop.h"

struct broker;

/**
 * struct broker_config - borrowed while broker_new() runs
 * @public_host: what .vv files name; "" for @listen
 * @port:        0: any free one
 */
struct broker_config {
	const char *listen, *public_host;
	int port;
	int64_t ticket_ttl_s;
};

int broker_new(uv_loop_t *loop, struct desktops *desktops, const struct broker_config *config,
	       struct broker **ret, struct err *err) warn_unused;
/** broker_free() - closes the port; screens that are open stay open, they are QEMU's */
void broker_free(struct broker *broker);
int broker_port(const struct broker *broker);

/**
 * struct broker_way - the way to one screen
 * @file: text of a .vv file (virt-viewer's "[virt-viewer]" key file), which holds a secret
 */
struct broker_way {
	char file_name[STR_NAME_MAX + 8];
	char file[1024];
	int64_t expires_at;
};

typedef void (*broker_connect_cb)(void *data, const struct broker_way *way, const struct err *err);

/**
 * broker_connect_spice() - start or resume the desktop where it must, set a fresh ticket, describe
 * the way
 * @cb: fires exactly once. A new way makes the desktop's older ones that nobody used invalid.
 */
void broker_connect_spice(struct broker *broker, struct desktop *desktop, broker_connect_cb cb,
			  void *data);
