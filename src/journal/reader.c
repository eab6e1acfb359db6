/* reader.c - see reader.h.
 *
 * DESIGN
 *
 * A reader knows the segment (its life), the position and the first seq of the
 * batch that holds seq_next.  From there a view is found in one of two places:
 *
 *   block   the writer still has it in memory: pin it, walk the headers
 *   file    read a range into the pin's own buffer, check batch by batch
 *
 * reader_place() makes the position right (a new segment begins, or an old one
 * was retired under a reader that no cursor protects); reader_seek() walks the
 * file where the position is only a beginning: at open, and behind damage.  Both
 * learn the names that were defined on the way, so that a view's names are
 * complete when it is handed out and iterating it changes nothing.
 *
 * DAMAGE.  A range that does not read back is returned as CORRUPT, once, and the
 * next call goes on behind it.  So is what is left of a segment whose file is gone
 * although nobody retired it: waiting would not bring it back.  Only the segment being
 * written may not go missing, because then every further ack would be a lie.  When a part of a
 * segment is lost, names defined in it are unknown: from there to the segment's end views are one
 * batch at a time, and events whose name is unknown are returned as lost ranges too.  An event is
 * never handed out under a wrong name.
 *
 * Rejected: pinning the segment file for its readers.  A reader without a cursor
 * would hold the disk; the salt and the list of segments tell in time that a file
 * has begun another life.
 *
 * INVARIANTS
 *
 *   (1) pos_seq <= seq_next; names holds what was defined in front of pos.
 *   (2) Nothing above durable_seq is ever looked at.
 *   (3) A view's bytes passed mr_batch_check() or were written by this process.
 */
#include "journal/journal_internal.h"

enum {
    PINS_DEFAULT = 64,
    PLACE_ROUNDS = 16, /* segments that may be retired under one call */
};

struct view_pin {
    struct block *block; /* borrowed; NULL: `buffer` */
    uint8_t *buffer;
    size_t buffer_size;
    struct mr_names *names;
    uint64_t seq_from; /* events outside [seq_from, seq_to] are not this view's */
    uint64_t seq_to;
    _Atomic bool used;
};

/* What a view is made from, before it is handed out. */
struct found {
    const uint8_t *at;
    size_t len;       /* to the end of the last batch */
    uint64_t seq_end; /* one past the last record */
    bool may_define;
};

enum mr_err mr_reader_open(struct mr_reader **out, struct mr_journal *journal, uint32_t lane_index,
                           uint64_t seq_from, const struct mr_reader_options *options,
                           struct mr_error *why)
{
    if (lane_index >= journal->lane_total) {
        return mr_error_set(why, MR_ERR_CONFIG, "%s: there is no lane %u", journal->name,
                            lane_index);
    }
    struct mr_reader *reader = mr_alloc(sizeof(*reader));
    struct mr_lane *lane = &journal->lanes[lane_index];
    struct mr_reader_options none = {0};

    options = options == NULL ? &none : options;
    reader->lane = lane;
    atomic_store(&reader->seq_next, seq_from == 0 ? 1 : seq_from);
    atomic_store(&reader->seq_done, mr_reader_seq(reader) - 1);
    reader->wake = options->wake;
    reader->holds = options->holds;
    reader->seq_to = options->seq_to == 0 ? UINT64_MAX : options->seq_to;
    reader->pins_max = options->pins_max == 0 ? PINS_DEFAULT : options->pins_max;
    reader->view_bytes_max =
        options->view_bytes_max == 0 ? journal->block_bytes : options->view_bytes_max;
    reader->path = lane->folder;
    reader->pins = mr_alloc(reader->pins_max * sizeof(*reader->pins));
    mr_mutex_lock(&lane->mutex);
    reader->next = lane->readers;
    lane->readers = reader;
    if (reader->holds) {
        atomic_store_explicit(&lane->owed.stop, 0, memory_order_relaxed);
    }
    mr_mutex_unlock(&lane->mutex);
    *out = reader;
    return MR_OK;
}

