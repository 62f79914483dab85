#include "tests/unit/netcfg/answers.h"

static bool parse(const struct frame *packet, struct netcfg_lease *ret)
{
	/* in memory of its own, so that a sanitizer sees reading past the end */
	uint8_t *copy = mem_calloc(1, packet->n ? packet->n : 1);
	memcpy(copy, packet->data, packet->n);
	bool is = netcfg_dhcp_parse(copy, packet->n, ret);
	free(copy);
	return is;
}

static void set_u16(struct frame *packet, size_t at, size_t value)
{
	const uint16_t word = htons((uint16_t)value);
	memcpy(packet->data + at, &word, sizeof(word));
}

/* An end that IP and UDP know of: a server's shorter message, not one that was cut off. */
static struct frame shortened(const struct frame *packet, size_t n)
{
	struct frame ret = *packet;
	ret.n = n;
	set_u16(&ret, 2, n);
	set_u16(&ret, 24, n - 20);
	return ret;
}

/* A good packet; then each of its beginnings, and each that says it ends there. */
static void check_good(const struct frame *packet, const char *server, uint32_t seconds)
{
	struct netcfg_lease lease, part;
	assert_true(parse(packet, &lease));
	assert_lease(&lease, A4, server, seconds);
	for (size_t n = 0; n < packet->n; n++) {
		struct frame cut = *packet;
		cut.n = n;
		assert_false(parse(&cut, &part));
		if (n < 28)
			continue;
		cut = shortened(packet, n);
		if (parse(&cut, &part))
			assert_int_equal(part.address.s_addr, lease.address.s_addr);
		else
			assert_true(n < packet->n);
		assert_true(n >= ANSWER_OPTIONS || !parse(&cut, &part));
	}
	/* a short packet is padded on Ethernet */
	struct frame longer = *packet;
	frame_put(&longer, "\x35\x01\x06\xff", 4);
	assert_true(parse(&longer, &part));
	assert_lease(&part, A4, server, seconds);
}

static void check_message(const char *options, size_t size, size_t padded, const char *server,
			  uint32_t seconds)
{
	const struct frame message =
		answer_message(mac_a, A4, (struct options){options, size}, padded);
	const struct frame packet = answer_packet(&message);
	check_good(&packet, server, seconds);
}

#define GOOD(text, padded, server, seconds)                                                        \
	check_message(text, sizeof(text) - 1, padded, server, seconds)

static void test_servers_of_several_makes(void **state)
{
	/* dnsmasq, ISC, Windows, a box at home: orders and paddings as they have them */
	GOOD(O_TYPE_ACK O_SERVER O_HOUR O_T1_T2 O_MASK
	     "\x1c\x04\x0a\x09\x08\xff" O_ROUTER O_DNS O_DOMAIN O_END,
	     300, "10.9.8.2", 3600);
	GOOD(O_TYPE_ACK O_SERVER O_HOUR O_MASK O_ROUTER O_DNS O_DOMAIN O_END, 300, "10.9.8.2",
	     3600);
	GOOD(O_TYPE_ACK O_T1_T2 O_HOUR O_SERVER O_MASK "\x51\x03\x00\xff\xff" O_ROUTER O_DNS
						       "\x0f\x07office\0" O_END,
	     0, "10.9.8.2", 3600);
	GOOD("\0\0" O_MASK "\0" O_TYPE_ACK "\0\0\0" O_HOUR O_SERVER O_END "\x35\x01\x06", 548,
	     "10.9.8.2", 3600);
	/* without an end, without a server, without a time, for ever */
	GOOD(O_SERVER O_HOUR O_TYPE_ACK, 0, "10.9.8.2", 3600);
	GOOD(O_TYPE_ACK O_HOUR O_END, 0, "0.0.0.0", 3600);
	GOOD(O_TYPE_ACK O_SERVER O_END, 0, "10.9.8.2", NETCFG_LEASE_FOREVER);
	GOOD(O_TYPE_ACK O_SERVER "\x33\x04\xff\xff\xff\xff" O_END, 0, "10.9.8.2",
	     NETCFG_LEASE_FOREVER);
	GOOD(O_TYPE_ACK O_SERVER "\x33\x04\0\0\0\1" O_END, 0, "10.9.8.2", 1);
}

