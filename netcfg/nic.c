#include "netcfg/nic.h"

#include <arpa/inet.h>
#include <errno.h>
#include <linux/netfilter.h>
#include <stdio.h>
#include <string.h>

#include "base/mem.h"
#include "netcfg/nft.h"

/* Of a NIC's elements, the one that has its description as a note; always the first. */
#define NICS_SET "nics"

/* an address is a source, a target and a member of each group; a group is in four maps */
#define ELEMS_MAX                                                                                  \
	(8 + 2 * (NETCFG_NIC_ADDRS_MAX + 1) + (4 + NETCFG_NIC_ADDRS_MAX) * NETCFG_NIC_GROUPS_MAX)

struct elems {
	struct nft_elem elem[ELEMS_MAX];
	size_t n;
};

/* What a note's third byte says. Notes of versions that knew the first bit alone are still read. */
enum { NOTE_ANY_ADDRESS = 1 << 0, NOTE_ANY_PREFIX6 = 1 << 1 };

static int nic_check(const struct netcfg_nic *nic, struct err *err)
{
	if (netcfg_name_check("tap", nic->tap, err) < 0)
		return -1;
	if (!netcfg_mac_is_valid(nic->mac))
		return err_set(err, ERR_INVALID, "NIC %s: a multicast MAC or none is no NIC's",
			       nic->tap);
	if (nic->n_addresses > NETCFG_NIC_ADDRS_MAX || nic->n_groups > NETCFG_NIC_GROUPS_MAX)
		return err_set(err, ERR_INVALID, "NIC %s: over %d addresses or %d groups", nic->tap,
			       NETCFG_NIC_ADDRS_MAX, NETCFG_NIC_GROUPS_MAX);
	for (unsigned int i = 0; i < nic->n_addresses; i++)
		if (netcfg_addr_check("a NIC's address", &nic->addresses[i], err) < 0)
			return -1;
	for (unsigned int i = 0; i < nic->n_groups; i++)
		for (unsigned int k = 0; k <= i; k++)
			if (nic->groups[i] == 0 || (k < i && nic->groups[k] == nic->groups[i]))
				return err_set(err, ERR_INVALID,
					       "NIC %s: group %u is none, or there twice", nic->tap,
					       nic->groups[i]);
	return 0;
}

/* ---- the note: what a NIC was told to be, so that it can be taken away again ---- */

static void note_put(struct nft_elem *elem, const void *bytes, size_t size)
{
	if (elem->note_size + size > sizeof(elem->note))
		abort();
	memcpy(elem->note + elem->note_size, bytes, size);
	elem->note_size += size;
}

/* In the form of nft's own notes: type, length, value; of a type that nft does not know. */
static void note_write(struct nft_elem *elem, const struct netcfg_nic *nic)
{
	const unsigned int flags = (nic->any_address ? NOTE_ANY_ADDRESS : 0) |
				   (nic->any_prefix6 ? NOTE_ANY_PREFIX6 : 0);
	const uint8_t head[] = {0xfd, 0, (uint8_t)flags, (uint8_t)nic->n_addresses,
				(uint8_t)nic->n_groups};
	note_put(elem, head, sizeof(head));
	note_put(elem, nic->mac, sizeof(nic->mac));
	note_put(elem, nic->groups, nic->n_groups * sizeof(*nic->groups));
	for (unsigned int i = 0; i < nic->n_addresses; i++) {
		size_t size;
		const void *bytes = netcfg_addr_bytes(&nic->addresses[i], &size);
		const uint8_t length = (uint8_t)size;
		note_put(elem, &length, 1);
		note_put(elem, bytes, size);
	}
	elem->note[1] = (uint8_t)(elem->note_size - 2);
}

static bool note_get(const struct nft_elem *elem, size_t *at, void *ret, size_t size)
{
	if (*at + size > elem->note_size)
		return false;
	memcpy(ret, elem->note + *at, size);
	*at += size;
	return true;
}

/* false: it is none of ours */
static bool note_read(const struct nft_elem *elem, struct netcfg_nic *ret)
{
	uint8_t head[5], length;
	size_t at = 0;
	if (!note_get(elem, &at, head, sizeof(head)) || head[0] != 0xfd ||
	    head[3] > NETCFG_NIC_ADDRS_MAX || head[4] > NETCFG_NIC_GROUPS_MAX ||
	    !note_get(elem, &at, ret->mac, sizeof(ret->mac)) ||
	    !note_get(elem, &at, ret->groups, head[4] * sizeof(*ret->groups)))
		return false;
	ret->any_address = head[2] & NOTE_ANY_ADDRESS;
	ret->any_prefix6 = head[2] & NOTE_ANY_PREFIX6;
	ret->n_groups = head[4];
	for (ret->n_addresses = 0; ret->n_addresses < head[3]; ret->n_addresses++) {
		uint8_t bytes[16];
		if (!note_get(elem, &at, &length, 1) || length > sizeof(bytes) ||
		    !note_get(elem, &at, bytes, length) ||
		    !netcfg_addr_set(&ret->addresses[ret->n_addresses],
				     length == 4 ? AF_INET : AF_INET6, bytes, length, 0))
			return false;
	}
	return true;
}

