/* crash_kit.h - for tests in which the simulated machine crashes, a program each.
 *
 * Thread: the test's.   Memory: none.   Time: none.
 */
#ifndef MR_TEST_CRASH_KIT_H
#define MR_TEST_CRASH_KIT_H

#include <stdio.h>
#include <stdlib.h>

/* A crash leaves the memory of what had run, together with its stack. */
const char *__asan_default_options(void);
const char *__asan_default_options(void)
{
    return "detect_leaks=0";
}

/* For mr_log_set_writer(): the log is silent, unless somebody wants to read it. */
static inline void drop_line(const char *line, size_t len)
{
    if (getenv("MR_TEST_LOG") != NULL) {
        (void)fwrite(line, 1, len, stderr);
    }
}

#endif
