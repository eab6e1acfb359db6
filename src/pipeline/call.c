/* call.c - the control plane has the worker do something and waits for it.
 *
 * One call at a time; it lies on the asker's stack.  The worker looks for it once a turn
 * (one load), and may take several turns for it.  It rings under the mutex, and the asker
 * takes that before it goes, so the ring is over by then.
 */
#include "pipeline/bridge_internal.h"

enum mr_err mr_worker_call(struct mr_bridge *b, struct bridge_call *call, struct mr_error *why)
{
    enum mr_err err = mr_wake_open(&call->wake, why);
    bool over = false;

    if (err != MR_OK) {
        return err;
    }
    atomic_store_explicit(&b->call, call, memory_order_release);
    mr_wake_ring(&b->wake);
    while (!over) {
        (void)mr_wake_wait(&call->wake, -1);
        mr_mutex_lock(&b->mutex);
        over = call->over;
        mr_mutex_unlock(&b->mutex);
    }
    mr_wake_close(&call->wake);
    return MR_OK;
}

void mr_call_turn(struct mr_bridge *b)
{
    struct bridge_call *call = atomic_load_explicit(&b->call, memory_order_acquire);

    if (MR_LIKELY(call == NULL) || !call->run(b, call)) {
        return;
    }
    atomic_store(&b->call, NULL);
    mr_mutex_lock(&b->mutex);
    call->over = true;
    mr_wake_ring(&call->wake);
    mr_mutex_unlock(&b->mutex);
}
