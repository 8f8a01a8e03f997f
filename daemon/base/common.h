/* What every file of the daemon uses: cleanup attributes, moves of ownership, embedded structs,
 * byte ranges, rounding. */
#pragma once

#include <assert.h>
#include <errno.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define _cleanup_(function) __attribute__((cleanup(function)))
#define _printf_(text, first) __attribute__((__format__(__printf__, text, first)))
#define _likely_(x) __builtin_expect(!!(x), 1)
#define _unlikely_(x) __builtin_expect(!!(x), 0)

#define ARRAY_SIZE(array) (sizeof(array) / sizeof((array)[0]))
#define MIN(a, b) ((a) < (b) ? (a) : (b))
#define MAX(a, b) ((a) > (b) ? (a) : (b))
/* alignment: a power of two. */
#define ALIGN_DOWN(x, alignment) ((x) & ~((typeof(x))(alignment)-1))
#define ALIGN_UP(x, alignment) (((x) + (alignment)-1) & ~((typeof(x))(alignment)-1))
#define DIVIDE_UP(x, y) (((x) + (y)-1) / (y))

/* The struct that embeds this member, by a pointer to the member. */
#define CONTAINER_OF(pointer, type, member)                                                        \
    ((type *)(void *)((char *)(pointer)-offsetof(type, member)))

/* Moves a pointer or a descriptor out of a variable that a cleanup attribute watches. */
#define TAKE_PTR(pointer)                                                                          \
    ({                                                                                             \
        typeof(pointer) taken_ = (pointer);                                                        \
        (pointer) = NULL;                                                                          \
        taken_;                                                                                    \
    })
#define TAKE_FD(fd)                                                                                \
    ({                                                                                             \
        int taken_ = (fd);                                                                         \
        (fd) = -1;                                                                                 \
        taken_;                                                                                    \
    })

#define KIB (UINT64_C(1) << 10)
#define MIB (UINT64_C(1) << 20)
#define GIB (UINT64_C(1) << 30)
#define USEC_PER_SEC UINT64_C(1000000)
#define USEC_PER_MSEC UINT64_C(1000)

/* A range of bytes that belongs to somebody else; not terminated. */
typedef struct Bytes {
    const char *data;
    size_t size;
} Bytes;

#define BYTES(pointer, length) ((Bytes){.data = (const char *)(pointer), .size = (length)})
#define BYTES_OF(literal) ((Bytes){.data = (literal), .size = sizeof(literal) - 1})

static inline Bytes bytes_of_text(const char *text)
{
    return BYTES(text, strlen(text));
}

static inline bool bytes_equal(Bytes a, Bytes b)
{
    return a.size == b.size && (a.size == 0 || memcmp(a.data, b.data, a.size) == 0);
}

/* Of ASCII, whatever the locale. */
static inline bool is_alphanumeric(char c)
{
    return (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9');
}

static inline void freep(void *pointer)
{
    free(*(void **)pointer);
}

/* Closes *fd if it is one; keeps errno. */
static inline void closep(int *fd)
{
    if (*fd >= 0) {
        int saved = errno;
        close(*fd);
        errno = saved;
    }
}