/* ---- what a NIC is made of ---- */

static struct nft_elem *elem_new(struct elems *elems, uint8_t family, const char *set)
{
	if (elems->n == ARRAY_LEN(elems->elem))
		abort();
	struct nft_elem *elem = &elems->elem[elems->n++];
	*elem = (struct nft_elem){.family = family};
	snprintf(elem->set, sizeof(elem->set), "%s", set);
	return elem;
}

static struct nft_elem *elem_of_tap(struct elems *elems, const char *set, const char *tap)
{
	struct nft_elem *elem = elem_new(elems, NFPROTO_BRIDGE, set);
	nft_elem_key_name(elem, tap);
	return elem;
}

static void elems_of_address(struct elems *elems, const struct netcfg_nic *nic,
			     const struct netcfg_addr *address)
{
	size_t size;
	const void *bytes = netcfg_addr_bytes(address, &size);
	const bool v4 = address->family == AF_INET;
	struct nft_elem *elem = elem_of_tap(elems, v4 ? "source4" : "source6", nic->tap);
	nft_elem_key(elem, nic->mac, sizeof(nic->mac));
	nft_elem_key(elem, bytes, size);
	if (v4)
		return;
	elem = elem_of_tap(elems, "targets", nic->tap);
	nft_elem_key(elem, bytes, size);
}

/* What comes from its identifier under any prefix, and what DHCP servers send to it. */
static void elems_of_others_prefix(struct elems *elems, const struct netcfg_nic *nic)
{
	const struct in6_addr own = netcfg_mac_link_local(nic->mac);
	nft_elem_key(elem_of_tap(elems, "hosts6", nic->tap), &own.s6_addr[8], 8);
	nft_elem_key(elem_of_tap(elems, "hears", nic->tap), nic->mac, sizeof(nic->mac));
}

static void elems_of_group(struct elems *elems, const struct netcfg_nic *nic, unsigned int slot)
{
	static const char *const direction[] = {"out", "in"};
	for (int i = 0; i < 4; i++) {
		const char *const to = direction[i / 2], *const end = i % 2 ? "-end" : "";
		struct nft_elem *elem = elem_of_tap(elems, "", nic->tap);
		snprintf(elem->set, sizeof(elem->set), "%s%u%s", to, slot, end);
		snprintf(elem->jump, sizeof(elem->jump), "group-%u-%s%s", nic->groups[slot], to,
			 end);
	}
	for (unsigned int i = 0; i < nic->n_addresses; i++) {
		size_t size;
		const void *bytes = netcfg_addr_bytes(&nic->addresses[i], &size);
		struct nft_elem *elem = elem_new(elems, NFPROTO_BRIDGE, "");
		snprintf(elem->set, sizeof(elem->set), "members-%u-%d", nic->groups[slot],
			 size == 4 ? 4 : 6);
		nft_elem_key(elem, bytes, size);
	}
}

static void elems_of_nic(struct elems *elems, const struct netcfg_nic *nic)
{
	elems->n = 0;
	note_write(elem_of_tap(elems, NICS_SET, nic->tap), nic);
	nft_elem_key_name(elem_new(elems, NFPROTO_INET, NICS_SET), nic->tap);
	for (int i = 0; i < 2; i++) {
		struct nft_elem *elem = elem_of_tap(elems, i ? "options" : "macs", nic->tap);
		nft_elem_key(elem, nic->mac, sizeof(nic->mac));
	}
	if (nic->any_address)
		elem_of_tap(elems, "any", nic->tap);
	if (nic->any_prefix6)
		elems_of_others_prefix(elems, nic);
	const struct in6_addr own = netcfg_mac_link_local(nic->mac);
	const struct netcfg_addr link_local = netcfg_addr_v6(&own, 128);
	bool there = false;
	for (unsigned int i = 0; i < nic->n_addresses; i++) {
		elems_of_address(elems, nic, &nic->addresses[i]);
		there = there || (nic->addresses[i].family == AF_INET6 &&
				  memcmp(&nic->addresses[i].v6, &own, sizeof(own)) == 0);
	}
	if (!there)
		elems_of_address(elems, nic, &link_local);
	if (nic->n_groups)
		elem_of_tap(elems, "grouped", nic->tap);
	for (unsigned int i = 0; i < nic->n_groups; i++)
		elems_of_group(elems, nic, i);
}

