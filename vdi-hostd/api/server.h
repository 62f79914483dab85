/* The control socket: JSON-RPC 2.0, one JSON text a line, over a UNIX stream socket. */
#pragma once

#include "vdi-hostd/api/api.h"

#define API_LINE_MAX    (1u << 20)
#define API_QUEUE_MAX   (16u << 20) /* answers that wait for a client to read */
#define API_CLIENTS_MAX 512
#define API_SHARE_MAX   384 /* of them, those of one account */
#define API_BATCH_MAX   1000
#define API_CALLS_MAX   256 /* under way on one connection; then it is not read any more */

struct api_server;

/**
 * struct api_server_config - borrowed while api_server_new() runs
 * @group: whose members are administrators and may open the socket; NULL (rootless): nobody but the
 *         daemon's own user
 * @patience_ms: how long a client may leave more than 1 MiB of its answers unread; 0: a minute
 */
struct api_server_config {
	const char *socket, *group;
	uint64_t patience_ms;
};

/**
 * api_server_new() - listen
 * @host:   borrowed for the server's life
 * @tables: ends with NULL; borrowed
 * Errors: ERR_BUSY if another daemon answers at that path; a socket that nobody answers is
 * replaced.
 */
int api_server_new(const struct api_host *host, const struct api_server_config *config,
		   const struct api_method *const *tables, struct api_server **ret,
		   struct err *err) warn_unused;

/** api_server_free() - close every connection; calls under way stay valid and their answers are
 * dropped */
void api_server_free(struct api_server *server);

/** api_discover() - the OpenRPC document of some tables (OpenRPC 1.2.6); new reference */
json_t *api_discover(const struct api_method *const *tables);
