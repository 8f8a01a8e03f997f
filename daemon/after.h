/* AfterCommand=: the command after each published image, between the checkpoints and the service.
 */
#pragma once

#include "manager-private.h"

int after_new(Manager *manager);
/* What the configuration says now. */
void after_configure(Manager *manager);
/* A checkpoint is complete. */
void after_checkpoint(Manager *manager, const Checkpoint *checkpoint);
/* Of MethodsHost. */
bool after_status(void *context, ServiceCommand *ret);
