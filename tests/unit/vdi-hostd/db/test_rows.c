/* Rows of images, networks and desktops, and how they hold each other. */
#include <sqlite3.h>

#include "fixture.h"
#include "vdi-hostd/db/iso.h"

static int keep_image(void *data, const struct db_image *row)
{
	*(struct db_image *)data = *row;
	return 0;
}

static int keep_network(void *data, const struct db_network *row)
{
	*(struct db_network *)data = *row;
	return 0;
}

static int keep_nic(void *data, const struct db_nic *row)
{
	memcpy(data, row, sizeof(*row));
	return 0;
}

static int keep_desktop(void *data, const struct db_desktop *row)
{
	*(struct db_desktop *)data = *row;
	return 0;
}

static int stop_at_once(void *data, const struct db_image *row)
{
	(*(int *)data)++;
	return 7;
}

static void images(void **state)
{
	struct fixture *f = *state;
	struct db_image a = an_image("a", "debian", 1), got = {0};
	int seen = 0;
	int64_t next;
	snprintf(a.sha256, sizeof(a.sha256), "%064d", 7);
	a.virtual_size = 1LL << 40;
	a.published_at = 5;
	assert_works(f, db_image_next_version(f->db, "debian", &next, &f->err));
	assert_int_equal(next, 1);
	assert_works(f, db_image_insert(f->db, &a, &f->err));
	assert_works(f, db_image_get(f->db, "a", &got, &f->err));
	assert_memory_equal(&got, &a, sizeof(a));
	assert_fails(f, ERR_EXISTS, db_image_insert(f->db, &a, &f->err));
	struct db_image same = an_image("b", "debian", 1);
	assert_fails(f, ERR_EXISTS, db_image_insert(f->db, &same, &f->err));
	struct db_image b = an_image("b", "debian", 2);
	assert_works(f, db_image_insert(f->db, &b, &f->err));
	assert_works(f, db_image_next_version(f->db, "debian", &next, &f->err));
	assert_int_equal(next, 3);
	b.state = DB_IMAGE_RETIRED;
	assert_works(f, db_image_update(f->db, &b, &f->err));
	assert_works(f, db_image_each(f->db, keep_image, &got, &f->err));
	assert_memory_equal(&got, &b, sizeof(b));
	assert_int_equal(db_image_each(f->db, stop_at_once, &seen, &f->err), 7);
	assert_int_equal(seen, 1);
	b.state = (enum db_image_state)9;
	assert_fails(f, ERR_CONFLICT, db_image_update(f->db, &b, &f->err));
	struct db_image none = an_image("none", "none", 1);
	assert_fails(f, ERR_NOT_FOUND, db_image_update(f->db, &none, &f->err));
	assert_fails(f, ERR_NOT_FOUND, db_image_delete(f->db, "none", &f->err));
	memset(&got, 1, sizeof(got));
	struct db_image untouched = got;
	assert_fails(f, ERR_NOT_FOUND, db_image_get(f->db, "none", &got, &f->err));
	assert_memory_equal(&got, &untouched, sizeof(got));
	assert_works(f, db_image_delete(f->db, "a", &f->err));
}

static int keep_iso(void *data, const struct db_iso *row)
{
	*(struct db_iso *)data = *row;
	return 0;
}

