/*
 * What dnsmasq reads and writes, in <runtime_dir>/networks/<slot>/: `hosts`, ours, with a line
 * "mac,ip,[ip6],name" for each NIC (dnsmasq(8), --dhcp-hostsfile); `names`, ours, with a line
 * "ip name" for each address (--addn-hosts); and `leases`, its own, with a line
 * "expiry mac ip name client-id" for each lease (--dhcp-leasefile), then a line "duid ID" and one
 * "expiry iaid ip6 name client-id" for each lease of an IPv6 address.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>

#include "vdi-hostd/network/private.h"

#define LEASES_MAX (8u << 20) /* bytes: beyond a full /16 */

int files_path(const struct network *network, const char *name, char *ret, size_t size)
{
	int n = snprintf(ret, size, "%s/networks/%" PRId64 "%s%s", network->all->runtime_dir,
			 network->row.slot, name[0] ? "/" : "", name);
	return n < (int)size ? 0 : -1;
}

static int make_folder(const struct network *network, struct err *err)
{
	char parent[160], path[200];
	snprintf(parent, sizeof(parent), "%s/networks", network->all->runtime_dir);
	if (files_path(network, "", path, sizeof(path)) < 0)
		return err_set(err, ERR_LIMIT, "the path of the runtime folder is too long");
	if ((mkdir(parent, 0755) < 0 && errno != EEXIST) || chmod(parent, 0755) < 0 ||
	    (mkdir(path, 0755) < 0 && errno != EEXIST) || chmod(path, 0755) < 0)
		return err_set_sys(err, err_from_errno(errno), errno, "cannot make the folder %s",
				   path);
	return 0;
}

void files_delete(struct network *network)
{
	static const char *const names[] = {"hosts",     "hosts.new", "names",
					    "names.new", "leases",    "leases.new"};
	char path[256];
	for (size_t i = 0; i < ARRAY_LEN(names); i++)
		if (files_path(network, names[i], path, sizeof(path)) == 0)
			unlink(path);
	if (files_path(network, "", path, sizeof(path)) == 0)
		rmdir(path);
}

/* A file that is wholly the old or wholly the new one. */
static FILE *replace_begin(const struct network *network, const char *fresh, struct err *err)
{
	char path[256];
	FILE *out = files_path(network, fresh, path, sizeof(path)) < 0 ? NULL : fopen(path, "we");
	if (!out)
		err_set_sys(err, err_from_errno(errno), errno, "cannot write %s", path);
	return out;
}

static int replace_end(const struct network *network, FILE *out, const char *fresh,
		       const char *name, struct err *err)
{
	char from[256], to[256];
	bool failed = fchmod(fileno(out), 0644) < 0 || ferror(out);
	if (fclose(out) != 0 || failed || files_path(network, fresh, from, sizeof(from)) < 0 ||
	    files_path(network, name, to, sizeof(to)) < 0 || rename(from, to) < 0)
		return err_set_sys(err, err_from_errno(errno), errno,
				   "cannot write the %s file of network '%s'", name,
				   network->row.name);
	return 0;
}

struct writer {
	const struct db_network *row;
	FILE *out;
};

/* dnsmasq(8), --dhcp-hostsfile: an IPv6 address stands in brackets */
static void write_host(void *data, const struct network_host *host)
{
	struct writer *writer = data;
	char ip[16], ip6[46];
	if (!host->mac[0])
		return;
	address_format(host->ip, ip);
	address6_of(writer->row, host->ip, ip6);
	fprintf(writer->out, "%s,%s", host->mac, ip);
	if (ip6[0])
		fprintf(writer->out, ",[%s]", ip6);
	if (host->name[0])
		fprintf(writer->out, ",%s", host->name);
	fputc('\n', writer->out);
}

/* hosts(5): names are answered from the start, and not from a guest's first DHCP request */
static void write_name(void *data, const struct network_host *host)
{
	struct writer *writer = data;
	char ip[16], ip6[46];
	if (!host->name[0])
		return;
	address_format(host->ip, ip);
	address6_of(writer->row, host->ip, ip6);
	fprintf(writer->out, "%s %s\n", ip, host->name);
	if (ip6[0])
		fprintf(writer->out, "%s %s\n", ip6, host->name);
}

static int write_file(struct network *network, const char *fresh, const char *name,
		      void (*write)(void *data, const struct network_host *host), struct err *err)
{
	struct writer writer = {&network->row, replace_begin(network, fresh, err)};
	if (!writer.out)
		return -1;
	reservations_each_host(network, write, &writer);
	return replace_end(network, writer.out, fresh, name, err);
}

int files_write_hosts(struct network *network, struct err *err)
{
	if (make_folder(network, err) < 0 ||
	    write_file(network, "hosts.new", "hosts", write_host, err) < 0)
		return -1;
	return write_file(network, "names.new", "names", write_name, err);
}

static bool parse_lease(const char *line, struct lease *ret)
{
	struct lease lease = {.ip = 0};
	struct in_addr in;
	uint8_t in6[16];
	char ip[46], name[64];
	if (sscanf(line, "%" SCNd64 " %17s %45s %63s", &lease.expires_at, lease.mac, ip, name) != 4)
		return false;
	if (inet_pton(AF_INET, ip, &in) == 1) {
		lease.ip = ntohl(in.s_addr);
	} else if (inet_pton(AF_INET6, ip, in6) == 1) {
		snprintf(lease.ip6, sizeof(lease.ip6), "%s", ip);
		lease.mac[0] = '\0';
	} else {
		return false;
	}
	snprintf(lease.name, sizeof(lease.name), "%s", strcmp(name, "*") == 0 ? "" : name);
	*ret = lease;
	return true;
}

