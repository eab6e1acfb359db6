/* call_internal.h - questions of the control plane, answered by the shard that knows; see call.c.
 *
 * Thread: calls by any, those of a shard by its own.
 * Memory: a call lies on the stack of whoever waits for it.   Time: a turn of the shard.
 */
#ifndef MR_BROKER_CALL_INTERNAL_H
#define MR_BROKER_CALL_INTERNAL_H

#include "os/thread.h"

struct mr_shard;

/* Run `run` in the shard and wait for it.  IO: the shard has ended; AGAIN: no descriptor is left
 * to wait by.
 */
enum mr_err shard_call(struct mr_shard *shard, void (*run)(struct mr_shard *shard, void *arg),
                       void *arg) MR_MUST_USE;

/* The same by a wake that the caller has: IO is its only failure. */
enum mr_err shard_call_by(struct mr_shard *shard, struct mr_wake *done,
                          void (*run)(struct mr_shard *shard, void *arg), void *arg) MR_MUST_USE;

void shard_calls_run(struct mr_shard *shard);   /* when woken */
void shard_calls_close(struct mr_shard *shard); /* at its end; twice is fine */

#endif
