/* Clocks, in microseconds. */
#pragma once

#include "base/common.h"

/* CLOCK_MONOTONIC: for durations and deadlines. */
uint64_t clock_monotonic(void);
/* CLOCK_REALTIME: since the Unix epoch, for what people and files see. */
uint64_t clock_realtime(void);
