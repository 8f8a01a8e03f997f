/* Running the command after an image.
 *
 * The normal way: command_run -> the housekeeper's thread spawns it (command-run.h) -> the loop
 * hears of its end by a pidfd -> what waits is next.
 *
 * What can go wrong: it cannot be started, fails, or takes too long (SIGTERM, ten seconds later
 * SIGKILL, to the whole group). All of it is told once. The group is signalled only while its
 * leader is not reaped: until then its number is nobody else's. */
#include "service/command.h"

#include <event2/event.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <sys/pidfd.h>
#include <sys/wait.h>

#include "base/clock.h"
#include "base/log.h"
#include "base/parse.h"
#include "base/words.h"
#include "service/command-run.h"

#define TERMINATED_USEC (10 * USEC_PER_SEC) /* from SIGTERM to SIGKILL */
#define STOP_MSEC 2000                      /* the same at the stop of the daemon */
#define KILLED_MSEC 1000

typedef enum State {
    STATE_IDLE,
    STATE_STARTING, /* in the housekeeper's thread */
    STATE_RUNNING,
    STATE_TERMINATED, /* was sent SIGTERM */
    STATE_KILLED,     /* was sent SIGKILL */
    STATES,
} State;

#define MOVE(state) (1u << (state))

static const unsigned moves[STATES] = {
    [STATE_IDLE] = MOVE(STATE_STARTING),
    [STATE_STARTING] = MOVE(STATE_RUNNING) | MOVE(STATE_IDLE),
    [STATE_RUNNING] = MOVE(STATE_TERMINATED) | MOVE(STATE_KILLED) | MOVE(STATE_IDLE),
    [STATE_TERMINATED] = MOVE(STATE_KILLED) | MOVE(STATE_IDLE),
    [STATE_KILLED] = MOVE(STATE_IDLE),
};

struct Command {
    struct event_base *base;
    Housekeeper *housekeeper;
    CommandHost host;
    char *line; /* NULL: none */
    uint64_t timeout_usec;

    State state;
    bool stopped;
    CommandRun *run;     /* unless idle */
    CommandRun *waiting; /* NULL: none */
    bool timed_out;
    bool any; /* `last` means something */
    CommandState last;
    uint64_t started; /* monotonic */
    int pidfd;
    struct event *exit_event;
    struct event *timer;
};

static void move(Command *command, State state)
{
    assert(moves[command->state] & MOVE(state));
    command->state = state;
}

/* It ran, or will not run: the image may go. */
static void release(Command *command, CommandRun *run)
{
    command->host.released(command->host.context, run->checkpoint);
    command_run_free(run);
}

/* --- its end */

static void next(Command *command);

static void set_timer(Command *command, uint64_t usec)
{
    const struct timeval wait = clock_timeval(usec);

    event_add(command->timer, &wait);
}

/* It is over; the next one may start. */
static void over(Command *command)
{
    event_del(command->timer);
    if (command->exit_event != NULL)
        event_free(command->exit_event);
    command->exit_event = NULL;
    closep(&command->pidfd);
    command->pidfd = -1;
    command->last.pid = 0;
    command->last.ended = true;
    command->last.duration_usec = clock_monotonic() - command->started;
    move(command, STATE_IDLE);
    release(command, TAKE_PTR(command->run));
}

static void log_end(const Command *command)
{
    const CommandState *last = &command->last;
    uint64_t usec = clock_monotonic() - command->started;
    char took[FORMAT_DURATION_MAX], number[LOG_NUMBER_MAX];
    const char *why = command->timed_out ? ", since it took too long" : "";
    const LogField fields[] = {{"CHECKPOINT_ID", last->checkpoint},
                               {"DURATION_USEC", log_number(number, usec)},
                               {NULL, NULL}};

    format_duration(took, usec);
    if (last->signal > 0)
        log_event(LOG_WARNING, NULL, fields,
                  "command after checkpoint %s, pid %d: killed by SIG%s after %s%s",
                  last->checkpoint, (int)last->pid, sigabbrev_np(last->signal) ?: "?", took, why);
    else
        log_event(last->exit_status == 0 && !command->timed_out ? LOG_INFO : LOG_WARNING, NULL,
                  fields, "command after checkpoint %s, pid %d: ended with status %d after %s%s",
                  last->checkpoint, (int)last->pid, last->exit_status, took, why);
}

/* What it left behind goes with it where it was told to end. */
static void reap(Command *command)
{
    int status = 0;

    if (command->state != STATE_RUNNING)
        (void)kill(-command->last.pid, SIGKILL);
    while (waitpid(command->last.pid, &status, 0) < 0 && errno == EINTR)
        ;
    if (WIFSIGNALED(status))
        command->last.signal = WTERMSIG(status);
    else
        command->last.exit_status = WEXITSTATUS(status);
    log_end(command);
    over(command);
}

static void on_exit_of_command(evutil_socket_t fd, short what, void *context)
{
    Command *command = context;

    (void)fd;
    (void)what;
    reap(command);
    next(command);
}

/* state: STATE_TERMINATED or STATE_KILLED. */
static void end(Command *command, State state)
{
    (void)kill(-command->last.pid, state == STATE_TERMINATED ? SIGTERM : SIGKILL);
    move(command, state);
}

static void on_timer(evutil_socket_t fd, short what, void *context)
{
    Command *command = context;

    (void)fd;
    (void)what;
    if (command->state == STATE_RUNNING) {
        command->timed_out = true;
        end(command, STATE_TERMINATED);
        set_timer(command, TERMINATED_USEC);
    } else if (command->state == STATE_TERMINATED) {
        end(command, STATE_KILLED);
    }
}

