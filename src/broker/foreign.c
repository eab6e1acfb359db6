/* foreign.c - QoS 1 messages of the other shards' lanes, to this shard's subscribers.
 *
 * DESIGN
 *
 * What is durable in another lane is read from there, like a bridge reads it: in order,
 * without loss, and without a word from the shard it came in at, which does nothing more
 * for it than its commit does already (it rings the readers).  A shard that falls behind
 * reads from the disk; until it has read them, segments stay (the reader holds them).
 *
 * Only a shard that has subscriptions reads.  Readers are opened before the SUBACK of the
 * first one leaves, at what is durable then: so nobody misses what was published after
 * it.  Whether a topic is wanted is remembered per name of the segment, for the present
 * version of the subscription tree: an event that nobody wants costs two comparisons.
 *
 * QoS 0 messages are passed over; they came through the mailbox at once (mailbox.c).
 * No Local does not arise: a client's own publishes are in the lane of its home.
 *
 * Rejected: copying QoS 1 messages into the mailbox when they become durable.  Whoever
 * is slow would have to be waited for, or would lose messages that were acknowledged.
 */
#include "broker/broker_internal.h"

#include "journal/reader.h"

enum {
    VIEW_BYTES = 64 << 10,
    VIEWS_PER_TURN = 4, /* of each lane: acks and reads must not wait for more */
};

/* Kept in a name's slot: the tree's version it holds for, and whether it is wanted. */
static bool name_is_wanted(struct mr_shard *shard, const struct mr_view *view,
                           const struct mr_event *event)
{
    uint64_t version = mr_subtree_version(shard->subtree);

    if (event->name_id >= MR_NAMES_MAX) {
        return mr_subtree_has(shard->subtree, event->topic);
    }
    void **slot = mr_names_slot(view->names, event->name_id);
    uintptr_t known = (uintptr_t)*slot;
    if (MR_UNLIKELY(known >> 1 != (uintptr_t)version)) {
        known = (uintptr_t)version << 1 | mr_subtree_has(shard->subtree, event->topic);
        *slot = (void *)known;
    }
    return (known & 1) != 0;
}

static void deliver_view(struct mr_shard *shard, const struct mr_view *view)
{
    struct mr_view_at at = mr_view_begin(view);
    struct mr_event event;

    while (mr_view_event(view, &at, &event)) {
        if (event.qos == 0 || event.type != MR_RECORD_EVENT ||
            !name_is_wanted(shard, view, &event)) {
            continue;
        }
        struct mr_message message = {.topic = event.topic,
                                     .payload = event.payload,
                                     .props = event.properties,
                                     .client = event.client,
                                     .username = event.username,
                                     .received_us = event.received_us,
                                     .qos = event.qos,
                                     .retain = event.retain,
                                     .will = event.will};
        deliver_now(shard, &message, true);
    }
}

static void foreign_open(struct mr_shard *shard, uint32_t lane)
{
    struct mr_journal *journal = shard->broker->run.journal;
    struct mr_reader_options options = {
        .pins_max = 1, .view_bytes_max = VIEW_BYTES, .wake = &shard->wake, .holds = true};
    uint64_t from = mr_lane_durable(mr_journal_lane(journal, lane)) + 1;
    enum mr_err err = mr_reader_open(&shard->foreign[lane], journal, lane, from, &options, NULL);

    mr_assert(err == MR_OK); /* there is such a lane */
}

static void foreign_end(struct mr_shard *shard, uint32_t lane)
{
    if (shard->foreign[lane] != NULL) {
        mr_reader_close(shard->foreign[lane]);
        shard->foreign[lane] = NULL;
    }
}

void foreign_close(struct mr_shard *shard)
{
    for (uint32_t lane = 0; shard->foreign != NULL && lane < shard->broker->shard_count; lane++) {
        foreign_end(shard, lane);
    }
    shard->foreign_open = false;
    shard->foreign_left = false;
}

void foreign_follow(struct mr_shard *shard)
{
    bool wanted = mr_subtree_count(shard->subtree) != 0 && !shard->stopping;

    if (wanted == shard->foreign_open || shard->broker->shard_count == 1) {
        return;
    }
    if (!wanted) {
        foreign_close(shard);
        return;
    }
    for (uint32_t lane = 0; lane < shard->broker->shard_count; lane++) {
        if (lane != shard->index) {
            foreign_open(shard, lane);
        }
    }
    shard->foreign_open = true;
    shard->foreign_left = true; /* a commit since then has not rung for us */
}

/* The disk does not give back what is durable: say so, and go on with what is new. */
static void foreign_skip(struct mr_shard *shard, uint32_t lane)
{
    static struct mr_log_limit limit;
    uint64_t held = 0;

    if (mr_log_allowed(&limit, LOG_EVERY_US, &held)) {
        mr_log(MR_LOG_ERROR, "mqtt",
               "lane %u cannot be read for the subscribers of shard %u, who miss messages; check "
               "the disk",
               lane, shard->index);
    }
    foreign_end(shard, lane);
    foreign_open(shard, lane);
}

static void deliver_lane(struct mr_shard *shard, uint32_t lane)
{
    for (int i = 0; i < VIEWS_PER_TURN; i++) {
        struct mr_view view;
        enum mr_err err = mr_reader_next(shard->foreign[lane], &view);

        if (err == MR_OK) {
            deliver_view(shard, &view);
            mr_view_unpin(&view);
        } else if (err == MR_ERR_IO) {
            foreign_skip(shard, lane);
            return;
        } else if (err != MR_ERR_CORRUPT) {
            return; /* nothing more; what is corrupt has been logged and passed */
        }
    }
    shard->foreign_left = true;
}

void foreign_deliver(struct mr_shard *shard)
{
    shard->foreign_left = false;
    for (uint32_t lane = 0; shard->foreign_open && lane < shard->broker->shard_count; lane++) {
        if (lane != shard->index) {
            deliver_lane(shard, lane);
        }
    }
}
