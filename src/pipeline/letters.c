/* letters.c - dead letters that an operator has dealt with: retried, or dropped.
 *
 * DESIGN
 *
 * A letter leaves in one of two ways.  Those in front of all that stay are passed by the
 * cursor of the dead-letter journal; their segments are recycled.  One in the middle is
 * struck out by a record behind it (LETTERS_DONE, ranges of seqs), until the cursor can
 * pass it.  So the journal is never rewritten, and when it is full the oldest letters can
 * still be taken out, which needs no room.
 *
 * It is the worker that does it, because the lane is its own.  The caller waits.
 *
 * A crash in between finds a letter still there, or gone, never half of it.
 *
 * Before copies of letters are appended to the journal, that is noted (LETTERS_RETRY), so that a
 * start behind a crash finds those whose copy is there (app/letters_resume.c).
 */
#include "pipeline/bridge_internal.h"

#include "os/clock.h"
#include "os/file.h"

#include <stdlib.h>

enum { RUN_BYTES_MAX = 20 };

/* ---- sets of seqs ---- */

void mr_seqs_add(struct seqs *set, uint64_t first, uint64_t last)
{
    if (set->count == set->room) {
        set->room = set->room == 0 ? 64 : set->room * 2;
        set->items = mr_realloc(set->items, set->room * sizeof(*set->items));
    }
    set->items[set->count++] = (struct mr_seq_range){.first = first, .last = last};
}

static int range_order(const void *a, const void *b)
{
    const struct mr_seq_range *x = a;
    const struct mr_seq_range *y = b;

    return x->first < y->first ? -1 : x->first > y->first;
}

/* In order, and none touches the next. */
static void seqs_sort(struct seqs *set)
{
    size_t kept = 0;

    if (set->count == 0) {
        return;
    }
    qsort(set->items, set->count, sizeof(*set->items), range_order);
    for (size_t i = 1; i < set->count; i++) {
        struct mr_seq_range *last = &set->items[kept];
        if (set->items[i].first <= last->last + 1) {
            last->last = set->items[i].last > last->last ? set->items[i].last : last->last;
        } else {
            set->items[++kept] = set->items[i];
        }
    }
    set->count = kept + 1;
}

