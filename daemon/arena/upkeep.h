/* What an arena has done for it in the housekeeper's thread: pages populated ahead, holes punched,
 * mappings undone. It outlives the arena until its tasks are done. */
#pragma once

#include "arena/internal.h"

int upkeep_new(Arena *arena);
/* The arena goes: unmaps and closes, punches everything first where it is dropped. */
void upkeep_free(Arena *arena, bool dropped);
/* Punches the memory of an arena that nobody has open here, and closes it. */
void upkeep_discard(const ArenaContext *context, int fd);
/* Unmaps what the arena has mapped now, since it has another mapping. */
void upkeep_unmap(Arena *arena);
/* Populates pages that exist already, in the background; for an arena that was taken over. */
void upkeep_touch(Arena *arena);
/* Populates pages behind the high-water mark when few are left. Cheap when there is nothing to do.
 */
void upkeep_populate(Arena *arena);
/* After taking over: runs that were being punched when the last process ended are free runs again.
 */
int upkeep_recover(Arena *arena);
