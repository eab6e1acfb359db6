/* call.c - the control plane has the worker do something and waits for it.
 *
 * Calls lie on the stacks of those who ask, in a list.  The worker looks at its head once a turn
 * (one load), and may take several turns for a call; others are answered beside it.  It rings under
 * the mutex, and the asker takes that before it goes, so the ring is over by then.
 *
 * A call may wait for as long as a disk is full.  When the gateway ends the worker, which sees that
 * between two turns, gives it up in the asker's place.
 */
#include "pipeline/bridge_internal.h"

enum mr_err mr_worker_call(struct mr_bridge *b, struct bridge_call *call, struct mr_error *why)
{
    enum mr_err err = mr_wake_open(&call->wake, why);
    bool over = false;

    if (err != MR_OK) {
        return err;
    }
    mr_mutex_lock(&b->mutex);
    call->next = atomic_load(&b->calls);
    atomic_store(&b->calls, call);
    mr_mutex_unlock(&b->mutex);
    mr_wake_ring(&b->wake);
    while (!over) {
        (void)mr_wake_wait(&call->wake, -1);
        mr_mutex_lock(&b->mutex);
        over = call->over;
        mr_mutex_unlock(&b->mutex);
    }
    mr_wake_close(&call->wake);
    return call->refused ? mr_error_set(why, MR_ERR_AGAIN,
                                        "the gateway is ending; try again when it has been started")
                         : MR_OK;
}

void mr_bridge_refuse(struct mr_bridge *b)
{
    atomic_store(&b->refuses, true);
    mr_wake_ring(&b->wake);
    mr_mutex_lock(&b->mutex);
    if (b->seek.asker != NULL) {
        mr_wake_ring(b->seek.asker);
    }
    mr_mutex_unlock(&b->mutex);
}

/* Its asker goes. */
static void call_over(struct mr_bridge *b, struct bridge_call *call)
{
    mr_mutex_lock(&b->mutex);
    struct bridge_call *before = atomic_load(&b->calls);
    if (before == call) {
        atomic_store(&b->calls, call->next);
    } else {
        while (before->next != call) {
            before = before->next;
        }
        before->next = call->next;
    }
    call->over = true;
    mr_wake_ring(&call->wake);
    mr_mutex_unlock(&b->mutex);
}

void mr_call_turn(struct mr_bridge *b)
{
    struct bridge_call *call = atomic_load_explicit(&b->calls, memory_order_acquire);

    while (MR_UNLIKELY(call != NULL)) {
        struct bridge_call *next = call->next; /* stays: only this thread takes calls out */
        call->refused = atomic_load(&b->refuses);
        if (call->refused || call->run(b, call)) {
            call_over(b, call);
        }
        call = next;
    }
}
