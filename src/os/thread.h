/* thread.h - threads, and the one thing they wait on: a wake.
 *
 * A wake is an eventfd: many threads may ring it, one waits, rings while the
 * waiter is busy are not lost and not counted.  It can be waited on alone
 * (mr_wake_wait) or inside an event loop (loop.h).
 *
 * Locks exist for control plane and hand-over of batches, never per event.
 *
 * Thread: as said.   Memory: a descriptor each.   Time: a ring is a syscall
 * (~0.3 us) and is left out when the waiter is known to be awake.
 */
#ifndef MR_OS_THREAD_H
#define MR_OS_THREAD_H

#include "base/base.h"

#include <stdatomic.h>

struct mr_thread;

/* Start `run(arg)` under `name` (<= 15 characters, shown by top and perf). */
enum mr_err mr_thread_start(struct mr_thread **out, const char *name, void (*run)(void *arg),
                            void *arg, struct mr_error *why) MR_MUST_USE;

/* Wait for it to return and free it. */
void mr_thread_join(struct mr_thread *thread);

struct mr_wake {
    int fd;              /* readable while rung */
    _Atomic int waiting; /* the waiter is asleep or about to be: a ring must syscall */
};

enum mr_err mr_wake_open(struct mr_wake *wake, struct mr_error *why) MR_MUST_USE;
void mr_wake_close(struct mr_wake *wake);

/* Whatever was stored before the ring is visible to the waiter after it. */
void mr_wake_ring(struct mr_wake *wake);

/* Until rung or `timeout_ns` is over (-1: no limit).  True: rung.
 * Use:  if (nothing to do) { mr_wake_wait(...); }  - rings between the check
 * and the wait make it return at once.
 */
bool mr_wake_wait(struct mr_wake *wake, int64_t timeout_ns);

/* A plain mutex, and a pause for back-off loops of the control plane. */
struct mr_mutex {
    _Alignas(8) unsigned char opaque[64];
};
void mr_mutex_init(struct mr_mutex *mutex);
void mr_mutex_fini(struct mr_mutex *mutex);
void mr_mutex_lock(struct mr_mutex *mutex);
void mr_mutex_unlock(struct mr_mutex *mutex);

#endif
