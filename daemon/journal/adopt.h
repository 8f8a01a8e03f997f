/* Going on where an earlier process was stopped, with the control memfd that it left: whether the
 * journal is still where that process had it, and where that is, without reading the records. */
#pragma once

#include "journal/control.h"
#include "journal/replay.h"

/* Whether the journal ends where the control memfd says, as far as files tell: lineage, the segment
 * and the last batch in it; nothing was begun behind it since. -ESTALE: it does not, *ret_why says
 * in what; other negative errnos: could not be read. Reads a few sectors of each segment. */
int journal_adopt_check(const Control *control, int directory_fd, const char **ret_why);
/* After control_write_out, in place of journal_replay: where the journal ends, for journal_open.
 * Not while the control memfd says condemned: then the files must be read. */
int journal_adopt_position(const Control *control, int directory_fd, JournalPosition *ret);
/* After control_write_out: whether a replay came to the place that the control memfd knows. */
bool journal_adopt_agrees(const Control *control, const JournalPosition *position);
