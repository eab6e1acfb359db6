/* said.h - what the log has said since said_begin().
 *
 * Thread: lines come from any, one at a time; read when those who log are still.
 * Memory: static; one log at a time.
 */
#ifndef MR_TEST_SAID_H
#define MR_TEST_SAID_H

#include "base/log.h"

#include <string.h>

static char said[1 << 18];

static inline void said_keep(const char *line, size_t len)
{
    size_t had = strlen(said);

    mr_assert(had + len < sizeof(said));
    memcpy(said + had, line, len);
    said[had + len] = '\0';
}

static inline void said_begin(void)
{
    said[0] = '\0';
    mr_log_set_writer(said_keep);
}

/* How often `text` is in it. */
static inline unsigned said_times(const char *text)
{
    unsigned times = 0;

    for (const char *at = strstr(said, text); at != NULL; at = strstr(at + 1, text)) {
        times += 1;
    }
    return times;
}

#endif
