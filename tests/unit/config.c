/* Unit tests of config and config-file. */
#include "config.h"

#include <criterion/criterion.h>
#include <criterion/new/assert.h>
#include <criterion/redirect.h>
#include <stdio.h>
#include <sys/stat.h>

#include "base/log.h"
#include "base/machine.h"
#include "lib/temporary.h"

static Config config;
static ConfigError error;
static Temporary *directory;

static void setup(void)
{
    directory = temporary_new();
    config_init(&config);
}

static void teardown(void)
{
    config_deinit(&config);
    directory = temporary_free(directory);
}

TestSuite(config, .init = setup, .fini = teardown);

static int read_text(const char *text)
{
    _cleanup_(freep) char *path = temporary_path(directory, "test.conf");

    temporary_write(directory, "test.conf", text);
    return config_read(&config, path, true, &error);
}

static void assert_refused(const char *text, int line, const char *part_of_reason)
{
    _cleanup_(freep) char *path = temporary_path(directory, "test.conf");

    cr_assert(eq(int, read_text(text), -EINVAL), "%s", text);
    cr_assert(eq(str, error.file, path));
    cr_assert(eq(int, error.line, line));
    cr_assert(ne(ptr, strstr(error.reason, part_of_reason), NULL), "'%s' does not say '%s'",
              error.reason, part_of_reason);
}

static void assert_same_text(const char *a, const char *b)
{
    cr_assert(
        eq(str, (char *)(a != NULL ? a : "(not set)"), (char *)(b != NULL ? b : "(not set)")));
}

static void assert_same(const Config *a, const Config *b)
{
    assert_same_text(a->socket, b->socket);
    cr_assert(eq(uint, a->socket_mode, b->socket_mode));
    assert_same_text(a->socket_group, b->socket_group);
    cr_assert(eq(u64, a->connections_max, b->connections_max));
    cr_assert(eq(u64, a->connections_per_user_max, b->connections_per_user_max));
    cr_assert(eq(u64, a->message_bytes_max, b->message_bytes_max));
    cr_assert(eq(u64, a->buffer_bytes_max, b->buffer_bytes_max));
    assert_same_text(a->create_group, b->create_group);
    cr_assert(eq(u64, a->arenas_max, b->arenas_max));
    cr_assert(eq(u64, a->arena_bytes_max, b->arena_bytes_max));
    cr_assert(eq(u64, a->memory_bytes_max, b->memory_bytes_max));
    cr_assert(eq(int, a->sync, b->sync));
    cr_assert(eq(u64, a->sync_interval_usec, b->sync_interval_usec));
    cr_assert(eq(u64, a->segment_bytes_max, b->segment_bytes_max));
    cr_assert(eq(u64, a->interval_usec, b->interval_usec));
    cr_assert(eq(u64, a->journal_bytes_max, b->journal_bytes_max));
    cr_assert(eq(int, a->at_stop, b->at_stop));
    cr_assert(eq(u64, a->keep, b->keep));
    cr_assert(eq(u64, a->capture_bytes_max, b->capture_bytes_max));
    cr_assert(eq(u64, a->stall_usec, b->stall_usec));
    cr_assert(eq(u64, a->write_bytes_per_sec_max, b->write_bytes_per_sec_max));
    cr_assert(eq(int, a->compression, b->compression));
    assert_same_text(a->after_command, b->after_command);
    cr_assert(eq(u64, a->after_command_timeout_usec, b->after_command_timeout_usec));
}

