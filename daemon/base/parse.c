/* Strict parsing of configuration values and options, and the formats that people read. Nothing is
 * guessed: white space, signs and trailing text are errors, and a number that does not fit is
 * -ERANGE, not clipped. */
#include "base/parse.h"

#include <inttypes.h>
#include <stdio.h>

/* Reads the digits at text (at least one) into ret and returns where they end; NULL with *ret_error
 * set otherwise. */
static const char *parse_digits(const char *text, uint64_t *ret, int *ret_error)
{
    uint64_t value = 0;
    const char *p = text;

    for (; *p >= '0' && *p <= '9'; p++) {
        if (__builtin_mul_overflow(value, UINT64_C(10), &value) ||
            __builtin_add_overflow(value, (uint64_t)(*p - '0'), &value)) {
            *ret_error = -ERANGE;
            return NULL;
        }
    }
    if (p == text) {
        *ret_error = -EINVAL;
        return NULL;
    }
    *ret = value;
    return p;
}

int parse_unsigned(const char *text, uint64_t *ret)
{
    const char *end;
    uint64_t value;
    int error;

    end = parse_digits(text, &value, &error);
    if (end == NULL)
        return error;
    if (*end != '\0')
        return -EINVAL;
    *ret = value;
    return 0;
}

int parse_size(const char *text, uint64_t *ret)
{
    static const char suffixes[] = "KMGT";
    const char *end, *suffix;
    uint64_t value;
    int error;

    end = parse_digits(text, &value, &error);
    if (end == NULL)
        return error;
    if (*end != '\0') {
        suffix = strchr(suffixes, *end);
        if (suffix == NULL || end[1] != '\0')
            return -EINVAL;
        if (__builtin_mul_overflow(value, UINT64_C(1) << (10 * (suffix - suffixes + 1)), &value))
            return -ERANGE;
    }
    *ret = value;
    return 0;
}

typedef struct DurationUnit {
    const char *name;
    uint64_t usec;
} DurationUnit;

static const DurationUnit duration_units[] = {
    {"", USEC_PER_SEC},          {"us", 1},
    {"ms", USEC_PER_MSEC},       {"s", USEC_PER_SEC},
    {"min", 60 * USEC_PER_SEC},  {"h", 3600 * USEC_PER_SEC},
    {"d", 86400 * USEC_PER_SEC},
};

static const DurationUnit *duration_unit_find(const char *name)
{
    for (size_t i = 0; i < ARRAY_SIZE(duration_units); i++)
        if (strcmp(duration_units[i].name, name) == 0)
            return &duration_units[i];
    return NULL;
}

/* Reads what follows the point as millionths; digits behind the sixth are below a microsecond's
 * share of any unit that matters and only checked. */
static const char *parse_millionths(const char *text, uint64_t *ret)
{
    uint64_t value = 0;
    unsigned digits = 0;
    const char *p = text;

    for (; *p >= '0' && *p <= '9'; p++) {
        if (digits < 6) {
            value = value * 10 + (uint64_t)(*p - '0');
            digits++;
        }
    }
    if (p == text)
        return NULL;
    for (; digits < 6; digits++)
        value *= 10;
    *ret = value;
    return p;
}

int parse_duration(const char *text, uint64_t *ret_usec)
{
    uint64_t whole, millionths = 0, usec;
    const DurationUnit *unit;
    const char *end;
    int error;

    end = parse_digits(text, &whole, &error);
    if (end == NULL)
        return error;
    if (*end == '.') {
        end = parse_millionths(end + 1, &millionths);
        if (end == NULL)
            return -EINVAL;
    }
    unit = duration_unit_find(end);
    if (unit == NULL)
        return -EINVAL;
    if (__builtin_mul_overflow(whole, unit->usec, &usec) ||
        __builtin_add_overflow(usec, millionths * unit->usec / 1000000, &usec))
        return -ERANGE;
    *ret_usec = usec;
    return 0;
}

int parse_mode(const char *text, unsigned *ret)
{
    unsigned value = 0;

    if (*text == '\0')
        return -EINVAL;
    for (const char *p = text; *p != '\0'; p++) {
        if (*p < '0' || *p > '7')
            return -EINVAL;
        value = value * 8 + (unsigned)(*p - '0');
        if (value > 0777)
            return -ERANGE;
    }
    *ret = value;
    return 0;
}

const char *format_number(char text[static FORMAT_NUMBER_MAX], uint64_t number)
{
    char digits[24];
    int length = snprintf(digits, sizeof(digits), "%" PRIu64, number);
    size_t at = 0;

    for (int i = 0; i < length; i++) {
        if (i > 0 && (length - i) % 3 == 0)
            text[at++] = ',';
        text[at++] = digits[i];
    }
    text[at] = '\0';
    return text;
}

const char *format_bytes(char text[static FORMAT_BYTES_MAX], uint64_t bytes)
{
    static const char *const units[] = {"KiB", "MiB", "GiB", "TiB", "PiB", "EiB"};
    double value = (double)bytes;
    size_t unit = 0;

    if (bytes < KIB) {
        snprintf(text, FORMAT_BYTES_MAX, "%" PRIu64 " B", bytes);
        return text;
    }
    value /= 1024;
    /* 1023.95 would be printed as 1024.0. */
    while (value >= 1023.95 && unit + 1 < ARRAY_SIZE(units)) {
        value /= 1024;
        unit++;
    }
    snprintf(text, FORMAT_BYTES_MAX, "%.1f %s", value, units[unit]);
    return text;
}

/* "2 d 3 h": two units of which the second is left out where it is 0. */
static void format_pair(char *text, uint64_t value, uint64_t part, const char *large,
                        const char *small)
{
    if (value % part == 0)
        snprintf(text, FORMAT_DURATION_MAX, "%" PRIu64 " %s", value / part, large);
    else
        snprintf(text, FORMAT_DURATION_MAX, "%" PRIu64 " %s %" PRIu64 " %s", value / part, large,
                 value % part, small);
}

const char *format_duration(char text[static FORMAT_DURATION_MAX], uint64_t usec)
{
    const uint64_t msec = USEC_PER_MSEC, sec = USEC_PER_SEC;

    if (usec < 100)
        snprintf(text, FORMAT_DURATION_MAX, "%" PRIu64 " us", usec);
    else if (usec < 10 * msec - msec / 20)
        snprintf(text, FORMAT_DURATION_MAX, "%.1f ms", (double)usec / (double)msec);
    else if (usec < sec - msec / 2)
        snprintf(text, FORMAT_DURATION_MAX, "%" PRIu64 " ms", (usec + msec / 2) / msec);
    else if (usec < 10 * sec - sec / 20)
        snprintf(text, FORMAT_DURATION_MAX, "%.1f s", (double)usec / (double)sec);
    else if (usec < 60 * sec - sec / 2)
        snprintf(text, FORMAT_DURATION_MAX, "%" PRIu64 " s", (usec + sec / 2) / sec);
    else if (usec < 3600 * sec - sec / 2)
        format_pair(text, (usec + sec / 2) / sec, 60, "min", "s");
    else if (usec < 86400 * sec - 30 * sec)
        format_pair(text, (usec + 30 * sec) / (60 * sec), 60, "h", "min");
    else
        format_pair(text, usec / (3600 * sec) + (usec % (3600 * sec) >= 1800 * sec), 24, "d", "h");
    return text;
}
