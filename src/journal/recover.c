/* recover.c - what of a lane is really there, after a crash or a clean end.
 *
 * DESIGN
 *
 * docs/JOURNAL.md, "Recovery", step by step.  Headers of all segments are read;
 * the last two segments are walked.  Where the walk of the last one stops, the
 * durable_seq inside later batches tells a torn tail (nobody was thanked for it:
 * cut) from rot (reported, and walked over).
 *
 * A segment gets its name only after its first batch is on the medium (segment.c),
 * so a named one whose first batch does not read was damaged too.  How many seqs
 * that cost may be unknown; then the numbering goes on above all that could have
 * been in the file, because a seq must never be given twice.
 *
 * Nothing is appended to a file found here; what was accepted is synced before
 * anyone reads it.  A sync alone is not enough: when the last life ended because a
 * sync failed, the kernel holds those pages as clean although they never reached
 * the medium.  So what no later batch proves durable (the last commit, as a rule)
 * is written once more, the same bytes in the same place, and then synced.
 */
#include "journal/cursors_internal.h"

#include "os/clock.h"

enum { REWRITE_BYTES = 1 << 20 };

struct recover {
    struct mr_lane *lane;
    struct mr_recovery *found;
    struct mr_error *why;
    uint64_t used;     /* of the segment being walked: end of its last good batch */
    uint64_t unproven; /* everything in front of this position was surely durable */
    int64_t last_us;
    uint32_t spares_end; /* one more than the highest slot of a spare */
};

static void recover_lost(struct recover *r, uint64_t seq_first, uint64_t seq_end,
                         const struct path *path, uint64_t pos)
{
    mr_lane_corrupt(r->lane, seq_first, seq_end - 1, path, pos);
    r->found->corrupt_ranges += 1;
    r->found->seqs_lost += seq_end - seq_first;
}

/* A running gateway may have written what was missing at the first look before what
 * proved it at the second.  (Only tools look at a journal that is being written.)
 */
static bool recover_grew(struct mr_scan *scan, uint64_t pos, uint64_t seq)
{
    struct mr_batch_header header;
    struct mr_span batch;
    uint64_t ignored;

    mr_scan_seek(scan, pos, seq);
    bool grew = mr_scan_next(scan, &header, &batch, &ignored) == MR_OK;
    mr_scan_seek(scan, pos, seq);
    return grew;
}

enum mr_err mr_recover_proof(struct mr_scan *scan, const struct mr_segment_header *segment,
                             enum tail *tail)
{
    uint64_t expected = mr_scan_expected(scan);
    uint64_t back_pos = mr_scan_pos(scan);
    struct mr_batch_header header = {0};
    struct mr_span batch;
    uint64_t pos = 0;
    enum mr_err err = mr_scan_resync(scan, &header, &pos);
    uint64_t first_pos = pos;
    uint64_t first_seq = header.seq_first;
    bool proof = false;

    while (err == MR_OK && !proof) {
        proof = mr_batch_proves(&header, segment, expected);
        err = mr_scan_next(scan, &header, &batch, &pos);
        if (err == MR_ERR_AGAIN) {
            err = mr_scan_resync(scan, &header, &pos);
        }
    }
    *tail = TAIL_TORN;
    if (recover_grew(scan, back_pos, expected)) {
        *tail = TAIL_GREW;
    } else if (proof) {
        *tail = TAIL_DAMAGED;
        mr_scan_seek(scan, first_pos, first_seq);
    }
    return err == MR_ERR_IO ? err : MR_OK;
}

/* Bytes of the batch that was begun where the good ones end. */
static uint64_t torn_bytes(struct mr_scan *scan, const struct segment *segment)
{
    uint8_t bytes[MR_BATCH_HEADER_BYTES];
    struct mr_batch_header header;
    size_t got = 0;

    if (mr_scan_read(scan, bytes, sizeof(bytes), mr_scan_pos(scan), &got) != MR_OK ||
        got < sizeof(bytes) || mr_get_u32(bytes) != MR_BATCH_MAGIC) {
        return 0;
    }
    mr_batch_header_read(bytes, &header);
    return header.salt == segment->header.salt &&
                   header.byte_length <= segment->header.segment_bytes
               ? header.byte_length
               : 0;
}

