#include <stdio.h>

#include "base/mem.h"
#include "vdi-hostd/db/private.h"

/* Only ever appended to: what stands here has run on somebody's host. */
static const char *const migrations[] = {
	/* 1 */
	"CREATE TABLE meta (key TEXT PRIMARY KEY, value TEXT NOT NULL) STRICT, WITHOUT ROWID;"
	"CREATE TABLE image ("
	" id TEXT PRIMARY KEY, name TEXT NOT NULL, version INTEGER NOT NULL CHECK (version > 0),"
	" state INTEGER NOT NULL CHECK (state BETWEEN 0 AND 3), file TEXT NOT NULL UNIQUE,"
	" virtual_size INTEGER NOT NULL, file_size INTEGER NOT NULL, sha256 TEXT NOT NULL,"
	" owner TEXT NOT NULL, description TEXT NOT NULL,"
	" created_at INTEGER NOT NULL, published_at INTEGER NOT NULL,"
	" UNIQUE (name, version)) STRICT;"
	"CREATE TABLE network ("
	" id TEXT PRIMARY KEY, name TEXT NOT NULL UNIQUE,"
	" kind INTEGER NOT NULL CHECK (kind BETWEEN 0 AND 3),"
	" intent INTEGER NOT NULL CHECK (intent BETWEEN 0 AND 2),"
	" slot INTEGER NOT NULL UNIQUE CHECK (slot BETWEEN 1 AND 65535),"
	" address INTEGER NOT NULL, prefix INTEGER NOT NULL, dnsmasq_pid INTEGER NOT NULL,"
	" dnsmasq_start_time INTEGER NOT NULL, boot_id TEXT NOT NULL,"
	" created_at INTEGER NOT NULL) STRICT;"
	"CREATE TABLE desktop ("
	" id TEXT PRIMARY KEY, name TEXT NOT NULL UNIQUE,"
	" slot INTEGER NOT NULL UNIQUE CHECK (slot BETWEEN 1 AND 65535),"
	" image_id TEXT NOT NULL REFERENCES image (id),"
	" network_id TEXT REFERENCES network (id),"
	" memory_mib INTEGER NOT NULL, vcpus INTEGER NOT NULL, disk_bytes INTEGER NOT NULL,"
	" overlay TEXT NOT NULL UNIQUE, mac TEXT NOT NULL UNIQUE, ip INTEGER NOT NULL,"
	" owner TEXT NOT NULL, profile TEXT NOT NULL, autostart INTEGER NOT NULL,"
	" restart INTEGER NOT NULL CHECK (restart BETWEEN 0 AND 2), wanted INTEGER NOT NULL,"
	" op INTEGER NOT NULL CHECK (op BETWEEN 0 AND 4), failed INTEGER NOT NULL,"
	" state_reason TEXT NOT NULL, pid INTEGER NOT NULL, start_time INTEGER NOT NULL,"
	" boot_id TEXT NOT NULL, started_at INTEGER NOT NULL, created_at INTEGER NOT NULL) STRICT;"
	"CREATE INDEX desktop_image ON desktop (image_id);"
	"CREATE INDEX desktop_network ON desktop (network_id);"
	"CREATE TABLE job ("
	" seq INTEGER PRIMARY KEY AUTOINCREMENT, id TEXT NOT NULL UNIQUE, kind TEXT NOT NULL,"
	" subject TEXT NOT NULL, state INTEGER NOT NULL CHECK (state BETWEEN 0 AND 3),"
	" done INTEGER NOT NULL, total INTEGER NOT NULL, unit TEXT NOT NULL, result TEXT,"
	" err_code INTEGER NOT NULL, err_message TEXT NOT NULL,"
	" created_at INTEGER NOT NULL, ended_at INTEGER NOT NULL) STRICT;"
	"CREATE TABLE event ("
	" seq INTEGER PRIMARY KEY AUTOINCREMENT, time INTEGER NOT NULL, topic TEXT NOT NULL,"
	" subject TEXT NOT NULL, data TEXT NOT NULL) STRICT;"
	"CREATE TABLE idempotency ("
	" caller TEXT NOT NULL, key TEXT NOT NULL, method TEXT NOT NULL, params_sha256 TEXT NOT NULL,"
	" answer TEXT, created_at INTEGER NOT NULL, PRIMARY KEY (caller, key)) STRICT, WITHOUT ROWID;"
	"CREATE INDEX idempotency_age ON idempotency (created_at);",

	/* 2: lineage of images; two disks and several NICs a desktop, snapshots, ISOs, backups,
	   quotas */
	"ALTER TABLE image ADD COLUMN parent_id TEXT REFERENCES image (id);"
	"ALTER TABLE image ADD COLUMN depth_max INTEGER NOT NULL DEFAULT 4;"
	"ALTER TABLE image ADD COLUMN verified_at INTEGER NOT NULL DEFAULT 0;"
	"ALTER TABLE image ADD COLUMN broken TEXT NOT NULL DEFAULT '';"
	"CREATE INDEX image_parent ON image (parent_id);"
	"CREATE TABLE iso ("
	" id TEXT PRIMARY KEY, name TEXT NOT NULL UNIQUE,"
	" state INTEGER NOT NULL CHECK (state BETWEEN 0 AND 1), file TEXT NOT NULL UNIQUE,"
	" size INTEGER NOT NULL, sha256 TEXT NOT NULL, owner TEXT NOT NULL,"
	" description TEXT NOT NULL, created_at INTEGER NOT NULL) STRICT;"
	"CREATE TABLE desktop_2 ("
	" id TEXT PRIMARY KEY, name TEXT NOT NULL UNIQUE,"
	" slot INTEGER NOT NULL UNIQUE CHECK (slot BETWEEN 1 AND 65535),"
	" image_id TEXT NOT NULL REFERENCES image (id),"
	" memory_mib INTEGER NOT NULL, vcpus INTEGER NOT NULL, system_bytes INTEGER NOT NULL,"
	" system_file TEXT NOT NULL UNIQUE,"
	" owner TEXT NOT NULL, profile TEXT NOT NULL, autostart INTEGER NOT NULL,"
	" restart INTEGER NOT NULL CHECK (restart BETWEEN 0 AND 2), wanted INTEGER NOT NULL,"
	" op INTEGER NOT NULL CHECK (op >= 0), failed INTEGER NOT NULL,"
	" state_reason TEXT NOT NULL, pid INTEGER NOT NULL, start_time INTEGER NOT NULL,"
	" boot_id TEXT NOT NULL, started_at INTEGER NOT NULL, created_at INTEGER NOT NULL,"
	" data_bytes INTEGER NOT NULL DEFAULT 0, data_file TEXT UNIQUE,"
	" disposable INTEGER NOT NULL DEFAULT 0, snapshot_id TEXT,"
	" iso_id TEXT REFERENCES iso (id), boot INTEGER NOT NULL DEFAULT 0,"
	" next_image_id TEXT REFERENCES image (id),"
	" previous_image_id TEXT REFERENCES image (id),"
	" previous_bytes INTEGER NOT NULL DEFAULT 0, previous_file TEXT UNIQUE) STRICT;"
	"INSERT INTO desktop_2 (id, name, slot, image_id, memory_mib, vcpus,"
	" system_bytes, system_file, owner, profile, autostart, restart, wanted, op,"
	" failed, state_reason, pid, start_time, boot_id, started_at, created_at)"
	" SELECT id, name, slot, image_id, memory_mib, vcpus, disk_bytes, overlay,"
	" owner, profile, autostart, restart, wanted, op, failed, state_reason, pid,"
	" start_time, boot_id, started_at, created_at FROM desktop;"
	"CREATE TABLE nic ("
	" desktop_id TEXT NOT NULL REFERENCES desktop_2 (id) ON DELETE CASCADE,"
	" number INTEGER NOT NULL CHECK (number BETWEEN 0 AND 7),"
	" network_id TEXT NOT NULL REFERENCES network (id),"
	" mac TEXT NOT NULL UNIQUE, ip INTEGER NOT NULL, link_up INTEGER NOT NULL DEFAULT 1,"
	" to_guest_kbit INTEGER NOT NULL DEFAULT 0,"
	" to_guest_burst_kib INTEGER NOT NULL DEFAULT 0,"
	" from_guest_kbit INTEGER NOT NULL DEFAULT 0,"
	" from_guest_burst_kib INTEGER NOT NULL DEFAULT 0,"
	" PRIMARY KEY (desktop_id, number)) STRICT;"
	"INSERT INTO nic (desktop_id, number, network_id, mac, ip)"
	" SELECT id, 0, network_id, mac, ip FROM desktop WHERE network_id IS NOT NULL;"
	"DROP TABLE desktop;"
	"ALTER TABLE desktop_2 RENAME TO desktop;"
	"CREATE INDEX desktop_image ON desktop (image_id);"
	"CREATE INDEX nic_network ON nic (network_id);"
	"CREATE TABLE snapshot ("
	" id TEXT PRIMARY KEY, desktop_id TEXT NOT NULL REFERENCES desktop (id),"
	" parent_id TEXT REFERENCES snapshot (id), name TEXT NOT NULL, description TEXT NOT NULL,"
	" state INTEGER NOT NULL CHECK (state BETWEEN 0 AND 2),"
	" kind INTEGER NOT NULL CHECK (kind BETWEEN 0 AND 2),"
	" image_id TEXT NOT NULL REFERENCES image (id),"
	" system_bytes INTEGER NOT NULL, system_file TEXT NOT NULL,"
	" data_bytes INTEGER NOT NULL, data_file TEXT,"
	" next_system_file TEXT, next_data_file TEXT, memory_file TEXT,"
	" memory_mib INTEGER NOT NULL, vcpus INTEGER NOT NULL, created_at INTEGER NOT NULL,"
	" UNIQUE (desktop_id, name)) STRICT;"
	"CREATE INDEX snapshot_parent ON snapshot (parent_id);"
	"CREATE INDEX snapshot_image ON snapshot (image_id);"
	"CREATE TABLE backup ("
	" id TEXT PRIMARY KEY, desktop_id TEXT NOT NULL, desktop_name TEXT NOT NULL,"
	" parent_id TEXT REFERENCES backup (id),"
	" state INTEGER NOT NULL CHECK (state BETWEEN 0 AND 2), image_id TEXT NOT NULL,"
	" system_bytes INTEGER NOT NULL, system_file TEXT NOT NULL UNIQUE,"
	" system_sha256 TEXT NOT NULL, data_bytes INTEGER NOT NULL, data_file TEXT UNIQUE,"
	" data_sha256 TEXT NOT NULL, memory_mib INTEGER NOT NULL, vcpus INTEGER NOT NULL,"
	" owner TEXT NOT NULL, stored_bytes INTEGER NOT NULL,"
	" created_at INTEGER NOT NULL) STRICT;"
	"CREATE INDEX backup_desktop ON backup (desktop_id);"
	"CREATE INDEX backup_parent ON backup (parent_id);"
	"CREATE TABLE quota ("
	" owner TEXT PRIMARY KEY, bytes INTEGER NOT NULL CHECK (bytes >= 0))"
	" STRICT, WITHOUT ROWID;",

	/* 3: networks of more kinds, what they let through, and addresses that are kept */
	"ALTER TABLE network ADD COLUMN kind_of INTEGER NOT NULL DEFAULT 0"
	" CHECK (kind_of BETWEEN 0 AND 4);"
	"UPDATE network SET kind_of = kind;"
	"ALTER TABLE network DROP COLUMN kind;"
	"ALTER TABLE network RENAME COLUMN kind_of TO kind;"
	"ALTER TABLE network ADD COLUMN range_first INTEGER NOT NULL DEFAULT 0;"
	"ALTER TABLE network ADD COLUMN range_last INTEGER NOT NULL DEFAULT 0;"
	"ALTER TABLE network ADD COLUMN address6 TEXT NOT NULL DEFAULT '';"
	"ALTER TABLE network ADD COLUMN mtu INTEGER NOT NULL DEFAULT 0;"
	"ALTER TABLE network ADD COLUMN vlan INTEGER NOT NULL DEFAULT 0"
	" CHECK (vlan BETWEEN 0 AND 4094);"
	"ALTER TABLE network ADD COLUMN uplink TEXT NOT NULL DEFAULT '';"
	"ALTER TABLE network ADD COLUMN vni INTEGER NOT NULL DEFAULT 0"
	" CHECK (vni BETWEEN 0 AND 16777215);"
	"ALTER TABLE network ADD COLUMN underlay TEXT NOT NULL DEFAULT '';"
	"ALTER TABLE network ADD COLUMN vxlan_port INTEGER NOT NULL DEFAULT 0;"
	"ALTER TABLE network ADD COLUMN peers TEXT NOT NULL DEFAULT '';"
	"ALTER TABLE network ADD COLUMN dns INTEGER NOT NULL DEFAULT 1;"
	"ALTER TABLE network ADD COLUMN isolate_ports INTEGER NOT NULL DEFAULT 0;"
	"ALTER TABLE network ADD COLUMN confirm_until INTEGER NOT NULL DEFAULT 0;"
	"ALTER TABLE network ADD COLUMN dnsmasq_stale INTEGER NOT NULL DEFAULT 0;"
	"CREATE TABLE network_uplink ("
	" network_id TEXT PRIMARY KEY REFERENCES network (id) ON DELETE CASCADE,"
	" state TEXT NOT NULL) STRICT, WITHOUT ROWID;"
	"CREATE TABLE network_forward ("
	" id TEXT PRIMARY KEY,"
	" network_id TEXT NOT NULL REFERENCES network (id) ON DELETE CASCADE,"
	" mac TEXT NOT NULL, ip INTEGER NOT NULL,"
	" protocol INTEGER NOT NULL CHECK (protocol BETWEEN 1 AND 2),"
	" host_address INTEGER NOT NULL,"
	" host_port INTEGER NOT NULL CHECK (host_port BETWEEN 1 AND 65535),"
	" port INTEGER NOT NULL CHECK (port BETWEEN 1 AND 65535),"
	" count INTEGER NOT NULL CHECK (count BETWEEN 1 AND 65535),"
	" created_at INTEGER NOT NULL) STRICT;"
	"CREATE INDEX network_forward_network ON network_forward (network_id);"
	"CREATE TABLE network_reservation ("
	" id TEXT PRIMARY KEY,"
	" network_id TEXT NOT NULL REFERENCES network (id) ON DELETE CASCADE,"
	" ip INTEGER NOT NULL, mac TEXT NOT NULL, name TEXT NOT NULL, created_at INTEGER NOT NULL,"
	" UNIQUE (network_id, ip)) STRICT;"
	"CREATE TABLE firewall_group ("
	" id TEXT PRIMARY KEY, name TEXT NOT NULL UNIQUE, description TEXT NOT NULL,"
	" builtin INTEGER NOT NULL, created_at INTEGER NOT NULL,"
	" number INTEGER NOT NULL UNIQUE CHECK (number > 0)) STRICT;"
	"CREATE TABLE firewall_rule ("
	" group_id TEXT NOT NULL REFERENCES firewall_group (id) ON DELETE CASCADE,"
	" position INTEGER NOT NULL, direction INTEGER NOT NULL CHECK (direction BETWEEN 0 AND 1),"
	" protocol INTEGER NOT NULL CHECK (protocol BETWEEN 0 AND 3),"
	" port_first INTEGER NOT NULL CHECK (port_first BETWEEN 0 AND 65535),"
	" port_last INTEGER NOT NULL CHECK (port_last BETWEEN port_first AND 65535),"
	" remote TEXT NOT NULL, remote_group_id TEXT REFERENCES firewall_group (id),"
	" PRIMARY KEY (group_id, position)) STRICT, WITHOUT ROWID;"
	"CREATE INDEX firewall_rule_remote ON firewall_rule (remote_group_id);"
	"CREATE TABLE network_firewall ("
	" network_id TEXT NOT NULL REFERENCES network (id) ON DELETE CASCADE,"
	" position INTEGER NOT NULL, group_id TEXT NOT NULL REFERENCES firewall_group (id),"
	" PRIMARY KEY (network_id, position), UNIQUE (network_id, group_id)) STRICT, WITHOUT ROWID;"
	"CREATE INDEX network_firewall_group ON network_firewall (group_id);",

	/* 4: a pause that is not undone when there is room again */
	"ALTER TABLE desktop ADD COLUMN held INTEGER NOT NULL DEFAULT 0;",

	/* 5: firewall groups of single NICs */
	"CREATE TABLE nic_firewall ("
	" desktop_id TEXT NOT NULL, number INTEGER NOT NULL, position INTEGER NOT NULL,"
	" group_id TEXT NOT NULL REFERENCES firewall_group (id),"
	" PRIMARY KEY (desktop_id, number, position), UNIQUE (desktop_id, number, group_id),"
	" FOREIGN KEY (desktop_id, number) REFERENCES nic (desktop_id, number) ON DELETE CASCADE)"
	" STRICT, WITHOUT ROWID;"
	"CREATE INDEX nic_firewall_group ON nic_firewall (group_id);",

	/* 6: several queues a NIC, and what a NIC of a guest that runs was given */
	"ALTER TABLE nic ADD COLUMN queues INTEGER NOT NULL DEFAULT 1"
	" CHECK (queues BETWEEN 1 AND 8);"
	"ALTER TABLE nic ADD COLUMN given_queues INTEGER NOT NULL DEFAULT 1;"
	"ALTER TABLE nic ADD COLUMN given_vhost INTEGER NOT NULL DEFAULT 0;",

	/* 7: ports of the host that a network is opened to; port forwards of IPv6 */
	"ALTER TABLE network ADD COLUMN openings TEXT NOT NULL DEFAULT '';"
	"ALTER TABLE network_forward ADD COLUMN host_address6 TEXT NOT NULL DEFAULT '';"
	"ALTER TABLE network_forward ADD COLUMN ip6 TEXT NOT NULL DEFAULT '';",

	/* 8: networks whose uplink is a bridge */
	"ALTER TABLE network ADD COLUMN joined INTEGER NOT NULL DEFAULT 0;",

	/* 9: addresses that servers of others give to NICs; networks from before guard none */
	"ALTER TABLE network ADD COLUMN source_guard INTEGER NOT NULL DEFAULT 0;"
	"ALTER TABLE nic ADD COLUMN learned_ip INTEGER NOT NULL DEFAULT 0;"
	"ALTER TABLE nic ADD COLUMN learned_until INTEGER NOT NULL DEFAULT 0;"
	"ALTER TABLE nic ADD COLUMN lease_s INTEGER NOT NULL DEFAULT 0;",
};

