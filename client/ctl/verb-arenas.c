/* arenas, create, change, drop. */
#include <grp.h>
#include <pwd.h>

#include "base/parse.h"
#include "print.h"
#include "show.h"

static const char *owner_name(uint32_t uid, char text[static 16])
{
    const struct passwd *user = getpwuid(uid);

    if (user != NULL)
        return user->pw_name;
    snprintf(text, 16, "%u", uid);
    return text;
}

static const char *group_name(uint32_t gid, char text[static 16])
{
    const struct group *group = getgrgid(gid);

    if (group != NULL)
        return group->gr_name;
    snprintf(text, 16, "%u", gid);
    return text;
}

enum {
    ARENA_NAME,
    ARENA_ENTRIES,
    ARENA_USED,
    ARENA_MAX,
    ARENA_REVISION,
    ARENA_OWNER,
    ARENA_GROUP,
    ARENA_MODE
};

static const Column arena_columns[] = {
    [ARENA_NAME] = {.name = "ARENA"},
    [ARENA_ENTRIES] = {.name = "ENTRIES", .right = true},
    [ARENA_USED] = {.name = "USED", .right = true},
    [ARENA_MAX] = {.name = "MAX", .right = true},
    [ARENA_REVISION] = {.name = "REVISION", .right = true},
    [ARENA_OWNER] = {.name = "OWNER"},
    [ARENA_GROUP] = {.name = "GROUP"},
    [ARENA_MODE] = {.name = "MODE"},
};

static void show_arena(Table *table, const HoldfastArena *arena)
{
    char number[FORMAT_NUMBER_MAX], bytes[FORMAT_BYTES_MAX], name[16];

    table_row(table);
    table_set(table, ARENA_NAME, arena->name);
    table_set(table, ARENA_OWNER, owner_name(arena->uid, name));
    table_set(table, ARENA_GROUP, group_name(arena->gid, name));
    if (!arena->readable) {
        for (size_t i = ARENA_ENTRIES; i <= ARENA_REVISION; i++)
            table_set(table, i, "-");
        table_set(table, ARENA_MODE, "-");
        return;
    }
    table_set(table, ARENA_ENTRIES, format_number(number, arena->entries));
    table_set(table, ARENA_USED, format_bytes(bytes, arena->used_bytes));
    table_set(table, ARENA_MAX, format_bytes(bytes, arena->max_bytes));
    table_set(table, ARENA_REVISION, format_number(number, arena->revision));
    snprintf(name, sizeof(name), "%04o", arena->mode);
    table_set(table, ARENA_MODE, name);
}

int show_arenas(const Ctl *ctl)
{
    HoldfastArena **arenas;
    size_t count;
    Table *table;
    int r = holdfast_list_arenas(ctl->connection, &arenas, &count);

    if (r != 0)
        return failure_call(ctl, r);
    r = table_new(ctl, arena_columns, ARRAY_SIZE(arena_columns), &table);
    if (r == 0) {
        for (size_t i = 0; i < count; i++)
            show_arena(table, arenas[i]);
        r = table_finish(table);
    }
    holdfast_arenas_free(arenas);
    return r < 0 ? failure_call(ctl, r) : STATUS_OK;
}

int verb_arenas(Ctl *ctl, int count, char **arguments)
{
    (void)count;
    (void)arguments;
    if (ctl->options.json != JSON_OFF)
        return show_raw(ctl, "ListArenas", "{}", "arenas");
    return show_arenas(ctl);
}

/* The same call with the arena printed as the daemon tells it. */
static int set_arena_json(Ctl *ctl, const char *method, const char *name)
{
    const HoldfastArenaOptions *options = &ctl->options.arena_options;
    json_t *parameters = json_pack("{s:s}", "name", name);

    if (options->set & HOLDFAST_SET_MAX_BYTES)
        json_object_set_new(parameters, "maxBytes", json_integer((json_int_t)options->max_bytes));
    if (options->set & HOLDFAST_SET_MODE)
        json_object_set_new(parameters, "mode", json_integer(options->mode));
    if (options->set & HOLDFAST_SET_GROUP)
        json_object_set_new(parameters, "gid", json_integer(options->gid));
    return show_tree(ctl, method, parameters, "arena");
}

int verb_create(Ctl *ctl, int count, char **arguments)
{
    (void)count;
    if (ctl->options.json != JSON_OFF)
        return set_arena_json(ctl, "CreateArena", arguments[0]);
    int r = holdfast_create_arena(ctl->connection, arguments[0], &ctl->options.arena_options, NULL);
    return r != 0 ? failure_call(ctl, r) : STATUS_OK;
}

int verb_change(Ctl *ctl, int count, char **arguments)
{
    (void)count;
    if (ctl->options.arena_options.set == 0)
        return failure(STATUS_USAGE, "change needs --max-bytes, --mode or --group");
    if (ctl->options.json != JSON_OFF)
        return set_arena_json(ctl, "ChangeArena", arguments[0]);
    int r = holdfast_change_arena(ctl->connection, arguments[0], &ctl->options.arena_options, NULL);
    return r != 0 ? failure_call(ctl, r) : STATUS_OK;
}

int verb_drop(Ctl *ctl, int count, char **arguments)
{
    int r = holdfast_drop_arena(ctl->connection, arguments[0]);

    (void)count;
    return r != 0 ? failure_call(ctl, r) : STATUS_OK;
}