static void isos(void **state)
{
	struct fixture *f = *state;
	struct db_iso a = {.id = "a", .name = "red", .file = "a.iso", .created_at = 7}, got = {0};
	assert_works(f, db_iso_insert(f->db, &a, &f->err));
	a.state = DB_ISO_READY;
	a.size = 1LL << 40;
	snprintf(a.sha256, sizeof(a.sha256), "%064d", 7);
	snprintf(a.owner, sizeof(a.owner), "ada");
	snprintf(a.description, sizeof(a.description), "it's red");
	assert_works(f, db_iso_update(f->db, &a, &f->err));
	assert_works(f, db_iso_each(f->db, keep_iso, &got, &f->err));
	assert_memory_equal(&got, &a, sizeof(a));
	struct db_iso same = {.id = "b", .name = "red", .file = "b.iso"};
	assert_fails(f, ERR_EXISTS, db_iso_insert(f->db, &same, &f->err));
	struct db_image image = an_image("image", "debian", 1);
	struct db_desktop desktop = a_desktop("d", "one", 1);
	assert_works(f, db_image_insert(f->db, &image, &f->err));
	snprintf(desktop.iso_id, sizeof(desktop.iso_id), "none");
	assert_fails(f, ERR_CONFLICT, db_desktop_insert(f->db, &desktop, &f->err));
	snprintf(desktop.iso_id, sizeof(desktop.iso_id), "a");
	assert_works(f, db_desktop_insert(f->db, &desktop, &f->err));
	assert_fails(f, ERR_CONFLICT, db_iso_delete(f->db, "a", &f->err));
	assert_works(f, db_desktop_delete(f->db, "d", &f->err));
	assert_works(f, db_iso_delete(f->db, "a", &f->err));
	assert_fails(f, ERR_NOT_FOUND, db_iso_delete(f->db, "a", &f->err));
	assert_fails(f, ERR_NOT_FOUND, db_iso_update(f->db, &a, &f->err));
}

static void networks(void **state)
{
	struct fixture *f = *state;
	struct db_network a = a_network("a", "lan", 1), got;
	memset(&got, 0, sizeof(got));
	int64_t slot;
	a.address = 0xfffffffe;
	a.intent = DB_INTENT_CREATE;
	a.dnsmasq_start_time = 1ULL << 62;
	assert_works(f, db_network_free_slot(f->db, &slot, &f->err));
	assert_int_equal(slot, 1);
	assert_works(f, db_network_insert(f->db, &a, &f->err));
	struct db_network c = a_network("c", "lan3", 3);
	assert_works(f, db_network_insert(f->db, &c, &f->err));
	assert_works(f, db_network_free_slot(f->db, &slot, &f->err));
	assert_int_equal(slot, 2); /* the gap */
	struct db_network same = a_network("d", "lan4", 3);
	assert_fails(f, ERR_EXISTS, db_network_insert(f->db, &same, &f->err));
	same = a_network("d", "lan", 4);
	assert_fails(f, ERR_EXISTS, db_network_insert(f->db, &same, &f->err));
	same = a_network("d", "lan4", 65536);
	assert_fails(f, ERR_CONFLICT, db_network_insert(f->db, &same, &f->err));
	assert_works(f, db_network_delete(f->db, "c", &f->err));
	assert_works(f, db_network_each(f->db, keep_network, &got, &f->err));
	assert_string_equal(got.name, "lan");
	assert_int_equal(got.address, a.address);
	assert_int_equal(got.intent, DB_INTENT_CREATE);
	assert_int_equal(got.dnsmasq_start_time, a.dnsmasq_start_time);
	a.intent = DB_INTENT_NONE;
	assert_works(f, db_network_update(f->db, &a, &f->err));
	assert_fails(f, ERR_NOT_FOUND, db_network_delete(f->db, "c", &f->err));
}

