/* rehome.c - another number of shards: every session goes to the lane of its new home.
 *
 *     layout of epoch e ─▶ its state at the end of e ─▶ new stores ─▶ one rename: the layout
 *
 * DESIGN
 *
 * A client is at home in lane hash(client id) mod count, so another count sends most sessions
 * elsewhere.  What they are is in the stores of the old layout and in the records behind them,
 * up to the end of the old epoch; nothing of the new epoch is in the journal yet, or it would
 * have been of the new layout.  So each old shard is made once more as it was (without network
 * and thread), given what it was owed from the other lanes, and written into the stores of a new
 * layout, which replace the old ones by one rename (layout.c).  Then the start goes on as always,
 * with stores whose vector is the end of all lanes.
 *
 * A crash before the rename leaves the old layout as it was, whatever count comes next.  A crash
 * after it leaves the new one.  The journal is only read, so nothing happens twice.
 *
 * Messages and sessions keep their names, which are seqs of the lane in which they were
 * recorded: (lane, seq) is one record for ever, in whichever shard.  Ordinals stay, hence packet
 * ids.  An event that a shard was owed from another lane has no copy record here; its name is
 * that of the event.  Retained messages are in all lanes; the first one's are taken for all.
 *
 * If the layout is several epochs behind (an older copy of the folder, or it was removed), it is
 * moved from each epoch that has records to the next.
 *
 * Rejected: records that hand a session from lane to lane.  Both lanes would have to be replayed
 * in step for ever after, and a crash between the two would leave one session in two places.
 */
#include "broker/foreign_internal.h"
#include "broker/layout_internal.h"

#include "os/clock.h"

/* The last record of the epoch in this lane. */
static uint64_t lane_end(struct mr_journal *journal, uint32_t epoch, uint32_t lane)
{
    uint64_t durable_seq = mr_lane_durable(mr_journal_lane(journal, lane));
    uint64_t end = mr_journal_epoch_end(journal, epoch, lane);

    return end < durable_seq ? end : durable_seq;
}

static uint64_t end_of(void *arg, uint32_t lane)
{
    const struct moving *moving = arg;

    return lane_end(moving->broker->run.journal, moving->old->epoch, lane);
}

/* As far as all old shards have read `lane`; 0: nothing is known.  The cursor of a later epoch says
 * nothing of that: what they had not read by their end was moved, without a record in their lanes.
 */
static uint64_t old_have_read(const struct moving *moving, uint32_t lane)
{
    struct mr_journal *journal = moving->broker->run.journal;
    struct mr_cursor *cursor = mr_cursor_find(journal, FOREIGN_CURSOR, lane);
    uint64_t before = 0;
    uint64_t seq = cursor == NULL ? 0 : mr_cursor_get_with(cursor, &before);

    return before < lane_end(journal, moving->old->epoch, lane) ? seq : 0;
}

/* ---- a shard as it was ---- */

static enum mr_err old_take_event(struct moving *moving, struct mr_shard *shard, uint32_t lane,
                                  const struct mr_event *event)
{
    struct mr_message message = message_of(event);
    struct mr_control give;

    if (share_get(event, &give)) {
        share_apply(shard, &give, lane, event->seq);
        left_note(moving, shard, &give, lane, event->seq);
    } else if (event->type == MR_RECORD_EVENT &&
               (event->retain || event_is_owed(shard, &message))) {
        event_apply(shard, &message, lane, event->seq, true);
    }
    shard->foreign[lane].pos = event->seq;
    return shard->restore_short ? MR_ERR_FULL : MR_OK;
}

/* What it was owed from `lane` when the epoch ended. */
static enum mr_err old_take_lane(struct moving *moving, struct mr_shard *shard, uint32_t lane,
                                 uint64_t upto, struct mr_error *why)
{
    struct foreign_lane *foreign = &shard->foreign[lane];
    struct mr_reader *reader = NULL;
    struct mr_view view;
    struct mr_event event;
    enum mr_err err =
        mr_reader_open(&reader, shard->broker->run.journal, lane, foreign->pos + 1, NULL, why);

    if (err != MR_OK) {
        return err;
    }
    while (err == MR_OK && foreign->pos < upto) {
        err = mr_reader_next(reader, &view);
        if (err == MR_OK) {
            struct mr_view_at at = mr_view_begin(&view);
            while (err == MR_OK && mr_view_record(&view, &at, &event) && event.seq <= upto) {
                err = old_take_event(moving, shard, lane, &event);
            }
            mr_view_unpin(&view);
        }
        if (err == MR_OK || err == MR_ERR_CORRUPT) {
            foreign->pos = view.seq_last < upto ? view.seq_last : upto;
            if (!moving->left_here) { /* only the journal has it, if this start is cut short */
                restore_relieve(shard, lane_end(shard->broker->run.journal, shard->broker->epoch,
                                                shard->index));
            }
            err = MR_OK; /* the journal has said what is lost */
        }
    }
    mr_reader_close(reader);
    return err == MR_ERR_IO
               ? mr_error_set(why, MR_ERR_IO, "the journal cannot be read; check the disk")
               : MR_OK;
}

