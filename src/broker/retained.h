/* retained.h - retained messages, for those who set them and ask for them.
 *
 *     an event with RETAIN ── retained_time() ─▶ journal ─▶ retained_apply() ─▶ the tree
 *     a start ── rows ─▶ retained_restore(), and what came behind them ─▶ retained_apply()
 *
 * What a filter matches of them is brought by walks (retained_internal.h).
 *
 * Thread: the shard's.
 * Memory: nodes are lent by the shard's pool; a message is there once for all (keep_internal.h).
 * Time:   receive times are wall times, in us; see cleared.c for those of several shards.
 */
#ifndef MR_BROKER_RETAINED_H
#define MR_BROKER_RETAINED_H

#include "broker/message.h"

struct kept;
struct mr_shard;

/* FOREIGN: of another lane, so it may be older than what there is, and is passed over then. */
enum retained_from { RETAINED_OWN, RETAINED_EXEMPT, RETAINED_FOREIGN };

/* What an event with RETAIN does: it is set, or without a payload cleared.  *kept: its message,
 * made if it is NULL and needed.  Without room nothing is retained any more, as the log says.
 */
void retained_apply(struct mr_shard *shard, const struct mr_message *message, struct kept **kept,
                    uint32_t lane, uint64_t seq, enum retained_from from);

/* As the store has it, at a start.  False: no memory. */
bool retained_restore(struct mr_shard *shard, struct kept *kept, const struct mr_message *message);
void retained_restore_cleared(struct mr_shard *shard, struct mr_span topic, int64_t received_us,
                              uint64_t seq);

/* When an event with RETAIN that is received now counts as received: with several shards after
 * all that are known of its topic, and never at the same time as one of another lane.
 */
int64_t retained_time(const struct mr_shard *shard, struct mr_span topic);

/* Its Message Expiry Interval, if that time lies before now: the longer one from there on.  False:
 * it stays as it is.
 */
bool retained_lengthen(const struct mr_shard *shard, const struct mr_message *message,
                       struct mr_mqtt_props *props);

/* That it was cleared at `received_us` needs not be known any more. */
void retained_forget_cleared(struct mr_shard *shard, struct mr_span topic, int64_t received_us);

/* A message of this topic has been delivered that is not in the tree yet: walks that have not
 * come to what is there pass it over.
 */
void retained_outdate(struct mr_shard *shard, struct mr_span topic);

/* All there are, of topics with a `$` too, in no order. */
void retained_each(struct mr_shard *shard, void (*each)(void *arg, struct kept *kept), void *arg);

void retained_expire(struct mr_shard *shard); /* at a tick: some of those whose life is over */
void retained_close(struct mr_shard *shard);

#endif