/* ---- changes ---- */

static int frame_put(struct err *err)
{
	_cleanup_free_ char *text = NULL;
	size_t size;
	FILE *out = nft_text_open(&text, &size);
	nft_frame_inet_write(out);
	nft_frame_bridge_write(out);
	nft_text_close(out);
	return nft_run("make the tables", text, NULL, err);
}

static bool elem_equal(const struct nft_elem *a, const struct nft_elem *b)
{
	return a->family == b->family && strcmp(a->set, b->set) == 0 &&
	       a->key_size == b->key_size && memcmp(a->key, b->key, a->key_size) == 0 &&
	       strcmp(a->jump, b->jump) == 0 && a->note_size == b->note_size &&
	       memcmp(a->note, b->note, a->note_size) == 0;
}

static bool elems_have(const struct elems *elems, const struct nft_elem *elem)
{
	for (size_t i = 0; i < elems->n; i++)
		if (elem_equal(&elems->elem[i], elem))
			return true;
	return false;
}

/*
 * What takes away all that there is of a tap but for what it is to be.
 * @scratch: for the elements that there are
 * @mend:    somebody has been at the elements: make what may be missing, so that it can be deleted
 */
static int batch_remove(struct netcfg *netcfg, struct nft_batch *batch, const char *tap,
			const struct elems *wanted, struct elems *scratch, bool mend)
{
	scratch->n = 0;
	struct nft_elem *known = elem_of_tap(scratch, NICS_SET, tap);
	struct netcfg_nic old = {.tap = tap};
	int sys = nft_elem_get(netcfg, known);
	if (sys == ENOENT)
		return 0;
	if (sys != 0)
		return sys;
	if (!note_read(known, &old)) {
		nft_batch_delete(batch, known);
		return 0;
	}
	elems_of_nic(scratch, &old);
	for (size_t i = 0; i < scratch->n; i++) {
		if (elems_have(wanted, &scratch->elem[i]))
			continue;
		if (mend)
			nft_batch_add(batch, &scratch->elem[i]);
		nft_batch_delete(batch, &scratch->elem[i]);
	}
	return 0;
}

/* struct drop_keys - whose counters go: some NICs', by their taps' names and their MACs */
struct drop_keys {
	struct nft_batch *batch;
	const char *const *taps;
	uint8_t (*macs)[6];
	size_t n;
};

static void drop_key_remove(void *data, const struct nft_found *found)
{
	const struct drop_keys *keys = data;
	char name[NFT_IFNAME_SIZE + 1] = "";
	memcpy(name, found->key, NFT_IFNAME_SIZE);
	for (size_t i = 0; i < keys->n; i++) {
		if (strcmp(keys->taps[i], name) != 0)
			continue;
		struct nft_elem elem = {.family = NFPROTO_BRIDGE, .set = "drops"};
		nft_elem_key(&elem, found->key, found->key_size);
		nft_batch_delete(keys->batch, &elem);
		return;
	}
}

static void host_drop_key_remove(void *data, const struct nft_found *found)
{
	const struct drop_keys *keys = data;
	for (size_t i = 0; i < keys->n; i++) {
		if (memcmp(keys->macs[i], found->key, sizeof(keys->macs[i])) != 0)
			continue;
		struct nft_elem elem = {.family = NFPROTO_INET, .set = "drops"};
		nft_elem_key(&elem, found->key, found->key_size);
		nft_batch_delete(keys->batch, &elem);
		return;
	}
}

static int drops_remove(struct netcfg *netcfg, struct nft_batch *batch, const char *const *taps,
			size_t n)
{
	_cleanup_free_ uint8_t(*macs)[6] = mem_calloc(n, sizeof(*macs));
	struct drop_keys keys = {batch, taps, macs, n};
	for (size_t i = 0; i < n; i++) {
		struct nft_elem known = {.family = NFPROTO_BRIDGE, .set = NICS_SET};
		struct netcfg_nic nic;
		nft_elem_key_name(&known, taps[i]);
		int sys = nft_elem_get(netcfg, &known);
		if (sys != 0 && sys != ENOENT)
			return sys;
		if (sys == 0 && note_read(&known, &nic))
			memcpy(macs[i], nic.mac, sizeof(nic.mac));
	}
	int sys = nft_elems_each(netcfg, NFPROTO_BRIDGE, "drops", drop_key_remove, &keys);
	return sys == 0 ? nft_elems_each(netcfg, NFPROTO_INET, "drops", host_drop_key_remove, &keys)
			: sys;
}

