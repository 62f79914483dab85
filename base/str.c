#include "base/str.h"

#include <ctype.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <time.h>
#include <unistd.h>

#define RANDOM_MAX 256 /* what getentropy(3) gives at once */

static bool is_digit(char c)
{
	return c >= '0' && c <= '9';
}

static bool is_lower_or_digit(char c)
{
	return is_digit(c) || (c >= 'a' && c <= 'z');
}

int str_copy(char *dst, size_t size, const char *src)
{
	size_t len = strlen(src);
	if (len >= size) {
		if (size > 0)
			dst[0] = '\0';
		return -1;
	}
	memcpy(dst, src, len + 1);
	return 0;
}

bool str_is_name(const char *s)
{
	if (!is_lower_or_digit(s[0]))
		return false;
	size_t n = 1;
	for (; s[n]; n++)
		if (n >= STR_NAME_MAX || (!is_lower_or_digit(s[n]) && s[n] != '-'))
			return false;
	return true;
}

bool str_is_uuid(const char *s)
{
	for (size_t n = 0; n < STR_UUID_LEN; n++) {
		if (n == 8 || n == 13 || n == 18 || n == 23) {
			if (s[n] != '-')
				return false;
		} else if (!is_digit(s[n]) && !(s[n] >= 'a' && s[n] <= 'f')) {
			return false;
		}
	}
	return s[STR_UUID_LEN] == '\0';
}

/* Without randomness there are no ids and no secrets: better to end than to go on with others. */
static void random_bytes(unsigned char *ret, size_t n)
{
	while (n > 0) {
		size_t part = n < RANDOM_MAX ? n : RANDOM_MAX;
		if (getentropy(ret, part) < 0)
			abort();
		ret += part;
		n -= part;
	}
}

static char *write_hex(char *out, const unsigned char *bytes, size_t n)
{
	static const char digits[] = "0123456789abcdef";
	for (size_t i = 0; i < n; i++) {
		*out++ = digits[bytes[i] >> 4];
		*out++ = digits[bytes[i] & 0xf];
	}
	*out = '\0';
	return out;
}

void str_uuid_new(char *ret)
{
	static const size_t groups[] = {4, 2, 2, 2, 6};
	unsigned char bytes[16];
	random_bytes(bytes, sizeof(bytes));
	bytes[6] = (unsigned char)((bytes[6] & 0x0f) | 0x40);
	bytes[8] = (unsigned char)((bytes[8] & 0x3f) | 0x80);

	const unsigned char *in = bytes;
	for (size_t i = 0; i < sizeof(groups) / sizeof(groups[0]); i++) {
		if (i > 0)
			*ret++ = '-';
		ret = write_hex(ret, in, groups[i]);
		in += groups[i];
	}
}

void str_random_hex(char *ret, size_t n)
{
	unsigned char bytes[RANDOM_MAX];
	*ret = '\0';
	while (n > 0) {
		size_t part = n < sizeof(bytes) ? n : sizeof(bytes);
		random_bytes(bytes, part);
		ret = write_hex(ret, bytes, part);
		n -= part;
	}
}

int str_parse_i64(const char *s, int64_t *ret)
{
	if (!is_digit(s[0]) && !(s[0] == '-' && is_digit(s[1])))
		return -1;
	char *end;
	errno = 0;
	long long value = strtoll(s, &end, 10);
	if (errno != 0 || *end != '\0')
		return -1;
	*ret = value;
	return 0;
}

/* The power of two that a suffix stands for, or -1. */
static int size_shift(const char *suffix)
{
	static const char letters[] = "KMGT";
	int shift = 0;
	if (*suffix) {
		const char *letter = strchr(letters, toupper((unsigned char)*suffix));
		if (letter) {
			shift = 10 * (int)(letter - letters + 1);
			suffix++;
			if (tolower((unsigned char)suffix[0]) == 'i' &&
			    tolower((unsigned char)suffix[1]) == 'b')
				suffix++;
		}
	}
	if (tolower((unsigned char)*suffix) == 'b')
		suffix++;
	return *suffix ? -1 : shift;
}

int str_parse_size(const char *s, uint64_t *ret)
{
	/* nine digits of a fraction are exact enough for bytes and leave room to multiply */
	enum { FRACTION_MAX = 9 };
	uint64_t whole = 0, fraction = 0, scale = 1;
	int digits = 0;

	if (!is_digit(*s))
		return -1;
	for (; is_digit(*s); s++)
		if (__builtin_mul_overflow(whole, 10, &whole) ||
		    __builtin_add_overflow(whole, (uint64_t)(*s - '0'), &whole))
			return -1;
	if (*s == '.') {
		for (s++; is_digit(*s); s++) {
			if (++digits > FRACTION_MAX)
				return -1;
			fraction = fraction * 10 + (uint64_t)(*s - '0');
			scale *= 10;
		}
		if (digits == 0)
			return -1;
	}
	int shift = size_shift(s);
	if (shift < 0 || (shift == 0 && digits > 0))
		return -1;
	unsigned __int128 value = (unsigned __int128)whole << shift;
	value += ((unsigned __int128)fraction << shift) / scale;
	if (value > UINT64_MAX)
		return -1;
	*ret = (uint64_t)value;
	return 0;
}

int64_t str_now_ms(void)
{
	struct timespec now;
	clock_gettime(CLOCK_REALTIME, &now);
	return (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

void str_format_time(int64_t ms, char ret[STR_TIME_MAX])
{
	/* RFC 3339 has years of four digits */
	static const int64_t least = -62167219200000, most = 253402300799999;
	ms = ms < least ? least : ms > most ? most : ms;
	int64_t part = ms % 1000;
	if (part < 0)
		part += 1000;
	time_t seconds = (time_t)((ms - part) / 1000);
	struct tm tm;
	gmtime_r(&seconds, &tm);
	size_t n = strftime(ret, STR_TIME_MAX, "%Y-%m-%dT%H:%M:%S", &tm);
	/* %Y does not pad; only years before 1000 are short */
	if (tm.tm_year + 1900 < 1000) {
		char tail[STR_TIME_MAX];
		strftime(tail, sizeof(tail), "-%m-%dT%H:%M:%S", &tm);
		n = (size_t)snprintf(ret, STR_TIME_MAX, "%04u%.15s",
				     (unsigned int)(tm.tm_year + 1900) % 1000, tail);
	}
	snprintf(ret + n, STR_TIME_MAX - n, ".%03uZ", (unsigned int)part);
}

int str_path_join(char *ret, size_t size, const char *dir, const char *file)
{
	int n = snprintf(ret, size, "%s/%s", dir, file);
	return n < 0 || (size_t)n >= size ? -1 : 0;
}