/* The table of the documentation, once more, independently of the one in the code. */
Test(config, defaults_are_the_documented_ones)
{
    const Config documented = {
        .socket_mode = 0660,
        .connections_max = 4096,
        .connections_per_user_max = 1024,
        .message_bytes_max = 16 * MIB,
        .buffer_bytes_max = 256 * MIB,
        .arenas_max = 256,
        .arena_bytes_max = 16 * GIB,
        .sync = SYNC_ALWAYS,
        .sync_interval_usec = USEC_PER_SEC,
        .segment_bytes_max = 256 * MIB,
        .interval_usec = 900 * USEC_PER_SEC,
        .journal_bytes_max = GIB,
        .at_stop = AT_STOP_AUTO,
        .keep = 4,
        .capture_bytes_max = 64 * MIB,
        .stall_usec = 10 * USEC_PER_SEC,
        .compression = COMPRESSION_NONE,
        .after_command_timeout_usec = 600 * USEC_PER_SEC,
    };

    assert_same(&config, &documented);
    cr_assert(eq(int, config_check(&config, &error), 0));
}

Test(config, every_key_is_read_from_a_file)
{
    Config expected = {
        .socket = (char *)"/run/x.sock",
        .socket_mode = 0600,
        .socket_group = (char *)"wheel",
        .connections_max = 10,
        .connections_per_user_max = 5,
        .message_bytes_max = MIB,
        .buffer_bytes_max = 8 * MIB,
        .create_group = (char *)"makers",
        .arenas_max = 3,
        .arena_bytes_max = 2 * GIB,
        .memory_bytes_max = 4 * GIB,
        .sync = SYNC_INTERVAL,
        .sync_interval_usec = 250000,
        .segment_bytes_max = 32 * MIB,
        .interval_usec = 0,
        .journal_bytes_max = 100 * MIB,
        .at_stop = AT_STOP_NO,
        .keep = 2,
        .capture_bytes_max = MIB,
        .stall_usec = 1500000,
        .write_bytes_per_sec_max = 50 * MIB,
        .compression = COMPRESSION_ZSTD,
        .after_command = (char *)"/usr/bin/copy --to=\"a = b\" x",
        .after_command_timeout_usec = 90 * USEC_PER_SEC,
    };

    cr_assert(eq(int,
                 read_text("[Server]\nSocket=/run/x.sock\nSocketMode=0600\nSocketGroup=wheel\n"
                           "ConnectionsMax=10\nConnectionsPerUserMax=5\nMessageBytesMax=1M\n"
                           "BufferBytesMax=8M\n"
                           "[Arenas]\nCreateGroup=makers\nArenasMax=3\nArenaBytesMax=2G\n"
                           "MemoryBytesMax=4G\n"
                           "[Journal]\nSync=interval\nSyncIntervalSec=250ms\nSegmentBytesMax=32M\n"
                           "[Checkpoint]\nIntervalSec=0\nJournalBytesMax=100M\nAtStop=no\nKeep=2\n"
                           "CaptureBytesMax=1M\nStallSec=1.5\nWriteBytesPerSecMax=50M\n"
                           "Compression=zstd\nAfterCommand=/usr/bin/copy --to=\"a = b\" x\n"
                           "AfterCommandTimeoutSec=1.5min\n"),
                 0),
              "%s", error.reason);
    assert_same(&config, &expected);
    cr_assert(eq(sz, config_key_count(), 24), "a new key belongs into assert_same");
}

Test(config, a_wrong_value_names_file_line_and_key)
{
    assert_refused("[Checkpoint]\n\n# comment\nKeep=many\n", 4,
                   "Checkpoint.Keep=many is not a number");
    assert_refused("[Checkpoint]\nKeep=0\n", 2, "Checkpoint.Keep=0 is not a value from 1 to 1024");
    assert_refused("[Journal]\nSync=sometimes\n", 2, "is not always, interval or never");
    assert_refused("[Journal]\nSync=Always\n", 2, "is not always, interval or never");
    assert_refused("[Server]\nSocketMode=0888\n", 2, "Server.SocketMode=0888 is not an octal mode");
    assert_refused("[Server]\nSocketMode=1777\n", 2, "from 0 to 0777");
    assert_refused("[Server]\nMessageBytesMax=17M\n", 2, "from 4K to 16M");
    assert_refused("[Server]\nSocket=here.sock\n", 2, "is not an absolute path");
    assert_refused("[Checkpoint]\nStallSec=soon\n", 2, "is not a time in seconds");
    assert_refused("[Arenas]\nArenaBytesMax=99999999999999999999\n", 2, "from 1M to 16T");
    assert_refused("[Checkpoint]\nKeep 4\n", 2, "neither [Section] nor Key=VALUE");
    assert_refused("[Checkpoint\nKeep=4\n", 1, "neither [Section] nor Key=VALUE");
}