static enum mr_err old_restore(struct moving *moving, struct mr_shard *shard, struct mr_error *why)
{
    const struct mr_broker *old = shard->broker;
    struct mr_journal *journal = old->run.journal;
    struct restored restored;
    enum mr_err err = restore_state(shard, mr_cursor_find(journal, SESSIONS_CURSOR, shard->index),
                                    lane_end(journal, old->epoch, shard->index), &restored, why);

    shard->restoring = true;
    moving->left_here = false;
    for (uint32_t lane = 0; shard->foreign != NULL && lane < old->shard_count && err == MR_OK;
         lane++) {
        if (lane != shard->index) {
            uint64_t seq = old_have_read(moving, lane);
            shard->foreign[lane].pos =
                seq > shard->foreign[lane].pos ? seq : shard->foreign[lane].pos;
            err = old_take_lane(moving, shard, lane, lane_end(journal, old->epoch, lane), why);
        }
    }
    if (err == MR_OK) {
        err = left_place(moving, shard, why);
    }
    return err == MR_OK && shard->restore_short ? restore_fault(shard, why) : err;
}

static enum mr_err old_store_open(struct moving *moving, struct mr_shard *shard,
                                  struct mr_error *why)
{
    char path[SESSIONS_PATH_BYTES];
    enum mr_err err = mr_wake_open(&shard->wake, why);

    if (err != MR_OK) {
        shard->wake.fd = -1;
        return err;
    }
    if (!moving->has_stores) {
        return MR_OK;
    }
    layout_path(path, moving->old->run.sessions_path, false, shard->index);
    return mr_store_open(&shard->store,
                         &(struct mr_store_options){.path = path, .owner = &shard->wake}, why);
}

/* How far groups were given its lane, and those it has of lanes that had ended. */
static void routes_note(struct moving *moving, const struct mr_shard *shard)
{
    struct mr_journal *journal = moving->broker->run.journal;

    moving->routes[shard->index] = shard->route.pos;
    for (uint32_t i = 0; i < shard->ended_count; i++) {
        const struct ended_lane *ended = &shard->ended[i];
        const struct mr_cursor *cursor = mr_cursor_find(journal, SESSIONS_CURSOR, ended->lane);
        uint64_t seq = cursor == NULL ? 0 : mr_cursor_get(cursor);

        moving->routes[ended->lane] = seq > ended->route.pos ? seq : ended->route.pos;
    }
}

/* One old shard: make it, copy it. */
static enum mr_err old_move(struct moving *moving, uint32_t index, struct mr_error *why)
{
    struct mr_shard *shard = mr_alloc(sizeof(*shard));

    shard_state_open(shard, moving->old, index, moving->old->run.memory_bytes);
    shard_metrics_make(shard, 0);
    enum mr_err err = old_store_open(moving, shard, why);
    if (err == MR_OK) {
        err = old_restore(moving, shard, why);
    }
    routes_note(moving, shard);
    memcpy(moving->steps, shard->steps, sizeof(moving->steps));
    for (uint32_t lane = 0; lane < moving->lanes && err == MR_OK && !moving->failed; lane++) {
        moving_copy(moving, shard, lane);
    }
    shard_sessions_close(shard);
    share_lanes_close(shard);
    shard_state_close(shard);
    if (shard->wake.fd >= 0) {
        mr_wake_close(&shard->wake);
    }
    mr_free(shard);
    return err;
}

/* ---- the change ---- */

static enum mr_err stores_open(struct moving *moving, struct mr_error *why)
{
    char path[SESSIONS_PATH_BYTES];
    enum mr_err err = MR_OK;