/* Free the names of earlier segments whose last view was unpinned.  Here, in the
 * reader's thread, so that the caller's `drop` needs no lock.
 */
static void names_collect(struct mr_reader *reader)
{
    struct mr_names **at = &reader->left;

    while (*at != NULL) {
        struct mr_names *names = *at;

        if (atomic_load_explicit(&names->pins, memory_order_acquire) == 0) {
            *at = names->next;
            mr_names_free(names);
        } else {
            at = &names->next;
        }
    }
}

static void reader_leave(struct mr_reader *reader)
{
    mr_scan_close(reader->scan);
    reader->scan = NULL;
    if (reader->names != NULL) {
        reader->names->next = reader->left;
        reader->left = reader->names;
        reader->names = NULL;
    }
    reader->life = 0;
    names_collect(reader);
}

/* Whoever waits for readers may go on. */
static void ring_who_waits(struct mr_lane *lane)
{
    int by = BLOCKED_BY_READER;

    /* Not blocked until it has tried: where events are refused meanwhile, nobody would. */
    if (MR_UNLIKELY(atomic_load_explicit(&lane->blocked, memory_order_relaxed) == by) &&
        atomic_compare_exchange_strong(&lane->blocked, &by, BLOCKED_NOT)) {
        mr_lane_ring_owner(lane);
    }
}

void mr_reader_close(struct mr_reader *reader)
{
    struct mr_lane *lane = reader->lane;
    struct mr_reader **at = &lane->readers;

    mr_mutex_lock(&lane->mutex);
    while (*at != reader) {
        at = &(*at)->next;
    }
    *at = reader->next;
    mr_mutex_unlock(&lane->mutex);
    ring_who_waits(lane);

    reader_leave(reader);
    mr_assert(reader->left == NULL);
    for (uint32_t i = 0; i < reader->pins_max; i++) {
        mr_assert(!atomic_load_explicit(&reader->pins[i].used, memory_order_acquire));
        mr_free(reader->pins[i].buffer);
    }
    mr_free(reader->pins);
    mr_free(reader);
}

uint64_t mr_reader_seq(const struct mr_reader *reader)
{
    return atomic_load_explicit(&reader->seq_next, memory_order_relaxed);
}

void mr_reader_done(struct mr_reader *reader, uint64_t seq)
{
    if (seq > atomic_load_explicit(&reader->seq_done, memory_order_relaxed)) {
        atomic_store_explicit(&reader->seq_done, seq, memory_order_release);
        ring_who_waits(reader->lane);
    }
}

static void seq_next_set(struct mr_reader *reader, uint64_t seq)
{
    atomic_store_explicit(&reader->seq_next, seq, memory_order_relaxed);
}

static struct view_pin *pin_free(struct mr_reader *reader)
{
    for (uint32_t i = 0; i < reader->pins_max; i++) {
        uint32_t index = (reader->pin_hint + i) % reader->pins_max;

        if (!atomic_load_explicit(&reader->pins[index].used, memory_order_acquire)) {
            reader->pin_hint = index;
            return &reader->pins[index];
        }
    }
    return NULL;
}

/* [seq_next, seq_end) will not be handed out: go on behind it. */
static enum mr_err reader_pass(struct mr_reader *reader, uint64_t seq_end, struct mr_view *out)
{
    uint64_t seq = mr_reader_seq(reader);

    seq_end = seq_end > reader->seq_to ? reader->seq_to + 1 : seq_end;
    mr_assert(seq_end > seq);
    *out = (struct mr_view){.lane = reader->lane->index,
                            .epoch = reader->segment.epoch,
                            .seq_first = seq,
                            .seq_last = seq_end - 1};
    seq_next_set(reader, seq_end);
    return MR_ERR_CORRUPT;
}

/* [seq_next, seq_end) is lost: say so and go on behind it. */
static enum mr_err reader_lost(struct mr_reader *reader, uint64_t seq_end, uint64_t pos,
                               struct mr_view *out)
{
    mr_lane_corrupt(reader->lane, mr_reader_seq(reader), seq_end - 1, &reader->path, pos);
    return reader_pass(reader, seq_end, out);
}

