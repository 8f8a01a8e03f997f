/* Reading configuration files with libinih. The reader hands it one line at a time, because what
 * the library does with odd lines is not what an administrator expects: it would take an indented
 * line for more of the value before it, and cut one that is too long into two. So leading white
 * space goes, and a line that does not fit is an error. The first error ends the reading and is
 * reported with file and line. */
#include "config.h"

#include <dirent.h>
#include <ini.h>
#include <stdio.h>

#include "base/log.h"

#define LINE_MAX_BYTES 4096

typedef struct ConfigFile {
    Config *config;
    const char *path;
    FILE *stream;
    char *line; /* of getline(3) */
    size_t line_capacity;
    int line_number;
    int result; /* 0, or why reading ended early */
    ConfigError *error;
} ConfigFile;

static void file_fail(ConfigFile *file, int line, int r)
{
    file->result = r;
    file->error->line = line;
    snprintf(file->error->file, sizeof(file->error->file), "%s", file->path);
}

/* As fgets(3) does it. */
static char *file_next_line(char *text, int size, void *context)
{
    ConfigFile *file = context;
    const char *start;
    ssize_t length;

    if (file->result < 0)
        return NULL;
    errno = 0;
    length = getline(&file->line, &file->line_capacity, file->stream);
    if (length < 0) {
        if (!feof(file->stream)) {
            int r = errno > 0 ? -errno : -EIO;

            snprintf(file->error->reason, sizeof(file->error->reason), "cannot be read: %s",
                     log_errno(r));
            file_fail(file, 0, r);
        }
        return NULL;
    }
    file->line_number++;
    if (strlen(file->line) != (size_t)length) {
        snprintf(file->error->reason, sizeof(file->error->reason), "the line has a NUL byte");
        file_fail(file, file->line_number, -EINVAL);
        return NULL;
    }
    start = file->line + strspn(file->line, " \t\r\n\v\f");
    if (*start == '#' || *start == ';')
        start = "\n";
    if (strlen(start) >= (size_t)size) {
        snprintf(file->error->reason, sizeof(file->error->reason),
                 "the line is longer than %d bytes", size - 1);
        file_fail(file, file->line_number, -EINVAL);
        return NULL;
    }
    return strcpy(text, start);
}

static int file_take_value(void *context, const char *section, const char *name, const char *value)
{
    ConfigFile *file = context;
    int r;

    if (file->result < 0)
        return 0;
    r = config_set_key(file->config, section, name, value, file->error);
    if (r > 0)
        log_warning("%s:%d: unknown key %s= in section [%s], ignored", file->path,
                    file->line_number, name, section);
    else if (r < 0)
        file_fail(file, file->line_number, r);
    return r >= 0;
}

/* A command line (AfterCommand=) may be longer than the library's 200 bytes. */
static void allow_long_lines(void)
{
#ifdef HAVE_INI_MAX_LINE
    ini_use_stack = false;
    ini_max_line = LINE_MAX_BYTES;
    ini_initial_alloc = LINE_MAX_BYTES;
#endif
}

static int file_read(Config *config, const char *path, bool required, ConfigError *error)
{
    ConfigFile file = {.config = config, .path = path, .error = error};
    int r;

    file.stream = fopen(path, "re");
    if (file.stream == NULL) {
        r = -errno;
        if (r == -ENOENT && !required)
            return 0;
        snprintf(error->reason, sizeof(error->reason), "cannot be opened: %s", log_errno(r));
        file_fail(&file, 0, r);
        return r;
    }
    allow_long_lines();
    r = ini_parse_stream(file_next_line, &file, file_take_value, &file);
    if (file.result == 0 && r > 0) {
        snprintf(error->reason, sizeof(error->reason), "neither [Section] nor Key=VALUE");
        file_fail(&file, r, -EINVAL);
    } else if (file.result == 0 && r < 0) {
        snprintf(error->reason, sizeof(error->reason), "out of memory");
        file_fail(&file, 0, -ENOMEM);
    }
    fclose(file.stream);
    free(file.line);
    return file.result;
}

static int is_drop_in(const struct dirent *entry)
{
    size_t length = strlen(entry->d_name);

    return entry->d_name[0] != '.' && length > strlen(".conf") &&
           strcmp(entry->d_name + length - strlen(".conf"), ".conf") == 0;
}

/* By bytes: alphasort(3) goes by the locale. */
static int by_name(const struct dirent **a, const struct dirent **b)
{
    return strcmp((*a)->d_name, (*b)->d_name);
}

static int drop_ins_read(Config *config, const char *directory, ConfigError *error)
{
    struct dirent **entries;
    int count = scandir(directory, &entries, is_drop_in, by_name);
    int r = 0;

    if (count < 0) {
        r = -errno;
        if (r == -ENOENT)
            return 0;
        *error = (ConfigError){0};
        snprintf(error->file, sizeof(error->file), "%s", directory);
        snprintf(error->reason, sizeof(error->reason), "cannot be read: %s", log_errno(r));
        return r;
    }
    for (int i = 0; i < count; i++) {
        _cleanup_(freep) char *path = NULL;

        if (r == 0 && asprintf(&path, "%s/%s", directory, entries[i]->d_name) < 0) {
            path = NULL;
            r = -ENOMEM;
        }
        if (r == 0)
            r = file_read(config, path, true, error);
        free(entries[i]);
    }
    free(entries);
    return r;
}

int config_read(Config *config, const char *path, bool required, ConfigError *error)
{
    _cleanup_(freep) char *directory = NULL;
    int r;

    *error = (ConfigError){.reason = "out of memory"};
    r = file_read(config, path, required, error);
    if (r < 0)
        return r;
    if (asprintf(&directory, "%s.d", path) < 0) {
        directory = NULL;
        return -ENOMEM;
    }
    return drop_ins_read(config, directory, error);
}

int config_load(Config *config, const char *path, bool required, const char *const *overrides,
                ConfigError *error)
{
    int r = config_read(config, path, required, error);

    for (; r == 0 && overrides != NULL && *overrides != NULL; overrides++)
        r = config_set(config, *overrides, error);
    return r == 0 ? config_check(config, error) : r;
}

const char *config_error_text(const ConfigError *error, char text[static CONFIG_ERROR_TEXT_MAX])
{
    const char *file = error->file[0] != '\0' ? error->file : "configuration";

    if (error->line > 0)
        snprintf(text, CONFIG_ERROR_TEXT_MAX, "%s:%d: %s", file, error->line, error->reason);
    else
        snprintf(text, CONFIG_ERROR_TEXT_MAX, "%s: %s", file, error->reason);
    return text;
}