bool mr_seqs_has(const struct seqs *set, uint64_t seq)
{
    size_t low = 0;
    size_t high = set->count;

    while (low < high) {
        size_t middle = (low + high) / 2;
        if (set->items[middle].last < seq) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    return low < set->count && set->items[low].first <= seq;
}

void mr_seqs_free(struct seqs *set)
{
    mr_free(set->items);
    *set = (struct seqs){0};
}

/* ---- reading ---- */

bool mr_letters_done_get(struct mr_take *take, struct mr_seq_range *range)
{
    uint64_t count = 0;

    if (mr_take_left(take) == 0) {
        return false;
    }
    range->first = mr_take_varint(take);
    count = mr_take_varint(take);
    range->last = range->first + count - 1;
    return !take->failed && count != 0 && range->last >= range->first;
}

/* Walk what is durable in the dead-letter journal from `from` on. */
static enum mr_err letters_walk(struct mr_bridge *b, uint64_t from,
                                bool (*each)(void *arg, const struct mr_event *record), void *arg,
                                struct mr_error *why)
{
    struct mr_reader *reader;
    struct mr_view view;
    struct mr_reader_options options = {.pins_max = 1};
    bool more = true;
    enum mr_err err = mr_reader_open(&reader, b->dead.journal, 0, from, &options, why);

    if (err != MR_OK) {
        return err;
    }
    while (more && ((err = mr_reader_next(reader, &view)) == MR_OK || err == MR_ERR_CORRUPT)) {
        if (err == MR_ERR_CORRUPT) {
            continue; /* the journal has logged it; the letters lost are not known */
        }
        struct mr_view_at at = mr_view_begin(&view);
        struct mr_event record;
        while (more && mr_view_record(&view, &at, &record)) {
            more = each(arg, &record);
        }
        mr_view_unpin(&view);
    }
    mr_reader_close(reader);
    return !more || err == MR_ERR_AGAIN
               ? MR_OK
               : mr_error_set(why, err, "%s: cannot be read back: %s; check the disk", b->dead_path,
                              mr_file_last_cause());
}

static bool collect_done(void *arg, const struct mr_event *record)
{
    struct mr_take take;
    struct mr_seq_range range;

    if (record->type == MR_RECORD_LETTERS_DONE) {
        take = mr_take_from(record->raw.body);
        while (mr_letters_done_get(&take, &range)) {
            mr_seqs_add(arg, range.first, range.last);
        }
    }
    return true;
}

struct recalling {
    struct mr_bridge *bridge;
    const struct seqs *done;
    void (*each)(struct mr_bridge *bridge, const struct mr_event *letter);
};

static bool recall_letter(void *arg, const struct mr_event *record)
{
    struct recalling *recalling = arg;

    if (record->type == MR_RECORD_DEAD_LETTER && !mr_seqs_has(recalling->done, record->seq)) {
        recalling->each(recalling->bridge, record);
    }
    return true;
}

enum mr_err mr_letters_each(struct mr_bridge *b,
                            void (*each)(struct mr_bridge *bridge, const struct mr_event *letter),
                            struct mr_error *why)
{
    struct seqs done = {0};
    uint64_t from = mr_cursor_get(b->dead.store->cursor) + 1;
    struct recalling recalling = {.bridge = b, .done = &done, .each = each};
    enum mr_err err = letters_walk(b, from, collect_done, &done, why);

    seqs_sort(&done);
    if (err == MR_OK) {
        err = letters_walk(b, from, recall_letter, &recalling, why);
    }
    mr_seqs_free(&done);
    return err;
}

/* ---- taking out ---- */

struct taking {
    struct bridge_call call;
    struct seqs gone; /* what to take out, sorted */
    struct seqs done; /* that and what was struck out before, sorted */
    uint64_t floor;   /* the cursor may go there */
    uint64_t record;  /* seq of our LETTERS_DONE; 0: none is needed */
    bool begun;
    struct mr_error why;
};

/* Passes over letters that are gone, ends at one that stays. */
static bool floor_rise(void *arg, const struct mr_event *record)
{
    struct taking *taking = arg;

    if (record->type == MR_RECORD_DEAD_LETTER && !mr_seqs_has(&taking->done, record->seq)) {
        return false;
    }
    taking->floor = record->seq;
    return true;
}

/* Strike out what the cursor will not pass. */
static enum mr_err strike_out(struct mr_bridge *b, struct taking *taking)
{
    uint8_t *body = mr_alloc(taking->gone.count * RUN_BYTES_MAX + 1);
    uint8_t *at = body;
    struct mr_appended appended;

    for (size_t i = 0; i < taking->gone.count; i++) {
        const struct mr_seq_range *range = &taking->gone.items[i];
        if (range->last > taking->floor) {
            at = mr_put_varint(at, range->first);
            at = mr_put_varint(at, range->last - range->first + 1);
        }
    }
    enum mr_err err = MR_OK;
    if (at != body) {
        struct mr_record_raw raw = {.type = MR_RECORD_LETTERS_DONE,
                                    .received_us = mr_clock_wall_us(),
                                    .body = mr_span_make(body, (size_t)(at - body))};
        mr_mutex_lock(&b->dead.store->mutex);
        err = mr_lane_append(b->dead.lane, &raw, NULL, &appended);
        mr_mutex_unlock(&b->dead.store->mutex);
        taking->record = err == MR_OK ? appended.seq : 0;
        b->dead.seq_last = err == MR_OK ? appended.seq : b->dead.seq_last;
    }
    mr_free(body);
    return err == MR_OK
               ? MR_OK
               : mr_error_set(&taking->why, err,
                              "no room to note in '%s' which letters are done; take out the oldest "
                              "ones first, that needs none",
                              b->dead_path);
}

static enum mr_err taking_begin(struct mr_bridge *b, struct taking *taking)
{
    enum mr_err err = b->dead.journal == NULL ? mr_dead_open(b, &taking->why) : MR_OK;

    if (err != MR_OK) {
        return err;
    }
    taking->floor = mr_cursor_get(b->dead.store->cursor);
    seqs_sort(&taking->gone);
    for (size_t i = 0; i < taking->gone.count; i++) {
        if (taking->gone.items[i].last > mr_lane_durable(b->dead.lane)) {
            return mr_error_set(&taking->why, MR_ERR_REJECT, "there are no such letters yet");
        }
        mr_seqs_add(&taking->done, taking->gone.items[i].first, taking->gone.items[i].last);
    }
    err = letters_walk(b, taking->floor + 1, collect_done, &taking->done, &taking->why);
    seqs_sort(&taking->done);
    if (err == MR_OK) {
        err = letters_walk(b, taking->floor + 1, floor_rise, taking, &taking->why);
    }
    return err == MR_OK ? strike_out(b, taking) : err;
}

/* One turn of the worker; true: it is over. */
static bool taking_turn(struct mr_bridge *b, struct bridge_call *call)
{
    struct taking *taking = (struct taking *)call;
    enum mr_err err = MR_OK;

    if (!taking->begun) {
        taking->begun = true;
        err = taking_begin(b, taking);
    }
    if (err == MR_OK && mr_lane_state(b->dead.lane) == MR_LANE_FAILED) {
        err = mr_error_set(&taking->why, MR_ERR_IO, "%s", mr_lane_state_text(b->dead.lane));
    }
    if (err == MR_OK && !mr_dead_durable(b, taking->record)) {
        return false; /* the wake rings */
    }
    if (err == MR_OK && taking->floor > mr_cursor_get(b->dead.store->cursor)) {
        err = mr_cursor_seek(b->dead.store->cursor, taking->floor);
        if (err != MR_OK) {
            (void)mr_error_set(&taking->why, err,
                               err == MR_ERR_FULL ? "the disk has no room to write the cursor in "
                                                    "'%s'; make room on it and try again"
                                                  : "the cursor in '%s' cannot be written",
                               b->dead_path);
        }
    }
    call->err = err;
    return true;
}

/* ---- what is gone ---- */

struct looking {
    struct bridge_call call;
    struct seqs gone;
    struct mr_error why;
};

static bool looking_turn(struct mr_bridge *b, struct bridge_call *call)
{
    struct looking *looking = (struct looking *)call;
    enum mr_err err = b->dead.journal == NULL ? mr_dead_open(b, &looking->why) : MR_OK;

    if (err == MR_OK) {
        uint64_t passed = mr_cursor_get(b->dead.store->cursor);
        if (passed != 0) {
            mr_seqs_add(&looking->gone, 1, passed);
        }
        err = letters_walk(b, passed + 1, collect_done, &looking->gone, &looking->why);
        seqs_sort(&looking->gone);
    }
    call->err = err;
    return true;
}

enum mr_err mr_bridge_letters_gone(struct mr_bridge *b, struct mr_seq_range **out, size_t *count,
                                   struct mr_error *why)
{
    struct looking looking = {.call = {.run = looking_turn}, .why = {.text = ""}};
    enum mr_err err = mr_worker_call(b, &looking.call, why);

    if (err == MR_OK && looking.call.err != MR_OK) {
        err = looking.call.err;
        *why = looking.why;
    }
    if (err != MR_OK) {
        mr_seqs_free(&looking.gone);
        return err;
    }
    *out = looking.gone.items;
    *count = looking.gone.count;
    return MR_OK;
}

/* ---- about to be retried ---- */

struct meaning {
    struct bridge_call call;
    struct mr_span body;
    uint64_t record; /* its seq */
    bool begun;
    struct mr_error why;
};

static enum mr_err meaning_begin(struct mr_bridge *b, struct meaning *meaning)
{
    enum mr_err err = b->dead.journal == NULL ? mr_dead_open(b, &meaning->why) : MR_OK;
    struct mr_record_raw raw = {
        .type = MR_RECORD_LETTERS_RETRY, .received_us = mr_clock_wall_us(), .body = meaning->body};
    struct mr_appended appended;

    if (err != MR_OK) {
        return err;
    }
    mr_mutex_lock(&b->dead.store->mutex);
    err = mr_lane_append(b->dead.lane, &raw, NULL, &appended);
    mr_mutex_unlock(&b->dead.store->mutex);
    if (err != MR_OK) {
        return mr_error_set(&meaning->why, err,
                            "no room to note in '%s' which letters are retried; drop some, the "
                            "oldest ones need none",
                            b->dead_path);
    }
    meaning->record = appended.seq;
    b->dead.seq_last = appended.seq;
    return MR_OK;
}

static bool meaning_turn(struct mr_bridge *b, struct bridge_call *call)
{
    struct meaning *meaning = (struct meaning *)call;
    enum mr_err err = MR_OK;

    if (!meaning->begun) {
        meaning->begun = true;
        err = meaning_begin(b, meaning);
    }
    if (err == MR_OK && mr_lane_state(b->dead.lane) == MR_LANE_FAILED) {
        err = mr_error_set(&meaning->why, MR_ERR_IO, "%s", mr_lane_state_text(b->dead.lane));
    }
    if (err == MR_OK && !mr_dead_durable(b, meaning->record)) {
        return false; /* the wake rings */
    }
    call->err = err;
    return true;
}

enum mr_err mr_bridge_letters_retry(struct mr_bridge *b, const struct mr_seq_range *ranges,
                                    size_t count, uint32_t lane, uint64_t seq, struct mr_error *why)
{
    struct meaning meaning = {.call = {.run = meaning_turn}, .why = {.text = ""}};
    uint8_t *body = mr_alloc((count + 1) * RUN_BYTES_MAX);
    uint8_t *at = mr_put_varint(mr_put_varint(body, lane), seq);

    for (size_t i = 0; i < count; i++) {
        at = mr_put_varint(at, ranges[i].first);
        at = mr_put_varint(at, ranges[i].last - ranges[i].first + 1);
    }
    meaning.body = mr_span_make(body, (size_t)(at - body));
    enum mr_err err = mr_worker_call(b, &meaning.call, why);
    if (err == MR_OK && meaning.call.err != MR_OK) {
        err = meaning.call.err;
        *why = meaning.why;
    }
    mr_free(body);
    return err;
}

enum mr_err mr_bridge_letters_done(struct mr_bridge *b, const struct mr_seq_range *ranges,
                                   size_t count, struct mr_error *why)
{
    struct taking taking = {.call = {.run = taking_turn}, .why = {.text = ""}};

    for (size_t i = 0; i < count; i++) {
        mr_seqs_add(&taking.gone, ranges[i].first, ranges[i].last);
    }
    enum mr_err err = mr_worker_call(b, &taking.call, why);
    if (err == MR_OK && taking.call.err != MR_OK) {
        err = taking.call.err;
        *why = taking.why;
    }
    mr_seqs_free(&taking.gone);
    mr_seqs_free(&taking.done);
    return err;
}
