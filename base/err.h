/* Errors: what went wrong, in a form that a caller can act on and a person can read. */
#pragma once

/*
 * Each code maps once to a JSON-RPC error (vdi-hostd/api) and once to an exit status (vdictl).
 * The names that err_code_name() gives are the `data.kind` values of the control API.
 */
enum err_code {
	ERR_INVALID = 1, /* a parameter is wrong; `field` names it */
	ERR_NOT_FOUND,
	ERR_EXISTS,
	ERR_BUSY,
	ERR_DENIED,
	ERR_CONFLICT,
	ERR_LIMIT,
	ERR_UNAVAILABLE,
	ERR_TIMEOUT,
	ERR_IO,
	ERR_CORRUPT,
	ERR_UNSUPPORTED,
	ERR_CANCELLED,
	ERR_INTERNAL, /* a fault of our own */
};

#define ERR_MSG_MAX   256
#define ERR_FIELD_MAX 32

/**
 * struct err - one error, owned by the caller, never on the heap
 * @code:  what kind; 0 until something failed
 * @sys:   the errno behind it, or 0
 * @msg:   one sentence for a person: what was asked, what stood in the way, what to do about it
 * @field: the parameter at fault, or ""
 */
struct err {
	enum err_code code;
	int sys;
	char msg[ERR_MSG_MAX];
	char field[ERR_FIELD_MAX];
};

#define warn_unused            __attribute__((warn_unused_result))
#define printf_like(fmt, args) __attribute__((format(printf, fmt, args)))

/**
 * err_set() - fill in an error
 * @err: may be NULL, then nothing is kept
 *
 * Return: -1, so that a function can end in `return err_set(err, ...)`. The message is cut at
 * ERR_MSG_MAX.
 */
int err_set(struct err *err, enum err_code code, const char *fmt, ...) printf_like(3, 4);

/** err_set_field() - an ERR_INVALID that names the parameter at fault; returns -1 */
int err_set_field(struct err *err, const char *field, const char *fmt, ...) printf_like(3, 4);

/** err_set_sys() - fill in an error from an errno value; its text is appended; returns -1 */
int err_set_sys(struct err *err, enum err_code code, int sys, const char *fmt, ...)
	printf_like(4, 5);

/** err_prefix() - put "text: " before the message that is there; returns -1 */
int err_prefix(struct err *err, const char *fmt, ...) printf_like(2, 3);

/** err_from_errno() - the code that fits an errno value (ENOENT: ERR_NOT_FOUND, ...) */
enum err_code err_from_errno(int sys);

/** err_code_name() - the name of a code as the control API writes it, such as "not_found" */
const char *err_code_name(enum err_code code);

/** err_code_from_name() - the code of such a name, or ERR_INTERNAL */
enum err_code err_code_from_name(const char *name);
