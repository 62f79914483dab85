#include "vdi-hostd/config.h"

#include <arpa/inet.h>
#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <ini.h>
#include <pwd.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/mem.h"
#include "base/str.h"
#include "vdi-hostd/priv/proto.h"

#define FILE_MAX (64u << 10)

enum type { TYPE_PATH, TYPE_ACCOUNT, TYPE_BOOL, TYPE_INT, TYPE_ACCEL, TYPE_ADDRESS, TYPE_HOST };

struct key {
	const char *section, *name;
	enum type type;
	size_t offset;
	size_t size;      /* of text */
	int64_t min, max; /* of numbers */
};

#define TEXT(section, name, type)                                                                  \
	{                                                                                          \
		section, #name, type, offsetof(struct config, name),                               \
			sizeof(((struct config *)0)->name), 0, 0                                   \
	}
#define INT(section, name, min, max)                                                               \
	{                                                                                          \
		section, #name, TYPE_INT, offsetof(struct config, name), 0, min, max               \
	}

static const struct key keys[] = {
	TEXT("daemon", state_dir, TYPE_PATH),
	TEXT("daemon", runtime_dir, TYPE_PATH),
	TEXT("daemon", socket, TYPE_PATH),
	TEXT("daemon", user, TYPE_ACCOUNT),
	TEXT("daemon", group, TYPE_ACCOUNT),
	TEXT("daemon", debug, TYPE_BOOL),
	TEXT("qemu", qemu_binary, TYPE_PATH),
	TEXT("qemu", qemu_img_binary, TYPE_PATH),
	TEXT("qemu", accel, TYPE_ACCEL),
	INT("qemu", uid_base, 1, INT32_MAX - PRIV_SLOT_MAX),
	INT("qemu", tool_uid, 1, INT32_MAX),
	INT("desktops", memory_reserve_mib, 0, 1 << 24),
	INT("desktops", start_timeout_s, 1, 3600),
	INT("desktops", stop_timeout_s, 1, 3600),
	INT("desktops", merge_rate_mib_s, 0, 1 << 20),
	INT("store", space_low_percent, 0, 90),
	INT("store", space_critical_percent, 0, 90),
	INT("store", space_critical_mib, 0, 1 << 24),
	INT("store", verify_interval_h, 0, 24 * 366),
	TEXT("network", dnsmasq_binary, TYPE_PATH),
	TEXT("network", vhost, TYPE_BOOL),
	TEXT("spice", spice_listen, TYPE_ADDRESS),
	INT("spice", spice_port, 0, 65535),
	TEXT("spice", spice_public_host, TYPE_HOST),
	INT("spice", ticket_ttl_s, 1, 86400),
};

/* ---- values ---- */

static bool is_path(const char *value)
{
	if (value[0] != '/')
		return false;
	for (const char *c = value; *c; c++)
		if ((unsigned char)*c < 0x20 || *c == 0x7f)
			return false;
	return true;
}

static bool is_made_of(const char *value, const char *others)
{
	for (const char *c = value; *c; c++)
		if (!isalnum((unsigned char)*c) && !strchr(others, *c))
			return false;
	return true;
}

static bool is_address(const char *value)
{
	struct in6_addr address;
	return inet_pton(AF_INET, value, &address) == 1 ||
	       inet_pton(AF_INET6, value, &address) == 1;
}

static int find_word(const char *value, const char *const *words, size_t n)
{
	for (size_t i = 0; i < n; i++)
		if (strcmp(value, words[i]) == 0)
			return (int)i;
	return -1;
}

static int set_text(const struct key *key, bool ok, const char *shape, void *dst, const char *value,
		    struct err *err)
{
	if (!ok)
		return err_set_field(err, key->name, "%s must be %s", key->name, shape);
	if (strlen(value) >= key->size)
		return err_set_field(err, key->name, "%s is longer than %zu bytes", key->name,
				     key->size - 1);
	memset(dst, 0, key->size); /* no tail of the former value */
	memcpy(dst, value, strlen(value));
	return 0;
}

static int set_int(const struct key *key, int64_t *dst, const char *value, struct err *err)
{
	int64_t number;
	if (str_parse_i64(value, &number) < 0 || number < key->min || number > key->max)
		return err_set_field(err, key->name, "%s must be a number from %lld to %lld",
				     key->name, (long long)key->min, (long long)key->max);
	*dst = number;
	return 0;
}

static int set_bool(const struct key *key, bool *dst, const char *value, struct err *err)
{
	static const char *const words[] = {"false", "true", "no", "yes", "off", "on", "0", "1"};
	int word = find_word(value, words, ARRAY_LEN(words));
	if (word < 0)
		return err_set_field(err, key->name, "%s must be true or false", key->name);
	*dst = word % 2;
	return 0;
}