/* Walk a segment to its end.  `last`: the end is not known. */
static enum mr_err recover_walk(struct recover *r, struct mr_scan *scan, struct segment *segment,
                                const struct path *path, bool last)
{
    struct mr_batch_header header;
    struct mr_span batch;
    uint64_t pos;

    for (;;) {
        enum mr_err err = mr_scan_next(scan, &header, &batch, &pos);
        uint64_t expected = mr_scan_expected(scan);

        if (err == MR_OK) {
            r->found->records_scanned += header.record_count;
            r->found->bytes_scanned += header.byte_length;
            r->used = pos + header.byte_length;
            if (header.durable_seq + 1 >= header.seq_first) {
                r->unproven = pos;
            }
            r->last_us = header.time_base_us;
            continue;
        }
        if (err == MR_ERR_IO) {
            return mr_error_set(r->why, err, "%s: cannot be read: %s; check the disk", path->text,
                                mr_file_last_cause());
        }
        if (!last && expected >= segment->seq_end) {
            return MR_OK;
        }
        uint64_t damaged_pos = mr_scan_pos(scan);
        bool found = false;
        if (last) {
            enum tail tail;
            err = mr_recover_proof(scan, &segment->header, &tail);
            if (err == MR_OK && tail == TAIL_GREW) {
                continue;
            }
            found = tail == TAIL_DAMAGED;
        } else {
            err = mr_scan_resync(scan, &header, &pos);
            found = err == MR_OK && header.seq_first < segment->seq_end;
        }
        if (err == MR_ERR_IO) {
            return mr_error_set(r->why, err, "%s: cannot be read: %s; check the disk", path->text,
                                mr_file_last_cause());
        }
        if (!found) {
            if (last) {
                r->found->torn_bytes += torn_bytes(scan, segment);
            } else {
                recover_lost(r, expected, segment->seq_end, path, damaged_pos);
            }
            return MR_OK;
        }
        recover_lost(r, expected, mr_scan_expected(scan), path, damaged_pos);
    }
}

uint64_t mr_records_possible(struct mr_scan *scan, const struct mr_segment_header *segment)
{
    uint64_t most = segment->segment_bytes / 4;
    uint8_t bytes[MR_BATCH_HEADER_BYTES];
    struct mr_batch_header header;
    size_t got = 0;

    if (scan == NULL ||
        mr_scan_read(scan, bytes, sizeof(bytes), MR_SEGMENT_HEADER_BYTES, &got) != MR_OK ||
        got < sizeof(bytes)) {
        return most;
    }
    mr_batch_header_read(bytes, &header);
    return mr_get_u32(bytes) == MR_BATCH_MAGIC && header.salt == segment->salt &&
                   header.seq_first == segment->seq_first && header.record_count != 0 &&
                   header.record_count < most
               ? header.record_count
               : most;
}

/* Make the accepted bytes that are not proven durable dirty again. */
static enum mr_err recover_rewrite(struct recover *r, struct mr_file *file)
{
    uint8_t *bytes = mr_alloc(REWRITE_BYTES);
    enum mr_err err = MR_OK;

    for (uint64_t pos = r->unproven; pos < r->used && err == MR_OK;) {
        uint64_t left = r->used - pos;
        size_t got = 0;

        err = mr_file_read(file, bytes, left < REWRITE_BYTES ? (size_t)left : REWRITE_BYTES, pos,
                           &got);
        if (err == MR_OK && got == 0) {
            err = MR_ERR_IO;
        }
        if (err == MR_OK) {
            struct mr_span part = mr_span_make(bytes, got);
            err = mr_file_write(file, &part, 1, pos);
            pos += got;
        }
    }
    mr_free(bytes);
    return err;
}

static enum mr_err recover_cut(struct recover *r, struct segment *segment, const struct path *path)
{
    struct mr_file file;
    enum mr_err err = mr_file_open(&file, path->text, MR_FILE_READ_WRITE, r->why);

    if (err != MR_OK) {
        return MR_ERR_IO;
    }
    if (r->used != 0) {
        err = recover_rewrite(r, &file);
    }
    if (err == MR_OK && r->used != 0 && r->used < segment->file_bytes) {
        err = mr_file_truncate(&file, r->used);
        segment->file_bytes = r->used;
    }
    if (err == MR_OK) {
        err = mr_file_sync(&file);
    }
    mr_file_close(&file);
    return err == MR_OK
               ? MR_OK
               : mr_error_set(r->why, MR_ERR_IO, "%s: cannot be flushed: %s; check the disk",
                              path->text, mr_file_last_cause());
}

static enum mr_err recover_segment(struct recover *r, struct segment *segment, bool last)
{
    struct path path;
    struct mr_scan *scan;
    enum mr_err err;

