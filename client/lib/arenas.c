/* The calls that make, change, drop, list and open arenas. */
#include <errno.h>
#include <string.h>
#include <unistd.h>

#include "record.h"

#define FIELD(member, name_, type_, ...) HF_FIELD(HoldfastArena, member, name_, type_, __VA_ARGS__)

static const HfField fields[] = {
    FIELD(name, "name", HF_FIELD_TEXT, .required = true),
    FIELD(entries, "entries", HF_FIELD_UNSIGNED),
    FIELD(used_bytes, "usedBytes", HF_FIELD_UNSIGNED),
    FIELD(max_bytes, "maxBytes", HF_FIELD_UNSIGNED),
    FIELD(revision, "revision", HF_FIELD_UNSIGNED),
    FIELD(uid, "uid", HF_FIELD_UNSIGNED32),
    FIELD(gid, "gid", HF_FIELD_UNSIGNED32),
    FIELD(mode, "mode", HF_FIELD_UNSIGNED32),
    FIELD(created_usec, "createdUSec", HF_FIELD_UNSIGNED),
};

const HfRecordType hf_arena_type = {sizeof(HoldfastArena), fields,
                                    sizeof(fields) / sizeof(fields[0])};

/* An arena that the caller may not read comes without its sizes; one that he may has room, if
 * nothing else. */
static void note_readable(HoldfastArena *arena)
{
    arena->readable = arena->max_bytes > 0;
}

void holdfast_arena_free(HoldfastArena *arena)
{
    hf_record_free(&hf_arena_type, arena);
}

void holdfast_arenas_free(HoldfastArena **arenas)
{
    hf_records_free(&hf_arena_type, (void **)arenas);
}

static const char opening[] = "{\"name\":";

static void append_options(HfOutput *out, const HoldfastArenaOptions *options)
{
    unsigned set = options != NULL ? options->set : 0;

    if (set & HOLDFAST_SET_MAX_BYTES) {
        hf_output_literal(out, ",\"maxBytes\":");
        hf_output_unsigned(out, options->max_bytes);
    }
    if (set & HOLDFAST_SET_MODE) {
        hf_output_literal(out, ",\"mode\":");
        hf_output_unsigned(out, options->mode);
    }
    if (set & HOLDFAST_SET_GROUP) {
        hf_output_literal(out, ",\"gid\":");
        hf_output_unsigned(out, options->gid);
    }
}

/* The arena of a reply that has one, where it is wanted. */
static int give_arena(HoldfastConnection *connection, const HfReply *reply,
                      HoldfastArena **ret_arena)
{
    HoldfastArena *arena;
    int r = hf_reply_record(connection, reply, "arena", &hf_arena_type, (void **)&arena);

    if (r != 0)
        return r;
    note_readable(arena);
    if (ret_arena != NULL)
        *ret_arena = arena;
    else
        holdfast_arena_free(arena);
    return 0;
}

static int set_arena(HoldfastConnection *connection, const char *method, const char *name,
                     const HoldfastArenaOptions *options, HoldfastArena **ret_arena)
{
    HfReply reply;
    int r = hf_call_begin_named(connection, method, 0, opening, name);

    if (r < 0)
        return r;
    append_options(&connection->out, options);
    hf_output_literal(&connection->out, "}");
    r = hf_call_finish(connection, &reply);
    return r == 0 ? give_arena(connection, &reply, ret_arena) : r;
}

int holdfast_create_arena(HoldfastConnection *connection, const char *name,
                          const HoldfastArenaOptions *options, HoldfastArena **ret_arena)
{
    return set_arena(connection, "CreateArena", name, options, ret_arena);
}

int holdfast_change_arena(HoldfastConnection *connection, const char *name,
                          const HoldfastArenaOptions *options, HoldfastArena **ret_arena)
{
    return set_arena(connection, "ChangeArena", name, options, ret_arena);
}

int holdfast_drop_arena(HoldfastConnection *connection, const char *name)
{
    HfReply reply;
    int r = hf_call_begin_named(connection, "DropArena", 0, opening, name);

    if (r < 0)
        return r;
    hf_output_literal(&connection->out, "}");
    return hf_call_finish(connection, &reply);
}

int holdfast_open_arena(HoldfastConnection *connection, const char *name, int *ret_fd,
                        HoldfastArena **ret_arena)
{
    HfReply reply;
    int r = hf_call_begin_named(connection, "OpenArena", 0, opening, name);

    if (r < 0)
        return r;
    hf_output_literal(&connection->out, "}");
    connection->takes_fds = true;
    r = hf_call_finish(connection, &reply);
    int fd = connection->passed_fd;
    connection->passed_fd = -1;
    /* Where nothing else can come, nothing else is awaited. */
    if (connection->outstanding == 0)
        connection->takes_fds = false;
    if (r == 0 && fd < 0)
        r = hf_kill(connection, -EBADMSG);
    if (r == 0)
        r = give_arena(connection, &reply, ret_arena);
    if (r == 0 && ret_fd != NULL)
        *ret_fd = fd;
    else if (fd >= 0)
        close(fd);
    return r;
}

int holdfast_list_arenas(HoldfastConnection *connection, HoldfastArena ***ret_arenas,
                         size_t *ret_count)
{
    HoldfastArena **arenas;
    size_t count;
    HfReply reply;
    int r = hf_call_simple(connection, "ListArenas", &reply);

    if (r == 0)
        r = hf_reply_records(connection, &reply, "arenas", &hf_arena_type, (void ***)&arenas,
                             &count);
    if (r != 0)
        return r;
    for (size_t i = 0; i < count; i++)
        note_readable(arenas[i]);
    if (ret_count != NULL)
        *ret_count = count;
    if (ret_arenas != NULL)
        *ret_arenas = arenas;
    else
        holdfast_arenas_free(arenas);
    return 0;
}
