/* NICs: how many queues they get and who moves their packets; plugged in, and not. */
#include <errno.h>
#include <poll.h>

#include "bench.h"
#include "vdi-hostd/db/event.h"

static struct desktop *create(struct bench *bench, int64_t vcpus)
{
	const struct desktop_create create = {
		.name = "d", .image = "img", .network = "nat", .memory_mib = 16, .vcpus = vcpus};
	int ends = bench->ends;
	desktops_create(bench->all, &create, bench_end, bench);
	bench_wait(bench, ends + 1);
	assert_non_null(bench->got);
	return bench->got;
}

/* no number, no network: what stays as it is */
static const struct desktop_nic_wish nothing = {.link_up = -1,
						.to_guest_kbit = -1,
						.to_guest_burst_kib = -1,
						.from_guest_kbit = -1,
						.from_guest_burst_kib = -1,
						.queues = -1};

static void set_queues(struct bench *bench, struct desktop *desktop, int64_t queues)
{
	struct desktop_nic_wish wish = nothing;
	int ends = bench->ends;
	wish.queues = queues;
	desktop_nic_update(desktop, 0, &wish, bench_end, bench);
	bench_wait(bench, ends + 1);
	assert_non_null(bench->got);
}

static void start(struct bench *bench, struct desktop *desktop)
{
	int ends = bench->ends;
	desktop_start(desktop, 0, bench_end, bench);
	bench_wait(bench, ends + 1);
	if (!bench->got)
		fail_msg("%s", bench->err.msg);
}

static void stop(struct bench *bench, struct desktop *desktop)
{
	int ends = bench->ends;
	desktop_stop(desktop, true, 0, bench_end, bench);
	bench_wait(bench, ends + 1);
	assert_int_equal(desktop_state(desktop), DESKTOP_STOPPED);
}

/* as the API shows it; @in_use: 0 for null */
static void assert_shown(struct desktop *desktop, size_t nic, int queues, int in_use, bool vhost)
{
	json_t *all = desktop_to_json(desktop);
	json_t *shown = json_array_get(json_object_get(all, "nics"), nic);
	json_t *of_guest = json_object_get(shown, "queues_in_use");
	json_t *kernel = json_object_get(shown, "vhost");
	assert_int_equal(json_integer_value(json_object_get(shown, "queues")), queues);
	if (in_use) {
		assert_int_equal(json_integer_value(of_guest), in_use);
		assert_true(json_is_boolean(kernel));
		assert_int_equal(json_is_true(kernel), vhost);
	} else {
		assert_true(json_is_null(of_guest));
		assert_true(json_is_null(kernel));
	}
	json_decref(all);
}

static void queues_at_the_start(void **state)
{
	struct bench *bench = *state;
	struct desktop *desktop = create(bench, 4);
	const struct qemu_nic *nic = &bench->spec.nics[0];
	start(bench, desktop);
	assert_int_equal(nic->queues, 1);
	assert_int_equal(nic->vhost, 0);
	/* what runs is not touched */
	set_queues(bench, desktop, 3);
	assert_shown(desktop, 0, 3, 1, false);
	stop(bench, desktop);
	assert_shown(desktop, 0, 3, 0, false);
	bench->has_vhost = true;
	start(bench, desktop);
	assert_int_equal(nic->queues, 3);
	assert_int_equal(nic->vhost, 1);
	assert_shown(desktop, 0, 3, 3, true);
	stop(bench, desktop);
	bench_assert_no_trace(bench, desktop);
	/* processors are the most */
	set_queues(bench, desktop, 8);
	start(bench, desktop);
	assert_int_equal(nic->queues, 4);
	assert_shown(desktop, 0, 8, 4, true);
}

/* QEMU goes on while the daemon is another */
static void a_daemon_after_it_knows(void **state)
{
	struct bench *bench = *state;
	struct desktop *desktop = create(bench, 2);
	struct err err;
	bench->has_vhost = true;
	set_queues(bench, desktop, 2);
	start(bench, desktop);
	set_queues(bench, desktop, 1);
	bench_stop_daemon(bench);
	bench_start_daemon(bench);
	bench_reconcile(bench);
	desktop = desktops_find(bench->all, "d", &err);
	assert_int_equal(desktop_state(desktop), DESKTOP_RUNNING);
	assert_shown(desktop, 0, 1, 2, true);
}

static int find_warning(void *data, const struct db_event *event)
{
	if (strstr(event->data, "does without vhost-net"))
		++*(int *)data;
	return 0;
}

static void vhost_that_cannot_be_opened(void **state)
{
	struct bench *bench = *state;
	struct desktop *desktop = create(bench, 2);
	struct err err;
	int warnings = 0;
	bench->vhost_sys = EMFILE;
	start(bench, desktop);
	assert_int_equal(bench->spec.nics[0].vhost, 0);
	assert_shown(desktop, 0, 1, 1, false);
	assert_int_equal(db_event_since(bench->db, 0, 100, find_warning, &warnings, &err), 0);
	assert_int_equal(warnings, 1);
}

static void a_start_that_fails_closes_all(void **state)
{
	struct bench *bench = *state;
	struct desktop *desktop = create(bench, 8);
	bench->has_vhost = true;
	bench->fail = PRIV_QEMU_SPAWN;
	set_queues(bench, desktop, 8);
	int ends = bench->ends;
	desktop_start(desktop, 0, bench_end, bench);
	bench_wait(bench, ends + 1);
	assert_null(bench->got);
	bench_assert_no_trace(bench, desktop);
}

