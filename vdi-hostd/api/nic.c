#include "vdi-hostd/api/api.h"
#include "vdi-hostd/api/private.h"
#include "vdi-hostd/desktop/desktop.h"

static const char *const link_states[] = {"down", "up", NULL};

const struct json_field desktop_nic_fields[] = {
	{"nic", JSON_FIELD_INT, .doc = "its number, from 0"},
	{"network", JSON_FIELD_STRING, JSON_FIELD_NULLABLE, .doc = "what it is connected to"},
	{"mac", JSON_FIELD_STRING, .doc = "its address, for its whole life"},
	{"ip", JSON_FIELD_STRING, JSON_FIELD_NULLABLE,
	 .doc = "the address kept for it; null where others give addresses out"},
	{"link", JSON_FIELD_ENUM, .values = link_states, .doc = "is the cable plugged in?"},
	{"to_guest_kbit", JSON_FIELD_INT, .doc = "the most a second, in 1000 bits; 0: no limit"},
	{"to_guest_burst_kib", JSON_FIELD_INT, .doc = "what may pass at once; 0: what suits it"},
	{"from_guest_kbit", JSON_FIELD_INT, .doc = "the same for what the guest sends"},
	{"from_guest_burst_kib", JSON_FIELD_INT, .doc = "the same for what the guest sends"},
	{0},
};
