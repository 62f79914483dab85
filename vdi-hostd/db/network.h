/* Rows of `network`. */
#pragma once

#include "vdi-hostd/db/db.h"
#include "vdi-hostd/db/forward.h"

enum db_network_kind {
	DB_NETWORK_NAT,
	DB_NETWORK_ISOLATED,
	DB_NETWORK_BRIDGED,
	DB_NETWORK_USER,
	DB_NETWORK_ROUTED,
};

#define DB_NETWORK_LINK_MAX  15  /* characters of a link's name: the kernel's limit */
#define DB_NETWORK_PEERS_MAX 255 /* characters: 16 IPv4 addresses with commas */
#define DB_OPENINGS_MAX      16

/** enum db_intent - written before the first side effect, settled after the last */
enum db_intent { DB_INTENT_NONE, DB_INTENT_CREATE, DB_INTENT_DELETE };

/** struct db_openings - ports of the host's that guests may use; TCP or UDP */
struct db_openings {
	struct db_opening {
		enum db_protocol protocol;
		int64_t port_first, port_last;
	} opening[DB_OPENINGS_MAX];
	size_t n;
};

struct db_network {
	char id[STR_UUID_LEN + 1];
	char name[STR_NAME_MAX + 1];
	enum db_network_kind kind;
	enum db_intent intent;
	int64_t slot;     /* unique, 1..PRIV_SLOT_MAX */
	uint32_t address; /* the host's own on it, host byte order; 0 for kinds user and bridged */
	int64_t prefix;
	uint32_t range_first, range_last; /* what desktops get, host byte order; 0: all of it */
	char address6[46];                /* the host's own on it, its /64 is the range; "": none */
	int64_t mtu;                      /* 0: the kernel's own choice */
	int64_t vlan;                     /* 802.1Q tag on the uplink; 0: none */
	char uplink[DB_NETWORK_LINK_MAX + 1]; /* kind bridged; "": none */
	int64_t vni;                          /* VXLAN; 0: none */
	char underlay[16];                    /* the host's own address among its peers */
	int64_t vxlan_port;
	char peers[DB_NETWORK_PEERS_MAX + 1]; /* "192.0.2.2,192.0.2.3" */
	bool dns, isolate_ports;
	bool joined; /* kind bridged without a VLAN: the uplink is a bridge, joined to its own */
	bool source_guard; /* kind bridged: NICs send from addresses that were given to them */
	struct db_openings openings;
	int64_t confirm_until; /* ms since 1970: taken back unless confirmed; 0: it stays */
	int64_t dnsmasq_pid;
	uint64_t dnsmasq_start_time;
	char boot_id[STR_UUID_LEN + 1];
	bool dnsmasq_stale; /* it was started for settings of before */
	int64_t created_at;
};

int db_network_insert(struct db *db, const struct db_network *row, struct err *err) warn_unused;
int db_network_update(struct db *db, const struct db_network *row, struct err *err) warn_unused;
int db_network_delete(struct db *db, const char *id, struct err *err) warn_unused;
/** db_network_free_slot() - the lowest that no row has */
int db_network_free_slot(struct db *db, int64_t *ret, struct err *err) warn_unused;
int db_network_each(struct db *db, int (*cb)(void *data, const struct db_network *row), void *data,
		    struct err *err) warn_unused;

/** db_network_set_uplink() - what its uplink had before, as text: what is to be put back */
int db_network_set_uplink(struct db *db, const char *id, const char *state,
			  struct err *err) warn_unused;
/** db_network_get_uplink() - @ret: owned by the caller; errors: ERR_NOT_FOUND */
int db_network_get_uplink(struct db *db, const char *id, char **ret, struct err *err) warn_unused;
