/*
 * A privileged half that only remembers what it was asked, fails where it is told to, and starts
 * a shell that waits in dnsmasq's place. Of port forwards it keeps what a kernel would. Implements
 * vdi-hostd/priv/priv.h, and of netcfg/dhcp.h the reading.
 */
#pragma once

#include <stdbool.h>

#include "netcfg/dhcp.h"
#include "vdi-hostd/priv/priv.h"

#define FAKE_ASKED_MAX    256
#define FAKE_FORWARDS_MAX 16

struct fake_priv {
	uv_loop_t *loop;
	const char *runtime_dir;
	bool rootless;
	enum priv_verb fail;   /* this verb fails with ERR_IO */
	bool once;             /* but only once */
	enum priv_verb silent; /* this verb is never answered */
	enum priv_verb misses; /* this look finds that it is not as wished */
	int family;            /* @fail and @silent mean forwards of this family alone; 0: all */
	bool dies;             /* what is spawned ends at once */
	pid_t spawned;         /* the last one */
	int spawns, hups, kills, collected;
	pid_t pids[64];
	size_t n_asked;
	enum priv_verb asked[FAKE_ASKED_MAX];
	struct priv_network network; /* of the last request that had one */
	struct priv_tap tap;         /* of the last one to attach one */
	struct netcfg_forward forwards[FAKE_FORWARDS_MAX];
	size_t n_forwards;
	int say; /* the other end of what is listened to, while anything is; or -1 */
};

struct priv *fake_priv_new(struct fake_priv *fake);
/** fake_priv_count() - how often was a verb asked for? */
size_t fake_priv_count(const struct fake_priv *fake, enum priv_verb verb);
/** fake_priv_forward() - where a port of the host's leads to by TCP, "" for nowhere */
const char *fake_priv_forward(const struct fake_priv *fake, int family, unsigned int port);
/** fake_priv_say() - have the daemon hear this; NULL: that it lost something */
void fake_priv_say(struct fake_priv *fake, const struct netcfg_lease *lease);
/** fake_priv_spawn() - as DNSMASQ_SPAWN does; returns the pid */
pid_t fake_priv_spawn(struct fake_priv *fake, uint32_t slot);
/** fake_priv_done() - kill and collect what was spawned, cancel what is not answered */
void fake_priv_done(struct fake_priv *fake);
