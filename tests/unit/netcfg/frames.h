/* Frames as a guest would write them to its tap, honest and hostile, and what arrives elsewhere. */
#pragma once

#include <errno.h>
#include <linux/if_ether.h>
#include <linux/virtio_net.h>
#include <poll.h>
#include <time.h>

#include "tests/unit/netcfg/netns.h"

#define FRAME_MAX 1600

struct frame {
	uint8_t data[FRAME_MAX];
	size_t n;
};

static const uint8_t mac_a[6] = {0x52, 0x54, 0, 0, 0, 0xa};
static const uint8_t mac_b[6] = {0x52, 0x54, 0, 0, 0, 0xb};
static const uint8_t mac_x[6] = {0x52, 0x54, 0, 0, 0, 0x66};
static const uint8_t mac_all[6] = {0xff, 0xff, 0xff, 0xff, 0xff, 0xff};

static inline void frame_put(struct frame *frame, const void *data, size_t n)
{
	assert_true(frame->n + n <= sizeof(frame->data));
	memcpy(frame->data + frame->n, data, n);
	frame->n += n;
}

static inline void frame_u8(struct frame *frame, unsigned int value)
{
	const uint8_t byte = (uint8_t)value;
	frame_put(frame, &byte, 1);
}

static inline void frame_u16(struct frame *frame, unsigned int value)
{
	const uint16_t word = htons((uint16_t)value);
	frame_put(frame, &word, 2);
}

static inline void frame_ip(struct frame *frame, const char *address)
{
	struct in6_addr bytes;
	const int family = strchr(address, ':') ? AF_INET6 : AF_INET;
	assert_int_equal(inet_pton(family, address, &bytes), 1);
	frame_put(frame, &bytes, family == AF_INET ? 4 : 16);
}

static inline struct frame frame_ether(const uint8_t *to, const uint8_t *from, unsigned int type)
{
	struct frame frame = {.n = 0};
	frame_put(&frame, to, 6);
	frame_put(&frame, from, 6);
	frame_u16(&frame, type);
	return frame;
}

/* @tag: put in behind the MACs, as an 802.1Q or 802.1ad tag */
static inline struct frame frame_tagged(const struct frame *inner, unsigned int type,
					unsigned int tag)
{
	struct frame frame = {.n = 0};
	frame_put(&frame, inner->data, 12);
	frame_u16(&frame, type);
	frame_u16(&frame, tag);
	frame_put(&frame, inner->data + 12, inner->n - 12);
	return frame;
}

static inline struct frame frame_arp(const uint8_t *to, const uint8_t *from, unsigned int operation,
				     const uint8_t *sender, const char *sender_ip,
				     const char *target_ip)
{
	struct frame frame = frame_ether(to, from, ETH_P_ARP);
	frame_u16(&frame, 1);
	frame_u16(&frame, ETH_P_IP);
	frame_u8(&frame, 6);
	frame_u8(&frame, 4);
	frame_u16(&frame, operation);
	frame_put(&frame, sender, 6);
	frame_ip(&frame, sender_ip);
	frame_put(&frame, to, 6);
	frame_ip(&frame, target_ip);
	return frame;
}

static inline uint32_t sum_of(uint32_t sum, const uint8_t *data, size_t n)
{
	for (size_t i = 0; i < n; i++)
		sum += i % 2 ? data[i] : (uint32_t)data[i] << 8;
	return sum;
}

static inline uint16_t sum_fold(uint32_t sum)
{
	while (sum >> 16)
		sum = (sum & 0xffff) + (sum >> 16);
	return (uint16_t)~sum;
}

/* An IPv4 or IPv6 packet around @payload, with the checksum that its protocol wants. */
static inline struct frame frame_packet(const uint8_t *to, const uint8_t *from, const char *source,
					const char *target, unsigned int protocol,
					const struct frame *payload)
{
	const bool v4 = !strchr(source, ':');
	struct frame frame = frame_ether(to, from, v4 ? ETH_P_IP : ETH_P_IPV6);
	const size_t head = frame.n;
	if (v4) {
		frame_u16(&frame, 0x4500);
		frame_u16(&frame, 20 + (unsigned int)payload->n);
		frame_u16(&frame, 1);
		frame_u16(&frame, 0);
		frame_u8(&frame, 64);
		frame_u8(&frame, protocol);
		frame_u16(&frame, 0);
	} else {
		frame_u16(&frame, 0x6000);
		frame_u16(&frame, 0);
		frame_u16(&frame, (unsigned int)payload->n);
		frame_u8(&frame, protocol);
		frame_u8(&frame, 255);
	}
	const size_t addresses = frame.n;
	frame_ip(&frame, source);
	frame_ip(&frame, target);
	if (v4) {
		uint16_t sum = htons(sum_fold(sum_of(0, frame.data + head, 20)));
		memcpy(frame.data + head + 10, &sum, 2);
	}
	const size_t body = frame.n;
	frame_put(&frame, payload->data, payload->n);
	/* icmp: no pseudo header; udp: sum at 6, tcp: at 16, icmpv6: at 2 */
	const size_t at = protocol == IPPROTO_UDP ? 6 : protocol == IPPROTO_TCP ? 16 : 2;
	if (payload->n < at + 2 || (protocol != IPPROTO_UDP && protocol != IPPROTO_TCP &&
				    protocol != IPPROTO_ICMP && protocol != IPPROTO_ICMPV6))
		return frame;
	uint32_t sum = sum_of(0, frame.data + body, payload->n);
	if (protocol != IPPROTO_ICMP)
		sum = sum_of(sum + protocol + (uint32_t)payload->n, frame.data + addresses,
			     body - addresses);
	const uint16_t folded = htons(sum_fold(sum));
	memcpy(frame.data + body + at, &folded, 2);
	return frame;
}

