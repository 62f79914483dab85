/* What can be seen of a desktop from outside: its screen, its console, its figures. */
#include <sodium.h>
#include <string.h>

#include "base/mem.h"
#include "vdi-hostd/api/desktop.h"

#define CONSOLE_MAX (256 << 10)

static const struct json_field screenshot_result[] = {
	{"png", JSON_FIELD_STRING, .doc = "the picture, base64 (RFC 4648)"},
	{"width", JSON_FIELD_INT, .doc = "pixels"},
	{"height", JSON_FIELD_INT, .doc = "pixels"},
	{0},
};

static void answer_screenshot(void *data, const unsigned char *png, size_t len, int width,
			      int height, const struct err *err)
{
	struct api_call *call = data;
	if (err) {
		api_fail(call, err);
		return;
	}
	size_t size = sodium_base64_encoded_len(len, sodium_base64_VARIANT_ORIGINAL);
	_cleanup_free_ char *text = mem_calloc(size, 1);
	sodium_bin2base64(text, size, png, len, sodium_base64_VARIANT_ORIGINAL);
	api_reply(call,
		  json_pack("{s:s, s:i, s:i}", "png", text, "width", width, "height", height));
}

static struct api_token desktop_screenshot_method(struct api_call *call, const void *data)
{
	const struct api_desktop_ref *params = data;
	struct err err;
	struct desktop *desktop = api_desktop_find(call, params->desktop, &err);
	if (!desktop)
		return api_fail(call, &err);
	struct api_token token = api_pending(call);
	desktop_screenshot(desktop, answer_screenshot, call);
	return token;
}

struct console_params {
	const char *desktop;
	int64_t max_bytes;
};

static const struct json_field console_fields[] = {
	API_DESKTOP_FIELD(console_params),
	{"max_bytes", JSON_FIELD_INT, 0, offsetof(struct console_params, max_bytes), 1, CONSOLE_MAX,
	 64 << 10, .doc = "at most this much, from the end"},
	{0},
};

static const struct json_field console_result[] = {
	{"text", JSON_FIELD_STRING, .doc = "what is no UTF-8 stands as '?'"},
	{0},
};

/* A guest may print anything; JSON takes UTF-8 only, and jansson refuses NUL in json_string(). */
static json_t *text_to_json(char *text, size_t len)
{
	json_t *ret = json_stringn(text, len);
	if (ret && !memchr(text, '\0', len))
		return ret;
	json_decref(ret);
	for (size_t i = 0; i < len; i++)
		if ((unsigned char)text[i] >= 0x80 || text[i] == '\0')
			text[i] = '?';
	return json_stringn(text, len);
}

static struct api_token desktop_console_log_method(struct api_call *call, const void *data)
{
	const struct console_params *params = data;
	struct err err;
	_cleanup_free_ char *text = NULL;
	size_t len;
	struct desktop *desktop = api_desktop_find(call, params->desktop, &err);
	if (!desktop ||
	    desktop_console_log(desktop, (size_t)params->max_bytes, &text, &len, &err) < 0)
		return api_fail(call, &err);
	return api_reply(call, json_pack("{s:o}", "text", text_to_json(text, len)));
}

static const struct json_field nic_drops_fields[] = {
	{"mac", JSON_FIELD_INT, .doc = "another's MAC as the sender"},
	{"vlan", JSON_FIELD_INT, .doc = "a VLAN tag"},
	{"ethertype", JSON_FIELD_INT, .doc = "neither IPv4 nor IPv6 nor ARP"},
	{"arp", JSON_FIELD_INT, .doc = "another's MAC or address in ARP"},
	{"ipv4", JSON_FIELD_INT, .doc = "another's IPv4 address as the sender"},
	{"ipv6", JSON_FIELD_INT, .doc = "another's IPv6 address as the sender"},
	{"dhcp", JSON_FIELD_INT, .doc = "a DHCP server's answer, or asking one for another's MAC"},
	{"ra", JSON_FIELD_INT, .doc = "a router's advertisement, redirect or query for listeners"},
	{"nd", JSON_FIELD_INT, .doc = "another's MAC or address in neighbour discovery"},
	{"group_out", JSON_FIELD_INT, .doc = "from the guest, by a firewall group"},
	{"group_in", JSON_FIELD_INT, .doc = "to the guest, by a firewall group"},
	{"flood_out", JSON_FIELD_INT,
	 .doc = "from the guest: more packets in pieces than a NIC may send, or, with groups, more "
		"exchanges than it may begin"},
	{"flood_in", JSON_FIELD_INT,
	 .doc = "to the guest: more exchanges than may begin with such a NIC"},
	{"flood_host", JSON_FIELD_INT,
	 .doc = "from the guest: more connections through or to the host than a NIC may have, or "
		"more questions for names"},
	{"detour", JSON_FIELD_INT, .doc = "to a neighbour, by way of the host"},
	{0},
};

