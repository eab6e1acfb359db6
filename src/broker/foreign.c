/* foreign.c - what this shard needs of the other shards' lanes: QoS 1 and 2 messages for
 * its subscribers, and everybody's retained messages.
 *
 * DESIGN
 *
 * What is durable in another lane is read from there, like a bridge reads it: in order,
 * without loss, and without a word from the shard it came in at, which does nothing more
 * for it than its commit does already (it rings the readers).  A shard that falls behind
 * reads from the disk; until it has read them, segments stay (the reader holds them).
 *
 * A lane is read while the shard has subscriptions, or there are groups anywhere, or as long
 * as there is an event with RETAIN in it that was not read; else the position follows what is
 * durable.  Readers are opened before the SUBACK of the first subscription leaves: so nobody misses
 * what was published after it.  Whether a topic is wanted is remembered per name of the segment,
 * for the present version of the subscription tree: an event that nobody wants costs two
 * comparisons.
 *
 * What persistent sessions are owed, and what is retained, is copied: a copy record in
 * the own lane, and that is what is applied (apply.c).  So the own lane alone is the
 * order of everything that happens to the shard's sessions, and a start needs no other.
 * How far a lane was read is known from its last copy, and from the checkpoint; what is
 * behind that is read at the next start, before anybody is accepted.
 *
 * QoS 0 messages are passed over; they came through the mailbox at once (mailbox.c).
 * No Local does not arise: a client's own publishes are in the lane of its home.
 *
 * Rejected: copying QoS 1 messages into the mailbox when they become durable.  Whoever
 * is slow would have to be waited for, or would lose messages that were acknowledged.
 *
 * Rejected: noting in the own lane only which range of another one was applied.  A start
 * would have to read every lane in step, and a retired segment would be two lanes' affair.
 */
#include "broker/foreign_internal.h"
#include "broker/keep_internal.h"

enum {
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

/* Into the own lane, and then what it means.  FULL: not now. */
static enum mr_err copy_append(struct mr_shard *shard, uint32_t lane, const struct mr_event *event,
                               const struct mr_message *message)
{
    struct mr_control copy = {
        .kind = MR_CONTROL_COPY,
        .flags = (uint8_t)(event->qos | (event->retain ? MR_CONTROL_COPY_RETAIN : 0)),
        .client = event->client,
        .username = event->username,
        .will_topic = event->topic,
        .will_props = event->properties,
        .will_payload = event->payload,
        .lane = lane,
        .seq = event->seq,
        .received_us = event->received_us};
    uint64_t seq = 0;

    if (shard->stalled || checkpoint_is_behind(shard, message) || !reserve_for(shard, message)) {
        shard_stall(shard);
        return MR_ERR_FULL;
    }
    enum mr_err err = control_append(shard, &copy, &seq);
    if (err == MR_OK) {
        event_apply(shard, message, shard->index, seq, true);
    } else if (err == MR_ERR_REJECT) {
        mr_metric_add(shard->metrics.dropped_large, 1); /* larger than a record, as a copy */
        err = MR_OK;
    }
    return err;
}

/* One event.  `live`: for the subscribers of now too. */
static enum mr_err event_take(struct mr_shard *shard, uint32_t lane, const struct mr_event *event,
                              bool live)
{
    const struct mr_view *view = &shard->foreign[lane].view;
    struct mr_message message = message_of(event);
    bool wanted = event->qos != 0 && name_is_wanted(shard, view, event);

    if (event->retain || (wanted && event_is_owed(shard, &message))) {
        enum mr_err err = copy_append(shard, lane, event, &message);
        if (err != MR_OK) {
            return err;
        }
        shard->foreign[lane].pos = event->seq; /* a checkpoint may come before the view ends */
        shard->foreign[lane].pos_told = event->seq;
    }
    if (wanted && live) {
        deliver_now(shard, &message, true);
    }
    return MR_OK;
}

/* The rest of the open view.  FULL: it stays open, at the event that has no room. */
static enum mr_err view_take(struct mr_shard *shard, uint32_t lane, bool live)
{
    struct foreign_lane *foreign = &shard->foreign[lane];
    struct mr_event event;
    const bool groups = !live || shares_any(shard->broker->shares);

