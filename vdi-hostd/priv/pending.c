/* Stands in for the parts of netcfg/ that are on their way; weak, so that they replace it. */
#include "netcfg/monitor.h"
#include "netcfg/uplink.h"
#include "netcfg/vlan.h"
#include "netcfg/vxlan.h"

#define W __attribute__((weak))

W int netcfg_uplink_capture(struct netcfg *n, const char *name, struct netcfg_uplink *r,
			    struct err *e)
{
	return err_set(e, ERR_UNSUPPORTED, "this version cannot do that yet");
}

W int netcfg_uplink_enslave(struct netcfg *n, const struct netcfg_uplink *u, const char *b,
			    struct err *e)
{
	return err_set(e, ERR_UNSUPPORTED, "this version cannot do that yet");
}

W int netcfg_uplink_release(struct netcfg *n, const struct netcfg_uplink *u, const char *b,
			    struct err *e)
{
	return 0;
}

W int netcfg_monitor_fd(const struct netcfg_monitor *m)
{
	return -1;
}

W void netcfg_monitor_close(struct netcfg_monitor *m)
{
}

W int netcfg_monitor_open(struct netcfg_monitor **r, uint32_t owner, struct err *e)
{
	return err_set(e, ERR_UNSUPPORTED, "this version cannot do that yet");
}

W int netcfg_monitor_read(struct netcfg_monitor *m,
			  void (*cb)(void *data, const struct netcfg_event *event), void *data,
			  struct err *e)
{
	return 0;
}

W int netcfg_vxlan_ensure(struct netcfg *n, const char *name, const struct netcfg_vxlan *v,
			  struct err *e)
{
	return err_set(e, ERR_UNSUPPORTED, "this version cannot do that yet");
}

W int netcfg_vlan_ensure(struct netcfg *n, const char *name, const char *u, unsigned int t,
			 struct err *e)
{
	return err_set(e, ERR_UNSUPPORTED, "this version cannot do that yet");
}

W int netcfg_vxlan_delete(struct netcfg *n, const char *name, struct err *e)
{
	return 0;
}

W int netcfg_vlan_delete(struct netcfg *n, const char *name, struct err *e)
{
	return 0;
}

W int netcfg_vxlan_peers(struct netcfg *n, const char *name, struct netcfg_addr *r, size_t *c,
			 struct err *e)
{
	return err_set(e, ERR_UNSUPPORTED, "this version cannot do that yet");
}
