/* The measured latencies. A call counts where it was due, not where it was answered: what was due
 * while the server stood still belongs to the phase in which it stood. */
#include "load-result.h"

#include <stdio.h>

int load_result_init(LoadResult *result, uint64_t begin_nsec, bool with_windows)
{
    *result = (LoadResult){.begin_nsec = begin_nsec};
    if (with_windows) {
        result->windows = calloc(LOAD_WINDOWS_MAX, sizeof(*result->windows));
        if (!result->windows)
            return -ENOMEM;
    }
    return load_result_phase(result, "all", begin_nsec);
}

void load_result_deinit(LoadResult *result)
{
    for (unsigned i = 0; i < result->phase_count; i++)
        free(result->phases[i]);
    for (unsigned i = 0; result->windows && i < LOAD_WINDOWS_MAX; i++)
        free(result->windows[i]);
    free(result->windows);
    *result = (LoadResult){0};
}

int load_result_phase(LoadResult *result, const char *name, uint64_t now_nsec)
{
    LoadPhase *phase;

    if (result->phase_count == LOAD_PHASES_MAX)
        return -E2BIG;
    phase = calloc(1, sizeof(*phase));
    if (!phase)
        return -ENOMEM;
    (void)snprintf(phase->name, sizeof(phase->name), "%s", name);
    phase->begin_nsec = now_nsec;
    result->phases[result->phase_count++] = phase;
    return 0;
}

void load_result_add(LoadResult *result, unsigned phase, unsigned operations, uint64_t due_nsec,
                     uint64_t now_nsec)
{
    uint64_t window = (due_nsec - result->begin_nsec) / LOAD_WINDOW_NSEC;

    result->phases[phase]->operations += operations;
    histogram_add(&result->phases[phase]->latencies, now_nsec - due_nsec);
    if (!result->windows || window >= LOAD_WINDOWS_MAX)
        return;
    if (!result->windows[window])
        result->windows[window] = calloc(1, sizeof(Histogram));
    if (result->windows[window])
        histogram_add(result->windows[window], now_nsec - due_nsec);
}

static double usec(uint64_t nsec)
{
    return (double)nsec / 1e3;
}

static void print_phase(const LoadPhase *phase, uint64_t begin_nsec, uint64_t end_nsec)
{
    const Histogram *latencies = &phase->latencies;
    double seconds = (double)(end_nsec - phase->begin_nsec) / 1e9;

    printf("{\"name\":\"%s\",\"beginSeconds\":%.6f,\"seconds\":%.6f,\"operations\":%llu,"
           "\"rate\":%.1f,\"calls\":%llu,\"p50\":%.1f,\"p99\":%.1f,\"p999\":%.1f,\"max\":%.1f}",
           phase->name, (double)(phase->begin_nsec - begin_nsec) / 1e9, seconds,
           (unsigned long long)phase->operations,
           seconds > 0 ? (double)phase->operations / seconds : 0,
           (unsigned long long)latencies->count, usec(histogram_percentile(latencies, 0.5)),
           usec(histogram_percentile(latencies, 0.99)),
           usec(histogram_percentile(latencies, 0.999)), usec(latencies->max));
}

void load_result_print(const LoadResult *result, uint64_t end_nsec)
{
    printf("{\"phases\":[");
    for (unsigned i = 0; i < result->phase_count; i++) {
        bool last = i + 1 == result->phase_count;

        printf("%s", i > 0 ? "," : "");
        print_phase(result->phases[i], result->begin_nsec,
                    last ? end_nsec : result->phases[i + 1]->begin_nsec);
    }
    printf("]}\n");
}

int load_result_write_windows(const LoadResult *result, const char *path)
{
    FILE *file = fopen(path, "we");

    if (!file)
        return -errno;
    for (unsigned i = 0; i < LOAD_WINDOWS_MAX; i++) {
        const Histogram *window = result->windows[i];

        if (window)
            fprintf(file, "%.1f %llu %.1f %.1f %.1f\n", (double)i * (double)LOAD_WINDOW_NSEC / 1e9,
                    (unsigned long long)window->count, usec(histogram_percentile(window, 0.5)),
                    usec(histogram_percentile(window, 0.99)), usec(window->max));
    }
    return fclose(file) != 0 ? -errno : 0;
}
