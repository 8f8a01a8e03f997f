/* Names in the directory of images that change: done by the housekeeper, durable, logged where they
 * fail. */
#pragma once

#include "base/common.h"
#include "base/housekeeper.h"

/* Unlinks the file. directory_fd is duplicated where it must outlive the call. housekeeper NULL:
 * done at once. */
void catalog_files_remove(int directory_fd, Housekeeper *housekeeper, const char *name);
/* Renames from name to name.damaged, never over another file. */
void catalog_files_set_aside(int directory_fd, Housekeeper *housekeeper, const char *name);