/* Enter `segment` at its beginning; the mutex is held. */
static void reader_enter(struct mr_reader *reader, const struct segment *segment)
{
    reader_leave(reader);
    reader->life = segment->life;
    reader->segment = segment->header;
    reader->pos = MR_SEGMENT_HEADER_BYTES;
    reader->pos_seq = segment->header.seq_first;
    reader->names = mr_names_new();
    mr_segment_path(reader->lane, segment->header.seq_first, &reader->path);
}

static bool reader_retired(struct mr_reader *reader)
{
    mr_mutex_lock(&reader->lane->mutex);
    bool retired = mr_segment_of_life(reader->lane, reader->life) == NULL;
    mr_mutex_unlock(&reader->lane->mutex);
    return retired;
}

/* The segment's file is not there under its name.  (A tool's list of segments is as old
 * as its opening: what is missing from it was retired by the gateway.)
 */
static enum mr_err reader_missing(struct mr_reader *reader, struct mr_view *out)
{
    mr_mutex_lock(&reader->lane->mutex);
    const struct segment *segment = mr_segment_of_life(reader->lane, reader->life);
    bool retired = segment == NULL;
    bool lost = !retired && segment->seq_end != 0 && !reader->lane->journal->read_only;
    mr_mutex_unlock(&reader->lane->mutex);

    if (lost) {
        mr_lane_missing(reader->lane, mr_reader_seq(reader), reader->seq_limit - 1, &reader->path);
        return reader_pass(reader, reader->seq_limit, out);
    }
    return retired ? MR_ERR_AGAIN : MR_ERR_IO;
}

/* Have the segment's file open.  AGAIN: it was retired.  CORRUPT: it is lost, see `out`. */
static enum mr_err reader_open_file(struct mr_reader *reader, struct mr_view *out)
{
    if (reader->scan != NULL) {
        return MR_OK;
    }
    enum mr_err err = mr_scan_open_known(&reader->scan, reader->path.text, &reader->segment, NULL);
    if (err != MR_OK) {
        reader->scan = NULL;
        return err == MR_ERR_REJECT ? reader_missing(reader, out) : MR_ERR_IO;
    }
    return MR_OK;
}

/* Walk the file from `pos` to the batch that holds seq_next.  OK: there.  AGAIN: the
 * segment was retired.  CORRUPT: `out` says what is lost.
 */
static enum mr_err reader_seek(struct mr_reader *reader, struct mr_view *out)
{
    uint64_t seq = mr_reader_seq(reader);
    struct mr_batch_header header;
    struct mr_span batch;
    uint64_t at;
    enum mr_err err = reader_open_file(reader, out);

    if (err != MR_OK) {
        return err;
    }
    mr_scan_seek(reader->scan, reader->pos, reader->pos_seq);
    for (;;) {
        err = mr_scan_next(reader->scan, &header, &batch, &at);
        if (err == MR_OK) {
            reader->pos = at;
            reader->pos_seq = header.seq_first;
            if (seq < mr_scan_expected(reader->scan)) {
                return MR_OK;
            }
            if (mr_names_learn(reader->names, batch.at) != MR_OK) {
                reader->names->holes = true;
            }
            reader->pos = mr_scan_pos(reader->scan);
            reader->pos_seq = mr_scan_expected(reader->scan);
            if (reader->pos_seq == seq) {
                return MR_OK;
            }
            continue;
        }
        if (err == MR_ERR_IO) {
            return err;
        }
        if (reader_retired(reader)) {
            return MR_ERR_AGAIN;
        }
        reader->names->holes = true;
        uint64_t damaged_pos = reader->pos;
        err = mr_scan_resync(reader->scan, &header, &at);
        if (err == MR_ERR_IO) {
            return err;
        }
        if (err != MR_OK || header.seq_first >= reader->seq_limit) {
            return reader_lost(reader, reader->seq_limit, damaged_pos, out);
        }
        reader->pos = at;
        reader->pos_seq = header.seq_first;
        if (header.seq_first == seq) {
            return MR_OK;
        }
        if (header.seq_first > seq) {
            return reader_lost(reader, header.seq_first, damaged_pos, out);
        }
    }
}