static int nics_put(struct netcfg *netcfg, const struct netcfg_nic *nics, size_t n, bool mend,
		    uint32_t *ret_at)
{
	_cleanup_free_ struct elems *wanted = mem_new(struct elems), *now = mem_new(struct elems);
	_cleanup_(nft_batch_done) struct nft_batch batch = {.n = 0};
	for (size_t i = 0; i < n; i++) {
		elems_of_nic(wanted, &nics[i]);
		int sys = batch_remove(netcfg, &batch, nics[i].tap, wanted, now, mend);
		if (sys != 0)
			return sys;
	}
	/* after all removals: a member's address may have moved from one NIC to another */
	for (size_t i = 0; i < n; i++) {
		elems_of_nic(wanted, &nics[i]);
		for (size_t k = 0; k < wanted->n; k++)
			nft_batch_add(&batch, &wanted->elem[k]);
	}
	return nft_batch_commit(netcfg, &batch, ret_at);
}

/* Is it a group that is missing? @code is what the kernel said. */
static int err_of_nics(struct netcfg *netcfg, const struct netcfg_nic *nics, size_t n, int sys,
		       struct err *err)
{
	for (size_t i = 0; sys == ENOENT && i < n; i++)
		for (unsigned int k = 0; k < nics[i].n_groups; k++) {
			char chain[32];
			bool there = true;
			snprintf(chain, sizeof(chain), "group-%u-in", nics[i].groups[k]);
			if (nft_chain_exists(netcfg, NFPROTO_BRIDGE, chain, &there) == 0 && !there)
				return err_set(err, ERR_NOT_FOUND,
					       "NIC %s: there is no firewall group %u", nics[i].tap,
					       nics[i].groups[k]);
		}
	return nft_err(err, sys, "guard the NICs");
}

int netcfg_nics_ensure(struct netcfg *netcfg, const struct netcfg_nic *nics, size_t n,
		       struct err *err)
{
	uint32_t at;
	for (size_t i = 0; i < n; i++) {
		if (nic_check(&nics[i], err) < 0)
			return -1;
		for (size_t k = 0; k < i; k++)
			if (strcmp(nics[i].tap, nics[k].tap) == 0)
				return err_set(err, ERR_CONFLICT, "NIC %s is there twice",
					       nics[i].tap);
	}
	if (n == 0)
		return 0;
	int sys = nics_put(netcfg, nics, n, false, &at);
	if (sys == 0)
		return 0;
	/* tables that are not there yet, or that somebody has been at */
	if (frame_put(err) < 0)
		return -1;
	sys = nics_put(netcfg, nics, n, true, &at);
	return sys == 0 ? 0 : err_of_nics(netcfg, nics, n, sys, err);
}

static int nics_remove(struct netcfg *netcfg, const char *const *taps, size_t n, bool mend)
{
	static const struct elems none;
	_cleanup_free_ struct elems *now = mem_new(struct elems);
	_cleanup_(nft_batch_done) struct nft_batch batch = {.n = 0};
	uint32_t at;
	for (size_t i = 0; i < n; i++) {
		int sys = batch_remove(netcfg, &batch, taps[i], &none, now, mend);
		if (sys != 0)
			return sys;
	}
	int sys = drops_remove(netcfg, &batch, taps, n);
	return sys == 0 ? nft_batch_commit(netcfg, &batch, &at) : sys;
}

int netcfg_nics_delete(struct netcfg *netcfg, const char *const *taps, size_t n, struct err *err)
{
	for (size_t i = 0; i < n; i++)
		if (netcfg_name_check("tap", taps[i], err) < 0)
			return -1;
	if (n == 0)
		return 0;
	int sys = nics_remove(netcfg, taps, n, false);
	if (sys == ENOENT || sys == EINTR)
		sys = nics_remove(netcfg, taps, n, true);
	return sys == 0 ? 0 : nft_err(err, sys, "stop guarding the NICs");
}

int netcfg_nic_has(struct netcfg *netcfg, const struct netcfg_nic *nic, bool *ret, struct err *err)
{
	if (nic_check(nic, err) < 0)
		return -1;
	_cleanup_free_ struct elems *elems = mem_new(struct elems);
	elems_of_nic(elems, nic);
	for (size_t i = 0; i < elems->n; i++) {
		struct nft_elem now = elems->elem[i];
		int sys = nft_elem_get(netcfg, &now);
		if (sys != 0 && sys != ENOENT)
			return nft_err(err, sys, "look up the NIC");
		if (sys == ENOENT || strcmp(now.jump, elems->elem[i].jump) != 0 ||
		    now.note_size != elems->elem[i].note_size ||
		    memcmp(now.note, elems->elem[i].note, now.note_size) != 0) {
			*ret = false;
			return 0;
		}
	}
	*ret = true;
	return 0;
}
