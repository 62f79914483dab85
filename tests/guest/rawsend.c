/*
 * Frames as they are, past all that the guest's kernel would say about them.
 *
 *	rawsend NIC HEX [COUNT [AT]]
 *
 * With AT the 16 bits there count up from frame to frame.
 */
#include <arpa/inet.h>
#include <linux/if_packet.h>
#include <net/if.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#define FRAME_MAX 2048

/* How many bytes; 0 when it is not hexadecimal, or too long. */
static size_t hex_parse(const char *hex, uint8_t *ret, size_t room)
{
	const size_t n = strlen(hex) / 2;
	if (strlen(hex) % 2 || n > room)
		return 0;
	for (size_t i = 0; i < n; i++)
		if (sscanf(hex + 2 * i, "%2hhx", &ret[i]) != 1)
			return 0;
	return n;
}

static void count_up(uint8_t *at)
{
	uint16_t word;
	memcpy(&word, at, sizeof(word));
	word = htons((uint16_t)(ntohs(word) + 1));
	memcpy(at, &word, sizeof(word));
}

int main(int argc, char **argv)
{
	uint8_t frame[FRAME_MAX];
	const size_t n = argc > 2 ? hex_parse(argv[2], frame, sizeof(frame)) : 0;
	const long count = argc > 3 ? atol(argv[3]) : 1;
	const size_t at = argc > 4 ? (size_t)atol(argv[4]) : 0;
	if (n < 14 || at + 2 > n) {
		fputs("usage: rawsend NIC HEX [COUNT [AT]]\n", stderr);
		return 2;
	}
	const struct sockaddr_ll to = {.sll_family = AF_PACKET,
				       .sll_ifindex = (int)if_nametoindex(argv[1])};
	const int fd = socket(AF_PACKET, SOCK_RAW, 0);
	if (fd < 0 || to.sll_ifindex == 0) {
		perror("rawsend");
		return 1;
	}
	for (long i = 0; i < count; i++) {
		/* as long as the NIC's queue is full, sending waits */
		if (sendto(fd, frame, n, 0, (const struct sockaddr *)&to, sizeof(to)) < 0) {
			perror("rawsend");
			return 1;
		}
		if (at)
			count_up(frame + at);
	}
	return 0;
}