void files_each_lease(const struct network *network,
		      void (*cb)(void *data, const struct lease *lease), void *data)
{
	char path[256], line[512];
	struct lease lease;
	int64_t now = (int64_t)time(NULL);
	FILE *in = files_path(network, "leases", path, sizeof(path)) < 0 ? NULL : fopen(path, "re");
	if (!in)
		return; /* nobody has asked yet */
	for (size_t n = 0; n < LEASES_MAX && fgets(line, sizeof(line), in); n += strlen(line))
		/* 0: it never ends */
		if (parse_lease(line, &lease) && (lease.expires_at == 0 || lease.expires_at > now))
			cb(data, &lease);
	fclose(in);
}

/* struct nics - the NICs of a network, by address */
struct nic {
	uint32_t ip;
	char mac[18];
};

struct nics {
	struct nic *nic;
	size_t n;
};

static void nics_done(struct nics *nics)
{
	free(nics->nic);
}

static void add_nic(void *out, const struct network_host *host)
{
	struct nics *nics = out;
	if ((nics->n & (nics->n - 1)) == 0)
		nics->nic = mem_realloc(nics->nic, nics->n ? 2 * nics->n : 1, sizeof(*nics->nic));
	struct nic *nic = &nics->nic[nics->n++];
	nic->ip = host->ip;
	snprintf(nic->mac, sizeof(nic->mac), "%s", host->mac);
}

static int compare_ip(const void *a, const void *b)
{
	const struct nic *x = a, *y = b;
	return x->ip < y->ip ? -1 : x->ip > y->ip;
}

static void nics_read(struct network *network, struct nics *ret)
{
	reservations_each_host(network, add_nic, ret);
	if (ret->n)
		qsort(ret->nic, ret->n, sizeof(*ret->nic), compare_ip);
}

static const struct nic *nics_find(const struct nics *nics, uint32_t ip)
{
	const struct nic key = {.ip = ip};
	return nics->n ? bsearch(&key, nics->nic, nics->n, sizeof(key), compare_ip) : NULL;
}

struct block {
	struct nics nics;
	bool found;
};

static void find_block(void *data, const struct lease *lease)
{
	struct block *block = data;
	const struct nic *nic = lease->ip ? nics_find(&block->nics, lease->ip) : NULL;
	if (nic && strcasecmp(nic->mac, lease->mac) != 0)
		block->found = true;
}

bool files_leases_block(struct network *network)
{
	struct block block = {.found = false};
	nics_read(network, &block.nics);
	files_each_lease(network, find_block, &block);
	nics_done(&block.nics);
	return block.found;
}

struct prune {
	struct nics nics;
	FILE *out;
};

static void keep_lease(void *data, const struct lease *lease)
{
	struct prune *prune = data;
	const struct nic *nic = lease->ip ? nics_find(&prune->nics, lease->ip) : NULL;
	char ip[16];
	if (!nic || strcasecmp(nic->mac, lease->mac) != 0)
		return;
	address_format(lease->ip, ip);
	/* without its client id: dnsmasq knows the guest by its MAC */
	fprintf(prune->out, "%" PRId64 " %s %s %s *\n", lease->expires_at, lease->mac, ip,
		lease->name[0] ? lease->name : "*");
}

/* The server's own id: clients renew with the server that has it. */
static void keep_duid(const struct network *network, FILE *out)
{
	char path[256], line[512];
	FILE *in = files_path(network, "leases", path, sizeof(path)) < 0 ? NULL : fopen(path, "re");
	if (!in)
		return;
	for (size_t n = 0; n < LEASES_MAX && fgets(line, sizeof(line), in); n += strlen(line))
		if (strncmp(line, "duid ", 5) == 0)
			fputs(line, out);
	fclose(in);
}

int files_prune_leases(struct network *network, struct err *err)
{
	char path[256];
	if (files_path(network, "leases", path, sizeof(path)) == 0 && access(path, F_OK) < 0)
		return 0;
	struct prune prune = {.out = replace_begin(network, "leases.new", err)};
	if (!prune.out)
		return -1;
	nics_read(network, &prune.nics);
	files_each_lease(network, keep_lease, &prune);
	keep_duid(network, prune.out);
	nics_done(&prune.nics);
	return replace_end(network, prune.out, "leases.new", "leases", err);
}

static void add_lease_json(void *data, const struct lease *lease)
{
	char until[STR_TIME_MAX], ip[16];
	str_format_time(lease->expires_at * 1000, until);
	address_format(lease->ip, ip);
	/* a name that a guest made up may be no UTF-8: json_pack() has NULL for that */
	json_t *item =
		json_pack("{s:s?, s:s, s:o, s:s?}", "mac", lease->mac[0] ? lease->mac : NULL, "ip",
			  lease->ip ? ip : lease->ip6, "hostname",
			  lease->name[0] ? json_string(lease->name) ?: json_null() : json_null(),
			  "expires_at", lease->expires_at ? until : NULL);
	if (item)
		json_array_append_new(data, item);
}

json_t *networks_leases(struct networks *networks, const struct db_network *row, struct err *err)
{
	struct network *network = NULL;
	json_t *leases = json_array();
	HASH_FIND(by_id, networks->by_id, row->id, strlen(row->id), network);
	if (network && network_has_kernel_part(network))
		files_each_lease(network, add_lease_json, leases);
	return leases;
}