static void desktops_hold_what_they_use(void **state)
{
	struct fixture *f = *state;
	struct db_image image = an_image("image", "debian", 1);
	struct db_network network = a_network("net", "lan", 1);
	struct db_desktop a = a_desktop("a", "one", 1), got;
	memset(&got, 0, sizeof(got));
	int64_t slot;
	assert_fails(f, ERR_CONFLICT, db_desktop_insert(f->db, &a, &f->err)); /* no such image */
	assert_works(f, db_image_insert(f->db, &image, &f->err));
	assert_works(f, db_desktop_insert(f->db, &a, &f->err)); /* no network is fine */
	struct db_nic nic = a_nic("a", 0, "net"), got_nic = {0};
	assert_fails(f, ERR_CONFLICT, db_nic_insert(f->db, &nic, &f->err)); /* no such network */
	assert_works(f, db_network_insert(f->db, &network, &f->err));
	assert_works(f, db_nic_insert(f->db, &nic, &f->err));
	nic.ip = 0xfffffffd;
	nic.link_up = false;
	nic.to_guest = (struct db_rate){1, 2};
	nic.from_guest = (struct db_rate){3, 4};
	nic.queues = 8;
	nic.given_queues = 4;
	nic.given_vhost = true;
	nic.learned_ip = 0xfffffffc;
	nic.learned_until = 1LL << 50;
	nic.lease_s = UINT32_MAX - 1LL;
	assert_works(f, db_nic_update(f->db, &nic, &f->err));
	assert_works(f, db_nic_each(f->db, keep_nic, &got_nic, &f->err));
	assert_memory_equal(&got_nic, &nic, sizeof(nic));
	nic.number = 1;
	assert_fails(f, ERR_EXISTS, db_nic_insert(f->db, &nic, &f->err)); /* the MAC */
	assert_fails(f, ERR_NOT_FOUND, db_nic_update(f->db, &nic, &f->err));
	assert_works(f, db_nic_delete(f->db, "a", 1, &f->err));
	nic = a_nic("a", 8, "net");
	assert_fails(f, ERR_CONFLICT, db_nic_insert(f->db, &nic, &f->err)); /* the number */
	nic = a_nic("a", 1, "net");
	nic.queues = 9;
	assert_fails(f, ERR_CONFLICT, db_nic_insert(f->db, &nic, &f->err));
	a.op = DB_DESKTOP_OP_DELETE;
	a.restart = DB_RESTART_ALWAYS;
	a.wanted = a.autostart = a.failed = true;
	a.pid = 1 << 22;
	snprintf(a.state_reason, sizeof(a.state_reason), "it's \"so\"; DROP TABLE desktop");
	assert_works(f, db_desktop_update(f->db, &a, &f->err));
	assert_works(f, db_desktop_each(f->db, keep_desktop, &got, &f->err));
	assert_memory_equal(&got, &a, sizeof(a));
	assert_fails(f, ERR_CONFLICT, db_image_delete(f->db, "image", &f->err));
	assert_fails(f, ERR_CONFLICT, db_network_delete(f->db, "net", &f->err));
	struct db_desktop b = a_desktop("b", "one", 2);
	assert_fails(f, ERR_EXISTS, db_desktop_insert(f->db, &b, &f->err)); /* the name */
	b = a_desktop("b", "two", 1);
	assert_fails(f, ERR_EXISTS, db_desktop_insert(f->db, &b, &f->err)); /* the slot */
	assert_works(f, db_desktop_free_slot(f->db, &slot, &f->err));
	assert_int_equal(slot, 2);
	assert_works(f, db_desktop_delete(f->db, "a", &f->err));
	assert_fails(f, ERR_NOT_FOUND, db_desktop_delete(f->db, "a", &f->err));
	assert_works(f, db_network_delete(f->db, "net", &f->err));
	assert_works(f, db_image_delete(f->db, "image", &f->err));
}

/* What somebody else wrote into the file must not reach anybody. */
static void rows_are_checked_when_read(void **state)
{
	struct fixture *f = *state;
	static const char *const faults[] = {
		"UPDATE desktop SET name = printf('%100c', 'x')",
		"PRAGMA ignore_check_constraints = 1; UPDATE desktop SET op = 77",
		"PRAGMA ignore_check_constraints = 1; UPDATE desktop SET restart = -1",
	};
	for (size_t i = 0; i < ARRAY_LEN(faults); i++) {
		struct db_image image = an_image("image", "debian", 1);
		struct db_desktop a = a_desktop("a", "one", 1);
		sqlite3 *sqlite;
		assert_works(f, db_image_insert(f->db, &image, &f->err));
		assert_works(f, db_desktop_insert(f->db, &a, &f->err));
		db_close(TAKE_PTR(f->db));
		assert_int_equal(sqlite3_open(f->path, &sqlite), SQLITE_OK);
		assert_int_equal(sqlite3_exec(sqlite, faults[i], NULL, NULL, NULL), SQLITE_OK);
		sqlite3_close(sqlite);
		assert_works(f, db_open(f->path, &f->db, &f->err));
		assert_fails(f, ERR_CORRUPT, db_desktop_each(f->db, keep_desktop, &a, &f->err));
		assert_works(f, db_desktop_delete(f->db, "a", &f->err));
		assert_works(f, db_image_delete(f->db, "image", &f->err));
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		test_with_db(images),
		test_with_db(isos),
		test_with_db(networks),
		test_with_db(desktops_hold_what_they_use),
		test_with_db(rows_are_checked_when_read),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
