/* The service manager's descriptor store (sd_notify(3), FDSTORE=1): descriptors put there are
 * handed to the next process of this service, however this one ends. Without a service manager, or
 * where it says that it keeps none ($FDSTORE of systemd 254 and newer), all of it does nothing. */
#pragma once

#include "base/common.h"

typedef struct DescriptorStore DescriptorStore;
typedef struct Housekeeper Housekeeper;

int descriptor_store_new(DescriptorStore **ret);
/* What is in the store stays there. The housekeeper must have been drained. NULL is fine. */
DescriptorStore *descriptor_store_free(DescriptorStore *store);
/* From now on messages leave in the housekeeper's thread, in their order: the service manager may
 * be slow to take them. Before, at once. */
void descriptor_store_background(DescriptorStore *store, Housekeeper *housekeeper);

/* fd stays the caller's and may be closed. A name that is there already gets a second descriptor,
 * unless it is the same file. What cannot be told is logged: the next process then does without. */
void descriptor_store_put(DescriptorStore *store, const char *name, int fd);
/* All of that name. */
void descriptor_store_remove(DescriptorStore *store, const char *name);

/* The service manager has handed over something that it goes on keeping: it does keep descriptors.
 */
void descriptor_store_proven(DescriptorStore *store);
/* True once a descriptor was sent to where one is kept, or handed over from there: as far as can be
 * known (systemd 252 takes the message without a word where FileDescriptorStoreMax= is 0). */
bool descriptor_store_in_use(const DescriptorStore *store);