static size_t count(const char *text, const char *word)
{
	size_t n = 0;
	for (; (text = strstr(text, word)); text += strlen(word))
		n++;
	return n;
}

static void plug(struct bench *bench, struct desktop *desktop, int64_t queues)
{
	struct desktop_nic_wish wish = nothing;
	int ends = bench->ends;
	wish.network = "nat";
	wish.queues = queues;
	memset(bench->heard, 0, sizeof(bench->heard));
	desktop_nic_add(desktop, &wish, bench_end, bench);
	bench_wait(bench, ends + 1);
}

static void all_queues_are_plugged_in(void **state)
{
	struct bench *bench = *state;
	struct desktop *desktop = create(bench, 8);
	start(bench, desktop);
	bench->has_vhost = true;
	bench->keep = "netdev_add";
	plug(bench, desktop, 8);
	assert_non_null(bench->got);
	assert_int_equal(count(bench->heard, "getfd "), 16);
	assert_non_null(strstr(bench->kept, "\"fds\":\"tap1-0:tap1-1:tap1-2:"));
	assert_non_null(strstr(bench->kept, ":tap1-7\""));
	assert_non_null(strstr(bench->kept, "\"vhost\":true"));
	assert_non_null(strstr(bench->kept, "\"vhostfds\":\"tap1-8:tap1-9:"));
	assert_non_null(strstr(bench->kept, ":tap1-15\""));
	assert_shown(desktop, 1, 8, 8, true);
	assert_shown(desktop, 0, 1, 1, false);

	bench->has_vhost = false;
	bench->keep = "device_add";
	plug(bench, desktop, 2);
	assert_non_null(strstr(bench->kept, "\"mq\":true"));
	assert_non_null(strstr(bench->kept, "\"vectors\":6"));
	plug(bench, desktop, 1);
	assert_null(strstr(bench->kept, "\"mq\""));
	assert_null(strstr(bench->kept, "\"vectors\""));
}

/* the queues that QEMU was handed are given up one by one, and nobody holds the tap */
static void qemu_refuses_the_nic(void **state)
{
	static const char *const commands[] = {"getfd", "netdev_add", "device_add"};
	struct bench *bench = *state;
	struct desktop *desktop = create(bench, 2);
	start(bench, desktop);
	bench->has_vhost = true;
	bench->how = BENCH_REFUSE;
	for (size_t i = 0; i < ARRAY_LEN(commands); i++) {
		bench->at = commands[i];
		plug(bench, desktop, 2);
		assert_null(bench->got);
		bench_until(bench, count(bench->heard, "closefd ") == 4);
		assert_int_equal(count(bench->heard, "netdev_del "), 1);
		assert_null(desktop_nic_row(desktop, 1));
		mem_closep(&bench->fdset_fd); /* what the fake was handed last */
		bench->fdset_fd = -1;
		struct pollfd tap = {.fd = bench->tap_end, .events = POLLIN};
		assert_int_equal(poll(&tap, 1, 0), 1);
		assert_true(tap.revents & POLLHUP);
	}
}

static void begin_to_plug(struct bench *bench, struct desktop *desktop)
{
	struct desktop_nic_wish wish = nothing;
	int calls = bench->calls[PRIV_TAP_CREATE];
	wish.network = "nat";
	wish.queues = 2;
	bench->hold = PRIV_TAP_CREATE;
	desktop_nic_add(desktop, &wish, bench_end, bench);
	bench_until(bench, bench->calls[PRIV_TAP_CREATE] > calls);
}

/* What comes of it is closed again, or nobody is there to hear of it. */
static void a_tap_that_comes_late(void **state)
{
	struct bench *bench = *state;
	struct desktop *desktop = create(bench, 2);
	struct err err;
	start(bench, desktop);
	bench->has_vhost = true;
	int ends = bench->ends;
	begin_to_plug(bench, desktop);
	plan_cancel(desktop->plan, NULL);
	bench_turn(bench, 3);
	assert_int_equal(bench->ends, ends);
	bench_release(bench);
	bench_wait(bench, ends + 1);
	assert_int_equal(bench->err.code, ERR_CANCELLED);
	assert_null(desktop_nic_row(desktop, 1));
	struct pollfd tap = {.fd = bench->tap_end, .events = POLLIN};
	assert_int_equal(poll(&tap, 1, 0), 1);
	assert_true(tap.revents & POLLHUP);

	begin_to_plug(bench, desktop);
	bench_stop_daemon(bench);
	assert_int_equal(bench->err.code, ERR_CANCELLED);
	bench->hold = 0;
	bench_start_daemon(bench);
	bench_reconcile(bench);
	desktop = desktops_find(bench->all, "d", &err);
	assert_non_null(desktop_nic_row(desktop, 1));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		with_bench(queues_at_the_start),         with_bench(a_daemon_after_it_knows),
		with_bench(vhost_that_cannot_be_opened), with_bench(a_start_that_fails_closes_all),
		with_bench(all_queues_are_plugged_in),   with_bench(qemu_refuses_the_nic),
		with_bench(a_tap_that_comes_late),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