    mr_segment_path(r->lane, segment->header.seq_first, &path);
    r->used = 0;
    r->unproven = MR_SEGMENT_HEADER_BYTES;
    r->last_us = segment->header.created_us;
    if (segment->damaged) {
        if (last) {
            segment->seq_end =
                segment->header.seq_first + mr_records_possible(NULL, &segment->header);
        }
        recover_lost(r, segment->header.seq_first, segment->seq_end, &path, 0);
        return MR_OK;
    }
    err = mr_scan_open_known(&scan, path.text, &segment->header, r->why);
    if (err != MR_OK) {
        return err;
    }
    err = recover_walk(r, scan, segment, &path, last);
    if (err == MR_OK && last) {
        segment->seq_end = mr_scan_expected(scan);
        segment->closed_us = r->last_us;
        if (r->used == 0) {
            segment->seq_end += mr_records_possible(scan, &segment->header);
            recover_lost(r, segment->header.seq_first, segment->seq_end, &path,
                         MR_SEGMENT_HEADER_BYTES);
        }
    }
    mr_scan_close(scan);
    if (err == MR_OK && !r->lane->journal->read_only) {
        if (!last) {
            r->used = 0; /* it ends where the next begins; only sync it */
        }
        err = recover_cut(r, segment, &path);
    }
    return err;
}

/* When it was begun.  A damaged header does not say: not before now, so that `keep` is not over. */
static int64_t begun_us(const struct segment *segment)
{
    return segment->damaged ? mr_clock_wall_us() : segment->header.created_us;
}

/* Read one file's header into a new segment at the end of the list. */
static enum mr_err recover_header(struct recover *r, const char *path)
{
    struct mr_lane *lane = r->lane;
    struct segment *segment = mr_segment_new(lane);
    struct mr_scan *scan = NULL;
    struct mr_error why;
    uint64_t seq = mr_scan_path_seq(path);
    enum mr_err err = mr_scan_open(&scan, path, &segment->header, &why);

    if (err == MR_ERR_REJECT && lane->journal->read_only) {
        mr_segment_free(segment); /* retired by the running gateway since it was listed */
        return MR_OK;
    }

    if (err == MR_OK) {
        segment->file_bytes = mr_scan_file_bytes(scan);
        mr_scan_close(scan);
        if (memcmp(&segment->header.journal_id, &lane->journal->id, sizeof(lane->journal->id)) !=
                0 ||
            segment->header.lane != lane->index) {
            mr_segment_free(segment);
            return mr_error_set(r->why, MR_ERR_CONFIG,
                                "%s belongs to another journal or lane; move it away", path);
        }
    } else if (err != MR_ERR_CORRUPT) {
        mr_segment_free(segment);
        return mr_error_set(r->why, err, "%s", why.text);
    }
    segment->damaged = err == MR_ERR_CORRUPT || segment->header.seq_first != seq;
    segment->header.seq_first = seq;
    segment->on_disk = true;
    segment->closed_us = begun_us(segment); /* at the earliest */
    if (lane->newest == NULL) {
        lane->oldest = segment;
    } else {
        lane->newest->next = segment;
        lane->newest->seq_end = seq;
        lane->newest->closed_us = begun_us(segment);
    }
    lane->newest = segment;
    r->found->segments += 1;
    return MR_OK;
}

static enum mr_err recover_list(struct recover *r)
{
    char **paths = NULL;
    size_t count = 0;
    enum mr_err err;

    if (r->lane->journal->read_only && !mr_path_exists(r->lane->folder.text)) {
        return MR_OK;
    }
    err = mr_scan_list_all(r->lane->folder.text, &paths, &count, &r->spares_end);
    if (err != MR_OK) {
        return mr_error_set(r->why, MR_ERR_IO, "%s: cannot be listed: %s; check the disk",
                            r->lane->folder.text, mr_file_last_cause());
    }
    for (size_t i = 0; i < count; i++) {
        if (err == MR_OK) {
            err = recover_header(r, paths[i]);
        }
        mr_free(paths[i]);
    }
    mr_free(paths);
    return err;
}

/* Keep one spare of the right size, remove what else an earlier life left. */
static enum mr_err recover_spares(struct recover *r)
{
    struct mr_lane *lane = r->lane;
    struct path path;
    enum mr_err err = MR_OK;
    struct mr_text text = mr_text_over(path.text, sizeof(path.text));

