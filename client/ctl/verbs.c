/* The table of verbs; its order is that of --help. */
#include "ctl.h"

#define ARENA_OPTIONS (OPTION_MAX_BYTES | OPTION_MODE | OPTION_GROUP)
#define ENTRY_OPTIONS (OPTION_REVISION | OPTION_IF_REVISION)

/* clang-format off */
const Verb verbs[] = {
    {.group = "Service Commands", .name = "status", .help = "Show how the daemon is",
     .paged = true, .run = verb_status},
    {.name = "top", .help = "Watch it: rates, latencies, memory, checkpoint",
     .options = OPTION_INTERVAL | OPTION_ONCE, .run = verb_top},
    {.name = "metrics", .help = "Print what it counts and measures, as OpenMetrics text",
     .run = verb_metrics},
    {.name = "reload", .help = "Have the daemon read its configuration again",
     .run = verb_reload},

    {.group = "Arena Commands", .name = "arenas", .help = "List the arenas",
     .paged = true, .run = verb_arenas},
    {.name = "create", .arguments = "ARENA", .help = "Create an arena",
     .minimum = 1, .maximum = 1, .options = ARENA_OPTIONS, .run = verb_create},
    {.name = "change", .arguments = "ARENA", .help = "Change an arena's size, mode or group",
     .minimum = 1, .maximum = 1, .options = ARENA_OPTIONS, .run = verb_change},
    {.name = "drop", .arguments = "ARENA", .help = "Drop an arena with all that is in it",
     .minimum = 1, .maximum = 1, .run = verb_drop},

    {.group = "State Commands", .name = "get", .arguments = "ARENA KEY...", .help = "Print values",
     .minimum = 2, .maximum = -1, .options = OPTION_REVISION, .run = verb_get},
    {.name = "put", .arguments = "ARENA KEY [JSON|-]",
     .help = "Set a value, read from stdin if not given",
     .minimum = 2, .maximum = 3, .options = ENTRY_OPTIONS, .run = verb_put},
    {.name = "delete", .arguments = "ARENA KEY", .help = "Delete an entry",
     .minimum = 2, .maximum = 2, .options = ENTRY_OPTIONS, .run = verb_delete},
    {.name = "merge", .arguments = "ARENA KEY [JSON|-]",
     .help = "Change members of a value (RFC 7396)",
     .minimum = 2, .maximum = 3, .options = ENTRY_OPTIONS, .run = verb_merge},
    {.name = "increment", .arguments = "ARENA KEY [BY]", .help = "Add to an integer",
     .minimum = 2, .maximum = 3, .options = ENTRY_OPTIONS, .run = verb_increment},
    {.name = "list", .arguments = "ARENA", .help = "List entries",
     .minimum = 1, .maximum = 1, .options = OPTION_PREFIX | OPTION_KEYS, .paged = true,
     .run = verb_list},
    {.name = "apply", .arguments = "ARENA [FILE|-]",
     .help = "Apply operations, JSON lines, all or none",
     .minimum = 1, .maximum = 2, .options = OPTION_REVISION, .run = verb_apply},
    {.name = "import", .arguments = "ARENA [FILE|-]", .help = "Put entries read as JSON lines",
     .minimum = 1, .maximum = 2, .options = OPTION_KEY, .run = verb_import},
    {.name = "export", .arguments = "ARENA", .help = "Print all entries as JSON lines",
     .minimum = 1, .maximum = 1, .options = OPTION_PREFIX, .run = verb_export},

    {.group = "Checkpoint Commands", .name = "checkpoint", .arguments = "[ARENA...]",
     .help = "Take a checkpoint",
     .maximum = -1, .options = OPTION_LABEL | OPTION_NO_WAIT, .run = verb_checkpoint},
    {.name = "checkpoints", .help = "List checkpoints",
     .paged = true, .run = verb_checkpoints},
    {.name = "cancel", .arguments = "ID", .help = "Cancel a running checkpoint",
     .minimum = 1, .maximum = 1, .run = verb_cancel},
    {.name = "verify", .arguments = "ID", .help = "Read a checkpoint's image back and check it",
     .minimum = 1, .maximum = 1, .run = verb_verify},
    {.name = "remove", .arguments = "ID", .help = "Delete a checkpoint",
     .minimum = 1, .maximum = 1, .run = verb_remove},

    {.group = "Image Commands (no daemon needed)", .name = "image",
     .arguments = "verify|info|export FILE",
     .help = "Check, describe or print an image",
     .minimum = 2, .maximum = 2, .options = OPTION_ARENA, .offline = true, .paged = true,
     .run = verb_image},

    {.group = "Raw Commands", .name = "call", .arguments = "METHOD [JSON]", .help = "Call a method",
     .minimum = 1, .maximum = 2, .options = OPTION_MORE, .run = verb_call},
    {.name = "introspect", .arguments = "[INTERFACE]", .help = "Print an interface's description",
     .maximum = 1, .paged = true, .run = verb_introspect},
    {0},
};
/* clang-format on */

const Verb *verb_find(const char *name)
{
    for (const Verb *verb = verbs; verb->name != NULL; verb++)
        if (strcmp(verb->name, name) == 0)
            return verb;
    return NULL;
}

const char *verb_usage(const Verb *verb, char text[static VERB_USAGE_MAX])
{
    snprintf(text, VERB_USAGE_MAX, "%s%s%s", verb->name, verb->arguments != NULL ? " " : "",
             verb->arguments != NULL ? verb->arguments : "");
    return text;
}
