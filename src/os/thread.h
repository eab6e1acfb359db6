/* thread.h - threads, and the one thing they wait on: a wake.
 *
 * Many threads may ring a wake, one waits for it.  Rings while the waiter is
 * busy are not lost and not counted.  It can be waited on alone (mr_wake_wait)
 * or inside an event loop (loop.h).
 *
 *     ringer:  store the work     ; mr_wake_ring()
 *     waiter:  for (;;) { take all work ; mr_wake_wait() }
 *
 * A caller need not re-check anything: a ring after the last look at the work
 * makes the next wait return at once, whatever the order of the two threads.
 * The other way round a wait may end without new work; look and wait again.
 *
 * Locks exist for control plane and hand-over of batches, never per event.
 *
 * Thread: as said.   Memory: a descriptor each.
 * Time:   a ring is one atomic exchange (~10 ns); it becomes a syscall
 *         (~0.3 us) only for the first ring after the waiter went to sleep.
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

/* How the syscall is left out (a Dekker handshake; all sequentially consistent):
 *
 *     ring:  rung was = exchange(rung, 1); if (was 0 and waiting is 1) write(fd)
 *     wait:  waiting = 1; if (exchange(rung, 0) is 1) return; block on fd
 *
 * Each side stores its own flag before it reads the other's, so at least one
 * of them sees the other: either the waiter finds `rung` or the ringer finds
 * `waiting`.  A ringer that finds `rung` set already may rely on whoever set it.
 */
struct mr_wake {
    int fd;              /* an eventfd; readable: end the wait */
    _Atomic int rung;    /* there was a ring that no wait has consumed */
    _Atomic int waiting; /* the waiter is blocked or about to look at `rung` */
};

enum mr_err mr_wake_open(struct mr_wake *wake, struct mr_error *why) MR_MUST_USE;

/* No one may be waiting, and no one may ring any more. */
void mr_wake_close(struct mr_wake *wake);

/* Whatever was stored before the ring is visible to the waiter after it.
 * Safe in a signal handler.
 */
void mr_wake_ring(struct mr_wake *wake);

/* Until rung or `timeout_ns` is over (0: only look, -1: no limit).  True: rung. */
bool mr_wake_wait(struct mr_wake *wake, int64_t timeout_ns);

/* A descriptor into which foreign code may write the 8-byte number 1 in host
 * order (librdkafka's queue events do) to ring the wake.  Owned by the wake.
 */
int mr_wake_fd(const struct mr_wake *wake);

/* A plain mutex; not recursive. */
struct mr_mutex {
    _Alignas(8) unsigned char opaque[64];
};
void mr_mutex_init(struct mr_mutex *mutex);
void mr_mutex_fini(struct mr_mutex *mutex);
void mr_mutex_lock(struct mr_mutex *mutex);
void mr_mutex_unlock(struct mr_mutex *mutex);

#endif
