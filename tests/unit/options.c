/* Unit tests of options: the command line and where things lie by default. */
#include "options.h"

#include <criterion/criterion.h>
#include <criterion/new/assert.h>
#include <criterion/redirect.h>

static Options options;

static void setup(void)
{
    static const char *const variables[] = {"CONFIGURATION_DIRECTORY", "STATE_DIRECTORY",
                                            "XDG_CONFIG_HOME", "XDG_STATE_HOME", "XDG_RUNTIME_DIR"};

    for (size_t i = 0; i < ARRAY_SIZE(variables); i++)
        unsetenv(variables[i]);
    setenv("HOME", "/home/somebody", 1);
    cr_redirect_stderr();
    cr_redirect_stdout();
}

static void teardown(void)
{
    options_deinit(&options);
}

TestSuite(options, .init = setup, .fini = teardown);

/* Up to seven arguments, ended by NULL. */
static int parse(const char *const arguments[])
{
    char *argv[9] = {(char *)"holdfastd"};
    int argc = 1;

    for (; arguments[argc - 1] != NULL; argc++)
        argv[argc] = (char *)arguments[argc - 1];
    options_deinit(&options);
    return options_parse(&options, argc, argv);
}
#define PARSE(...) parse((const char *const[]){__VA_ARGS__ __VA_OPT__(, ) NULL})

static void assert_paths(uid_t uid, const char *config, const char *state, const char *socket)
{
    cr_assert(eq(int, PARSE(), OPTIONS_RUN));
    cr_assert(eq(int, options_complete_paths(&options, uid), 0));
    cr_assert(eq(int, options_complete_socket(&options, uid, NULL), 0));
    cr_assert(eq(str, options.config_path, (char *)config));
    cr_assert(eq(str, options.state_directory, (char *)state));
    cr_assert(eq(str, options.socket, (char *)socket));
    cr_assert(not(options.config_required));
}

Test(options, root_has_the_places_of_the_system)
{
    setenv("XDG_CONFIG_HOME", "/xc", 1);
    setenv("XDG_RUNTIME_DIR", "/xr", 1);
    assert_paths(0, "/etc/holdfast/holdfastd.conf", "/var/lib/holdfast",
                 "/run/holdfast/holdfast.sock");
}

Test(options, users_have_the_xdg_directories)
{
    setenv("XDG_CONFIG_HOME", "/xc", 1);
    setenv("XDG_STATE_HOME", "/xs", 1);
    setenv("XDG_RUNTIME_DIR", "/xr", 1);
    assert_paths(1000, "/xc/holdfast/holdfastd.conf", "/xs/holdfast", "/xr/holdfast.sock");
}

Test(options, users_without_xdg_variables_have_their_home)
{
    /* The specification: a relative path is to be ignored. */
    setenv("XDG_STATE_HOME", "relative", 1);
    assert_paths(1000, "/home/somebody/.config/holdfast/holdfastd.conf",
                 "/home/somebody/.local/state/holdfast", "/run/user/1000/holdfast.sock");
}

Test(options, a_user_without_a_home_is_told)
{
    unsetenv("HOME");
    cr_assert(eq(int, PARSE(), OPTIONS_RUN));
    cr_assert(eq(int, options_complete_paths(&options, 3999999999), -ENOENT));
}

Test(options, directories_of_systemd_come_first)
{
    setenv("CONFIGURATION_DIRECTORY", "/etc/one:/etc/two", 1);
    setenv("STATE_DIRECTORY", "/var/lib/one:/var/lib/two", 1);
    setenv("XDG_CONFIG_HOME", "/xc", 1);
    setenv("XDG_STATE_HOME", "/xs", 1);
    setenv("XDG_RUNTIME_DIR", "/xr", 1);
    assert_paths(1000, "/etc/one/holdfastd.conf", "/var/lib/one", "/xr/holdfast.sock");
    assert_paths(0, "/etc/one/holdfastd.conf", "/var/lib/one", "/run/holdfast/holdfast.sock");
}

Test(options, what_is_given_holds)
{
    setenv("STATE_DIRECTORY", "/var/lib/one", 1);
    cr_assert(eq(int,
                 PARSE("--config=/c", "--state-directory", "/s", "--socket=/k", "--recover=cut",
                       "--check-config"),
                 OPTIONS_RUN));
    cr_assert(eq(int, options_complete_paths(&options, 0), 0));
    cr_assert(eq(int, options_complete_socket(&options, 0, "/configured"), 0));
    cr_assert(eq(str, options.config_path, (char *)"/c"));
    cr_assert(eq(str, options.state_directory, (char *)"/s"));
    cr_assert(eq(str, options.socket, (char *)"/k"));
    cr_assert(options.config_required);
    cr_assert(options.recover_cut);
    cr_assert(options.check_config);
}

Test(options, the_configured_socket_comes_before_the_default)
{
    cr_assert(eq(int, PARSE(), OPTIONS_RUN));
    cr_assert(eq(int, options_complete_socket(&options, 0, "/configured"), 0));
    cr_assert(eq(str, options.socket, (char *)"/configured"));
}

Test(options, overrides_are_kept_in_their_order)
{
    cr_assert(eq(int, PARSE("--option=A.B=1", "--option", "C.D=2", "--option=A.B=3"), OPTIONS_RUN));
    cr_assert(eq(sz, options.overrides_count, 3));
    cr_assert(eq(str, (char *)options.overrides[0], (char *)"A.B=1"));
    cr_assert(eq(str, (char *)options.overrides[1], (char *)"C.D=2"));
    cr_assert(eq(str, (char *)options.overrides[2], (char *)"A.B=3"));
    cr_assert(eq(ptr, (void *)options.overrides[3], NULL));
}

Test(options, mistakes_are_usage_errors)
{
    cr_assert(eq(int, PARSE("--frobnicate"), OPTIONS_USAGE));
    cr_assert(eq(int, PARSE("--config"), OPTIONS_USAGE));
    cr_assert(eq(int, PARSE("--config="), OPTIONS_USAGE));
    cr_assert(eq(int, PARSE("--socket="), OPTIONS_USAGE));
    cr_assert(eq(int, PARSE("--recover=all"), OPTIONS_USAGE));
    cr_assert(eq(int, PARSE("--check-config=yes"), OPTIONS_USAGE));
    cr_assert(eq(int, PARSE("-x"), OPTIONS_USAGE));
    cr_assert(eq(int, PARSE("start"), OPTIONS_USAGE));
}

Test(options, help_and_version_are_all_that_is_done)
{
    cr_assert(eq(int, PARSE("--help"), OPTIONS_DONE));
    cr_assert(eq(int, PARSE("--version"), OPTIONS_DONE));
}