    mr_text_fmt(&text, "%s/spare.tmp", lane->folder.text);
    if (mr_path_exists(path.text)) {
        err = mr_path_remove(path.text);
    }
    for (uint32_t slot = 0; slot < r->spares_end && err == MR_OK; slot++) {
        uint64_t bytes = 0;

        mr_spare_path(lane, slot, &path);
        if (!mr_path_exists(path.text)) {
            continue;
        }
        struct segment *spare = mr_segment_new(lane);
        spare->spare_slot = slot;
        err = mr_file_open(&spare->file, path.text, MR_FILE_READ_WRITE, r->why);
        if (err != MR_OK) {
            spare->file.fd = -1;
        } else {
            err = mr_file_size(&spare->file, &bytes);
        }
        if (err == MR_OK && bytes == lane->segment_bytes && lane->spare == NULL && !lane->dropped) {
            lane->spare = spare;
            atomic_store(&lane->spare_state, SPARE_READY);
            continue;
        }
        mr_segment_free(spare);
        if (err == MR_OK) {
            err = mr_path_remove(path.text);
        }
    }
    return err == MR_OK ? MR_OK
                        : mr_error_set(r->why, MR_ERR_IO,
                                       "%s: old spares cannot be removed: %s; check the disk",
                                       lane->folder.text, mr_file_last_cause());
}

/* Seqs below a cursor or the end of an earlier epoch existed; if the segments end before
 * that, they are lost.
 */
static uint64_t recover_above_known(struct recover *r, uint64_t seq_end)
{
    uint64_t floor = mr_epoch_floor(r->lane->journal, r->lane->index);
    uint64_t highest;
    struct path path = {.text = ""};

    mr_cursors_lowest(r->lane->journal, r->lane->index, &highest);
    highest = floor > highest ? floor : highest;
    if (highest < seq_end) {
        return seq_end;
    }
    struct mr_text text = mr_text_over(path.text, sizeof(path.text));
    mr_text_fmt(&text, "%s", r->lane->folder.text);
    recover_lost(r, seq_end, highest + 1, &path, 0);
    return highest + 1;
}

/* Segments go only when the cursors on disk have passed them.  One that is missing in
 * front of the oldest was taken away by somebody or something else.  (A tool beside a
 * running gateway sees cursors that are older than its list of segments.)
 */
static void recover_below_oldest(struct recover *r)
{
    const struct mr_lane *lane = r->lane;
    uint64_t lowest = mr_cursors_lowest(lane->journal, lane->index, NULL);

    if (lane->journal->read_only || lane->oldest == NULL ||
        lowest >= lane->oldest->header.seq_first - 1) {
        return;
    }
    uint64_t last = lane->oldest->header.seq_first - 1;
    atomic_fetch_add_explicit(&r->lane->corrupt_ranges, 1, memory_order_relaxed);
    r->found->corrupt_ranges += 1;
    r->found->seqs_lost += last - lowest;
    mr_log(MR_LOG_ERROR, "journal",
           "%s: events %llu to %llu of lane %u are lost: a bridge has not delivered them yet, and "
           "their segments are missing in %s; were files removed by hand?",
           lane->journal->name, (unsigned long long)lowest + 1, (unsigned long long)last,
           lane->index, lane->folder.text);
}

enum mr_err mr_lane_recover(struct mr_lane *lane, struct mr_recovery *recovery,
                            struct mr_error *why)
{
    struct recover r = {.lane = lane, .found = recovery, .why = why};
    enum mr_err err = recover_list(&r);
    uint64_t seq_end = 1;

    for (struct segment *s = lane->oldest; s != NULL && err == MR_OK; s = s->next) {
        bool last = s->next == NULL;
        if (last || s->next->next == NULL || s->damaged) {
            err = recover_segment(&r, s, last);
        }
        seq_end = s->seq_end;
    }
    if (err == MR_OK && !lane->journal->read_only) {
        err = recover_spares(&r);
        /* A name that was given just before the crash may not be on the medium yet. */
        if (err == MR_OK && mr_dir_flush(&lane->dir) != MR_OK) {
            err = mr_error_set(why, MR_ERR_IO, "%s: cannot be flushed: %s; check the disk",
                               lane->folder.text, mr_file_last_cause());
        }
    }
    if (err != MR_OK) {
        return err;
    }
    recover_below_oldest(&r);
    seq_end = recover_above_known(&r, seq_end);
    lane->seq_next = seq_end;
    mr_gather_start(&lane->gather, seq_end);
    mr_owed_start(lane, seq_end);
    atomic_store(&lane->seq_next_seen, seq_end);
    atomic_store(&lane->durable_seq, seq_end - 1);
    atomic_store(&lane->released_seq, seq_end - 1);
    mr_metric_set(lane->metrics.next_seq, (int64_t)seq_end);
    mr_metric_set(lane->metrics.durable_seq, (int64_t)seq_end - 1);
    return MR_OK;
}
