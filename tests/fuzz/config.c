/* Fuzz target: text as a configuration file, and each of its lines as an --option. What is taken
 * must pass the cross-checks or be told why not; what is refused must say so in words. What the
 * file said must be what its text, read once more, says. */
#include "config.h"

#include <stdio.h>

#include "base/file.h"
#include "base/log.h"

#define INPUT_MAX (16 * KIB)

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void must(bool holds, const char *what)
{
    if (holds)
        return;
    fprintf(stderr, "%s\n", what);
    abort();
}

static bool same_text(const char *a, const char *b)
{
    return a == b || (a != NULL && b != NULL && strcmp(a, b) == 0);
}

/* Of each kind of value one or two. */
static bool same(const Config *a, const Config *b)
{
    return same_text(a->socket, b->socket) && same_text(a->socket_group, b->socket_group) &&
           same_text(a->create_group, b->create_group) &&
           same_text(a->after_command, b->after_command) && a->socket_mode == b->socket_mode &&
           a->message_bytes_max == b->message_bytes_max && a->interval_usec == b->interval_usec &&
           a->sync == b->sync && a->at_stop == b->at_stop && a->compression == b->compression &&
           a->keep == b->keep && a->stall_usec == b->stall_usec;
}

static int read_file(Config *config, const char *path, ConfigError *error)
{
    int r;

    config_init(config);
    r = config_read(config, path, true, error);
    must(r == 0 || r == -EINVAL, "config_read");
    must(r == 0 || error->reason[0] != '\0', "config_read gives no reason");
    if (r == 0 && config_check(config, error) < 0)
        must(error->reason[0] != '\0', "config_check gives no reason");
    return r;
}

static void read_twice(const uint8_t *data, size_t size)
{
    _cleanup_(closep) int fd = -1;
    ConfigError error;
    Config once, again;
    char path[64];
    int r;

    must(file_memfd("configuration", 0, &fd) == 0, "no memfd");
    must(file_write_at(fd, data, size, 0) == 0, "write");
    (void)snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
    r = read_file(&once, path, &error);
    must(read_file(&again, path, &error) == r && (r < 0 || same(&once, &again)),
         "not the same twice");
    config_deinit(&once);
    config_deinit(&again);
}

static void set_lines(const uint8_t *data, size_t size)
{
    const char *at = (const char *)data, *end = at + size;
    ConfigError error = {0};
    Config config;

    config_init(&config);
    while (at < end) {
        const char *stop = memchr(at, '\n', (size_t)(end - at));
        char *option = strndup(at, (size_t)((stop != NULL ? stop : end) - at));
        int r;

        must(option != NULL, "no memory");
        r = config_set(&config, option, &error);
        must(r == 0 || (r == -EINVAL && error.reason[0] != '\0'), "config_set");
        free(option);
        at = stop != NULL ? stop + 1 : end;
    }
    config_deinit(&config);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size > INPUT_MAX)
        return 0;
    log_set_level(LOG_EMERG);
    read_twice(data, size);
    set_lines(data, size);
    return 0;
}
