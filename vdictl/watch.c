/* "watch": events as they happen. */
#include <jansson.h>
#include <stdio.h>
#include <string.h>

#include "base/mem.h"
#include "vdictl/args.h"
#include "vdictl/client.h"
#include "vdictl/method.h"
#include "vdictl/output.h"
#include "vdictl/table.h"
#include "vdictl/text.h"
#include "vdictl/vdictl.h"

static void print_event(json_t *event)
{
	static const char *const keys[] = {"time", "topic", "subject"};
	for (size_t i = 0; i < ARRAY_LEN(keys); i++) {
		_cleanup_free_ char *cell = table_cell(keys[i], json_object_get(event, keys[i]));
		printf("%s%s", i ? "  " : "", cell);
	}
	const char *key;
	json_t *value;
	json_object_foreach(json_object_get(event, "data"), key, value)
	{
		_cleanup_free_ char *name = text_safe(key, false), *cell = table_cell(key, value);
		printf("  %s=%s", name, cell);
	}
	putchar('\n');
}

/* Topics are words, the rest are flags. */
static int read_args(struct vdictl *vdictl, int argc, char **argv, json_t **ret, struct err *err)
{
	_cleanup_json_ json_t *topics = json_array(), *params = NULL;
	int n = 0;
	for (; n < argc && strncmp(argv[n], "--", 2) != 0; n++)
		if (json_array_append_new(topics, json_string(argv[n])) < 0)
			return err_set(err, ERR_INVALID, "a topic is UTF-8 text");
	json_t *method = method_by_name(vdictl->discover, "events.subscribe");
	if (!method)
		return err_set(err, ERR_UNSUPPORTED, "this daemon tells no events");
	if (args_read(method, argc - n, argv + n, &params, err) < 0)
		return -1;
	if (n > 0)
		json_object_set(params, "topics", topics);
	*ret = TAKE_PTR(params);
	return 0;
}

int command_watch(struct vdictl *vdictl, int argc, char **argv)
{
	struct err err;
	_cleanup_json_ json_t *params = NULL, *began = NULL;
	if (vdictl_discover(vdictl, &err) < 0 || read_args(vdictl, argc, argv, &params, &err) < 0 ||
	    client_call(vdictl->client, "events.subscribe", params, -1, &began, &err) < 0)
		return vdictl_report(vdictl, &err);
	for (;;) {
		_cleanup_json_ json_t *event = NULL;
		if (client_next(vdictl->client, &event, &err) < 0)
			return vdictl_report(vdictl, &err);
		if (vdictl->options.json) {
			json_dumpf(event, stdout, JSON_COMPACT);
			putchar('\n');
		} else {
			print_event(event);
		}
		int status = output_flush(STATUS_DONE);
		if (status != STATUS_DONE)
			return status;
	}
}
