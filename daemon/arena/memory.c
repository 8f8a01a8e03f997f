/* The mapping of an arena's memfd.
 *
 * Address space is reserved for the whole capacity, once; the memfd's size follows the high-water
 * mark in steps, since a reader's fault on a hole allocates memory. Beyond the file's end nothing
 * is ever touched.
 *
 * What can go wrong: want of address space or memory, which the caller is told. */
#include "arena/internal.h"

#include <sys/mman.h>

#include "arena/upkeep.h"

#ifdef HOLDFAST_GUARD
#define MEMORY_PROTECTION PROT_READ
#else
#define MEMORY_PROTECTION (PROT_READ | PROT_WRITE)
#endif

int memory_map(Arena *arena, uint64_t pages)
{
    size_t bytes = pages * HOLDFAST_PAGE_BYTES;
    void *base = mmap(NULL, bytes, MEMORY_PROTECTION, MAP_SHARED | MAP_NORESERVE, arena->fd, 0);
    if (base == MAP_FAILED)
        return -errno;
    /* The child of a checkpoint reads the memfd; a core with the whole state would help nobody. */
    (void)madvise(base, bytes, MADV_DONTFORK);
    (void)madvise(base, bytes, MADV_DONTDUMP);
#ifdef HOLDFAST_GUARD
    for (size_t i = 0; i < arena->opened_count; i++)
        if (mprotect((uint8_t *)base + arena->opened[i].first * HOLDFAST_PAGE_BYTES,
                     arena->opened[i].pages * HOLDFAST_PAGE_BYTES, PROT_READ | PROT_WRITE) < 0)
            abort();
#endif
    if (arena->base != NULL)
        upkeep_unmap(arena);
    arena->base = base;
    arena->mapped_pages = pages;
    return 0;
}

int memory_extend(Arena *arena, uint64_t pages)
{
    if (pages <= arena->file_pages)
        return 0;
    uint64_t step = MAX(MIB / HOLDFAST_PAGE_BYTES, pages / 8);
    uint64_t target = MAX(pages, MIN(pages + step, arena_header(arena)->counters.capacity_pages));
    if (ftruncate(arena->fd, (off_t)(target * HOLDFAST_PAGE_BYTES)) < 0)
        return -errno;
    arena->file_pages = target;
    return 0;
}