Test(config, the_first_error_is_the_one_reported)
{
    assert_refused("[Checkpoint]\nKeep=0\nStallSec=x\nKeep=y\n", 2, "Keep=0");
}

Test(config, a_wrong_value_leaves_its_key_as_it_was)
{
    assert_refused("[Checkpoint]\nKeep=7\nKeep=0\n", 3, "Keep=0");
    cr_assert(eq(u64, config.keep, 7));
}

Test(config, the_last_of_several_values_holds_and_an_empty_one_is_the_default)
{
    cr_assert(
        eq(int, read_text("[Checkpoint]\nKeep=7\n[Server]\nSocket=/a\n[Checkpoint]\nKeep=9\n"), 0));
    cr_assert(eq(u64, config.keep, 9));
    cr_assert(eq(str, config.socket, (char *)"/a"));
    cr_assert(eq(int, read_text("[Checkpoint]\nKeep=\n[Server]\nSocket=\n"), 0));
    cr_assert(eq(u64, config.keep, 4));
    cr_assert(eq(ptr, config.socket, NULL));
}

/* The library alone would append an indented line to the value before it. */
Test(config, white_space_comments_and_a_missing_newline_are_fine)
{
    cr_assert(
        eq(int,
           read_text("\r\n  # x\n; y=\n [Checkpoint] \r\n\tKeep = 6 \r\n  StallSec=3s ; why\n   \n"
                     "   IntervalSec=1h"),
           0),
        "%d: %s", error.line, error.reason);
    cr_assert(eq(u64, config.keep, 6));
    cr_assert(eq(u64, config.stall_usec, 3 * USEC_PER_SEC));
    cr_assert(eq(u64, config.interval_usec, 3600 * USEC_PER_SEC));
}

Test(config, a_line_too_long_is_refused_and_not_cut)
{
    _cleanup_(freep) char *text = NULL;
    char filler[8192];

    memset(filler, 'x', sizeof(filler) - 1);
    filler[0] = '/';
    filler[sizeof(filler) - 1] = '\0';
    cr_assert(gt(
        int, asprintf(&text, "# %s\n[Checkpoint]\nKeep=5\nAfterCommand=%s\n", filler, filler), 0));
    assert_refused(text, 4, "the line is longer than");
    cr_assert(eq(u64, config.keep, 5));
    cr_assert(eq(ptr, config.after_command, NULL));
}

#ifdef HAVE_INI_MAX_LINE
Test(config, a_long_command_is_read_whole)
{
    _cleanup_(freep) char *text = NULL;
    char command[3000];

    memset(command, 'x', sizeof(command) - 1);
    command[0] = '/';
    command[sizeof(command) - 1] = '\0';
    cr_assert(gt(int, asprintf(&text, "[Checkpoint]\nAfterCommand=%s\n", command), 0));
    read_text(text);
    cr_assert(eq(str, config.after_command, command));
}
#endif

Test(config, a_command_is_an_absolute_path_and_words)
{
    static const char *const good[] = {"/bin/true", "  '/bin/a b' \"c d\" e\\\"", ""};
    static const char *const bad[] = {"true", "./true", "/bin/true 'a", "/bin/true \\",
                                      "'' /bin/true"};
    _cleanup_(freep) char *option = NULL;

    for (size_t i = 0; i < ARRAY_SIZE(good) + ARRAY_SIZE(bad); i++) {
        bool is_good = i < ARRAY_SIZE(good);

        freep(&option);
        cr_assert(gt(int,
                     asprintf(&option, "Checkpoint.AfterCommand=%s",
                              is_good ? good[i] : bad[i - ARRAY_SIZE(good)]),
                     0));
        cr_assert(eq(int, config_set(&config, option, &error), is_good ? 0 : -EINVAL), "%s",
                  option);
    }
    cr_assert(eq(str, error.reason,
                 (char *)"Checkpoint.AfterCommand='' /bin/true is not an absolute path and words, "
                         "with all quotes closed"));
}