/* ip options in front, and nothing of it is looked at */
static void test_ip_options(void **state)
{
	struct frame message =
		answer_message(mac_a, A4, OPTIONS(O_TYPE_ACK O_SERVER O_HOUR O_END), 300);
	struct frame packet = answer_packet(&message), with = {.n = 0};
	struct netcfg_lease lease;
	frame_put(&with, packet.data, 20);
	frame_put(&with, "\x94\x04\0\0", 4); /* router alert */
	frame_put(&with, packet.data + 20, packet.n - 20);
	with.data[0] = 0x46;
	assert_false(parse(&with, &lease));
	set_u16(&with, 2, with.n);
	assert_true(parse(&with, &lease));
	assert_lease(&lease, A4, "10.9.8.2", 3600);
	with.data[0] = 0x4f;
	assert_false(parse(&with, &lease));
}

static void put_field(struct frame *packet, size_t at, struct options options)
{
	memcpy(packet->data + at, options.bytes, options.size);
}

static void test_overload(void **state)
{
	static const char all[] = O_TYPE_ACK O_SERVER O_HOUR O_END;
	struct netcfg_lease lease;
	struct frame message = answer_message(mac_a, A4, OPTIONS("\x34\x01\x01" O_END), 0);
	struct frame packet = answer_packet(&message);
	put_field(&packet, ANSWER_FILE, OPTIONS(all));
	check_good(&packet, "10.9.8.2", 3600);
	/* which of both fields it is, the option says */
	packet.data[ANSWER_OPTIONS + 2] = 2;
	assert_false(parse(&packet, &lease));
	packet.data[ANSWER_OPTIONS + 2] = 3;
	check_good(&packet, "10.9.8.2", 3600);
	memset(packet.data + ANSWER_FILE, 0, 128);
	assert_false(parse(&packet, &lease));
	put_field(&packet, ANSWER_SNAME, OPTIONS(all));
	check_good(&packet, "10.9.8.2", 3600);
	packet.data[ANSWER_OPTIONS + 2] = 2;
	check_good(&packet, "10.9.8.2", 3600);
	packet.data[ANSWER_OPTIONS + 2] = 0;
	assert_false(parse(&packet, &lease));

	/* some here, some there; the field's last byte is its last option's */
	message = answer_message(mac_a, A4, OPTIONS(O_HOUR "\x34\x01\x03" O_SERVER O_END), 0);
	packet = answer_packet(&message);
	put_field(&packet, ANSWER_FILE + 128 - 3, OPTIONS(O_TYPE_ACK));
	check_good(&packet, "10.9.8.2", 3600);
	/* it would go on in what is behind the field */
	memset(packet.data + ANSWER_FILE, 0, 128);
	put_field(&packet, ANSWER_FILE + 128 - 2, OPTIONS("\x35\x01"));
	assert_false(parse(&packet, &lease));
	memset(packet.data + ANSWER_FILE, 0, 128);
	packet.data[ANSWER_FILE + 127] = 0x35;
	assert_false(parse(&packet, &lease));
	/* a field that is lent says nothing of another */
	memset(packet.data + ANSWER_FILE, 0, 128);
	put_field(&packet, ANSWER_SNAME, OPTIONS("\x34\x01\x01" O_END));
	put_field(&packet, ANSWER_FILE, OPTIONS("\x34\x01\x03" O_TYPE_ACK O_END));
	check_good(&packet, "10.9.8.2", 3600);
}

static void refuse_options(const char *bytes, size_t size, const char *what)
{
	struct netcfg_lease lease;
	const struct frame message = answer_message(mac_a, A4, (struct options){bytes, size}, 0);
	const struct frame packet = answer_packet(&message);
	if (parse(&packet, &lease))
		fail_msg("%s: it was taken", what);
}

#define REFUSED(text) refuse_options(text, sizeof(text) - 1, #text)