static int set_accel(const struct key *key, enum config_accel *dst, const char *value,
		     struct err *err)
{
	static const char *const words[] = {[CONFIG_ACCEL_AUTO] = "auto",
					    [CONFIG_ACCEL_KVM] = "kvm",
					    [CONFIG_ACCEL_TCG] = "tcg"};
	int word = find_word(value, words, ARRAY_LEN(words));
	if (word < 0)
		return err_set_field(err, key->name, "%s must be auto, kvm or tcg", key->name);
	*dst = (enum config_accel)word;
	return 0;
}

static int set_value(struct config *config, const struct key *key, const char *value,
		     struct err *err)
{
	void *dst = (char *)config + key->offset;
	switch (key->type) {
	case TYPE_PATH:
		return set_text(key, is_path(value), "an absolute path", dst, value, err);
	case TYPE_ACCOUNT:
		return set_text(key, value[0] && value[0] != '-' && is_made_of(value, "_-."),
				"the name of an account", dst, value, err);
	case TYPE_ADDRESS:
		return set_text(key, is_address(value), "an IPv4 or IPv6 address", dst, value, err);
	case TYPE_HOST:
		return set_text(key, is_made_of(value, ".-:"), "a host name or an address", dst,
				value, err);
	case TYPE_INT:
		return set_int(key, dst, value, err);
	case TYPE_BOOL:
		return set_bool(key, dst, value, err);
	case TYPE_ACCEL:
		return set_accel(key, dst, value, err);
	}
	return err_set(err, ERR_INTERNAL, "%s has no type", key->name);
}

/* ---- lines ---- */

struct parse {
	struct config config;
	const char *name, *text, *end;
	int line;
	bool seen[ARRAY_LEN(keys)];
	bool failed;
	struct err err; /* the first one */
};

static void fail_at(struct parse *parse, int line)
{
	if (parse->failed)
		return;
	err_prefix(&parse->err, "%s:%d", parse->name, line);
	parse->failed = true;
}

static bool section_exists(const char *section)
{
	for (size_t i = 0; i < ARRAY_LEN(keys); i++)
		if (strcmp(keys[i].section, section) == 0)
			return true;
	return false;
}

static int take(struct parse *parse, const char *section, const char *name, const char *value,
		struct err *err)
{
	for (size_t i = 0; i < ARRAY_LEN(keys); i++) {
		if (strcmp(keys[i].section, section) != 0 || strcmp(keys[i].name, name) != 0)
			continue;
		if (parse->seen[i])
			return err_set_field(err, name, "%s is set a second time", name);
		parse->seen[i] = true;
		return set_value(&parse->config, &keys[i], value, err);
	}
	if (!section[0])
		return err_set(err, ERR_INVALID, "'%.60s' stands before any [section]", name);
	if (!section_exists(section))
		return err_set(err, ERR_INVALID, "there is no section [%.60s]", section);
	return err_set(err, ERR_INVALID, "there is no key '%.60s' in [%s]", name, section);
}

static int on_value(void *user, const char *section, const char *name, const char *value)
{
	struct parse *parse = user;
	struct err err;
	if (parse->failed || take(parse, section, name, value, &err) == 0)
		return 1;
	parse->err = err;
	fail_at(parse, parse->line);
	return 0;
}

/*
 * inih asks for one line after the other, as fgets() would give them. Counting here gives the
 * numbers that its handler is not told; what would not fit its buffer, or hides behind a NUL, is
 * refused instead of being read as something else.
 */
static char *read_line(char *buffer, int size, void *stream)
{
	struct parse *parse = stream;
	size_t left = (size_t)(parse->end - parse->text);
	if (left == 0 || parse->failed)
		return NULL;
	parse->line++;
	const char *newline = memchr(parse->text, '\n', left);
	size_t len = newline ? (size_t)(newline - parse->text) + 1 : left;
	if (len >= (size_t)size) {
		err_set(&parse->err, ERR_LIMIT, "the line is longer than %d bytes", size - 2);
		fail_at(parse, parse->line);
		return NULL;
	}
	if (memchr(parse->text, '\0', len)) {
		err_set(&parse->err, ERR_INVALID, "the line has a NUL byte in it");
		fail_at(parse, parse->line);
		return NULL;
	}
	memcpy(buffer, parse->text, len);
	buffer[len] = '\0';
	parse->text += len;
	return buffer;
}

static int check_whole(const struct config *config, struct err *err)
{
	/* slots begin at 1 */
	if (config->tool_uid > config->uid_base &&
	    config->tool_uid <= config->uid_base + PRIV_SLOT_MAX)
		return err_set_field(err, "tool_uid",
				     "tool_uid lies in the desktops' range, uid_base to uid_base + "
				     "%d",
				     PRIV_SLOT_MAX);
	if (config->space_critical_percent > config->space_low_percent)
		return err_set_field(err, "space_critical_percent",
				     "space_critical_percent is more than space_low_percent");
	return 0;
}

int config_parse(struct config *config, const char *name, const char *text, size_t len,
		 struct err *err)
{
	struct parse parse = {.name = name, .text = text, .end = text + len};