Test(config, a_nul_byte_is_refused)
{
    _cleanup_(freep) char *path = temporary_path(directory, "test.conf");
    FILE *file = fopen(path, "w");

    fwrite("[Checkpoint]\nKe\0ep=5\n", 1, 21, file);
    fclose(file);
    cr_assert(eq(int, config_read(&config, path, true, &error), -EINVAL));
    cr_assert(eq(int, error.line, 2));
}

Test(config, unknown_keys_and_sections_are_warned_of_and_ignored)
{
    char text[1024] = "";
    FILE *caught;

    cr_redirect_stderr();
    log_setup(LOG_INFO);
    cr_assert(
        eq(int, read_text("Stray=1\n[Checkpoint]\nKeap=5\nKeep=6\n[Colours]\nSky=blue\n"), 0));
    cr_assert(eq(u64, config.keep, 6));
    fflush(stderr);
    caught = cr_get_redirected_stderr();
    for (size_t at = 0; at < sizeof(text) - 1; at++) {
        int byte = fgetc(caught);

        text[at] = (char)byte;
        if (strstr(text, "Sky=") != NULL && byte == '\n')
            break;
    }
    cr_assert(ne(ptr, strstr(text, "test.conf:1: unknown key Stray="), NULL), "%s", text);
    cr_assert(
        ne(ptr, strstr(text, "test.conf:3: unknown key Keap= in section [Checkpoint]"), NULL));
    cr_assert(ne(ptr, strstr(text, "test.conf:6: unknown key Sky= in section [Colours]"), NULL));
    cr_assert(eq(ptr, strstr(text, "Keep"), NULL));
}

Test(config, drop_ins_are_read_in_the_order_of_their_names)
{
    _cleanup_(freep) char *path = temporary_path(directory, "main.conf");
    _cleanup_(freep) char *drop_ins = temporary_path(directory, "main.conf.d");

    cr_assert(eq(int, mkdir(drop_ins, 0700), 0));
    temporary_write(directory, "main.conf.d/20-b.conf", "[Checkpoint]\nKeep=20\n");
    temporary_write(directory, "main.conf.d/10-a.conf", "[Checkpoint]\nKeep=10\nStallSec=4s\n");
    temporary_write(directory, "main.conf.d/30.conf.bak", "[Checkpoint]\nKeep=30\n");
    temporary_write(directory, "main.conf.d/.40.conf", "[Checkpoint]\nKeep=40\n");
    cr_assert(eq(int, config_read(&config, path, false, &error), 0), "drop-ins need no main file");
    cr_assert(eq(u64, config.keep, 20));
    cr_assert(eq(u64, config.stall_usec, 4 * USEC_PER_SEC));

    temporary_write(directory, "main.conf.d/15.conf", "[Checkpoint]\nKeep=x\n");
    cr_assert(eq(int, config_read(&config, path, false, &error), -EINVAL));
    cr_assert(ne(ptr, strstr(error.file, "main.conf.d/15.conf"), NULL));
    cr_assert(eq(int, error.line, 2));
}

Test(config, a_missing_file_is_fine_unless_required)
{
    _cleanup_(freep) char *path = temporary_path(directory, "none.conf");

    cr_assert(eq(int, config_read(&config, path, false, &error), 0));
    cr_assert(eq(int, config_read(&config, path, true, &error), -ENOENT));
    cr_assert(eq(str, error.file, path));
    cr_assert(ne(ptr, strstr(error.reason, "cannot be opened"), NULL));
    cr_assert(eq(int, config_read(&config, directory->path, true, &error), -EISDIR));
}

