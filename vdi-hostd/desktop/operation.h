/*
 * For those who change a desktop from outside of its life cycle (disk/): claim it, change its row,
 * work on its disks through its QEMU.
 *
 * Two locks, for two lengths of time. An operation (desktop_begin) is short and excludes every
 * other one: start, stop, a snapshot being taken. Work (desktop_work_begin) may take hours: a
 * merge, a backup; there is one a desktop, and operations go on meanwhile: a desktop that is being
 * merged starts when it is clicked. Work that has to change the row claims an operation for that
 * moment.
 */
#pragma once

#include "vdi-hostd/desktop/desktop.h"

/**
 * desktop_begin() - claim the desktop for one operation; ERR_BUSY if it has one
 * Also a desktop that is stopped may have a QEMU, parked: where desktop_qmp() is not NULL its disks
 * are open.
 */
int desktop_begin(struct desktop *desktop, desktop_cb cb, void *data, struct err *err) warn_unused;
/** desktop_end() - the operation is over: tell who asked */
void desktop_end(struct desktop *desktop, const struct err *err);
/** desktop_is_claimed() - is an operation under way? */
bool desktop_is_claimed(const struct desktop *desktop);

/** desktop_edit() - its row, for who claimed it; desktop_save() makes the change last */
struct db_desktop *desktop_edit(struct desktop *desktop);
int desktop_save(struct desktop *desktop, struct err *err) warn_unused;
/** desktop_env() - what it stands on */
const struct desktops_env *desktop_env(const struct desktop *desktop);
/**
 * desktop_start_from() - desktop_start() of a desktop without a QEMU, whose guest goes on from a
 * memory saved earlier
 * @memory_fd: taken
 */
void desktop_start_from(struct desktop *desktop, int memory_fd, desktop_cb cb, void *data);
/** desktop_agent_path() - the socket of its guest's agent, while it has a QEMU */
int desktop_agent_path(const struct desktop *desktop, char *ret, size_t size,
		       struct err *err) warn_unused;

/**
 * struct desktop_keeper - who keeps more files of a desktop than its row names
 * @settle: before a QEMU gets the disks: finish or undo what was interrupted, now
 * @forget: the desktop is deleted: its files and rows with it; idempotent
 */
struct desktop_keeper {
	int (*settle)(void *data, struct desktop *desktop, struct err *err);
	int (*forget)(void *data, struct desktop *desktop, struct err *err);
	void *data;
};

/** desktops_keep() - @keeper: copied; NULL for nobody any more */
void desktops_keep(struct desktops *all, const struct desktop_keeper *keeper);

/**
 * struct desktop_work - long work on the disks of one desktop
 * @what:  for messages, as in "is busy: WHAT": "snapshot 'monday' is being merged"; borrowed
 * @event: a QMP event (BLOCK_JOB_COMPLETED, JOB_STATUS_CHANGE, ...), between ready and gone
 * @gone:  QEMU ended or its monitor is lost; what it was doing for this work is over, or, where a
 *         guest runs on and only its monitor was lost, goes on unseen: who opens it again looks
 *         for a job that is there already. The work may open it again, or end. Also when the daemon
 * stops (ERR_CANCELLED): then nothing may be begun any more, and nothing be ended either.
 */
struct desktop_work {
	const char *what;
	void (*event)(void *data, const char *name, json_t *event);
	void (*gone)(void *data, const struct err *err);
	void *data;
};

/** desktop_work_begin() - ERR_BUSY names the work under way; @work is copied */
int desktop_work_begin(struct desktop *desktop, const struct desktop_work *work,
		       struct err *err) warn_unused;

/**
 * desktop_work_open() - have a QEMU that holds the disks
 * @ready: fires once, maybe inside this call; desktop_qmp() may be used from then on
 *
 * That of the guest where it runs or is paused. A desktop that is stopped stays so for everybody:
 * its QEMU is started as ever but the guest in it is not (`parked`); a start while it is parked
 * only has to let the guest run, and goes on with the work.
 *
 * An operation under way is waited for: who holds one himself waits in vain.
 */
void desktop_work_open(struct desktop *desktop, void (*ready)(void *data, const struct err *err));

/**
 * desktop_work_close() - the opposite of open: a QEMU that was parked for it ends
 * @closed: fires once, maybe inside this call, when an operation may be begun; not when the daemon
 *          stops. `gone` does not fire.
 *
 * For work whose end somebody waits for, who will then want to do something else.
 */
void desktop_work_close(struct desktop *desktop, void (*closed)(void *data));

/**
 * desktop_work_end() - the lock is free; a QEMU that was parked for it ends
 * For the moment that this takes desktop_begin() is ERR_BUSY; see desktop_work_close().
 */
void desktop_work_end(struct desktop *desktop);
