#include "qmp/wire.h"

#include <errno.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>

#include "base/mem.h"

int wire_connect(const char *path, int *ret_fd, struct err *err)
{
	struct sockaddr_un addr = {.sun_family = AF_UNIX};
	size_t len = strlen(path);
	if (len == 0 || len >= sizeof(addr.sun_path))
		return err_set(err, ERR_INVALID,
			       "connect to '%.100s...': a socket's path has 1 to %zu bytes", path,
			       sizeof(addr.sun_path) - 1);
	memcpy(addr.sun_path, path, len);

	_cleanup_close_ int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (fd < 0)
		return err_set_sys(err, err_from_errno(errno), errno, "connect to %s", path);
	/* on AF_UNIX this succeeds at once, or fails with EAGAIN where a blocking one would wait */
	if (connect(fd, (struct sockaddr *)&addr, sizeof(addr)) < 0)
		return err_set_sys(err, err_from_errno(errno), errno, "connect to %s", path);
	*ret_fd = TAKE_FD(fd);
	return 0;
}

char *wire_command(const char *command, json_t *args, json_int_t id)
{
	_cleanup_json_ json_t *msg = json_pack("{s:s}", "execute", command);
	if (!msg || (args && json_object_set(msg, "arguments", args) < 0))
		return NULL;
	if (id && json_object_set_new(msg, "id", json_integer(id)) < 0)
		return NULL;
	_cleanup_free_ char *text = json_dumps(msg, JSON_COMPACT);
	return text ? mem_printf("%s\n", text) : NULL;
}

int wire_refusal(const char *command, json_t *error, struct err *err)
{
	const char *class = json_string_value(json_object_get(error, "class"));
	const char *desc = json_string_value(json_object_get(error, "desc"));
	enum err_code code = ERR_UNAVAILABLE;
	if (class && strcmp(class, "DeviceNotFound") == 0)
		code = ERR_NOT_FOUND;
	else if (class && strcmp(class, "CommandNotFound") == 0)
		code = ERR_UNSUPPORTED;
	return err_set(err, code, "%s: %s", command, desc ? desc : "refused without a reason");
}
