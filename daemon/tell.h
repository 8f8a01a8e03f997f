/* What people read of the daemon without asking it: events in the log, the line of status. */
#pragma once

#include "manager-private.h"

/* --- events of the log, with their fields (base/message-ids.h) */

void tell_recovered(const Manager *manager, const Recovery *recovery);
void tell_started(const Manager *manager);
/* what_heals: when updates will be accepted again. */
void tell_updates_refused(const Manager *manager, const char *reason, const char *what_heals);
void tell_updates_accepted(const Manager *manager);

/* --- the service manager's line of status */

/* When the daemon serves, and then once a second also while stopping: says that it is ready, and
 * sends the line where it has changed. */
void tell_tick(Manager *manager);
/* Something happened that the next tick shall tell. */
void tell_soon(Manager *manager);
