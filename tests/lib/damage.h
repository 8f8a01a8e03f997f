/* Damage to files, as disks, crashes and people do it. All return 0 or a negative errno. */
#pragma once

#include "base/common.h"

/* Inverts the bits of mask in the byte at offset; a negative offset counts from the end. -ENODATA
 * outside the file. */
int damage_flip(const char *path, int64_t offset, unsigned char mask);
/* Cuts the file to size bytes; a negative size cuts that many off its end. */
int damage_truncate(const char *path, int64_t size);
/* Overwrites size bytes at offset with value; the file may grow. */
int damage_fill(const char *path, uint64_t offset, unsigned char value, uint64_t size);
/* Copies a file; an existing one is replaced. */
int damage_copy(const char *from, const char *to);
