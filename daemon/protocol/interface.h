/* The interfaces that the daemon speaks: their texts, embedded at build time from the .varlink
 * files beside this. */
#pragma once

#include "base/common.h"

/* The description of the interface of that name; NULL: unknown. Not escaped. */
const char *interface_description(Bytes name);
/* All names, ended by NULL. */
extern const char *const interface_names[];

#define INTERFACE_VENDOR "holdfast"
#define INTERFACE_PRODUCT "holdfastd"
#define INTERFACE_URL "https://holdfast.invalid/"
