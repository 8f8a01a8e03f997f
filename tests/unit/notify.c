/* Unit tests of what is sent to the service manager: the messages, their descriptors, and what
 * happens where the service manager does not take them. */
#include "service/notify.h"

#include <criterion/criterion.h>
#include <criterion/new/assert.h>
#include <event2/event.h>
#include <fcntl.h>
#include <pthread.h>
#include <sys/socket.h>
#include <sys/un.h>

#include "base/clock.h"
#include "base/housekeeper.h"
#include "base/log.h"
#include "lib/temporary.h"
#include "service/descriptor-store.h"
#include "service/notify-send.h"

static Temporary *directory;
static int manager; /* the service manager's socket */

static void listen_at(const char *path)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    socklen_t size = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + strlen(path));

    strcpy(address.sun_path, path);
    if (path[0] == '@')
        address.sun_path[0] = '\0';
    else
        size++;
    manager = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    cr_assert(ge(int, manager, 0));
    cr_assert(eq(int, bind(manager, (struct sockaddr *)&address, size), 0));
    setenv("NOTIFY_SOCKET", path, 1);
}

static void setup(void)
{
    _cleanup_(freep) char *path = NULL;

    unsetenv("WATCHDOG_USEC");
    unsetenv("WATCHDOG_PID");
    unsetenv("FDSTORE");
    directory = temporary_new();
    path = temporary_path(directory, "notify");
    listen_at(path);
}

static void teardown(void)
{
    close(manager);
    directory = temporary_free(directory);
}

TestSuite(notify, .init = setup, .fini = teardown);

/* The next message; *ret_fd: what came with it, or -1. */
static char *receive(int *ret_fd)
{
    static char text[1024];
    union {
        struct cmsghdr header;
        char space[CMSG_SPACE(sizeof(int))];
    } control;
    struct iovec bytes = {.iov_base = text, .iov_len = sizeof(text) - 1};
    struct msghdr message = {.msg_iov = &bytes,
                             .msg_iovlen = 1,
                             .msg_control = &control,
                             .msg_controllen = sizeof(control)};
    ssize_t n = recvmsg(manager, &message, MSG_DONTWAIT);

    *ret_fd = -1;
    if (n < 0)
        return "(nothing)";
    text[n] = '\0';
    if (CMSG_FIRSTHDR(&message) != NULL)
        memcpy(ret_fd, CMSG_DATA(CMSG_FIRSTHDR(&message)), sizeof(int));
    return text;
}

static void expect(const char *expected)
{
    int fd;

    cr_expect(eq(str, receive(&fd), (char *)expected));
    cr_expect(eq(int, fd, -1));
}

Test(notify, messages_arrive)
{
    cr_assert(eq(int, notify_ready(), true));
    cr_assert(eq(int, notify_status("%d arenas", 3), true));
    notify_extend(5000000);
    notify_stopping();
    expect("READY=1");
    expect("STATUS=3 arenas");
    expect("EXTEND_TIMEOUT_USEC=5000000");
    expect("STOPPING=1");
    expect("(nothing)");
}

Test(notify, an_abstract_name_serves_as_well)
{
    char name[64];

    close(manager);
    snprintf(name, sizeof(name), "@holdfast-test-%d", (int)getpid());
    listen_at(name);
    cr_assert(eq(int, notify_send("READY=1", -1, 0), 1));
    expect("READY=1");
}

Test(notify, descriptors_go_with_their_message)
{
    int pipe_fds[2], fd;

    cr_assert(eq(int, pipe(pipe_fds), 0));
    cr_assert(eq(int, notify_send("FDSTORE=1", pipe_fds[1], 0), 1));
    cr_assert(eq(str, receive(&fd), "FDSTORE=1"));
    cr_assert(ge(int, fd, 0));
    cr_assert(eq(sz, (size_t)write(fd, "x", 1), 1));
    char byte = 0;
    cr_assert(eq(sz, (size_t)read(pipe_fds[0], &byte, 1), 1));
    cr_assert(eq(chr, byte, 'x'));
}

