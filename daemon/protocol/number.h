/* Numbers of JSON text, token by token: their grammar as a table, and whether they fit. For this
 * folder alone. */
#pragma once

#include "base/common.h"

/* How far into a number a text is. */
typedef enum NumberState {
    NUMBER_START,
    NUMBER_MINUS,
    NUMBER_ZERO,    /* may end here */
    NUMBER_INTEGER, /* may end here */
    NUMBER_POINT,
    NUMBER_FRACTION, /* may end here */
    NUMBER_E,
    NUMBER_SIGN,
    NUMBER_EXPONENT, /* may end here */
} NumberState;

/* Moves over bytes of a number from `at` on; returns the first byte that can't follow, or end. */
const char *number_scan(NumberState *state, const char *at, const char *end);

/* Whether a number may end in this state. */
static inline bool number_complete(NumberState state)
{
    return state == NUMBER_ZERO || state == NUMBER_INTEGER || state == NUMBER_FRACTION ||
           state == NUMBER_EXPONENT;
}

static inline bool number_is_real(NumberState state)
{
    return state > NUMBER_INTEGER;
}

/* The value of an integer's text ("-0" is 0); false where it is none, or does not fit into 64 bits
 * signed. */
bool number_integer(Bytes text, int64_t *ret);
/* Whether a number's text stays finite when it is rounded to the nearest double. */
bool number_finite(Bytes text);