    for (;;) {
        struct mr_view_at before = foreign->at;
        if (!(groups ? mr_view_record : mr_view_event)(&foreign->view, &foreign->at, &event)) {
            break;
        }
        if (groups && event.type != MR_RECORD_EVENT) {
            enum mr_err err = share_take(shard, lane, &event, live);
            if (err != MR_OK) {
                foreign->at = before;
                foreign->pos = event.seq - 1;
                mr_reader_done(foreign->reader, foreign->pos);
                return err;
            }
            continue;
        }
        if ((event.qos == 0 && !event.retain) || event.type != MR_RECORD_EVENT) {
            continue;
        }
        if (event_take(shard, lane, &event, live) != MR_OK) {
            foreign->at = before;
            foreign->pos = event.seq - 1;
            mr_reader_done(foreign->reader, foreign->pos);
            return MR_ERR_FULL;
        }
    }
    foreign->pos = foreign->view.seq_last;
    mr_reader_done(foreign->reader, foreign->pos);
    foreign->view_open = false;
    mr_view_unpin(&foreign->view);
    return MR_OK;
}

/* The next view, open now.  Results as mr_reader_next(). */
static enum mr_err view_next(struct foreign_lane *foreign)
{
    enum mr_err err = mr_reader_next(foreign->reader, &foreign->view);

    if (err == MR_OK) {
        foreign->view_open = true;
        foreign->at = mr_view_begin(&foreign->view);
    } else if (err == MR_ERR_CORRUPT) {
        foreign->pos = foreign->view.seq_last; /* it has been logged */
        mr_reader_done(foreign->reader, foreign->pos);
    }
    return err;
}

void foreign_close(struct mr_shard *shard)
{
    for (uint32_t lane = 0; shard->foreign != NULL && lane < shard->broker->shard_count; lane++) {
        lane_read_close(&shard->foreign[lane]);
    }
    shard->foreign_left = false;
}

static uint64_t lane_durable(const struct mr_shard *shard, uint32_t lane)
{
    return mr_lane_durable(mr_journal_lane(shard->broker->run.journal, lane));
}

/* Is there anything to look for in the lane?  If not, the position follows it. */
static bool lane_is_needed(struct mr_shard *shard, uint32_t lane)
{
    struct foreign_lane *foreign = &shard->foreign[lane];
    uint64_t durable_seq = lane_durable(shard, lane); /* before what may be behind it */
    uint64_t retained_seq =
        atomic_load_explicit(&shard->broker->shards[lane]->retained_seq, memory_order_acquire);

    /* A member of a group that has just left may have been given something there. */
    if (mr_subtree_count(shard->subtree) != 0 || retained_seq > foreign->pos ||
        foreign->view_open || shares_any(shard->broker->shares)) {
        return true;
    }
    if (durable_seq > foreign->pos) {
        foreign->pos = durable_seq;
    }
    return false;
}

void foreign_follow(struct mr_shard *shard)
{
    for (uint32_t lane = 0; shard->foreign != NULL && lane < shard->broker->shard_count; lane++) {
        struct foreign_lane *foreign = &shard->foreign[lane];

        if (lane == shard->index) {
            continue;
        }
        bool needed = !shard->stopping && lane_is_needed(shard, lane);
        if (needed && foreign->reader == NULL) {
            lane_read_open(shard, foreign, lane);
            shard->foreign_left = true; /* a commit since then has not rung for us */
        } else if (needed && lane_read_is_due(foreign, shard->now_ns)) {
            shard->foreign_left = true;
        } else if (!needed && foreign->reader != NULL) {
            lane_read_close(foreign);
        }
    }
}

/* The disk does not give back what is durable: say so, and try again at the same place.  What is
 * damaged the journal says itself (CORRUPT); a read that failed may succeed.
 */
static void foreign_wait(struct mr_shard *shard, uint32_t lane)
{
    static struct mr_log_limit limit;
    uint64_t held = 0;

    if (mr_log_allowed(&limit, LOG_EVERY_US, &held)) {
        mr_log(
            MR_LOG_ERROR, "mqtt",
            "lane %u cannot be read for the subscribers of shard %u, who wait; it is tried again "
            "every second; check the disk",
            lane, shard->index);
    }
    lane_read_wait(shard, &shard->foreign[lane], lane);
}

static void deliver_lane(struct mr_shard *shard, uint32_t lane)
{
    struct foreign_lane *foreign = &shard->foreign[lane];

    for (int i = 0; i < VIEWS_PER_TURN; i++) {
        enum mr_err err = foreign->view_open ? MR_OK : view_next(foreign);

        if (err == MR_ERR_IO) {
            foreign_wait(shard, lane);
            return;
        }
        if (err == MR_OK && view_take(shard, lane, true) != MR_OK) {
            return; /* the end of the stall calls again */
        }
        if (err != MR_OK && err != MR_ERR_CORRUPT) {
            return; /* nothing more */
        }
    }
    shard->foreign_left = true;
}

void foreign_deliver(struct mr_shard *shard)
{
    shard->foreign_left = false;
    for (uint32_t lane = 0; shard->foreign != NULL && lane < shard->broker->shard_count; lane++) {
        if (shard->foreign[lane].reader != NULL && shard->foreign[lane].retry_ns == 0) {
            deliver_lane(shard, lane);
        }
    }
}

void foreign_tell(struct mr_shard *shard, uint64_t seq)
{
    if (shard->foreign == NULL) {
        return;
    }
    atomic_store_explicit(&shard->retained_seq, seq, memory_order_release);
    for (uint32_t to = 0; to < shard->broker->shard_count; to++) {
        shard->posted[to] = to != shard->index;
    }
    shard->posted_any = true;
}

/* ---- start and checkpoints ---- */

enum mr_err foreign_note(struct mr_shard *shard)
{
    uint8_t list[SHARDS_MAX * MR_CONTROL_POSITION_BYTES_MAX];
    uint8_t *at = list;
    uint64_t seq = 0;

