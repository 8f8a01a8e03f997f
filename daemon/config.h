/* The configuration: one table of keys (section, name, parser, offset), read from INI files and
 * from --option. */
#pragma once

#include <sys/types.h>

#include "base/common.h"

typedef enum SyncPolicy {
    SYNC_ALWAYS,
    SYNC_INTERVAL,
    SYNC_NEVER,
} SyncPolicy;

typedef enum AtStop {
    AT_STOP_AUTO,
    AT_STOP_YES,
    AT_STOP_NO,
} AtStop;

typedef enum Compression {
    COMPRESSION_NONE,
    COMPRESSION_ZSTD,
} Compression;

/* Strings are owned by the struct; NULL: not set. Sizes in bytes, durations in microseconds. */
typedef struct Config {
    char *socket;
    unsigned socket_mode;
    char *socket_group;
    uint64_t connections_max;
    uint64_t connections_per_user_max;
    uint64_t message_bytes_max;
    uint64_t buffer_bytes_max;

    char *create_group;
    uint64_t arenas_max;
    uint64_t arena_bytes_max;
    uint64_t memory_bytes_max; /* 0: 75 per cent of RAM or of the cgroup's limit, see
                                  config_memory_default */

    SyncPolicy sync;
    uint64_t sync_interval_usec;
    uint64_t segment_bytes_max;

    uint64_t interval_usec;
    uint64_t journal_bytes_max;
    AtStop at_stop;
    uint64_t keep;
    uint64_t capture_bytes_max;
    uint64_t stall_usec;
    uint64_t write_bytes_per_sec_max;
    Compression compression;
    char *after_command;
    uint64_t after_command_timeout_usec;
} Config;

/* What was wrong, and where. line: 0 where the whole file or an option is meant. */
typedef struct ConfigError {
    char file[256];
    int line;
    char reason[256];
} ConfigError;

/* Defaults. */
void config_init(Config *config);
void config_deinit(Config *config);

/* Reads a file and then the drop-ins, all *.conf files of PATH.d/ in the order of their names. A
 * missing file is fine unless required, a missing directory always. An empty value means the
 * default, of values given twice the last one holds, unknown keys are warned of. Returns 0, or a
 * negative errno with *error filled: -EINVAL for what is written in the file; *config may then be
 * half read. */
int config_read(Config *config, const char *path, bool required, ConfigError *error);
/* One --option=Section.Key=VALUE. Here an unknown key is an error. */
int config_set(Config *config, const char *option, ConfigError *error);
/* Cross-checks after everything was read (limits that contradict each other). */
int config_check(const Config *config, ConfigError *error);

/* All of that in its order: the file and its drop-ins, each of overrides (texts for config_set,
 * ended by NULL; NULL: none), the checks. *config holds the defaults before. What it returns:
 * see config_read. */
int config_load(Config *config, const char *path, bool required, const char *const *overrides,
                ConfigError *error);
/* "FILE:LINE: REASON", less what is not known: into text. */
#define CONFIG_ERROR_TEXT_MAX 600
const char *config_error_text(const ConfigError *error, char text[static CONFIG_ERROR_TEXT_MAX]);

/* Takes over from *from what may change while the daemon runs. Names of keys whose values differ
 * and which cannot change, as "Section.Key" (constants), go into ignored, which has room for count;
 * those keep their old values in *into. Returns how many. *from is the caller's to deinit. */
size_t config_apply(Config *into, Config *from, const char **ignored, size_t count);

/* 75 per cent of RAM or of the memory limit of the own cgroup, whichever is less. */
uint64_t config_memory_default(void);

/* The table of keys, for the tests that hold files and manual against it: how many there are, the
 * name of each, as "Section.Key", and its default as it would be written. */
size_t config_key_count(void);
const char *config_key_name(size_t index);
const char *config_key_default(size_t index);

/* Sets a key found in a file. Returns 1 where there is none of that name, else as config_set. For
 * config-file alone. */
int config_set_key(Config *config, const char *section, const char *name, const char *value,
                   ConfigError *error);
