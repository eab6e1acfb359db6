/* restore.c - sessions and retained messages at start: the store, then the journal's tail.
 *
 * DESIGN
 *
 * The rows of the store (rows_load.c), then every record behind the vector is applied as it
 * was live.  If the tail is long (the store was
 * away) the store is written on the way, so that memory does not have to hold it.
 *
 * The cursor may be far ahead of the vector: nothing had changed in between, which then need not be
 * read.  That holds for the store that the cursor was written with, and for what it became later;
 * the cursor says which that is.  Where the folder was moved away or is an older copy it says
 * nothing, and goes back to where this store is, durably and before anything else is done: so that
 * the journal holds what is read now, until a store has it, however often the start is cut short.
 *
 * When all shards are so far, hence all groups are known, each reads on in the others' lanes and in
 * those that have ended.  Last, sessions that were connected when the process ended are
 * closed: their time begins now, and what was in their window may have been sent.
 */
#include "broker/inbound_internal.h"
#include "broker/keep_internal.h"
#include "broker/outgoing_internal.h"
#include "broker/retained_internal.h"

#include "os/clock.h"
#include "os/file.h"

enum { RESTORE_AT_QUEUED = 100000 };

/* ---- the tail ---- */

static void apply_event(struct mr_shard *shard, const struct mr_event *event)
{
    struct session *session = NULL;
    struct mr_message message = message_of(event);

    if (event->will || event->qos == 2) {
        session = session_find(shard, event->client);
    }
    if (session != NULL && session->keep != NULL) {
        keep_mark(shard, session->keep);
        if (event->will && session->will != NULL) { /* it has been published */
            stored_free(&shard->pool, session->will);
            session->will = NULL;
        }
        if (event->qos == 2 && !event->will) {
            if (inbound_reserve(&shard->pool, &session->inbound)) {
                inbound_add(session->inbound, event->raw.packet_id);
            } else {
                shard->restore_short = true;
            }
        }
    }
    event_apply(shard, &message, shard->index, event->seq, false);
}

static void apply_record(struct mr_shard *shard, const struct mr_event *record)
{
    struct mr_control control;

    if (record->type == MR_RECORD_EVENT) {
        apply_event(shard, record);
        return;
    }
    enum mr_err err = mr_control_get(record->type, record->raw.body, &control);
    if (err == MR_OK) {
        control_apply(shard, &control, record->received_us, record->seq);
    } else if (err == MR_ERR_CORRUPT) {
        mr_log(MR_LOG_ERROR, "sessions", "record %llu of lane %u does not parse; please report",
               (unsigned long long)record->seq, shard->index);
    }
}

static uint64_t apply_view(struct mr_shard *shard, const struct mr_view *view, uint64_t upto)
{
    struct mr_view_at at = mr_view_begin(view);
    struct mr_event record;
    uint64_t records = 0;

    while (mr_view_record(view, &at, &record) && record.seq <= upto) {
        apply_record(shard, &record);
        records += 1;
    }
    return records;
}

void restore_relieve(struct mr_shard *shard, uint64_t seq)
{
    if (shard->store != NULL && !shard->restore_short &&
        (shard->fresh_bytes > checkpoint_at_bytes(shard) || shard->unstored > RESTORE_AT_QUEUED)) {
        checkpoint_now(shard, seq);
    }
}

/* The records from `seq_from` to `upto`. */
static enum mr_err apply_tail(struct mr_shard *shard, uint64_t seq_from, uint64_t upto,
                              uint64_t *records, struct mr_error *why)
{
    struct mr_reader *reader = NULL;
    struct mr_view view = {.seq_last = seq_from - 1};
    enum mr_err err =
        mr_reader_open(&reader, shard->broker->run.journal, shard->index, seq_from, NULL, why);

    if (err != MR_OK) {
        return err;
    }
    while (view.seq_last < upto && !shard->restore_short &&
           ((err = mr_reader_next(reader, &view)) == MR_OK || err == MR_ERR_CORRUPT)) {
        if (err == MR_ERR_CORRUPT) {
            continue; /* the journal has said what is lost */
        }
        *records += apply_view(shard, &view, upto);
        mr_view_unpin(&view);
        restore_relieve(shard, view.seq_last < upto ? view.seq_last : upto);
    }
    mr_reader_close(reader);
    return err == MR_ERR_IO
               ? mr_error_set(why, MR_ERR_IO, "the journal cannot be read; check the disk")
               : MR_OK;
}

/* ---- who was connected ---- */

static void close_all(struct mr_shard *shard)
{
    size_t slots = shard->sessions == NULL ? 0 : shard->sessions_mask + 1;

    for (size_t i = 0; i < slots; i++) {
        struct session *session = shard->sessions[i];
        while (session != NULL) {
            struct session *next = session->table_next;
            if (session->keep != NULL && session->keep->closed_us == 0) {
                struct client gone = {.shard = shard};
                queue_may_have_sent(session->keep);
                session_leave(shard, session, &gone);
            } else if (session->keep != NULL) {
                expiry_arm(shard, session->keep); /* its groups are known now */
            }
            session = next;
        }
    }
}

