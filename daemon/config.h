/* The configuration: one table of keys (section, name, parser, offset), read from INI files and from --option. */
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
    uint64_t memory_bytes_max; /* 0: 75 per cent of RAM or of the cgroup's limit, see config_memory_default */

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

/* Where a value was wrong. */
typedef struct ConfigError {
    char file[256];
    int line;
    char reason[256];
} ConfigError;

/* Defaults. */
void config_init(Config *config);
void config_deinit(Config *config);

/* Reads a file and, with drop_ins, PATH.d/ (all .conf files) behind it in the order of their names. A missing file is fine unless required.
 * -EINVAL with *error filled where something is wrong; unknown keys are warned of. */
int config_read(Config *config, const char *path, bool required, ConfigError *error);
/* One --option=Section.Key=VALUE. */
int config_set(Config *config, const char *option, ConfigError *error);
/* Cross-checks after everything was read (limits that contradict each other). */
int config_check(const Config *config, ConfigError *error);

/* Bounds of every key are in the table. Names of keys whose values differ and which cannot change while the daemon runs, as
 * "Section.Key", ended by NULL, into ignored (room for count); those keep their old values in *into. */
size_t config_apply(Config *into, Config *from, const char **ignored, size_t count);

/* 75 per cent of RAM or of the memory limit of the own cgroup, whichever is less. */
uint64_t config_memory_default(void);
