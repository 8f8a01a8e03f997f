/* See lines.h. */
#include "lines.h"

#include <fcntl.h>
#include <sys/stat.h>

#include "../lib/text.h"

#define READ_BYTES (256 * KIB)

int lines_read_all(int fd, size_t maximum, char **ret, size_t *ret_size)
{
    size_t capacity = 64 * KIB, size = 0;
    char *data = malloc(capacity);

    for (;;) {
        if (data == NULL)
            return -ENOMEM;
        ssize_t n = read(fd, data + size, capacity - size - 1);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0 || size + (size_t)n > maximum) {
            int error = n < 0 ? errno : EMSGSIZE;
            free(data);
            return -error;
        }
        size += (size_t)n;
        if (n == 0)
            break;
        if (capacity - size - 1 < 4096) {
            char *larger = realloc(data, capacity * 2);
            if (larger == NULL)
                free(data);
            data = larger;
            capacity *= 2;
        }
    }
    data[size] = '\0';
    *ret = data;
    *ret_size = size;
    return 0;
}

int lines_open(Lines *lines, const char *path)
{
    bool standard = path == NULL || strcmp(path, "-") == 0;
    struct stat status;

    *lines = (Lines){.fd = STDIN_FILENO, .owned = !standard, .name = standard ? "stdin" : path};
    if (!standard) {
        lines->fd = open(path, O_RDONLY | O_CLOEXEC);
        if (lines->fd < 0)
            return -errno;
    }
    if (fstat(lines->fd, &status) == 0 && S_ISREG(status.st_mode)) {
        off_t at = lseek(lines->fd, 0, SEEK_CUR);
        lines->bytes_total = at >= 0 && status.st_size > at ? (uint64_t)(status.st_size - at) : 0;
    }
    return 0;
}

void lines_close(Lines *lines)
{
    if (lines->owned && lines->fd >= 0)
        close(lines->fd);
    free(lines->data);
    *lines = (Lines){.fd = -1};
}

/* Reads more behind the bytes that no line was made of yet. */
static int fill(Lines *lines)
{
    size_t live = lines->end - lines->begin;

    if (live > HOLDFAST_MESSAGE_MAX)
        return -EMSGSIZE;
    if (lines->begin > 0)
        memmove(lines->data, lines->data + lines->begin, live);
    lines->begin = 0;
    lines->end = live;
    lines->scanned = live;
    if (lines->capacity - live < READ_BYTES) {
        size_t capacity = MAX(2 * READ_BYTES, live * 2 + READ_BYTES);
        char *data = realloc(lines->data, capacity);
        if (data == NULL)
            return -ENOMEM;
        lines->data = data;
        lines->capacity = capacity;
    }
    for (;;) {
        ssize_t n = read(lines->fd, lines->data + live, lines->capacity - live);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return -errno;
        lines->end += (size_t)n;
        lines->finished = n == 0;
        return 0;
    }
}

/* The next line, whatever it holds. 1 or 0. */
static int take_line(Lines *lines, HoldfastText *ret)
{
    for (;;) {
        char *end = NULL;
        if (lines->end > lines->scanned)
            end = memchr(lines->data + lines->scanned, '\n', lines->end - lines->scanned);
        if (end == NULL && lines->finished && lines->end > lines->begin)
            end = lines->data + lines->end;
        if (end != NULL) {
            char *begin = lines->data + lines->begin;
            *ret = (HoldfastText){begin, (size_t)(end - begin)};
            lines->begin = MIN((size_t)(end - lines->data) + 1, lines->end);
            lines->scanned = lines->begin;
            lines->number++;
            lines->bytes_read += ret->size + 1;
            return 1;
        }
        if (lines->finished)
            return 0;
        int r = fill(lines);
        if (r < 0)
            return r;
    }
}

int lines_next(Lines *lines, HoldfastText *ret)
{
    for (;;) {
        int r = take_line(lines, ret);
        if (r <= 0)
            return r;
        for (size_t i = 0; i < ret->size; i++)
            if (!hf_text_space(ret->data[i]))
                return 1;
    }
}