	/* copied with its padding: whoever compares two of them may do it by memcmp() */
	memcpy(&parse.config, config, sizeof(parse.config));
	int line = ini_parse_stream(read_line, &parse, on_value, &parse);
	if (line != 0 && !parse.failed) {
		if (line > 0)
			err_set(&parse.err, ERR_INVALID, "neither '[section]' nor 'key = value'");
		else
			err_set(&parse.err, ERR_INTERNAL, "the file could not be read");
		fail_at(&parse, line > 0 ? line : 0);
	}
	if (!parse.failed && check_whole(&parse.config, &parse.err) < 0) {
		err_prefix(&parse.err, "%s", name);
		parse.failed = true;
	}
	if (parse.failed) {
		if (err)
			*err = parse.err;
		return -1;
	}
	memcpy(config, &parse.config, sizeof(*config));
	return 0;
}

int config_load(struct config *config, const char *path, struct err *err)
{
	_cleanup_close_ int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
	if (fd < 0)
		return err_set_sys(err, err_from_errno(errno), errno,
				   "cannot open the configuration %s", path);
	_cleanup_free_ char *text = mem_calloc(1, FILE_MAX + 1);
	size_t len = 0;
	while (len <= FILE_MAX) {
		ssize_t n = read(fd, text + len, FILE_MAX + 1 - len);
		if (n < 0)
			return err_set_sys(err, err_from_errno(errno), errno,
					   "cannot read the configuration %s", path);
		if (n == 0)
			return config_parse(config, path, text, len, err);
		len += (size_t)n;
	}
	return err_set(err, ERR_LIMIT, "the configuration %s is longer than %u bytes", path,
		       FILE_MAX);
}

/* ---- defaults ---- */

static int join(char *dst, size_t size, const char *dir, const char *file, struct err *err)
{
	if (snprintf(dst, size, "%s/%s", dir, file) < (int)size)
		return 0;
	return err_set(err, ERR_LIMIT, "the path %.100s.../%s is too long", dir, file);
}

static int rootless_folders(struct config *ret, struct err *err)
{
	const struct passwd *self = getpwuid(geteuid());
	const char *state = getenv("XDG_STATE_HOME"), *runtime = getenv("XDG_RUNTIME_DIR");
	const char *home = getenv("HOME");
	char run[64];

	if ((!home || home[0] != '/') && self)
		home = self->pw_dir;
	snprintf(run, sizeof(run), "/run/user/%u", geteuid());
	if (!runtime || runtime[0] != '/')
		runtime = run;
	if (state && state[0] == '/') {
		if (join(ret->state_dir, sizeof(ret->state_dir), state, "vdi-hostd", err) < 0)
			return -1;
	} else if (!home || home[0] != '/') {
		return err_set(err, ERR_NOT_FOUND,
			       "neither XDG_STATE_HOME nor HOME says where state may be kept; set "
			       "one of them");
	} else if (join(ret->state_dir, sizeof(ret->state_dir), home, ".local/state/vdi-hostd",
			err) < 0) {
		return -1;
	}
	if (join(ret->runtime_dir, sizeof(ret->runtime_dir), runtime, "vdi-hostd", err) < 0 ||
	    join(ret->socket, sizeof(ret->socket), ret->runtime_dir, "control.sock", err) < 0)
		return -1;
	ret->uid_base = ret->tool_uid = geteuid();
	ret->user[0] = ret->group[0] = '\0';
	return 0;
}

int config_defaults(struct config *ret, bool rootless, struct err *err)
{
	struct config config;

	memset(&config, 0, sizeof(config));
	strcpy(config.state_dir, "/var/lib/vdi-hostd");
	strcpy(config.runtime_dir, "/run/vdi-hostd");
	strcpy(config.socket, "/run/vdi-hostd/control.sock");
	strcpy(config.user, "vdi");
	strcpy(config.group, "vdi");
	strcpy(config.qemu_binary, "/usr/bin/qemu-system-x86_64");
	strcpy(config.qemu_img_binary, "/usr/bin/qemu-img");
	strcpy(config.dnsmasq_binary, "/usr/sbin/dnsmasq");
	strcpy(config.spice_listen, "127.0.0.1");
	config.accel = CONFIG_ACCEL_AUTO;
	config.vhost = true;
	config.uid_base = CONFIG_UID_BASE;
	config.tool_uid = CONFIG_UID_BASE;
	config.memory_reserve_mib = 512;
	config.space_low_percent = 10;
	config.space_critical_percent = 5;
	config.space_critical_mib = 1024;
	config.start_timeout_s = 30;
	config.stop_timeout_s = 60;
	config.verify_interval_h = 168;
	config.spice_port = 5900;
	config.ticket_ttl_s = 120;
	if (rootless && rootless_folders(&config, err) < 0)
		return -1;
	memcpy(ret, &config, sizeof(config));
	return 0;
}
