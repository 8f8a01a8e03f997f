/* The header of memory that is about to be taken over, of which nothing is believed that does not
 * fit together. */
#pragma once

#include "arena/arena.h"

/* Pages that every arena has: the header, and the first chunk's map. */
#define HEADER_FIRST_PAGES (1 + HOLDFAST_CHUNK_MAP_PAGES)

/* Reads the header by a system call: nothing is mapped before its sizes were looked at. -EBADMSG
 * where there is none. */
int header_read(int fd, HoldfastHeader *ret);
/* Whether the arena can be opened as it is; file_pages: size of its memfd. -EBADMSG, or as
 * arena_open: -EPROTONOSUPPORT (it is read, entry by entry, into a new one: arena_convert), -EBUSY,
 * -ESTALE. */
int header_check(const HoldfastHeader *header, uint64_t file_pages);