#define NEWEST ((int)ARRAY_LEN(migrations))

static int read_version(struct db *db, int *ret, struct err *err)
{
	sqlite3_stmt *stmt;
	if (sqlite3_prepare_v2(db->sqlite, "PRAGMA user_version", -1, &stmt, NULL) != SQLITE_OK)
		return db_fail(db, "read the schema's version", err);
	int stepped = sqlite3_step(stmt);
	int version = sqlite3_column_int(stmt, 0);
	sqlite3_finalize(stmt);
	if (stepped != SQLITE_ROW)
		return db_fail(db, "read the schema's version", err);
	*ret = version;
	return 0;
}

static int migrate_to(struct db *db, int version, struct err *err)
{
	char mark[64];
	snprintf(mark, sizeof(mark), "PRAGMA user_version = %d", version);
	if (db_begin(db, __func__, err) < 0)
		return -1;
	if (sqlite3_exec(db->sqlite, migrations[version - 1], NULL, NULL, NULL) != SQLITE_OK ||
	    sqlite3_exec(db->sqlite, mark, NULL, NULL, NULL) != SQLITE_OK) {
		db_fail(db, "bring the database up to date", err);
		db_rollback(db);
		return -1;
	}
	return db_commit(db, err);
}

int db_check_version(struct db *db, struct err *err)
{
	int version = 0;
	if (read_version(db, &version, err) < 0)
		return -1;
	if (version > NEWEST)
		return err_set(err, ERR_UNSUPPORTED,
			       "a newer vdi-hostd wrote this database (schema %d, this one knows "
			       "%d); install that version, or restore a backup",
			       version, NEWEST);
	return 0;
}

int db_migrate(struct db *db, struct err *err)
{
	int version = 0;
	if (read_version(db, &version, err) < 0)
		return -1;
	for (version++; version <= NEWEST; version++)
		if (migrate_to(db, version, err) < 0)
			return -1;
	return 0;
}