    moving->stores = mr_alloc(moving->lanes * sizeof(struct mr_store *));
    for (uint32_t lane = 0; lane < moving->lanes && err == MR_OK; lane++) {
        layout_path(path, moving->broker->run.sessions_path, true, lane);
        err = mr_store_open(&moving->stores[lane],
                            &(struct mr_store_options){.path = path, .manual = true}, why);
    }
    return err;
}

static void stores_close(struct moving *moving)
{
    for (uint32_t lane = 0; moving->stores != NULL && lane < moving->lanes; lane++) {
        mr_store_close(moving->stores[lane]);
    }
    mr_free(moving->stores);
    moving->stores = NULL;
}

/* Lanes that are none any more and have not been given to groups to their ends: each is the task
 * of one new shard.
 */
static void vector_ended(struct moving *moving, struct vector *vector)
{
    uint32_t total = mr_journal_lane_total(moving->broker->run.journal);

    vector->ended_count = 0;
    for (uint32_t lane = moving->lanes; lane < total && vector->ended_count < SHARDS_MAX; lane++) {
        if (lane % moving->lanes == vector->home && moving->routes[lane] < end_of(moving, lane)) {
            vector->ended[vector->ended_count++] =
                (struct ended_pos){.lane = lane, .seq = moving->routes[lane]};
        }
    }
}

static void vectors_write(struct moving *moving)
{
    bool merges = moving->broker->limits.overlapping == MR_OVERLAPPING_MERGED;
    struct vector vector = {.journal = *mr_journal_identity(moving->broker->run.journal),
                            .overlap = merges ? OVERLAP_MERGED : OVERLAP_EACH,
                            .lanes = moving->lanes,
                            .epoch = moving->epoch};

    for (uint32_t lane = 0; lane < moving->lanes && !moving->failed; lane++) {
        vector.home = lane;
        vector.route = moving->routes[lane];
        vector_ended(moving, &vector);
        row_vector_put(moving->stores[lane], &vector, end_of, moving);
        row_steps_put(moving->stores[lane], moving->steps);
        moving_flush(moving, lane, 0);
    }
}

/* All old shards, into stores that are made for it. */
static enum mr_err old_move_all(struct moving *moving, struct mr_error *why)
{
    enum mr_err err = stores_open(moving, why);

    moving->sessions = 0;
    moving->deliveries = 0;
    for (uint32_t lane = 0; lane < moving->old->shard_count && err == MR_OK && !moving->failed;
         lane++) {
        err = old_move(moving, lane, why);
    }
    return err;
}

/* The state of all old shards, in the stores of the new ones, which take their place. */
static enum mr_err move(struct moving *moving, struct mr_error *why)
{
    const char *sessions = moving->broker->run.sessions_path;
    enum mr_err err = old_move_all(moving, why);

    if (err == MR_OK && !moving->failed && left_again(moving)) {
        stores_close(moving);
        err = layout_settle(sessions, why); /* what was written is of no worth */
        if (err == MR_OK) {
            err = old_move_all(moving, why);
        }
    }
    if (err == MR_OK) {
        vectors_write(moving);
    }
    stores_close(moving);
    if (err == MR_OK && moving->failed) {
        err = mr_error_set(why, MR_ERR_IO,
                           "%s: the sessions cannot be written for another number of shards; "
                           "nothing is lost: check the disk and its room, and start again",
                           sessions);
    }
    if (err == MR_OK) {
        err = layout_decide(sessions, why);
    }
    return err == MR_OK ? layout_settle(sessions, why) : err;
}

static enum mr_err layout_move(struct mr_broker *broker, struct vector *layout, bool has_stores,
                               uint32_t epoch, struct mr_error *why)
{
    int64_t began_ns = mr_clock_mono_ns();
    struct mr_broker *old = mr_alloc(sizeof(*old));
    struct moving moving = {.broker = broker,
                            .old = old,
                            .has_stores = has_stores,
                            .epoch = epoch,
                            .lanes = mr_journal_epoch_lanes(broker->run.journal, epoch)};

    old->run = broker->run;
    old->limits = broker->limits;
    old->shares = shares_open(old->run.memory_bytes);
    old->shard_count = layout->lanes;
    old->epoch = layout->epoch;
    moving.routes = mr_alloc(mr_journal_lane_total(old->run.journal) * sizeof(*moving.routes));
    for (uint32_t lane = 0; lane < mr_journal_lane_total(old->run.journal); lane++) {
        moving.routes[lane] = end_of(&moving, lane); /* of lanes that are new, nothing is left */
    }
    enum mr_err err = move(&moving, why);
    if (err == MR_OK && moving.sessions != 0) {
        mr_log(MR_LOG_INFO, "sessions",
               "%llu sessions with %llu queued messages moved from %u shards to %u, %lld ms",
               (unsigned long long)moving.sessions, (unsigned long long)moving.deliveries,
               layout->lanes, moving.lanes, (long long)((mr_clock_mono_ns() - began_ns) / 1000000));
    }
    layout->lanes = moving.lanes;
    layout->epoch = epoch;
    shares_close(old->shares);
    left_end(&moving);
    mr_free(moving.routes);
    mr_free(old);
    return err;
}