Test(config, options_set_keys_and_refuse_unknown_ones)
{
    static const char *const wrong[] = {
        "Checkpoint.Keep",  "Keep=3", "Checkpoint.Keap=3", "checkpoint.Keep=3", ".=", "", "=",
        "Checkpoint.Keep=0"};

    cr_assert(eq(int, config_set(&config, "Checkpoint.Keep=3", &error), 0));
    cr_assert(eq(u64, config.keep, 3));
    cr_assert(
        eq(int, config_set(&config, "Checkpoint.AfterCommand=/bin/x --y=z.w ; q", &error), 0));
    cr_assert(eq(str, config.after_command, (char *)"/bin/x --y=z.w ; q"));
    cr_assert(eq(int, config_set(&config, "Checkpoint.AfterCommand=", &error), 0));
    cr_assert(eq(ptr, config.after_command, NULL));
    for (size_t i = 0; i < ARRAY_SIZE(wrong); i++) {
        cr_assert(eq(int, config_set(&config, wrong[i], &error), -EINVAL), "%s", wrong[i]);
        cr_assert(eq(str, error.file, (char *)"--option"));
        cr_assert(ne(str, error.reason, (char *)""));
    }
    cr_assert(eq(u64, config.keep, 3));
}

Test(config, limits_that_contradict_each_other_are_refused)
{
    config.buffer_bytes_max = config.message_bytes_max - 1;
    cr_assert(eq(int, config_check(&config, &error), -EINVAL));
    cr_assert(ne(ptr, strstr(error.reason, "BufferBytesMax"), NULL));
    config.buffer_bytes_max = config.message_bytes_max;
    cr_assert(eq(int, config_check(&config, &error), 0));
}

Test(config, apply_takes_what_may_change_and_names_what_may_not)
{
    const char *ignored[8];
    Config other;

    config_init(&other);
    cr_assert(eq(int, config_set(&config, "Checkpoint.AfterCommand=/bin/old", &error), 0));
    cr_assert(eq(int, config_set(&config, "Server.Socket=/run/old", &error), 0));
    cr_assert(eq(int, config_set(&other, "Checkpoint.AfterCommand=/bin/new", &error), 0));
    cr_assert(eq(int, config_set(&other, "Server.Socket=/run/new", &error), 0));
    cr_assert(eq(int, config_set(&other, "Checkpoint.Keep=9", &error), 0));
    cr_assert(eq(int, config_set(&other, "Journal.Sync=never", &error), 0));

    cr_assert(eq(sz, config_apply(&config, &other, ignored, ARRAY_SIZE(ignored)), 2));
    cr_assert(eq(str, (char *)ignored[0], (char *)"Server.Socket"));
    cr_assert(eq(str, (char *)ignored[1], (char *)"Journal.Sync"));
    cr_assert(eq(str, config.socket, (char *)"/run/old"));
    cr_assert(eq(int, config.sync, SYNC_ALWAYS));
    cr_assert(eq(str, config.after_command, (char *)"/bin/new"));
    cr_assert(eq(u64, config.keep, 9));
    config_deinit(&other);

    /* The same values again: nothing is ignored. */
    config_init(&other);
    cr_assert(eq(int, config_set(&other, "Server.Socket=/run/old", &error), 0));
    cr_assert(eq(sz, config_apply(&config, &other, ignored, ARRAY_SIZE(ignored)), 0));
    cr_assert(eq(u64, config.keep, 4));
    cr_assert(eq(ptr, config.after_command, NULL));
    config_deinit(&other);
}

/* The installed file, line by line: sections and keys in the order of the table, each commented out
 * with its default. */