    for (uint32_t lane = 0; shard->foreign != NULL && lane < shard->broker->shard_count; lane++) {
        const struct foreign_lane *foreign = &shard->foreign[lane];
        if (foreign->pos > foreign->pos_told) {
            at = mr_control_position_put(at, lane, foreign->pos);
        }
    }
    if (at == list) {
        return MR_OK;
    }
    struct mr_control control = {.kind = MR_CONTROL_READ,
                                 .list = mr_span_make(list, (size_t)(at - list))};
    enum mr_err err = control_append(shard, &control, &seq);
    for (uint32_t lane = 0; err == MR_OK && lane < shard->broker->shard_count; lane++) {
        shard->foreign[lane].pos_told = shard->foreign[lane].pos;
    }
    return err;
}

void foreign_is_read(struct mr_shard *shard, uint32_t lane, uint64_t seq)
{
    if (shard->foreign == NULL || lane >= shard->broker->shard_count) {
        return;
    }
    struct foreign_lane *foreign = &shard->foreign[lane];
    if (seq > foreign->pos) {
        foreign->pos = seq;
        foreign->pos_told = seq;
    }
}

/* What this shard has stored of the lane counts from now on; the cursor is the least of
 * all shards'.  One of each shard would be more cursors than there are with 32 shards.
 * With it stands of which epoch's shards that is: where the one before it ended.
 */
static void foreign_store(struct mr_shard *shard, uint32_t lane)
{
    struct mr_broker *broker = shard->broker;
    uint64_t *stored = &broker->foreign_stored[(size_t)lane * broker->shard_count];
    struct mr_cursor *cursor = shard->foreign[lane].cursor;
    uint64_t least = UINT64_MAX;

    mr_mutex_lock(&broker->foreign_mutex);
    stored[shard->index] = shard->foreign[lane].pos_stored;
    for (uint32_t i = 0; i < broker->shard_count; i++) {
        if (i != lane && stored[i] < least) {
            least = stored[i];
        }
    }
    if (least > mr_cursor_get(cursor)) {
        uint64_t before = mr_journal_epoch_end(broker->run.journal, broker->epoch - 1, lane);
        mr_cursor_set_with(cursor, least, before);
    }
    mr_mutex_unlock(&broker->foreign_mutex);
}

enum mr_err foreign_cursors_open(struct mr_shard *shard, struct mr_error *why)
{
    enum mr_err err = MR_OK;
    bool is_new = false;

