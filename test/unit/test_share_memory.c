/* test_share_memory.c
 * links: broker net auth store journal codec config os base
 *
 * Goal:   what a member that is gone did not acknowledge waits for another one as long as the
 *         journal has no room, also when memory has none; what still waits at a stop is told.
 * Method: a bare shard that is stalled and whose pool is used up; a session of it ends.
 */
#include "broker/keep_internal.h"

enum { POOL_BYTES = 1 << 20, PIECE_BYTES = 4096 };

static struct mr_shard *shard_make(void)
{
    struct mr_shard *shard = mr_alloc(sizeof(*shard));

    shard->broker = mr_alloc(sizeof(*shard->broker));
    shard->broker->shares = shares_open(1 << 20);
    shard->metrics.dropped_memory =
        mr_metric_new(MR_METRIC_COUNTER, "millrace_test_total", "of a test", "");
    shard->stalled = true;
    mr_bufpool_init(&shard->pool, POOL_BYTES, 0);
    return shard;
}

static struct stored *job(struct mr_shard *shard, const char *payload, struct share_group *group)
{
    const struct mr_message message = {
        .topic = mr_span_of("q"), .payload = mr_span_of(payload), .qos = 1};
    struct stored *stored = stored_new(&shard->pool, &message, STORED_PAYLOAD);

    mr_assert(stored != NULL);
    stored->group = group;
    if (group != NULL) {
        share_group_hold(group);
    }
    return stored;
}

/* At a stop it is told and counted, and given back. */
static void stop_and_expect(struct mr_shard *shard, int64_t count)
{
    share_retry(shard); /* there is still no room */
    share_stop_say(shard);
    mr_assert(mr_metric_get(shard->metrics.dropped_memory) == count);
    share_close(shard);
    mr_assert(shard->shared_first == NULL);
}

static void expect_waiting(struct mr_shard *shard, const char *payload)
{
    struct stored *stored = stored_pop(&shard->shared_first, &shard->shared_last);

    mr_assert(stored != NULL && mr_span_is(stored->message.payload, payload));
    share_group_drop(stored->group);
    stored_free(&shard->pool, stored);
}

int main(void)
{
    struct mr_shard *shard = shard_make();
    struct shares *shares = shard->broker->shares;
    struct session *session = mr_alloc(sizeof(*session));
    struct outbound *outbound = mr_alloc(sizeof(*outbound));
    struct share_client *stays = share_client_new(mr_span_of("stays"), 0, true);
    const struct mr_span filter = mr_span_of("$share/g/q");
    uint8_t *pieces[POOL_BYTES / PIECE_BYTES];
    size_t capacities[POOL_BYTES / PIECE_BYTES];
    size_t count = 0;
    struct share_target target;

    mr_assert(shares_join(shares, stays, filter, 1) == MR_OK);
    mr_assert(shares_choose(shares, filter, mr_span_of("q"), NULL, SHARE_ANYONE, &target));
    session->share = share_client_new(mr_span_of("goes"), 0, false);
    session->outbound = outbound;
    stored_push(&outbound->shared_first, &outbound->shared_last, job(shard, "sent", target.group));
    stored_push(&outbound->queue_first, &outbound->queue_last, job(shard, "waits", target.group));
    stored_push(&outbound->queue_first, &outbound->queue_last, job(shard, "its own", NULL));
    stored_push(&outbound->queue_first, &outbound->queue_last, job(shard, "last", target.group));
    while (count < MR_COUNT_OF(pieces) &&
           (pieces[count] = mr_bufpool_take(&shard->pool, PIECE_BYTES, &capacities[count])) !=
               NULL) {
        count += 1;
    }
    share_end(shard, session);
    mr_assert(mr_metric_get(shard->metrics.dropped_memory) == 0);
    expect_waiting(shard, "sent");
    expect_waiting(shard, "waits");
    mr_assert(shard->shared_first != NULL && outbound->queue_first == NULL);
    stop_and_expect(shard, 1);

    while (count != 0) {
        count -= 1;
        mr_bufpool_give(&shard->pool, pieces[count], capacities[count]);
    }
    mr_assert(shard->pool.lent_bytes == 0);
    shares_release(&target, 1);
    shares_leave(shares, stays, filter);
    share_client_drop(stays);
    shares_close(shares);
    mr_bufpool_fini(&shard->pool);
    mr_free(outbound);
    mr_free(session);
    mr_free(shard->broker);
    mr_free(shard);
    return 0;
}
