/* disk_promise.h - can a journal on this disk keep what it promises?
 *
 *     struct mr_disk (the facts) ─▶ mr_disk_promise ─▶ HOLDS, or what is wrong and what to do
 *
 * The gateway says it at start, `millrace prove` says it with figures.
 *
 * Thread: any.   Memory: none.   Time: start-up and tools.
 */
#ifndef MR_JOURNAL_DISK_PROMISE_H
#define MR_JOURNAL_DISK_PROMISE_H

#include "base/text.h"
#include "os/disk.h"

enum mr_disk_promise {
    MR_DISK_HOLDS,    /* nothing is known against it */
    MR_DISK_DOUBTFUL, /* it depends on something that cannot be seen from here */
    MR_DISK_BROKEN,   /* what is acknowledged will be lost by a power cut */
};

/* What is known of `disk`.  Unless it is HOLDS, `why` gets one sentence with the cause and one
 * with the next step.
 */
enum mr_disk_promise mr_disk_promise(const struct mr_disk *disk, struct mr_text *why);

/* The same for flushes as they were measured: `write_ns` is the usual time of a write into the
 * device, `flush_ns` that of a write with a flush behind it.
 */
enum mr_disk_promise mr_disk_promise_measured(const struct mr_disk *disk, int64_t write_ns,
                                              int64_t flush_ns, struct mr_text *why);

#endif