static void test_options_that_are_broken(void **state)
{
	REFUSED("");
	REFUSED(O_END);
	REFUSED(O_SERVER O_HOUR O_END);              /* BOOTP */
	REFUSED(O_END O_TYPE_ACK O_SERVER);          /* behind the end */
	REFUSED("\x35\x01\x02" O_SERVER O_HOUR);     /* offer */
	REFUSED("\x35\x01\x06" O_SERVER O_HOUR);     /* no */
	REFUSED("\x35\x01\x03" O_SERVER O_HOUR);     /* a client's */
	REFUSED("\x35\x02\x05\x05" O_SERVER O_HOUR); /* two types */
	REFUSED("\x35\x00" O_SERVER O_HOUR);
	REFUSED(O_TYPE_ACK O_SERVER "\x33\x03\0\0\1");
	REFUSED(O_TYPE_ACK O_SERVER "\x33\x00");
	REFUSED(O_TYPE_ACK O_SERVER "\x33\x05\0\0\0\1\1");
	REFUSED(O_TYPE_ACK O_SERVER "\x33\x04\0\0\0\0"); /* for no time */
	REFUSED(O_TYPE_ACK O_HOUR "\x36\x03\x0a\x09\x08");
	REFUSED(O_TYPE_ACK O_HOUR "\x36\x05\x0a\x09\x08\x02\x02");
	REFUSED(O_TYPE_ACK O_HOUR "\x34\x00");
	REFUSED(O_TYPE_ACK O_HOUR "\x34\x02\1\1");
	/* over the end: by much, by one, and without a length */
	REFUSED(O_TYPE_ACK O_HOUR "\x0c\xff"
				  "a");
	REFUSED(O_TYPE_ACK O_HOUR "\x0c\x02"
				  "a");
	REFUSED(O_TYPE_ACK O_HOUR "\x0c");
	REFUSED(O_TYPE_ACK O_HOUR "\x36\x04\x0a\x09\x08");
}

/* One byte of a good packet is another; 0: it is still good. */
static void test_heads_that_are_wrong(void **state)
{
	static const struct {
		size_t at;
		uint8_t value;
	} wrong[] = {
		{0, 0x65},                  /* IPv6 */
		{0, 0x44},                  /* shorter than a header is */
		{0, 0x46},                  /* longer than it was */
		{2, 0xff},                  /* longer than the packet */
		{6, 0x20},                  /* the first piece */
		{6, 0x3f},                  /* a later one */
		{7, 1},                     /* the last */
		{9, 6},                     /* TCP */
		{21, 68},                   /* from a client */
		{23, 67},                   /* to a server */
		{24, 0xff},                 /* longer than the packet */
		{ANSWER_AT, 1},             /* a question */
		{ANSWER_AT + 1, 6},         /* IEEE 802 */
		{ANSWER_AT + 2, 16},        /* another length of its address */
		{ANSWER_AT + 2, 0},         /* none */
		{ANSWER_CHADDR, 0x53},      /* a group's MAC */
		{ANSWER_OPTIONS - 1, 0x64}, /* no cookie */
		{ANSWER_YIADDR, 0},
		{ANSWER_YIADDR, 127},
		{ANSWER_YIADDR, 224},
		{ANSWER_YIADDR, 239},
		{ANSWER_YIADDR, 255},
	};
	const struct frame message =
		answer_message(mac_a, A4, OPTIONS(O_TYPE_ACK O_SERVER O_HOUR O_END), 300);
	const struct frame good = answer_packet(&message);
	struct netcfg_lease lease;
	assert_true(parse(&good, &lease));
	for (size_t i = 0; i < ARRAY_LEN(wrong); i++) {
		struct frame packet = good;
		packet.data[wrong[i].at] = wrong[i].value;
		if (parse(&packet, &lease))
			fail_msg("byte %zu is %u: it was taken", wrong[i].at, wrong[i].value);
	}
	static const char *const none[] = {"0.0.0.0", "255.255.255.255", "0.0.0.1"};
	for (size_t i = 0; i < ARRAY_LEN(none); i++) {
		const struct frame bad = answer_message(
			mac_a, none[i], OPTIONS(O_TYPE_ACK O_SERVER O_HOUR O_END), 300);
		const struct frame packet = answer_packet(&bad);
		assert_false(parse(&packet, &lease));
	}
	/* what may not be told for sure: a packet that must not be split */
	struct frame whole = good;
	whole.data[6] = 0x40;
	assert_true(parse(&whole, &lease));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_servers_of_several_makes),
		cmocka_unit_test(test_ip_options),
		cmocka_unit_test(test_overload),
		cmocka_unit_test(test_options_that_are_broken),
		cmocka_unit_test(test_heads_that_are_wrong),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