Test(notify, without_a_service_manager_nothing_happens)
{
    unsetenv("NOTIFY_SOCKET");
    cr_assert(eq(int, notify_send("READY=1", -1, 0), 0));
    cr_assert(eq(int, notify_ready(), true), "nothing to say again");
    cr_assert(eq(int, notify_listens(), false));
    setenv("NOTIFY_SOCKET", "relative", 1);
    cr_assert(eq(int, notify_send("READY=1", -1, 0), -EINVAL));
    setenv("NOTIFY_SOCKET", "/nonexistent/socket", 1);
    cr_assert(eq(int, notify_send("READY=1", -1, 0), -ENOENT));
}

/* --- a service manager that hangs */

static void fill_queue(void)
{
    unsigned count = 0;

    while (notify_send("STATUS=from others", -1, 0) == 1)
        cr_assert(lt(uint, ++count, 1000000));
    cr_assert(gt(uint, count, 0));
}

/* Blocking sends would never come back from here. */
Test(notify, nothing_waits_for_a_service_manager_that_hangs)
{
    alarm(30);
    fill_queue();
    uint64_t begin = clock_monotonic();
    cr_expect(eq(int, notify_ready(), false), "to be said again");
    cr_expect(eq(int, notify_status("something"), false));
    notify_extend(1);
    notify_stopping();
    cr_expect(eq(int, notify_send("FDSTORE=1", STDERR_FILENO, 50), -EAGAIN));
    cr_expect(lt(u64, clock_monotonic() - begin, 10 * USEC_PER_SEC));
}

static void *read_one(void *context)
{
    char text[64];

    (void)context;
    usleep(50000);
    return recv(manager, text, sizeof(text), 0) > 0 ? NULL : "failed";
}

Test(notify, room_that_comes_in_time_is_used)
{
    pthread_t thread;

    fill_queue();
    cr_assert(eq(int, pthread_create(&thread, NULL, read_one, NULL), 0));
    cr_assert(eq(int, notify_send("FDSTORE=1", STDERR_FILENO, 20000), 1));
    pthread_join(thread, NULL);
}

Test(notify, a_ping_that_was_not_taken_is_sent_soon_after)
{
    struct event_base *base = event_base_new();
    uint64_t deadline = clock_monotonic() + 20 * USEC_PER_SEC;
    Notify *notify;
    int fd;

    setenv("WATCHDOG_USEC", "100000", 1);
    cr_assert(eq(int, notify_new(base, &notify), 0));
    fill_queue();
    event_base_loop(base, EVLOOP_ONCE);
    while (strcmp(receive(&fd), "(nothing)") != 0)
        ;
    while (strcmp(receive(&fd), "WATCHDOG=1") != 0) {
        cr_assert(lt(u64, clock_monotonic(), deadline));
        event_base_loop(base, EVLOOP_ONCE);
    }
    notify_free(notify);
    event_base_free(base);
}

/* --- the descriptor store */

Test(notify, a_store_that_is_not_told_is_logged_once_and_waited_for_once)
{
    _cleanup_(freep) char *log = NULL;
    DescriptorStore *store;
    int fd = openat(directory->fd, "log", O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
    size_t size;

    unsetenv("JOURNAL_STREAM");
    cr_assert(eq(int, descriptor_store_new(&store), 0));
    fill_queue();
    cr_assert(ge(int, dup2(fd, STDERR_FILENO), 0));
    log_setup(LOG_INFO);
    uint64_t begin = clock_monotonic();
    for (int i = 0; i < 20; i++) {
        descriptor_store_put(store, "holdfast-test", fd);
        descriptor_store_remove(store, "holdfast-test");
    }
    cr_expect(lt(u64, clock_monotonic() - begin, 30 * USEC_PER_SEC));
    cr_expect(eq(int, descriptor_store_in_use(store), false));
    log = temporary_read(directory, "log", &size);
    const char *line = strchr(log, '\n');
    cr_expect(line != NULL && line[1] == '\0', "one line: %s", log);
    descriptor_store_free(store);
}
