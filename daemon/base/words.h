/* A command line in one text, split into words. */
#pragma once

#include "base/common.h"

/* Words are parted by white space. '...' takes everything as it is; "..." and text without quotes
 * take the character after a backslash as it is. Nothing else means anything: no variables, no
 * patterns, no shell. Returns how many there are; *ret is ended by NULL and freed with one free().
 * -EINVAL: a quote is not closed, or nothing follows a backslash. -ENOMEM. */
int words_split(const char *text, char ***ret);