static inline struct frame frame_udp(const uint8_t *to, const uint8_t *from, const char *source,
				     unsigned int source_port, const char *target,
				     unsigned int target_port)
{
	struct frame udp = {.n = 0};
	frame_u16(&udp, source_port);
	frame_u16(&udp, target_port);
	frame_u16(&udp, 8 + 4);
	frame_u16(&udp, 0);
	frame_put(&udp, "body", 4);
	return frame_packet(to, from, source, target, IPPROTO_UDP, &udp);
}

/* A client's packet to DHCP servers; @asks_for: the MAC that is to get the address */
static inline struct frame frame_dhcp(const uint8_t *from, const char *source, const char *target,
				      const char *relay, const uint8_t *asks_for)
{
	struct frame udp = {.n = 0};
	frame_u16(&udp, 68);
	frame_u16(&udp, 67);
	frame_u16(&udp, 8 + 44);
	frame_u16(&udp, 0);
	frame_put(&udp, "\1\1\6\0id..", 8);
	frame_put(&udp, "\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0", 16);
	frame_ip(&udp, relay);
	frame_put(&udp, asks_for, 6);
	frame_put(&udp, "\0\0\0\0\0\0\0\0\0\0", 10);
	return frame_packet(mac_all, from, source, target, IPPROTO_UDP, &udp);
}

#define TCP_FIN 0x01
#define TCP_SYN 0x02
#define TCP_ACK 0x10

static inline struct frame frame_tcp(const uint8_t *to, const uint8_t *from, const char *source,
				     unsigned int source_port, const char *target,
				     unsigned int target_port, unsigned int flags)
{
	struct frame tcp = {.n = 0};
	frame_u16(&tcp, source_port);
	frame_u16(&tcp, target_port);
	frame_put(&tcp, "\0\0\0\1\0\0\0\1", 8);
	frame_u8(&tcp, 0x50);
	frame_u8(&tcp, flags);
	frame_u16(&tcp, 1024);
	frame_u16(&tcp, 0);
	frame_u16(&tcp, 0);
	return frame_packet(to, from, source, target, IPPROTO_TCP, &tcp);
}

static inline struct frame frame_echo(const uint8_t *to, const uint8_t *from, const char *source,
				      const char *target, unsigned int type, unsigned int id)
{
	struct frame icmp = {.n = 0};
	frame_u8(&icmp, type);
	frame_u8(&icmp, 0);
	frame_u16(&icmp, 0);
	frame_u16(&icmp, id);
	frame_u16(&icmp, 1);
	return frame_packet(to, from, source, target,
			    strchr(source, ':') ? IPPROTO_ICMPV6 : IPPROTO_ICMP, &icmp);
}

/*
 * Neighbour discovery. @target: or NULL for a router solicitation; @option: 1 or 2 with
 * @option_mac, or 0 for none
 */
static inline struct frame frame_nd(const uint8_t *from, const char *source, unsigned int type,
				    const char *target, unsigned int option,
				    const uint8_t *option_mac)
{
	static const uint8_t to[6] = {0x33, 0x33, 0, 0, 0, 1};
	struct frame icmp = {.n = 0};
	frame_u8(&icmp, type);
	frame_u8(&icmp, 0);
	frame_u16(&icmp, 0);
	frame_put(&icmp, "\0\0\0\0", 4);
	if (target)
		frame_ip(&icmp, target);
	if (option) {
		frame_u8(&icmp, option);
		frame_u8(&icmp, 1);
		frame_put(&icmp, option_mac, 6);
	}
	return frame_packet(to, from, source, "ff02::1", IPPROTO_ICMPV6, &icmp);
}

/* ---- sending and hearing, on taps with IFF_VNET_HDR ---- */

static inline void frame_send(int fd, const struct frame *frame)
{
	uint8_t buf[sizeof(struct virtio_net_hdr) + FRAME_MAX] = {0};
	memcpy(buf + sizeof(struct virtio_net_hdr), frame->data, frame->n);
	const size_t n = sizeof(struct virtio_net_hdr) + frame->n;
	assert_int_equal(write(fd, buf, n), (ssize_t)n);
}

static inline int64_t frame_now_ms(void)
{
	struct timespec now;
	clock_gettime(CLOCK_MONOTONIC, &now);
	return now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

/* Does this very frame arrive within @ms? What else arrives is thrown away. */
static inline bool frame_heard(int fd, const struct frame *frame, int ms)
{
	const int64_t end = frame_now_ms() + ms;
	uint8_t buf[70000];
	for (;;) {
		ssize_t n = read(fd, buf, sizeof(buf));
		const size_t head = sizeof(struct virtio_net_hdr);
		if (n >= (ssize_t)(head + frame->n) &&
		    memcmp(buf + head, frame->data, frame->n) == 0)
			return true;
		if (n >= 0)
			continue;
		assert_int_equal(errno, EAGAIN);
		const int64_t left = end - frame_now_ms();
		struct pollfd ready = {.fd = fd, .events = POLLIN};
		if (left <= 0 || poll(&ready, 1, (int)left) == 0)
			return false;
	}
}

/* Sent on @from, heard on @to: what the bridge forwards, it forwards before the write returns. */
static inline bool frame_passes(int from, int to, const struct frame *frame)
{
	frame_send(from, frame);
	return frame_heard(to, frame, 30);
}

/* The first of them takes some time: links come up. */
static inline bool frame_passes_soon(int from, const struct frame *sent, int to,
				     const struct frame *seen)
{
	for (int i = 0; i < 50; i++) {
		frame_send(from, sent);
		if (frame_heard(to, seen, 100))
			return true;
	}
	return false;
}