/* Make the position that of the batch with seq_next.  Results as reader_seek(). */
static enum mr_err reader_place(struct mr_reader *reader, uint64_t durable, struct mr_view *out)
{
    struct mr_lane *lane = reader->lane;
    uint64_t seq = mr_reader_seq(reader);
    uint64_t limit = durable + 1;
    bool lost = true;

    mr_mutex_lock(&lane->mutex);
    if (lane->oldest != NULL && seq < lane->oldest->header.seq_first) {
        seq = lane->oldest->header.seq_first; /* retired: the oldest that is left */
        seq_next_set(reader, seq);
    }
    const struct segment *segment = mr_segment_of(lane, seq);
    if (segment != NULL) {
        if (segment->next != NULL && segment->next->header.seq_first < limit) {
            limit = segment->next->header.seq_first;
        }
        if (segment->life != reader->life) {
            reader_enter(reader, segment);
        }
        lost = segment->damaged || (segment->seq_end != 0 && seq >= segment->seq_end);
        if (!lost && segment->seq_end != 0 && segment->seq_end < limit) {
            limit = segment->seq_end;
        }
    }
    mr_mutex_unlock(&lane->mutex);

    if (seq >= limit) {
        return MR_ERR_AGAIN; /* what was left begins above durable */
    }
    reader->seq_limit = limit;
    if (lost) {
        return reader_lost(reader, limit, reader->pos, out);
    }
    return seq == reader->pos_seq ? MR_OK : reader_seek(reader, out);
}

static void pin_buffer(struct view_pin *pin, size_t size)
{
    if (pin->buffer_size < size) {
        mr_free(pin->buffer);
        pin->buffer = mr_alloc(size);
        pin->buffer_size = size;
    }
}

/* Batches of the pinned block from `pos` on, as many as a view may have. */
static struct found block_measure(const struct mr_reader *reader, const struct block *block,
                                  uint64_t seq_end)
{
    const uint8_t *start = block->memory + (reader->pos - block->pos);
    uint64_t seq_limit = seq_end < reader->seq_limit ? seq_end : reader->seq_limit;
    struct found found = {.at = start, .seq_end = reader->pos_seq};
    const uint8_t *at = start;

    while (found.seq_end < seq_limit) {
        struct mr_batch_header header;

        mr_batch_header_read(at, &header);
        mr_assert(header.seq_first == found.seq_end);
        size_t len = (size_t)(at - start) + header.byte_length;
        if (found.len != 0 && (len > reader->view_bytes_max || reader->names->holes)) {
            break;
        }
        found.len = len;
        found.seq_end += header.record_count;
        at = start + mr_batch_next_pos(len, 0);
    }
    found.may_define = atomic_load_explicit(&block->has_names, memory_order_relaxed) != 0;
    return found;
}

/* False: no block has it. */
static bool found_in_block(struct mr_reader *reader, struct view_pin *pin, struct found *found)
{
    bool copy_only = false;
    uint64_t seq_end = 0;
    struct block *block;

    if (reader->lane->blocks == NULL) {
        return false;
    }
    block = mr_block_pin(reader->lane, reader->life, reader->pos_seq, &seq_end, &copy_only);
    if (block == NULL) {
        return false;
    }
    *found = block_measure(reader, block, seq_end);
    if (copy_only) {
        pin_buffer(pin, found->len);
        memcpy(pin->buffer, found->at, found->len);
        found->at = pin->buffer;
        mr_block_unpin(block);
        return true;
    }
    pin->block = block;
    mr_free(pin->buffer); /* caught up: the memory of lagging is not needed */
    pin->buffer = NULL;
    pin->buffer_size = 0;
    return true;
}

/* Check what was read, batch by batch.  AGAIN: the first one needs a buffer of
 * found->len bytes.
 */
