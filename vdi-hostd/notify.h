/* Word to the supervisor that started us (sd_notify(3)). */
#pragma once

/** notify_state() - send "READY=1", "STOPPING=1", ...; nothing happens where nobody asked for it */
void notify_state(const char *state);
