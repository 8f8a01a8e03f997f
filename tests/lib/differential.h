/* Holds daemon/protocol against jansson on the same texts: for the fuzz target, and for the unit
 * test that mutates a corpus. */
#pragma once

#include "base/common.h"

typedef struct Differential Differential;

int differential_new(Differential **ret);
Differential *differential_free(Differential *differential);

/* Accepted or rejected alike, whole and in pieces; if accepted, walked, unescaped and compacted to
 * the tree that jansson makes of it. NULL, or what differs.
 * pieces: seeds where the text is cut. accepted: how many texts both accepted, counted up; may be
 * NULL. */
const char *differential_text(Differential *differential, Bytes text, uint64_t pieces,
                              size_t *accepted);
/* json_merge against a merge of trees, where both texts are valid. NULL, or what differs. */
const char *differential_merge(Differential *differential, Bytes target, Bytes patch);
