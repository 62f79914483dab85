#include "base/err.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "base/mem.h"

static const char *const code_names[] = {
	[ERR_INVALID] = "invalid",     [ERR_NOT_FOUND] = "not_found",
	[ERR_EXISTS] = "exists",       [ERR_BUSY] = "busy",
	[ERR_DENIED] = "denied",       [ERR_CONFLICT] = "conflict",
	[ERR_LIMIT] = "limit",         [ERR_UNAVAILABLE] = "unavailable",
	[ERR_TIMEOUT] = "timeout",     [ERR_IO] = "io",
	[ERR_CORRUPT] = "corrupt",     [ERR_UNSUPPORTED] = "unsupported",
	[ERR_CANCELLED] = "cancelled", [ERR_INTERNAL] = "internal",
};

_Static_assert(ARRAY_LEN(code_names) == ERR_INTERNAL + 1, "a code lacks its name");

/* A text that was cut must not end within a character: JSON takes whole ones only. */
static void trim_cut(char *text, size_t size)
{
	size_t len = strlen(text), tail = 0;
	if (len + 1 < size)
		return;
	while (tail < 3 && tail < len && ((unsigned char)text[len - 1 - tail] & 0xc0) == 0x80)
		tail++;
	if (tail >= len)
		return;
	unsigned char lead = (unsigned char)text[len - 1 - tail];
	size_t wanted = lead >= 0xf0 ? 3 : lead >= 0xe0 ? 2 : lead >= 0xc0 ? 1 : 0;
	if (tail < wanted)
		text[len - 1 - tail] = '\0';
}

printf_like(4, 0) static void fill(struct err *err, enum err_code code, int sys, const char *fmt,
				   va_list args)
{
	err->code = code;
	err->sys = sys;
	err->field[0] = '\0';
	vsnprintf(err->msg, sizeof(err->msg), fmt, args);
	if (sys != 0) {
		size_t len = strlen(err->msg);
		snprintf(err->msg + len, sizeof(err->msg) - len, ": %s", strerror(sys));
	}
	trim_cut(err->msg, sizeof(err->msg));
}

int err_set(struct err *err, enum err_code code, const char *fmt, ...)
{
	if (!err)
		return -1;
	va_list args;
	va_start(args, fmt);
	fill(err, code, 0, fmt, args);
	va_end(args);
	return -1;
}

int err_set_field(struct err *err, const char *field, const char *fmt, ...)
{
	if (!err)
		return -1;
	va_list args;
	va_start(args, fmt);
	fill(err, ERR_INVALID, 0, fmt, args);
	va_end(args);
	snprintf(err->field, sizeof(err->field), "%s", field);
	trim_cut(err->field, sizeof(err->field));
	return -1;
}

int err_set_sys(struct err *err, enum err_code code, int sys, const char *fmt, ...)
{
	if (!err)
		return -1;
	va_list args;
	va_start(args, fmt);
	fill(err, code, sys, fmt, args);
	va_end(args);
	return -1;
}

int err_prefix(struct err *err, const char *fmt, ...)
{
	if (!err)
		return -1;
	char rest[ERR_MSG_MAX];
	memcpy(rest, err->msg, sizeof(rest));
	va_list args;
	va_start(args, fmt);
	vsnprintf(err->msg, sizeof(err->msg), fmt, args);
	va_end(args);
	size_t len = strlen(err->msg);
	if (len + 2 < sizeof(err->msg)) {
		memcpy(err->msg + len, ": ", 3);
		len += 2;
		size_t room = sizeof(err->msg) - len - 1;
		size_t more = strnlen(rest, room);
		memcpy(err->msg + len, rest, more);
		err->msg[len + more] = '\0';
	}
	trim_cut(err->msg, sizeof(err->msg));
	return -1;
}

enum err_code err_from_errno(int sys)
{
	switch (sys) {
	case ENOENT:
	case ESRCH:
	case ENODEV:
	case ENXIO:
		return ERR_NOT_FOUND;
	case EEXIST:
		return ERR_EXISTS;
	case EBUSY:
	case EADDRINUSE:
		return ERR_BUSY;
	case EACCES:
	case EPERM:
	case EROFS:
		return ERR_DENIED;
	case ENOSPC:
	case EDQUOT:
	case EMFILE:
	case ENFILE:
	case ENOMEM:
		return ERR_LIMIT;
	case ETIMEDOUT:
		return ERR_TIMEOUT;
	case EOPNOTSUPP:
	case ENOSYS:
		return ERR_UNSUPPORTED;
	case ECONNREFUSED:
	case ECONNRESET:
	case EPIPE:
	case EAGAIN:
		return ERR_UNAVAILABLE;
	default:
		return ERR_IO;
	}
}

const char *err_code_name(enum err_code code)
{
	if (code < ERR_INVALID || code > ERR_INTERNAL)
		return "internal";
	return code_names[code];
}

enum err_code err_code_from_name(const char *name)
{
	for (enum err_code code = ERR_INVALID; code < ERR_INTERNAL; code++)
		if (strcmp(code_names[code], name) == 0)
			return code;
	return ERR_INTERNAL;
}