static void restored_say(const struct mr_shard *shard, const struct restored *restored)
{
    if (shard->keeps_count + shard->retained_count == 0) {
        return;
    }
    mr_log(MR_LOG_INFO, "sessions",
           "%llu sessions with %llu queued messages, %llu retained messages; %llu records of the "
           "journal applied, %lld ms",
           (unsigned long long)shard->keeps_count, (unsigned long long)shard->queued,
           (unsigned long long)shard->retained_count, (unsigned long long)restored->records,
           (long long)((mr_clock_mono_ns() - restored->began_ns) / 1000000));
}

enum mr_err restore_fault(const struct mr_shard *shard, struct mr_error *why)
{
    if (shard->restore_short) {
        return mr_error_set(why, MR_ERR_CONFIG,
                            "memory is too small for the sessions, queues and retained messages "
                            "that there are; set a larger `gateway.memory`");
    }
    return mr_error_set(why, MR_ERR_CORRUPT,
                        "%s: the session store cannot be read; check the disk and start again; if "
                        "it stays so, move the folder away to start without it",
                        shard->broker->run.sessions_path);
}

/* Where groups go on in the own lane: the store says it, the cursor is never ahead, and
 * GIVE records of the tail move it on.  A store that was never written says: at the beginning.
 */
static void route_begin(struct mr_shard *shard, const struct restored *restored,
                        uint64_t cursor_seq, uint64_t upto)
{
    uint64_t route = restored->rows.has_vector ? restored->rows.route
                     : shard->store != NULL    ? 0
                                               : upto;

    route = cursor_seq > route ? cursor_seq : route;
    shard->route.pos = route < upto ? route : upto;
}

/* What the store lacks and the journal does not have any more, up to `upto`. */
static void gone_say(const struct mr_shard *shard, uint64_t store_seq, uint64_t upto)
{
    struct mr_lane_stats stats;

    mr_lane_stats(shard->lane, &stats);
    uint64_t last = stats.seq_oldest - 1 < upto ? stats.seq_oldest - 1 : upto;
    if (shard->broker->run.sessions_path != NULL && last > store_seq) {
        mr_log(MR_LOG_ERROR, "sessions",
               "%s: the store of lane %u is new or an older copy, and the journal has no records "
               "%llu to %llu any more: what they said of sessions, their queues and retained "
               "messages is lost; if there is a newer copy, put it there and start again",
               shard->broker->run.sessions_path, shard->index, (unsigned long long)(store_seq + 1),
               (unsigned long long)last);
    }
}

/* The tail begins behind *seq, which the store has, or where the cursor says. */
static enum mr_err tail_begin(const struct mr_shard *shard, struct mr_cursor *cursor,
                              bool has_vector, uint64_t upto, uint64_t *seq, struct mr_error *why)
{
    uint64_t store_seq = UINT64_MAX;
    uint64_t cursor_seq = cursor == NULL ? 0 : mr_cursor_get_with(cursor, &store_seq);

    if (has_vector && *seq >= store_seq) {
        *seq = cursor_seq > *seq ? cursor_seq : *seq; /* nothing had changed up to there */
        return MR_OK;
    }
    gone_say(shard, *seq, upto);
    if (cursor_seq <= *seq || mr_cursor_back(cursor, *seq) == MR_OK) {
        return MR_OK;
    }
    return mr_error_set(why, MR_ERR_IO,
                        "the journal's cursors cannot be written: %s; check the disk",
                        mr_file_last_cause());
}

enum mr_err restore_state(struct mr_shard *shard, struct mr_cursor *cursor, uint64_t upto,
                          struct restored *out, struct mr_error *why)
{
    *out = (struct restored){.began_ns = mr_clock_mono_ns()};
    shard->restoring = true;
    bool loaded = shard->store == NULL || rows_load(shard, &out->rows);
    enum mr_err err = MR_OK;
    if (loaded) {
        uint64_t seq = out->rows.seq;
        uint64_t durable_seq = mr_lane_durable(shard->lane);
        upto = upto < durable_seq ? upto : durable_seq;
        route_begin(shard, out, cursor == NULL ? 0 : mr_cursor_get(cursor), upto);
        if (seq > upto) { /* an older copy of the journal: go on from what it has */
            seq = upto;
            checkpoint_now(shard, seq);
        }
        shard->store_seq = seq;
        err = tail_begin(shard, cursor, out->rows.has_vector, upto, &seq, why);
        if (err == MR_OK) {
            err = apply_tail(shard, seq + 1, upto, &out->records, why);
        }
    }
    shard->restoring = false;
    retained_find_end(shard);
    return !loaded || shard->restore_short ? restore_fault(shard, why) : err;
}

enum mr_err restore(struct mr_shard *shard, struct restored *out, struct mr_error *why)
{
    enum mr_err err = restore_state(shard, shard->cursor, UINT64_MAX, out, why);

    return err == MR_OK ? share_ended_open(shard, why) : err;
}

void restore_others(struct mr_shard *shard, const struct restored *restored)
{
    if (shard->store != NULL && (restored->rows.lanes != shard->broker->shard_count ||
                                 restored->rows.epoch != shard->broker->epoch)) {
        checkpoint_now(shard, mr_lane_durable(shard->lane)); /* it says which layout it is of */
    }
    merge_follow(shard); /* before anything else is appended */
    share_ended_catch_up(shard);
    foreign_restored(shard);
}

void restore_end(struct mr_shard *shard, const struct restored *restored)
{
    close_all(shard);
    restored_say(shard, restored);
}
