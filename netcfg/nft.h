/* nftables for netcfg/ only: rules as text through libnftables, elements as messages by hand. */
#pragma once

#include <stdio.h>

#include "netcfg/internal.h"

#define NFT_TABLE       "vdi-hostd"
#define NFT_KEY_MAX     64
#define NFT_IFNAME_SIZE 16
#define NFT_MAC_SIZE    8 /* padded */

/**
 * nft_run() - run one command text as one transaction
 * @what:    what it is for: "cannot @what" begins the message
 * @ret_out: what it printed, owned by the caller; or NULL
 */
int nft_run(const char *what, const char *text, char **ret_out, struct err *err) warn_unused;

/** nft_text_open() and nft_text_close() - a text to be written to; never fails */
FILE *nft_text_open(char **ret_text, size_t *ret_size);
void nft_text_close(FILE *text);

/** nft_frame_write() - all that does not depend on networks, NICs and groups; may be repeated */
void nft_frame_inet_write(FILE *text);
void nft_frame_bridge_write(FILE *text);

/** nft_frame_groups_make() - of the latter: sets and chains of firewall groups; and their rules */
void nft_frame_groups_make(FILE *text);
void nft_frame_groups_fill(FILE *text);

/** nft_frame_groups_forget() - all exchanges that are known */
void nft_frame_groups_forget(FILE *text);

/** nft_hearing_set() - a network's NICs are heard of when DHCP servers answer them, or are not */
int nft_hearing_set(struct netcfg *netcfg, const char *bridge, bool wanted,
		    struct err *err) warn_unused;

/** nft_hearing_has() - is it so? */
int nft_hearing_has(struct netcfg *netcfg, const char *bridge, bool wanted, bool *ret,
		    struct err *err) warn_unused;

/** nft_pieces_raise() - the kernel has the memory for packets in pieces that NICs' buckets go by */
void nft_pieces_raise(void);

/** nft_forwarding4_enable() and 6 - the kernel passes packets on between its links */
int nft_forwarding4_enable(struct err *err) warn_unused;
int nft_forwarding6_enable(struct err *err) warn_unused;

/* ---- elements ---- */

/**
 * struct nft_elem - one element of one of our sets or maps
 * @family:   NFPROTO_INET or NFPROTO_BRIDGE: which of the two tables
 * @jump:     where a verdict map leads to, or ""
 * @data:     what another map leads to; size 0: none
 * @note:     bytes that the kernel keeps with it and gives back
 */
struct nft_elem {
	uint8_t family;
	char set[32];
	uint8_t key[NFT_KEY_MAX];
	size_t key_size;
	char jump[32];
	uint8_t data[32];
	size_t data_size;
	uint8_t note[250];
	size_t note_size;
};

/** nft_elem_key() - append to the key, padded as nftables pads what it puts together */
void nft_elem_key(struct nft_elem *elem, const void *bytes, size_t size);

/** nft_elem_key_name() - append a link's name */
void nft_elem_key_name(struct nft_elem *elem, const char *name);

void nft_elem_data(struct nft_elem *elem, const void *bytes, size_t size);

/** struct nft_batch - changes that happen wholly or not at all */
struct nft_batch {
	uint8_t *buf;
	size_t size, room;
	uint32_t n; /* changes */
};

void nft_batch_done(struct nft_batch *batch);

void nft_batch_add(struct nft_batch *batch, const struct nft_elem *elem);
void nft_batch_delete(struct nft_batch *batch, const struct nft_elem *elem);

/**
 * nft_batch_commit() - as one transaction; the batch is empty then
 * @ret_at: which change the kernel refused first, from 0
 * Returns 0, or an errno: ENOENT: a table, set, chain or element that is not there.
 */
int nft_batch_commit(struct netcfg *netcfg, struct nft_batch *batch, uint32_t *ret_at) warn_unused;

/**
 * nft_elem_get() - the element of @elem's set and key; its jump, data and note are filled in
 * Returns 0, ENOENT (also without the set or table) or another errno.
 */
int nft_elem_get(struct netcfg *netcfg, struct nft_elem *elem) warn_unused;

/* struct nft_found - an element of a set that is walked; packets and bytes of its counter */
struct nft_found {
	const uint8_t *key;
	size_t key_size;
	uint64_t packets, bytes;
};

/** nft_elems_each() - all elements of a set; without the set there are none; 0 or an errno */
int nft_elems_each(struct netcfg *netcfg, uint8_t family, const char *set,
		   void (*cb)(void *data, const struct nft_found *found), void *data) warn_unused;

/** nft_chain_exists() - 0 and @ret, or an errno */
int nft_chain_exists(struct netcfg *netcfg, uint8_t family, const char *chain,
		     bool *ret) warn_unused;

/** nft_chain_use() - the same, and how many rules and jumps there are in it and to it */
int nft_chain_use(struct netcfg *netcfg, uint8_t family, const char *chain, bool *ret_there,
		  uint32_t *ret_use) warn_unused;

/**
 * nft_rules_each() - all rules of a chain in their order, each by its comment, "" where it has none
 * Without the chain there are none. Returns 0, EINTR when they changed meanwhile, or another errno.
 */
int nft_rules_each(struct netcfg *netcfg, uint8_t family, const char *chain,
		   void (*cb)(void *data, const char *comment), void *data) warn_unused;

/** nft_group_any() - is there any firewall group? 0 and @ret, or an errno */
int nft_group_any(struct netcfg *netcfg, bool *ret) warn_unused;

/** nft_owner() - the number that the kernel knows this process by; 0 or an errno */
int nft_owner(struct netcfg *netcfg, uint32_t *ret) warn_unused;

/** nft_tables_tidy() - both tables go where nothing is left in them */
int nft_tables_tidy(struct netcfg *netcfg, struct err *err) warn_unused;

/** nft_sock() - the socket to nfnetlink, or NULL where the kernel has none */
struct nl_sock *nft_sock(struct netcfg *netcfg);

/** nft_msg() - a request about nftables, NFT_MSG_*; never NULL */
struct nl_msg *nft_msg(int type, int flags, uint8_t family);

/** nft_elem_msg() - one about an element; @all: with what it leads to and its note */
struct nl_msg *nft_elem_msg(int type, int flags, const struct nft_elem *elem, bool all);

/** nft_err() - an error of one of the above; returns -1 */
int nft_err(struct err *err, int sys, const char *what);
