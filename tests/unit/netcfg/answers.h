/* What DHCP servers of several makes answer, as IPv4 packets and as frames. */
#pragma once

#include "netcfg/dhcp.h"
#include "tests/unit/netcfg/frames.h"

#define A4 "10.9.8.10"

#define ANSWER_OFFER 2
#define ANSWER_ACK   5
#define ANSWER_NAK   6

#define ANSWER_HEAD    240
#define ANSWER_AT      (20 + 8) /* of the message in the packet */
#define ANSWER_YIADDR  (ANSWER_AT + 16)
#define ANSWER_CHADDR  (ANSWER_AT + 28)
#define ANSWER_SNAME   (ANSWER_AT + 44)
#define ANSWER_FILE    (ANSWER_AT + 108)
#define ANSWER_OPTIONS (ANSWER_AT + ANSWER_HEAD)

/* Code, length, value of each: what is written into the macros' strings, without the NUL. */
struct options {
	const char *bytes;
	size_t size;
};

#define OPTIONS(text)                                                                              \
	(struct options)                                                                           \
	{                                                                                          \
		text, sizeof(text) - 1                                                             \
	}

/* a lease of an hour, by 10.9.8.2 */
#define O_TYPE_ACK "\x35\x01\x05"
#define O_SERVER   "\x36\x04\x0a\x09\x08\x02"
#define O_HOUR     "\x33\x04\x00\x00\x0e\x10"
#define O_T1_T2    "\x3a\x04\x00\x00\x07\x08\x3b\x04\x00\x00\x0c\x4e"
#define O_MASK     "\x01\x04\xff\xff\xff\x00"
#define O_ROUTER   "\x03\x04\x0a\x09\x08\x01"
#define O_DNS      "\x06\x08\x0a\x09\x08\x01\x0a\x09\x08\x03"
#define O_DOMAIN   "\x0f\x06office"
#define O_END      "\xff"

/* A server's message around @options; @padded: its size at least, filled up with zeros. */
static inline struct frame answer_message(const uint8_t *chaddr, const char *yiaddr,
					  struct options options, size_t padded)
{
	struct frame message = {.n = 0};
	frame_put(&message, "\2\1\6\0id..", 8);
	frame_put(&message, "\0\0\0\0\0\0\0\0", 8); /* secs, flags, ciaddr */
	frame_ip(&message, yiaddr);
	frame_put(&message, "\0\0\0\0\0\0\0\0", 8); /* siaddr, giaddr */
	frame_put(&message, chaddr, 6);
	for (int i = 0; i < 10 + 64 + 128; i++)
		frame_u8(&message, 0);
	frame_put(&message, "\x63\x82\x53\x63", 4);
	frame_put(&message, options.bytes, options.size);
	while (message.n < padded)
		frame_u8(&message, 0);
	return message;
}

static inline struct frame answer_udp(const struct frame *message)
{
	struct frame udp = {.n = 0};
	frame_u16(&udp, 67);
	frame_u16(&udp, 68);
	frame_u16(&udp, 8 + (unsigned int)message->n);
	frame_u16(&udp, 0);
	frame_put(&udp, message->data, message->n);
	return udp;
}

/* As it leaves the server: from its MAC (of nobody else here) and 10.9.8.2. */
static inline struct frame answer_frame(const uint8_t *to, const struct frame *message,
					const char *target)
{
	const struct frame udp = answer_udp(message);
	return frame_packet(to, mac_x, "10.9.8.2", target, IPPROTO_UDP, &udp);
}

/* Just the packet. */
static inline struct frame answer_packet(const struct frame *message)
{
	struct frame frame = answer_frame(mac_all, message, "255.255.255.255");
	frame.n -= ETH_HLEN;
	memmove(frame.data, frame.data + ETH_HLEN, frame.n);
	return frame;
}

/* The usual one, of another type where that is wanted. */
static inline struct frame answer_of_type(const uint8_t *to, const uint8_t *chaddr,
					  const char *yiaddr, unsigned int type)
{
	struct frame message = answer_message(
		chaddr, yiaddr, OPTIONS(O_TYPE_ACK O_SERVER O_HOUR O_MASK O_ROUTER O_END), 300);
	message.data[ANSWER_HEAD + 2] = (uint8_t)type;
	return answer_frame(to, &message, "255.255.255.255");
}

/* Of mac_a. */
static inline void assert_lease(const struct netcfg_lease *lease, const char *address,
				const char *server, uint32_t seconds)
{
	assert_memory_equal(lease->mac, mac_a, 6);
	assert_int_equal(lease->address.s_addr, netns_ip(address).s_addr);
	assert_int_equal(lease->server.s_addr, netns_ip(server).s_addr);
	assert_int_equal(lease->seconds, seconds);
}