    for (uint32_t lane = 0;
         shard->foreign != NULL && lane < shard->broker->shard_count && err == MR_OK; lane++) {
        struct foreign_lane *foreign = &shard->foreign[lane];

        if (lane != shard->index) {
            err = mr_cursor_open(shard->broker->run.journal, FOREIGN_CURSOR, lane, MR_START_NOW,
                                 &foreign->cursor, &is_new, why);
        }
        if (foreign->cursor != NULL) {
            foreign->pos_stored = mr_cursor_get(foreign->cursor);
            foreign_store(shard, lane);
        }
    }
    return err;
}

/* Everything behind the position that is durable now, before anybody is accepted, as far as
 * there is room for it: only the turns of the shard make more (commits, checkpoints), so what is
 * left is read in them, like what is new.
 */
static void catch_up(struct mr_shard *shard, uint32_t lane)
{
    struct foreign_lane *foreign = &shard->foreign[lane];
    uint64_t durable_seq = lane_durable(shard, lane);

    if (foreign->pos >= durable_seq) {
        return;
    }
    lane_read_open(shard, foreign, lane);
    while (foreign->pos < durable_seq) {
        enum mr_err err = view_next(foreign);

        if (err == MR_OK && view_take(shard, lane, false) != MR_OK) {
            return; /* the end of the stall calls again */
        }
        if (err != MR_OK && err != MR_ERR_CORRUPT) {
            break;
        }
    }
    lane_read_close(foreign);
}

void foreign_restored(struct mr_shard *shard)
{
    /* Any of it may be with RETAIN, for those who cannot read it now. */
    atomic_store_explicit(&shard->retained_seq, mr_lane_durable(shard->lane), memory_order_release);
    for (uint32_t lane = 0; shard->foreign != NULL && lane < shard->broker->shard_count; lane++) {
        struct foreign_lane *foreign = &shard->foreign[lane];

        if (lane == shard->index) {
            continue;
        }
        if (foreign->cursor != NULL && mr_cursor_get(foreign->cursor) > foreign->pos) {
            foreign->pos = mr_cursor_get(foreign->cursor);
        }
        if (foreign->pos > lane_durable(shard, lane)) { /* an older copy of the journal */
            foreign->pos = lane_durable(shard, lane);
        }
        catch_up(shard, lane);
        shard->foreign_left |= foreign->reader != NULL; /* no room for all of it yet */
    }
}

/* Also what is with RETAIN and on its way to the disk, however long that takes. */
static bool lane_is_read_up(const struct mr_shard *shard, uint32_t lane)
{
    uint64_t pos = shard->foreign[lane].pos;

    return pos >= lane_durable(shard, lane) &&
           pos >= atomic_load_explicit(&shard->broker->shards[lane]->retained_seq,
                                       memory_order_acquire);
}

bool foreign_is_read_up(const struct mr_shard *shard)
{
    for (uint32_t lane = 0; shard->foreign != NULL && lane < shard->broker->shard_count; lane++) {
        if (lane != shard->index && !lane_is_read_up(shard, lane)) {
            return false;
        }
    }
    return true;
}

bool foreign_has_moved(const struct mr_shard *shard)
{
    for (uint32_t lane = 0; shard->foreign != NULL && lane < shard->broker->shard_count; lane++) {
        const struct foreign_lane *foreign = &shard->foreign[lane];
        if (foreign->cursor != NULL && foreign->pos_stored < foreign->pos) {
            return true;
        }
    }
    return false;
}

void foreign_sealed(struct mr_shard *shard)
{
    for (uint32_t lane = 0; shard->foreign != NULL && lane < shard->broker->shard_count; lane++) {
        shard->foreign[lane].pos_sealed = shard->foreign[lane].pos;
    }
}

void foreign_checkpointed(struct mr_shard *shard)
{
    for (uint32_t lane = 0; shard->foreign != NULL && lane < shard->broker->shard_count; lane++) {
        struct foreign_lane *foreign = &shard->foreign[lane];
        if (foreign->cursor != NULL && foreign->pos_sealed > foreign->pos_stored) {
            foreign->pos_stored = foreign->pos_sealed;
            foreign_store(shard, lane);
        }
    }
}
