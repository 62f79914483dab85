/*
 * The kernel's own switches and limits for what guests send to it. Once on, and once raised, they
 * stay so: others may need them.
 */
#include <dirent.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>

#include "base/mem.h"
#include "netcfg/nft.h"

#define IPV6_CONF "/proc/sys/net/ipv6/conf"

/*
 * Whom a guest sends packets to through the host, the host has to look for, at as many addresses as
 * a NIC may begin connections in three seconds (some 2300). The kernel's own limit of 1024 for the
 * whole host is less. Only the host's own namespace has it.
 */
#define NEIGHBOURS "65536"

/*
 * Pieces of packets stay for 30 seconds (IPv6: 60) where the rest does not come. What a NIC's
 * buckets let through in that time takes up to 48 MiB; the kernel's own limit for all is 4 MiB.
 */
#define PIECES "268435456"

/* Where it cannot be set, it stays. */
static void limit_raise(const char *path, const char *limit)
{
	char now[32] = "";
	_cleanup_close_ int fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0 || read(fd, now, sizeof(now) - 1) <= 0 || atol(now) >= atol(limit) ||
	    netcfg_sysctl_write(path, limit, NULL) < 0)
		return;
}

void nft_pieces_raise(void)
{
	limit_raise("/proc/sys/net/ipv4/ipfrag_high_thresh", PIECES);
	limit_raise("/proc/sys/net/ipv6/ip6frag_high_thresh", PIECES);
	/* connection tracking puts IPv6 together in a memory of its own */
	limit_raise("/proc/sys/net/netfilter/nf_conntrack_frag6_high_thresh", PIECES);
}

int nft_forwarding4_enable(struct err *err)
{
	limit_raise("/proc/sys/net/ipv4/neigh/default/gc_thresh3", NEIGHBOURS);
	return netcfg_sysctl_write("/proc/sys/net/ipv4/ip_forward", "1", err);
}

static bool file_says(const char *path, char value)
{
	_cleanup_close_ int fd = open(path, O_RDONLY | O_CLOEXEC);
	char now = '\0';
	return fd >= 0 && read(fd, &now, 1) == 1 && now == value;
}

/*
 * A host that passes packets on stops hearing routers where accept_ra is 1, and so would lose its
 * own default route some time later: 2 means "all the same". The bridges of ours have 0.
 */
static int routers_keep(struct err *err)
{
	DIR *dir = opendir(IPV6_CONF);
	if (!dir)
		return err_set(err, ERR_UNSUPPORTED, "this kernel has no IPv6");
	int rc = 0;
	for (struct dirent *entry; rc == 0 && (entry = readdir(dir));) {
		char path[sizeof(IPV6_CONF) + NAME_MAX + 16];
		if (entry->d_name[0] == '.' || strcmp(entry->d_name, "lo") == 0)
			continue;
		snprintf(path, sizeof(path), IPV6_CONF "/%s/accept_ra", entry->d_name);
		if (file_says(path, '1'))
			rc = netcfg_sysctl_write(path, "2", err);
	}
	closedir(dir);
	return rc;
}

int nft_forwarding6_enable(struct err *err)
{
	limit_raise("/proc/sys/net/ipv6/neigh/default/gc_thresh3", NEIGHBOURS);
	if (file_says(IPV6_CONF "/all/forwarding", '1'))
		return 0;
	if (routers_keep(err) < 0)
		return -1;
	return netcfg_sysctl_write(IPV6_CONF "/all/forwarding", "1", err);
}