Test(config, the_installed_file_shows_every_key_with_its_default)
{
    FILE *file = fopen(INSTALLED_CONFIG, "re");
    char line[512], section[64] = "", expected[128];
    _cleanup_(freep) char *uncommented = NULL;
    size_t next = 0, size = 0;
    FILE *out = open_memstream(&uncommented, &size);

    cr_assert(ne(ptr, file, NULL), INSTALLED_CONFIG);
    while (fgets(line, sizeof(line), file) != NULL) {
        if (line[0] == '[') {
            sscanf(line, "[%63[^]]", section);
            fputs(line, out);
        } else if (line[0] == '#' && line[1] != ' ' && line[1] != '\n') {
            line[strcspn(line, "\n")] = '\0';
            cr_assert(lt(sz, next, config_key_count()), "too many: %s", line);
            snprintf(expected, sizeof(expected), "%s=%s", config_key_name(next),
                     config_key_default(next));
            cr_assert(eq(int, strncmp(expected, section, strlen(section)), 0), "%s in [%s]", line,
                      section);
            cr_assert(eq(str, line + 1, expected + strlen(section) + 1));
            fprintf(out, "%s\n", line + 1);
            next++;
        } else {
            cr_assert(line[0] == '#' || line[0] == '\n', "not commented out: %s", line);
        }
    }
    fclose(file);
    fclose(out);
    cr_assert(eq(sz, next, config_key_count()));

    /* Uncommented, it changes nothing: not what was never set, and it resets what was. */
    for (size_t i = 0; i < 2; i++) {
        Config defaults;

        cr_assert(eq(int, read_text(uncommented), 0), "line %d: %s", error.line, error.reason);
        config_init(&defaults);
        assert_same(&config, &defaults);
        config_deinit(&defaults);
        cr_assert(eq(int, config_set(&config, "Checkpoint.Keep=9", &error), 0));
        cr_assert(eq(int, config_set(&config, "Server.Socket=/x", &error), 0));
    }
}

Test(config, memory_follows_the_least_limit_on_the_way_up)
{
    _cleanup_(freep) char *group = temporary_path(directory, "a.slice");
    _cleanup_(freep) char *below = temporary_path(directory, "a.slice/b.service");
    static const char membership[] = "12:cpu:/x\n0::/a.slice/b.service\n";

    cr_assert(eq(int, mkdir(group, 0700), 0));
    cr_assert(eq(int, mkdir(below, 0700), 0));
    cr_assert(eq(u64, machine_cgroup_limit(membership, directory->path), UINT64_MAX));
    temporary_write(directory, "a.slice/b.service/memory.max", "max\n");
    cr_assert(eq(u64, machine_cgroup_limit(membership, directory->path), UINT64_MAX));
    temporary_write(directory, "a.slice/memory.max", "1073741824\n");
    cr_assert(eq(u64, machine_cgroup_limit(membership, directory->path), GIB));
    temporary_write(directory, "a.slice/b.service/memory.max", "536870912\n");
    cr_assert(eq(u64, machine_cgroup_limit(membership, directory->path), 512 * MIB));
    temporary_write(directory, "memory.max", "4096\n");
    cr_assert(eq(u64, machine_cgroup_limit(membership, directory->path), 4096));
    cr_assert(eq(u64, machine_cgroup_limit("0::/", directory->path), 4096));
    cr_assert(eq(u64, machine_cgroup_limit("1:memory:/a.slice\n", directory->path), UINT64_MAX));
    cr_assert(eq(u64, machine_cgroup_limit("", directory->path), UINT64_MAX));
}

Test(config, memory_default_is_three_quarters_of_what_there_is)
{
    uint64_t ram = (uint64_t)sysconf(_SC_PHYS_PAGES) * (uint64_t)sysconf(_SC_PAGESIZE);

    cr_assert(gt(u64, config_memory_default(), 0));
    cr_assert(le(u64, config_memory_default(), ram / 4 * 3));
    cr_assert(eq(u64, config_memory_default(), machine_memory() / 4 * 3));
}
