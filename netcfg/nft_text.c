#include <errno.h>
#include <linux/netlink.h>
#include <nftables/libnftables.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>

#include "base/mem.h"
#include "netcfg/nft.h"

/* nft's complaint is several lines with a picture of the command; the first says it. */
static int err_nft(struct err *err, const char *what, const char *text)
{
	enum err_code code = ERR_IO;
	if (strstr(text, "Operation not permitted"))
		code = ERR_DENIED;
	else if (strstr(text, "not supported") || strstr(text, "Protocol error"))
		code = ERR_UNSUPPORTED;
	else if (strstr(text, "resource busy"))
		code = ERR_BUSY;
	return err_set(err, code, "firewall: cannot %s: %.*s", what, (int)strcspn(text, "\n"),
		       text);
}

int nft_run(const char *what, const char *text, char **ret_out, struct err *err)
{
	/* libnftables ends the process where this socket cannot be had, so ask first */
	_cleanup_close_ int probe = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_NETFILTER);
	if (probe < 0)
		return err_set_sys(err, ERR_UNSUPPORTED, errno,
				   "firewall: this kernel has no nftables (nf_tables)");
	/* a new context each time: its cache of the ruleset must not outlive others' changes */
	struct nft_ctx *ctx = nft_ctx_new(NFT_CTX_DEFAULT);
	if (!ctx)
		return err_set(err, ERR_LIMIT, "firewall: cannot open nftables");
	int rc = -1;
	if (nft_ctx_buffer_output(ctx) != 0 || nft_ctx_buffer_error(ctx) != 0) {
		err_set(err, ERR_LIMIT, "firewall: out of memory");
	} else if (nft_run_cmd_from_buffer(ctx, text) != 0) {
		const char *why = nft_ctx_get_error_buffer(ctx);
		err_nft(err, what, why && *why ? why : "nftables gave no reason");
	} else {
		const char *out = nft_ctx_get_output_buffer(ctx);
		if (ret_out)
			*ret_out = mem_strdup(out ? out : "");
		rc = 0;
	}
	nft_ctx_free(ctx);
	return rc;
}

/* as with mem_calloc(): where these fail, the host is out of memory */
FILE *nft_text_open(char **ret_text, size_t *ret_size)
{
	FILE *text = open_memstream(ret_text, ret_size);
	if (!text)
		abort();
	return text;
}

void nft_text_close(FILE *text)
{
	if (fclose(text) != 0)
		abort();
}