static enum mr_err file_measure(const struct mr_reader *reader, const struct view_pin *pin,
                                size_t got, struct found *found)
{
    *found = (struct found){.at = pin->buffer, .seq_end = reader->pos_seq, .may_define = true};
    while (found->seq_end < reader->seq_limit) {
        size_t at = (size_t)mr_batch_next_pos(found->len, 0);
        struct mr_batch_header header;

        if (at >= got) {
            break;
        }
        enum mr_err err = mr_batch_check(mr_span_make(pin->buffer + at, got - at), reader->pos + at,
                                         &reader->segment, found->seq_end, &header);
        if (err == MR_ERR_AGAIN && found->len == 0 && got == pin->buffer_size &&
            header.byte_length > got) {
            found->len = header.byte_length;
            return MR_ERR_AGAIN;
        }
        if (err != MR_OK || (found->len != 0 && (at + header.byte_length > reader->view_bytes_max ||
                                                 reader->names->holes))) {
            break;
        }
        found->len = at + header.byte_length;
        found->seq_end += header.record_count;
    }
    return found->len == 0 ? MR_ERR_CORRUPT : MR_OK;
}

static enum mr_err found_in_file(struct mr_reader *reader, struct view_pin *pin,
                                 struct found *found, struct mr_view *out)
{
    enum mr_err err = reader_open_file(reader, out);
    size_t want = reader->view_bytes_max;

    if (err != MR_OK) {
        return err;
    }
    for (;;) {
        size_t got = 0;

        pin_buffer(pin, want);
        if (mr_scan_read(reader->scan, pin->buffer, pin->buffer_size, reader->pos, &got) != MR_OK) {
            return MR_ERR_IO;
        }
        err = file_measure(reader, pin, got, found);
        if (err != MR_ERR_AGAIN) {
            break;
        }
        want = found->len;
    }
    if (err == MR_OK) {
        return MR_OK;
    }
    /* Not valid: retired and begun anew, or damaged.  The seek finds out which. */
    err = reader_seek(reader, out);
    return err == MR_OK ? MR_ERR_AGAIN : err;
}

/* In a segment with holes: cut the one batch found to its first run of records
 * whose names are all known, or all unknown (then *known is false).
 */
static void found_run(const struct mr_reader *reader, const struct found *found, uint64_t *run_end,
                      bool *known)
{
    struct mr_batch_header header;
    uint64_t seq_next = mr_reader_seq(reader);
    uint64_t seq;

    mr_batch_header_read(found->at, &header);
    struct mr_take take = mr_take_from(mr_span_make(found->at + MR_BATCH_HEADER_BYTES,
                                                    header.byte_length - MR_BATCH_HEADER_BYTES));
    *known = true;
    *run_end = found->seq_end;
    for (seq = header.seq_first; take.at != take.end; seq++) {
        struct mr_record_raw raw;
        bool one = mr_record_get(&take, 0, &raw) == MR_OK &&
                   (raw.type != MR_RECORD_EVENT || raw.naming != MR_NAMING_REFERENCE ||
                    mr_names_find(reader->names, raw.name_id) != NULL);

        if (seq == seq_next) {
            *known = one;
        } else if (seq > seq_next && one != *known) {
            *run_end = seq;
            return;
        }
    }
}

static enum mr_err reader_learn(struct mr_reader *reader, const struct found *found)
{
    const uint8_t *at = found->at;
    enum mr_err err = MR_OK;

    while (at < found->at + found->len) {
        struct mr_batch_header header;

        mr_batch_header_read(at, &header);
        if (mr_names_learn(reader->names, at) != MR_OK) {
            err = MR_ERR_CORRUPT;
        }
        at += mr_batch_next_pos(header.byte_length, 0);
    }
    return err;
}