/* --- its beginning */

static int watch(Command *command)
{
    command->pidfd = pidfd_open(command->last.pid, 0);
    if (command->pidfd < 0)
        return -errno;
    command->exit_event =
        event_new(command->base, command->pidfd, EV_READ, on_exit_of_command, command);
    if (command->exit_event == NULL || event_add(command->exit_event, NULL) < 0)
        return -ENOMEM;
    return 0;
}

static void on_spawned(HousekeeperTask *task)
{
    CommandRun *run = CONTAINER_OF(task, CommandRun, task);
    Command *command = run->command;
    int r = run->result;

    command->started = clock_monotonic();
    if (r == 0) {
        command->last.pid = run->pid;
        move(command, STATE_RUNNING);
        r = watch(command);
        if (r < 0)
            end(command, STATE_KILLED);
    }
    if (r < 0) {
        log_warning("command after checkpoint %s: %s: %s", run->checkpoint, run->words[0],
                    log_errno(r));
        if (run->pid > 0)
            reap(command); /* killed, so it does not take long */
        else
            over(command);
        next(command);
        return;
    }
    log_info("command after checkpoint %s: pid %d runs %s", run->checkpoint, (int)run->pid,
             run->words[0]);
    set_timer(command, command->timeout_usec);
    if (command->stopped)
        end(command, STATE_TERMINATED);
}

static void start(Command *command, CommandRun *run)
{
    int r = words_split(command->line, &run->words);

    if (r <= 0) {
        log_warning("command after checkpoint %s: %s", run->checkpoint,
                    r < 0 ? log_errno(r) : "it is empty");
        release(command, run);
        return;
    }
    command->run = run;
    command->any = true;
    command->timed_out = false;
    command->started = clock_monotonic();
    command->last = (CommandState){.started_usec = clock_realtime(), .exit_status = -1};
    memcpy(command->last.checkpoint, run->checkpoint, sizeof(run->checkpoint));
    run->task = (HousekeeperTask){.run = command_run_spawn, .done = on_spawned};
    move(command, STATE_STARTING);
    housekeeper_submit(command->housekeeper, &run->task);
}

static void next(Command *command)
{
    CommandRun *run = TAKE_PTR(command->waiting);

    if (run == NULL)
        return;
    if (command->stopped || command->line == NULL)
        release(command, run);
    else
        start(command, run);
}

/* --- for others */

int command_new(struct event_base *base, Housekeeper *housekeeper, const CommandHost *host,
                Command **ret)
{
    Command *command = calloc(1, sizeof(*command));

    if (command == NULL)
        return -ENOMEM;
    *command = (Command){.base = base, .housekeeper = housekeeper, .host = *host, .pidfd = -1};
    command->timer = event_new(base, -1, 0, on_timer, command);
    if (command->timer == NULL) {
        free(command);
        return -ENOMEM;
    }
    *ret = command;
    return 0;
}

static bool has_ended(const Command *command, int msec)
{
    struct pollfd poll_fd = {.fd = command->pidfd, .events = POLLIN};

    return poll(&poll_fd, 1, msec) > 0;
}

Command *command_free(Command *command)
{
    if (command == NULL)
        return NULL;
    command_stop(command);
    if (command->state == STATE_STARTING)
        housekeeper_drain(command->housekeeper);
    if (command->state == STATE_TERMINATED && !has_ended(command, STOP_MSEC))
        end(command, STATE_KILLED);
    if (command->state != STATE_IDLE) {
        if (has_ended(command, KILLED_MSEC)) {
            reap(command);
        } else {
            log_warning("command after checkpoint %s: pid %d does not end, it is left alone",
                        command->run->checkpoint, (int)command->last.pid);
            over(command);
        }
    }
    event_free(command->timer);
    free(command->line);
    free(command);
    return NULL;
}

int command_set(Command *command, const char *line, uint64_t timeout_usec)
{
    char *copy = NULL;

    if (line != NULL && line[0] != '\0') {
        copy = strdup(line);
        if (copy == NULL)
            return -ENOMEM;
    }
    free(command->line);
    command->line = copy;
    command->timeout_usec = timeout_usec;
    return 0;
}

bool command_is_set(const Command *command)
{
    return command->line != NULL && !command->stopped;
}

int command_run(Command *command, const CommandImage *image)
{
    CommandRun *run = NULL;
    int r = command_run_new(command, image, &run);

    if (r < 0)
        return r;
    if (command->state == STATE_IDLE) {
        start(command, run);
        return 0;
    }
    if (command->waiting != NULL) {
        log_notice("command after checkpoint %s: not run, since %s is newer and the one for %s "
                   "still runs",
                   command->waiting->checkpoint, run->checkpoint, command->run->checkpoint);
        release(command, TAKE_PTR(command->waiting));
    }
    command->waiting = run;
    return 0;
}

void command_stop(Command *command)
{
    command->stopped = true;
    if (command->waiting != NULL) {
        log_notice("command after checkpoint %s: not run, since the daemon stops",
                   command->waiting->checkpoint);
        release(command, TAKE_PTR(command->waiting));
    }
    if (command->state == STATE_RUNNING) {
        end(command, STATE_TERMINATED);
        set_timer(command, TERMINATED_USEC);
    }
}

bool command_state(const Command *command, CommandState *ret)
{
    if (!command->any)
        return false;
    *ret = command->last;
    if (!ret->ended)
        ret->duration_usec = clock_monotonic() - command->started;
    return true;
}
