/* GetMetrics: what the manager's objects count, as OpenMetrics text. */
#pragma once

#include "manager-private.h"

/* A checkpoint has ended, however. */
void metrics_checkpoint(Manager *manager, const Checkpoint *checkpoint);
/* Of MethodsHost: appends the families that everybody may see. */
void metrics_write(void *context, Buffer *out);
