/* What the service manager keeps for the next process: the control memfd and the arenas.
 *
 * Start: what was handed over is sorted by name into the adoption; what nobody knows is closed and
 * taken out of the store. After recovery the store is made to hold what serves: first names go that
 * are used no more, then what is new is put in. Later each arena is put in when it was created and
 * taken out when it was dropped.
 *
 * Nothing depends on the store having done as it was told: what it hands out is checked. */

#include <stdio.h>
#include <sysexits.h>

#include "base/log.h"
#include "manager-private.h"

#define PREFIX "holdfast-"
#define NAME_BYTES (sizeof(PREFIX) + 2 * sizeof(Identity))

static const char *arena_stored_name(const Identity *identity, char name[static NAME_BYTES])
{
    char *end = stpcpy(name, PREFIX);

    for (size_t i = 0; i < sizeof(*identity); i++)
        end += snprintf(end, 3, "%02x", identity->bytes[i]);
    return name;
}

static int digit(char c)
{
    return c >= '0' && c <= '9' ? c - '0' : c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

static bool parse_name(const char *name, Identity *ret)
{
    const char *text = name + strlen(PREFIX);

    if (strncmp(name, PREFIX, strlen(PREFIX)) != 0 || strlen(text) != 2 * sizeof(*ret))
        return false;
    for (size_t i = 0; i < sizeof(*ret); i++) {
        int high = digit(text[2 * i]), low = digit(text[2 * i + 1]);

        if (high < 0 || low < 0)
            return false;
        ret->bytes[i] = (uint8_t)(high << 4 | low);
    }
    return true;
}

/* --- the start */

static int take_one(Manager *manager, ActivationDescriptor *descriptor, int *control_fd)
{
    Identity identity;

    if (strcmp(descriptor->name, CONTROL_NAME) == 0) {
        manager->controls_kept++;
        if (*control_fd < 0)
            *control_fd = TAKE_FD(descriptor->fd);
        closep(&descriptor->fd);
        return 0;
    }
    if (parse_name(descriptor->name, &identity))
        return adoption_add(&manager->adoption, &identity, TAKE_FD(descriptor->fd));
    log_warning("a descriptor handed over is not known, it is closed: %s", descriptor->name);
    closep(&descriptor->fd);
    descriptor_store_remove(manager->descriptors, descriptor->name);
    return 0;
}

int stored_take(Manager *manager)
{
    Activation *activation = &manager->activation;
    int control_fd = -1;
    int r = descriptor_store_new(&manager->descriptors);

    if (r == 0)
        r = activation_take(activation);
    for (size_t i = 0; r == 0 && i < activation->other_count; i++)
        r = take_one(manager, &activation->others[i], &control_fd);
    if (r < 0) {
        closep(&control_fd);
        return manager_fail(EX_OSERR, "descriptors handed over", r);
    }
    if (control_fd >= 0)
        adoption_begin(&manager->adoption, control_fd, manager->journal_fd);
    else if (manager->adoption.count > 0)
        log_warning("arenas were handed over, but no control memfd: nothing is adopted");
    return 0;
}

/* The control memfd's table says what exists. */
static void settle_control(Manager *manager)
{
    Control *control = manager->control;

    control_clear_arenas(control);
    for (size_t i = 0; i < store_count(manager->store); i++)
        control_add_arena(control, arena_identity(store_at(manager->store, i)->arena));
    control_arenas_complete(control);
}

/* Names whose memory is not used go, so that what is put in under them is all there is. */
static void remove_unused(Manager *manager)
{
    const Adoption *adoption = &manager->adoption;
    char name[NAME_BYTES];

    if (manager->controls_kept > 0 && !manager->control_kept)
        descriptor_store_remove(manager->descriptors, CONTROL_NAME);
    for (size_t i = 0; i < adoption->count; i++)
        if (!adoption->arenas[i].in_place)
            descriptor_store_remove(manager->descriptors,
                                    arena_stored_name(&adoption->arenas[i].identity, name));
}

/* Kept already, and not gone with another one of that name. */
static bool is_kept(const Adoption *adoption, const Identity *identity)
{
    bool kept = false;

    for (size_t i = 0; i < adoption->count; i++) {
        if (!identity_equal(&adoption->arenas[i].identity, identity))
            continue;
        if (!adoption->arenas[i].in_place)
            return false;
        kept = true;
    }
    return kept;
}

static void put_missing(Manager *manager)
{
    char name[NAME_BYTES];

    if (manager->control_kept)
        descriptor_store_proven(manager->descriptors);
    else
        descriptor_store_put(manager->descriptors, CONTROL_NAME, manager->control->fd);
    for (size_t i = 0; i < store_count(manager->store); i++) {
        const Arena *arena = store_at(manager->store, i)->arena;
        const Identity *identity = arena_identity(arena);

        if (!is_kept(&manager->adoption, identity))
            descriptor_store_put(manager->descriptors, arena_stored_name(identity, name),
                                 arena_fd(arena));
    }
}

void stored_settle(Manager *manager)
{
    ArenaContext context = {.pool = manager->pool, .housekeeper = manager->housekeeper};

    /* First what is not used is made unusable: a control memfd that a later process gets together
     * with it knows arenas of the same identities. (TO_DISCARD in
     * tests/crash/models/publish.pml.) */
    adoption_discard(&manager->adoption, &context);
    settle_control(manager);
    remove_unused(manager);
    put_missing(manager);
    adoption_deinit(&manager->adoption);
    descriptor_store_background(manager->descriptors, manager->housekeeper);
}

/* --- the service */

static void keep_created(void *context, const Identity *identity, int fd)
{
    Manager *manager = context;
    char name[NAME_BYTES];

    descriptor_store_put(manager->descriptors, arena_stored_name(identity, name), fd);
}

static void keep_dropped(void *context, const Identity *identity)
{
    Manager *manager = context;
    char name[NAME_BYTES];

    descriptor_store_remove(manager->descriptors, arena_stored_name(identity, name));
}

StoreKeeper stored_keeper(Manager *manager)
{
    return (StoreKeeper){.created = keep_created, .dropped = keep_dropped, .context = manager};
}
