#include <stdio.h>
#include <string.h>

#include "base/mem.h"
#include "vdictl/client.h"
#include "vdictl/output.h"
#include "vdictl/text.h"
#include "vdictl/vdictl.h"

int vdictl_connect(struct vdictl *vdictl, struct err *err)
{
	return vdictl->client ? 0 : client_open(vdictl->options.socket, &vdictl->client, err);
}

int vdictl_discover(struct vdictl *vdictl, struct err *err)
{
	if (vdictl->discover)
		return 0;
	if (vdictl_connect(vdictl, err) < 0)
		return -1;
	return client_call(vdictl->client, "rpc.discover", NULL, -1, &vdictl->discover, err);
}

static int status_of(enum err_code code)
{
	switch (code) {
	case ERR_INVALID:
		return STATUS_USAGE;
	case ERR_NOT_FOUND:
		return STATUS_NOT_FOUND;
	case ERR_DENIED:
		return STATUS_DENIED;
	case ERR_EXISTS:
	case ERR_BUSY:
	case ERR_CONFLICT:
		return STATUS_CONFLICT;
	case ERR_LIMIT:
	case ERR_UNAVAILABLE:
	case ERR_TIMEOUT:
	case ERR_IO:
	case ERR_CORRUPT:
	case ERR_UNSUPPORTED:
	case ERR_CANCELLED:
	case ERR_INTERNAL:
		return STATUS_FAILED;
	}
	return STATUS_FAILED;
}

int vdictl_report(const struct vdictl *vdictl, const struct err *err)
{
	_cleanup_free_ char *safe = text_safe(err->msg, false);
	fflush(stdout);
	fprintf(stderr, "vdictl: %s\n", safe);
	bool reached = vdictl->client && !client_is_lost(vdictl->client);
	if (!reached && err->code == ERR_UNAVAILABLE)
		return STATUS_UNREACHABLE;
	return status_of(err->code);
}

/* The value of "--name value" or "--name=value" at *at; NULL: it is another word. */
static const char *option_value(const char *name, int argc, char **argv, int *at, bool *ret_missing)
{
	size_t len = strlen(name);
	if (strncmp(argv[*at], name, len) != 0)
		return NULL;
	if (argv[*at][len] == '=')
		return argv[*at] + len + 1;
	if (argv[*at][len] != '\0')
		return NULL;
	if (*at + 1 == argc) {
		*ret_missing = true;
		return NULL;
	}
	return argv[++*at];
}

/* Takes what is said for every command alike out of argv; returns how many words are left, or -1.
 */
static int take_options(int argc, char **argv, struct options *options, struct err *err)
{
	int left = 0;
	bool missing = false;
	for (int i = 0; i < argc; i++) {
		const char *value;
		if (strcmp(argv[i], "--") == 0) {
			while (i < argc)
				argv[left++] = argv[i++];
		} else if (strcmp(argv[i], "--json") == 0) {
			options->json = true;
		} else if (strcmp(argv[i], "--help") == 0 || strcmp(argv[i], "-h") == 0) {
			options->help = true;
		} else if (strcmp(argv[i], "--version") == 0) {
			options->version = true;
		} else if ((value = option_value("--socket", argc, argv, &i, &missing))) {
			options->socket = value;
		} else if ((value = option_value("--output", argc, argv, &i, &missing))) {
			options->output = value;
		} else if (missing) {
			return err_set(err, ERR_INVALID, "%s needs a value", argv[i]);
		} else {
			argv[left++] = argv[i];
		}
	}
	return left;
}

static int dispatch(struct vdictl *vdictl, int argc, char **argv)
{
	static const struct {
		const char *name;
		int (*run)(struct vdictl *vdictl, int argc, char **argv);
	} own[] = {
		{"help", command_help},
		{"call", command_call},
		{"watch", command_watch},
		{"completion", command_completion},
	};
	if (vdictl->options.version) {
		puts("vdictl " VDI_VERSION);
		return output_flush(STATUS_DONE);
	}
	if (argc == 0)
		return command_help(vdictl, 0, argv);
	if (vdictl->options.help && strcmp(argv[0], "help") != 0) {
		for (size_t i = 0; i < ARRAY_LEN(own); i++)
			if (strcmp(own[i].name, argv[0]) == 0)
				return command_help(vdictl, 0, argv);
		return command_help(vdictl, argc, argv);
	}
	for (size_t i = 0; i < ARRAY_LEN(own); i++)
		if (strcmp(own[i].name, argv[0]) == 0)
			return own[i].run(vdictl, argc - 1, argv + 1);
	return command_method(vdictl, argc, argv);
}

int main(int argc, char **argv)
{
	struct vdictl vdictl = {0};
	struct err err;
	int status, left;
	/* what is being completed is no option yet */
	if (argc > 1 && strcmp(argv[1], "__complete") == 0) {
		status = command_complete(&vdictl, argc - 2, argv + 2);
	} else {
		left = take_options(argc - 1, argv + 1, &vdictl.options, &err);
		status =
			left < 0 ? vdictl_report(&vdictl, &err) : dispatch(&vdictl, left, argv + 1);
	}
	json_decref(vdictl.discover);
	client_free(vdictl.client);
	return status;
}
