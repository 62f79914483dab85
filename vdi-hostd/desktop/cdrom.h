/* The CD drive of a desktop: what lies in it, also while the guest runs. */
#pragma once

#include "vdi-hostd/desktop/desktop.h"

/**
 * desktop_cdrom_insert() - put a disc into the drive; what lay in it goes
 * @iso:   name or id
 * @force: do not wait for a guest that locked the tray
 *
 * A running guest sees the tray open and close. One that locked it (it has mounted the disc) is
 * asked, and may take CDROM_WAIT_MS to let go; then ERR_TIMEOUT, and nothing has changed. In a
 * desktop that is stopped the disc is there from its next start.
 */
void desktop_cdrom_insert(struct desktop *desktop, const char *iso, bool force, desktop_cb cb,
			  void *data);

/** desktop_cdrom_eject() - leave the drive empty, in the same way; an empty one is no error */
void desktop_cdrom_eject(struct desktop *desktop, bool force, desktop_cb cb, void *data);

#define CDROM_WAIT_MS 10000

/** desktops_with_iso() - isos_delete()'s question; @data: the manager */
size_t desktops_with_iso(void *data, const char *iso_id, char *ret, size_t size);