/* ---- from which to which ---- */

/* Does the journal still have records of it? */
static bool epoch_has_records(struct mr_journal *journal, uint32_t epoch)
{
    for (uint32_t lane = 0; lane < mr_journal_lane_total(journal); lane++) {
        uint64_t end = lane_end(journal, epoch, lane);
        uint64_t before = epoch == 1 ? 0 : mr_journal_epoch_end(journal, epoch - 1, lane);
        struct mr_lane_stats stats;

        mr_lane_stats(mr_journal_lane(journal, lane), &stats);
        if (end > before && stats.seq_oldest <= end) {
            return true;
        }
    }
    return false;
}

/* The next epoch in which something may have happened. */
static uint32_t epoch_after(struct mr_journal *journal, uint32_t epoch)
{
    do {
        epoch += 1;
    } while (epoch < mr_journal_epoch(journal) && !epoch_has_records(journal, epoch));
    return epoch;
}

/* The first one that is remembered and has records, else the present one. */
static uint32_t epoch_first(struct mr_journal *journal)
{
    uint32_t epoch = 1;

    while (epoch < mr_journal_epoch(journal) && mr_journal_epoch_lanes(journal, epoch) == 0) {
        epoch += 1;
    }
    return epoch == mr_journal_epoch(journal) || epoch_has_records(journal, epoch)
               ? epoch
               : epoch_after(journal, epoch);
}

/* Of which epoch the stores are; those of a millrace that did not say so of the last one with
 * as many lanes, for it refused to start with another number.
 */
static enum mr_err layout_date(struct mr_journal *journal, struct vector *layout,
                               struct mr_error *why)
{
    uint32_t now = mr_journal_epoch(journal);

    if (layout->lanes > mr_journal_lane_total(journal)) {
        return mr_error_set(why, MR_ERR_CONFIG,
                            "the session stores are of %u shards, and this journal never had as "
                            "many: it is an older copy; set `gateway.shards: %u` for one start, or "
                            "move the sessions folder away to start without them",
                            layout->lanes, layout->lanes);
    }
    if (layout->epoch > now) { /* an older copy of the journal */
        layout->epoch = now;
    }
    if (layout->epoch == 0) {
        layout->epoch = now;
        while (layout->epoch > 1 &&
               mr_journal_epoch_lanes(journal, layout->epoch) != layout->lanes) {
            layout->epoch -= 1;
        }
    }
    return MR_OK;
}

enum mr_err rehome(struct mr_broker *broker, struct mr_error *why)
{
    struct mr_journal *journal = broker->run.journal;
    const char *sessions = broker->run.sessions_path;
    struct vector layout;

    if (sessions == NULL) {
        return MR_OK;
    }
    enum mr_err err = layout_settle(sessions, why);
    if (err == MR_OK) {
        err = layout_find(sessions, mr_journal_identity(journal), &layout, why);
    }
    if (err != MR_OK) {
        return err;
    }
    bool has_stores = layout.lanes != 0;
    if (has_stores) {
        err = layout_date(journal, &layout, why);
    } else {
        layout.epoch = epoch_first(journal);
        layout.lanes = mr_journal_epoch_lanes(journal, layout.epoch);
    }
    while (err == MR_OK && (layout.epoch < broker->epoch || layout.lanes != broker->shard_count)) {
        uint32_t epoch =
            layout.epoch < broker->epoch ? epoch_after(journal, layout.epoch) : broker->epoch;

        if (mr_journal_epoch_lanes(journal, epoch) == layout.lanes) {
            layout.epoch = epoch; /* everybody is at home where he was */
        } else {
            err = layout_move(broker, &layout, has_stores, epoch, why);
            has_stores = true;
        }
    }
    return err == MR_OK ? layout_trim(sessions, broker->shard_count, why) : err;
}