static const struct json_field nic_stats_fields[] = {
	{"nic", JSON_FIELD_INT, .doc = "its number"},
	{"from_guest_bytes", JSON_FIELD_INT, .doc = "what the guest sent, dropped or not"},
	{"from_guest_packets", JSON_FIELD_INT, .doc = "what the guest sent, dropped or not"},
	{"to_guest_bytes", JSON_FIELD_INT, .doc = "what the guest was sent"},
	{"to_guest_packets", JSON_FIELD_INT, .doc = "what the guest was sent"},
	{"dropped_packets", JSON_FIELD_INT, .doc = "what was not let through"},
	{"drops", JSON_FIELD_OBJECT, .fields = nic_drops_fields, .doc = "these packets by reason"},
	{0},
};

static const struct json_field stats_result[] = {
	{"name", JSON_FIELD_NAME, .doc = "whose figures these are"},
	{"state", JSON_FIELD_ENUM, .values = desktop_state_names, .doc = "as desktop.get"},
	{"cpu_ms", JSON_FIELD_INT, .doc = "processor time that its QEMU took since it started"},
	{"memory_bytes", JSON_FIELD_INT, .doc = "memory of the host that its QEMU holds now"},
	{"memory_mib", JSON_FIELD_INT, .doc = "memory of the guest"},
	{"disk_bytes", JSON_FIELD_INT, .doc = "virtual size of the system disk"},
	{"disk_allocated_bytes", JSON_FIELD_INT,
	 .doc = "what its disks take in the store, without what they share"},
	{"uptime_s", JSON_FIELD_INT, .doc = "since it was started; 0 while stopped"},
	{"nics", JSON_FIELD_ARRAY, .fields = nic_stats_fields,
	 .doc = "what passed through each NIC since it was plugged in"},
	{0},
};

struct stats_call {
	struct api_call *call;
	json_t *stats;
};

static void on_nic_stats(void *data, json_t *nics, const struct err *err)
{
	_cleanup_free_ struct stats_call *wait = data;
	if (err) {
		json_decref(wait->stats);
		api_fail(wait->call, err);
		return;
	}
	json_object_set_new(wait->stats, "nics", nics);
	api_reply(wait->call, wait->stats);
}

static struct api_token desktop_stats_method(struct api_call *call, const void *data)
{
	const struct api_desktop_ref *params = data;
	struct err err;
	struct desktop *desktop = api_desktop_find(call, params->desktop, &err);
	json_t *stats = desktop ? desktop_stats(desktop, &err) : NULL;
	if (!stats)
		return api_fail(call, &err);
	struct api_token token = api_pending(call);
	struct stats_call *wait = mem_new(struct stats_call);
	*wait = (struct stats_call){call, stats};
	desktop_nic_stats(desktop, on_nic_stats, wait);
	return token;
}

const struct api_method api_screen_methods[] = {
	{"desktop.screenshot", API_ROLE_OPERATOR, API_NAMED, api_desktop_ref_fields,
	 sizeof(struct api_desktop_ref), screenshot_result, desktop_screenshot_method,
	 "Picture a desktop's screen."},
	{"desktop.console.log", API_ROLE_OPERATOR, API_NAMED, console_fields,
	 sizeof(struct console_params), console_result, desktop_console_log_method,
	 "Show the end of what a desktop's serial console printed."},
	{"desktop.stats", API_ROLE_OPERATOR, API_NAMED, api_desktop_ref_fields,
	 sizeof(struct api_desktop_ref), stats_result, desktop_stats_method,
	 "Show what a desktop uses."},
	{0},
};
