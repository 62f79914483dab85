#include "vdi-hostd/api/api.h"

const struct api_method *const api_tables[] = {
	api_rpc_methods,      api_host_methods,
	api_event_methods,    api_job_methods,
	api_image_methods,    api_network_methods,
	api_firewall_methods, api_reservation_methods,
	api_desktop_methods,  api_cdrom_methods,
	api_screen_methods,   api_snapshot_methods,
	api_nic_methods,      api_forward_methods,
	api_iso_methods,      api_export_methods,
	api_quota_methods,    api_recompose_methods,
	api_store_methods,    api_backup_methods,
	api_capture_methods,  NULL,
};
