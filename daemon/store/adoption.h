/* What an earlier process left in the service manager's descriptor store: its control memfd and its
 * arenas, to be taken over as they are.
 *
 * An arena that is at rest has every record of it that is in the journal or in the control memfd:
 * the record is in a batch before the change counter is even again, and the header of a dropped one
 * says so. So nothing needs to be replayed into it. The control memfd's table tells whether these
 * are all arenas there are.
 *
 * The way: adoption_add for each, adoption_begin, recovery_run, and, when the journal is open
 * again, adoption_discard and adoption_deinit. */
#pragma once

#include "arena/arena.h"
#include "journal/control.h"

/* Without a minute of service between them; then something in there may be what ends us. */
#define ADOPTIONS_MAX 3

typedef struct StoredArena {
    Identity identity; /* as it is called in the store */
    int fd;
    bool ours;      /* it can be trusted to be nobody else's, and it is what it is called */
    bool dropped;   /* its header says so: not taken, and not told */
    Arena *arena;   /* taken over, until adoption_insert */
    bool converted; /* arena is a copy: the memory is of another layout version */
    bool in_place;  /* its memory serves on */
} StoredArena;

typedef struct Adoption {
    Control *control; /* NULL: nothing is adopted. Taken by whoever opens the journal with it */
    StoredArena *arenas;
    size_t count;
} Adoption;

/* Owns fd. -ENOMEM: closed. */
int adoption_add(Adoption *adoption, const Identity *identity, int fd);
/* Takes over the control memfd, which is owned, if it fits the journal and may be used once more;
 * writes out what its halves hold. Says in the log where it does not: nothing is adopted then. */
void adoption_begin(Adoption *adoption, int control_fd, int journal_directory_fd);
/* The highest revision that an arena or the control memfd has. */
uint64_t adoption_revision(const Adoption *adoption);
/* How many arenas' memory serves on. */
size_t adoption_in_place(const Adoption *adoption);
/* What is ours and was not taken over is marked dropped and given back, so that no later process
 * takes it for what it was. Before anything is served. */
void adoption_discard(Adoption *adoption, const ArenaContext *context);
/* Frees everything but the arenas that serve; what was not discarded is left as it was found, for
 * the next start. */
void adoption_deinit(Adoption *adoption);
