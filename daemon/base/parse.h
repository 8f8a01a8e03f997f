/* Text to numbers, strictly: the whole text or -EINVAL, -ERANGE where it does not fit. And numbers
 * to text, for people. */
#pragma once

#include "base/common.h"

/* Decimal digits with an optional suffix K, M, G, T (powers of 1024): "64M" is 67108864. */
int parse_size(const char *text, uint64_t *ret);
/* Digits (a fraction is allowed) with a unit us, ms, s, min, h, d; without one, seconds: "15min" is
 * 900000000 us. */
int parse_duration(const char *text, uint64_t *ret_usec);
int parse_unsigned(const char *text, uint64_t *ret);
/* Octal digits, at most 0777. */
int parse_mode(const char *text, unsigned *ret);

/* "12,345": into text. */
#define FORMAT_NUMBER_MAX 32
const char *format_number(char text[static FORMAT_NUMBER_MAX], uint64_t number);
/* "2.1 GiB", "810 B": into text. */
#define FORMAT_BYTES_MAX 32
const char *format_bytes(char text[static FORMAT_BYTES_MAX], uint64_t bytes);
/* "0.3 ms", "4 min", "2 d 3 h": into text. */
#define FORMAT_DURATION_MAX 48
const char *format_duration(char text[static FORMAT_DURATION_MAX], uint64_t usec);
