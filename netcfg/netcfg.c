#include "netcfg/netcfg.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/netlink.h>
#include <netlink/errno.h>
#include <netlink/socket.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "base/mem.h"
#include "netcfg/internal.h"

int netcfg_open(struct netcfg **ret, struct err *err)
{
	struct nl_sock *sock = nl_socket_alloc();
	if (!sock)
		return err_set(err, ERR_LIMIT, "cannot open rtnetlink: out of memory");
	int nle = nl_connect(sock, NETLINK_ROUTE);
	if (nle < 0) {
		nl_socket_free(sock);
		return netcfg_err_nl(err, nle, "cannot open rtnetlink");
	}
	/* several requests are under way at once, and libnl counts one by one */
	nl_socket_disable_seq_check(sock);
	struct netcfg *netcfg = mem_new(struct netcfg);
	netcfg->sock = sock;
	netcfg->discarded = true; /* by who was here before and did not come to sweep */
	*ret = netcfg;
	return 0;
}

void netcfg_close(struct netcfg *netcfg)
{
	if (!netcfg)
		return;
	nl_socket_free(netcfg->sock);
	nl_socket_free(netcfg->nft);
	free(netcfg);
}

bool netcfg_name_is_valid(const char *name)
{
	size_t len = strnlen(name, NETCFG_NAME_MAX + 1);
	if (len == 0 || len > NETCFG_NAME_MAX)
		return false;
	return strspn(name, "abcdefghijklmnopqrstuvwxyz0123456789-") == len;
}

int netcfg_name_check(const char *what, const char *name, struct err *err)
{
	if (netcfg_name_is_valid(name))
		return 0;
	return err_set(err, ERR_INVALID,
		       "%s \"%.40s\" is no link name: 1 to %d characters of a-z, 0-9 and -", what,
		       name, NETCFG_NAME_MAX);
}

bool netcfg_name_is_uplink(const char *name)
{
	size_t len = strnlen(name, NETCFG_NAME_MAX + 1);
	if (len == 0 || len > NETCFG_NAME_MAX || strcmp(name, ".") == 0 || strcmp(name, "..") == 0)
		return false;
	for (const char *c = name; *c; c++)
		if (*c <= ' ' || *c > '~' || strchr("/:\"", *c))
			return false;
	return true;
}

int netcfg_uplink_check(const char *what, const char *name, struct err *err)
{
	if (netcfg_name_is_uplink(name))
		return 0;
	return err_set(err, ERR_INVALID, "%s \"%.40s\" is no link's name", what, name);
}

static enum err_code code_of(int nle)
{
	switch (nle < 0 ? -nle : nle) {
	case NLE_NODEV:
	case NLE_OBJ_NOTFOUND:
	case NLE_NOADDR:
		return ERR_NOT_FOUND;
	case NLE_EXIST:
		return ERR_EXISTS;
	case NLE_PERM:
	case NLE_NOACCESS:
		return ERR_DENIED;
	case NLE_OPNOTSUPP:
	case NLE_PROTO_MISMATCH:
	case NLE_AF_NOSUPPORT:
		return ERR_UNSUPPORTED;
	case NLE_BUSY:
		return ERR_BUSY;
	case NLE_NOMEM:
		return ERR_LIMIT;
	default:
		return ERR_IO;
	}
}

int netcfg_err_nl(struct err *err, int nle, const char *fmt, ...)
{
	char what[ERR_MSG_MAX / 2];
	va_list args;
	va_start(args, fmt);
	vsnprintf(what, sizeof(what), fmt, args);
	va_end(args);
	return err_set(err, code_of(nle), "%s: %s", what, nl_geterror(nle));
}

int netcfg_err_sys(struct err *err, int sys, const char *fmt, ...)
{
	char what[ERR_MSG_MAX / 2];
	va_list args;
	va_start(args, fmt);
	vsnprintf(what, sizeof(what), fmt, args);
	va_end(args);
	enum err_code code = err_from_errno(sys);
	if (sys == EAFNOSUPPORT || sys == EPROTONOSUPPORT)
		code = ERR_UNSUPPORTED;
	else if (sys == ENOBUFS)
		code = ERR_LIMIT;
	return err_set_sys(err, code, sys, "%s", what);
}

int netcfg_sysctl_write(const char *path, const char *value, struct err *err)
{
	_cleanup_close_ int fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return err_set_sys(err, err_from_errno(errno), errno, "cannot read %s", path);
	/* asked first: /proc/sys may be read-only, as in containers, and the value right */
	char now[32];
	ssize_t n = read(fd, now, sizeof(now));
	size_t len = strlen(value);
	if (n >= (ssize_t)len && strncmp(now, value, len) == 0 &&
	    (n == (ssize_t)len || now[len] == '\n'))
		return 0;
	_cleanup_close_ int out = open(path, O_WRONLY | O_CLOEXEC);
	if (out < 0 || write(out, value, len) != (ssize_t)len)
		return err_set_sys(err, err_from_errno(errno), errno, "cannot write %s to %s",
				   value, path);
	return 0;
}

void netcfg_ipv6_set(const char *name, bool on)
{
	char path[96];
	snprintf(path, sizeof(path), "/proc/sys/net/ipv6/conf/%s/disable_ipv6", name);
	/* a kernel without IPv6 has no such file; then there is nothing to be set */
	if (netcfg_sysctl_write(path, on ? "0" : "1", NULL) < 0)
		return;
}