/* Hand out what was found, or what of it is whole. */
static enum mr_err reader_give(struct mr_reader *reader, struct view_pin *pin,
                               const struct found *found, struct mr_view *out)
{
    uint64_t seq = mr_reader_seq(reader);
    uint64_t end = found->seq_end;
    bool known = true;

    if (found->may_define && reader_learn(reader, found) != MR_OK) {
        reader->names->holes = true; /* our bug; still no event gets a wrong name */
    }
    if (reader->names->holes) {
        found_run(reader, found, &end, &known);
    }
    end = end > reader->seq_to ? reader->seq_to + 1 : end;
    if (end == found->seq_end) {
        reader->pos += mr_batch_next_pos(found->len, 0);
        reader->pos_seq = end;
    }
    if (!known) {
        if (pin->block != NULL) {
            mr_block_unpin(pin->block);
            pin->block = NULL;
        }
        return reader_lost(reader, end, reader->pos, out);
    }
    pin->names = reader->names;
    pin->seq_from = seq;
    pin->seq_to = end - 1;
    atomic_fetch_add_explicit(&pin->names->pins, 1, memory_order_relaxed);
    atomic_store_explicit(&pin->used, true, memory_order_relaxed);
    *out = (struct mr_view){.lane = reader->lane->index,
                            .epoch = reader->segment.epoch,
                            .seq_first = seq,
                            .seq_last = end - 1,
                            .bytes = {.at = found->at, .len = found->len},
                            .names = reader->names,
                            .pin = pin};
    seq_next_set(reader, end);
    return MR_OK;
}

enum mr_err mr_reader_next(struct mr_reader *reader, struct mr_view *out)
{
    uint64_t durable = mr_lane_durable(reader->lane);
    struct view_pin *pin;

    durable = durable < reader->seq_to ? durable : reader->seq_to;
    if (mr_reader_seq(reader) > durable) {
        return MR_ERR_AGAIN;
    }
    names_collect(reader);
    pin = pin_free(reader);
    if (pin == NULL) {
        return MR_ERR_FULL;
    }
    for (int round = 0; round < PLACE_ROUNDS && mr_reader_seq(reader) <= durable; round++) {
        struct found found;
        enum mr_err err = reader_place(reader, durable, out);

        if (err == MR_OK && !found_in_block(reader, pin, &found)) {
            err = found_in_file(reader, pin, &found, out);
        }
        if (err == MR_OK) {
            return reader_give(reader, pin, &found, out);
        }
        if (err == MR_ERR_IO) {
            mr_scan_close(reader->scan); /* whoever tries again opens it anew */
            reader->scan = NULL;
        }
        if (err != MR_ERR_AGAIN) {
            return err;
        }
    }
    return MR_ERR_AGAIN;
}

void mr_view_unpin(struct mr_view *view)
{
    struct view_pin *pin = view->pin;

    mr_assert(pin != NULL);
    if (pin->block != NULL) {
        mr_block_unpin(pin->block);
        pin->block = NULL;
    }
    atomic_fetch_sub_explicit(&pin->names->pins, 1, memory_order_release);
    view->pin = NULL;
    atomic_store_explicit(&pin->used, false, memory_order_release);
}

/* ---- iterating ---- */

struct mr_view_at mr_view_begin(const struct mr_view *view)
{
    return (struct mr_view_at){.next_batch = view->bytes.at};
}

/* Enter the batch at next_batch; false: there is none. */
static bool view_next_batch(const struct mr_view *view, struct mr_view_at *at)
{
    struct mr_batch_header header;

    if (at->next_batch >= view->bytes.at + view->bytes.len) {
        return false;
    }
    mr_batch_header_read(at->next_batch, &header);
    at->records = mr_take_from(mr_span_make(at->next_batch + MR_BATCH_HEADER_BYTES,
                                            header.byte_length - MR_BATCH_HEADER_BYTES));
    at->seq = header.seq_first;
    at->time_base_us = header.time_base_us;
    at->left = header.record_count;
    at->next_batch += mr_batch_next_pos(header.byte_length, 0);
    return true;
}

/* Fill `out` from out->raw.  False: its name is not known. */
static inline bool view_name(const struct mr_view *view, struct mr_event *out)
{
    const struct mr_record_raw *raw = &out->raw;

    if (MR_LIKELY(raw->naming == MR_NAMING_REFERENCE)) {
        const struct known_name *name = mr_names_find(view->names, raw->name_id);
        if (MR_UNLIKELY(name == NULL)) {
            return false;
        }
        out->client = name->client;
        out->username = name->username;
        out->topic = name->topic;
        out->name_id = raw->name_id;
        return true;
    }
    out->client = raw->client;
    out->username = raw->username;
    out->topic = raw->topic;
    out->name_id = raw->naming == MR_NAMING_DEFINE ? raw->name_id : MR_NAME_NONE;
    return true;
}

/* The record at `seq` says nothing about itself and `more` behind it: so many are lost to the
 * view, as far as they are its own.
 */
static void view_lose(const struct mr_view *view, struct mr_view_at *at, uint64_t seq,
                      uint64_t more)
{
    const struct view_pin *pin = view->pin;
    uint64_t first = seq > pin->seq_from ? seq : pin->seq_from;
    uint64_t last = seq + more < pin->seq_to ? seq + more : pin->seq_to;

    at->lost += last >= first ? last - first + 1 : 0;
}

/* A gap is alone in its batch and stands for all of it. */
static void view_gap(const struct mr_view *view, struct mr_view_at *at, uint64_t seq)
{
    view_lose(view, at, seq, at->left);
    at->records.at = at->records.end;
}

/* The next record of the view that is its own, decoded into out->raw; false: none. */
static inline bool view_next(const struct mr_view *view, struct mr_view_at *at,
                             struct mr_event *out)
{
    const struct view_pin *pin = view->pin;

    for (;;) {
        while (at->records.at == at->records.end) {
            if (!view_next_batch(view, at)) {
                return false;
            }
        }
        uint64_t seq = at->seq++;

        at->left -= 1;
        if (MR_UNLIKELY(mr_record_get(&at->records, at->time_base_us, &out->raw) != MR_OK)) {
            mr_log(MR_LOG_ERROR, "journal", "record %llu of lane %u does not parse; please report",
                   (unsigned long long)seq, view->lane);
            /* How long it is may be known, and then the next one is too. */
            view_lose(view, at, seq, at->records.failed ? at->left : 0);
            at->records.at = at->records.failed ? at->records.end : at->records.at;
            continue;
        }
        if (seq >= pin->seq_from && seq <= pin->seq_to) {
            out->seq = seq;
            return true;
        }
        if (out->raw.type == MR_RECORD_GAP) {
            view_gap(view, at, seq);
        }
    }
}

/* Fill `out` from out->raw, an event.  False: its name is not known. */
static inline bool view_event_fill(const struct mr_view *view, struct mr_event *out)
{
    if (!view_name(view, out)) {
        return false;
    }
    out->received_us = out->raw.received_us;
    out->properties = out->raw.properties;
    out->payload = out->raw.payload;
    out->type = out->raw.type;
    out->qos = out->raw.qos;
    out->retain = out->raw.retain;
    out->will = out->raw.will;
    return true;
}

static inline bool raw_is_event(const struct mr_record_raw *raw)
{
    return raw->type == MR_RECORD_EVENT || raw->type == MR_RECORD_DEAD_LETTER;
}

bool mr_view_event(const struct mr_view *view, struct mr_view_at *at, struct mr_event *out)
{
    while (view_next(view, at, out)) {
        if (MR_LIKELY(raw_is_event(&out->raw))) {
            if (MR_LIKELY(view_event_fill(view, out))) {
                return true;
            }
            view_lose(view, at, out->seq, 0);
        } else if (out->raw.type == MR_RECORD_GAP) {
            view_gap(view, at, out->seq);
        } else {
            at->control += 1;
        }
    }
    return false;
}

bool mr_view_record(const struct mr_view *view, struct mr_view_at *at, struct mr_event *out)
{
    while (view_next(view, at, out)) {
        if (raw_is_event(&out->raw)) {
            if (view_event_fill(view, out)) {
                return true;
            }
            view_lose(view, at, out->seq, 0);
        } else if (out->raw.type != MR_RECORD_GAP) {
            out->type = out->raw.type;
            out->received_us = out->raw.received_us;
            return true;
        } else {
            view_gap(view, at, out->seq);
        }
    }
    return false;
}
