/* repair.c - see repair.h.
 *
 * DESIGN
 *
 * A segment is walked once to look, which reports what is lost, and only if something is, once
 * more to write: valid batches go into the new file byte by byte as they were, with the old salt
 * and epoch; a lost range becomes a gap record.  Events that refer to a name whose definition was
 * lost are lost too, so such a batch is cut into runs.  A header that does not read is made anew
 * from the first batch that agrees with itself.
 *
 * The order of steps is what makes it safe: the new file is on the medium under another name, then
 * a copy of the old one is in `damaged`, then one rename replaces it.
 *
 * Rejected: cutting the segment at the damage.  What stands behind is as good as what stands in
 * front.
 */
#include "journal/repair.h"

#include <stdio.h>

#include "base/text.h"
#include "journal/journal_internal.h"
#include "os/clock.h"

enum { COPY_BYTES = 1 << 20, ASIDE_TRIES = 1000, GAP_BYTES_MAX = MR_BATCH_HEADER_BYTES + 24 };

struct segment_repair {
    struct mr_repair *repair;
    struct mr_error *why;
    const char *journal_path;
    const char *path;
    struct mr_scan *scan; /* NULL: nothing of the file can be read */
    struct mr_segment_header header;
    uint64_t seq_end; /* 0: the last segment, its end is not known */
    uint64_t pos;     /* of the damage at hand */
    int64_t time_us;  /* of the last good batch */
    bool damaged;
    bool replaced; /* this segment or one before it stands there anew */

    struct mr_file out; /* closed: only looking */
    uint64_t out_pos;
    enum mr_err err; /* of writing; the first one stays */
    uint8_t names[MR_NAMES_MAX / 8];
};

static bool writing(const struct segment_repair *r)
{
    return r->out.fd >= 0;
}

/* ---- out ---- */

static void put(struct segment_repair *r, const uint8_t *bytes, size_t len)
{
    struct mr_span part = mr_span_make(bytes, len);

    if (r->err == MR_OK) {
        r->err = mr_file_write(&r->out, &part, 1, r->out_pos);
    }
    r->out_pos = mr_batch_next_pos(r->out_pos, (uint32_t)len);
}

/* A batch of our own making; `batch` has room for the header in front of the records. */
static void put_batch(struct segment_repair *r, struct mr_batch_header header, uint8_t *batch,
                      size_t len)
{
    header.byte_length = (uint32_t)len;
    header.salt = r->header.salt;
    header.epoch = r->header.epoch;
    mr_batch_header_put(&header, batch);
    put(r, batch, len);
}

static void put_gap(struct segment_repair *r, uint64_t seq_first, uint32_t count)
{
    uint8_t batch[GAP_BYTES_MAX];
    uint8_t body[16];
    uint8_t *end = mr_put_varint(body, count);

    *end++ = MR_GAP_LOST;
    struct mr_record_raw record = {.type = MR_RECORD_GAP,
                                   .received_us = r->time_us,
                                   .body = mr_span_make(body, (size_t)(end - body))};
    uint8_t *at = mr_record_put(batch + MR_BATCH_HEADER_BYTES, &record, r->time_us, NULL);
    put_batch(r,
              (struct mr_batch_header){.seq_first = seq_first,
                                       .durable_seq = seq_first - 1,
                                       .time_base_us = r->time_us,
                                       .record_count = count},
              batch, (size_t)(at - batch));
}

static void lose(struct segment_repair *r, uint64_t seq_first, uint64_t seq_last, bool names)
{
    r->damaged = true;
    if (!writing(r)) {
        r->repair->seqs_lost += seq_last - seq_first + 1;
        r->repair->lost(r->repair->arg, &(struct mr_repair_loss){.path = r->path,
                                                                 .pos = r->pos,
                                                                 .seq_first = seq_first,
                                                                 .seq_last = seq_last,
                                                                 .lane = r->header.lane,
                                                                 .names = names});
        return;
    }
    while (seq_first <= seq_last) {
        uint64_t left = seq_last - seq_first + 1;
        uint32_t count = left > UINT32_MAX ? UINT32_MAX : (uint32_t)left;

        put_gap(r, seq_first, count);
        seq_first += count;
    }
}

/* ---- batches ---- */

/* Can the record be given to a reader?  Learns the names that are defined. */
static bool record_is_whole(struct segment_repair *r, const struct mr_record_raw *record)
{
    uint8_t *byte = &r->names[record->name_id / 8];
    uint8_t bit = (uint8_t)(1 << record->name_id % 8);

    if (record->type != MR_RECORD_EVENT && record->type != MR_RECORD_DEAD_LETTER) {
        return true;
    }
    if (record->naming == MR_NAMING_DEFINE) {
        *byte |= bit;
    }
    return record->naming != MR_NAMING_REFERENCE || (*byte & bit) != 0;
}

/* Records of one batch that stand together, all whole or all lost. */
struct run {
    uint32_t first; /* its index in the batch */
    uint32_t count;
    struct mr_span bytes;
    bool whole;
    bool parsed;
};

static void run_end(struct segment_repair *r, const struct mr_batch_header *header,
                    const struct run *run)
{
    uint64_t seq_first = header->seq_first + run->first;

    if (run->count == 0) {
        return;
    }
    if (!run->whole) {
        lose(r, seq_first, seq_first + run->count - 1, run->parsed);
        return;
    }
    if (writing(r)) {
        size_t len = MR_BATCH_HEADER_BYTES + run->bytes.len;
        uint8_t *batch = mr_alloc(len);
        struct mr_batch_header own = *header;

        memcpy(batch + MR_BATCH_HEADER_BYTES, run->bytes.at, run->bytes.len);
        own.seq_first = seq_first;
        own.record_count = run->count;
        put_batch(r, own, batch, len);
        mr_free(batch);
    }
}

/* A batch of which not every record is whole, run by run. */
static void batch_cut(struct segment_repair *r, const struct mr_batch_header *header,
                      struct mr_take records)
{
    struct run run = {.bytes = {.at = records.at}};
    uint32_t index = 0;

    while (index < header->record_count) {
        struct mr_record_raw record;
        const uint8_t *from = records.at;
        bool parsed = mr_record_get(&records, header->time_base_us, &record) == MR_OK;
        bool whole = parsed && record_is_whole(r, &record);
        /* How long it is may be known, and then the next one is too. */
        uint32_t count = records.failed ? header->record_count - index : 1;

        if (run.count > 0 && (whole != run.whole || parsed != run.parsed)) {
            run_end(r, header, &run);
            run = (struct run){.first = index, .bytes = {.at = from}};
        }
        run.whole = whole;
        run.parsed = parsed;
        run.count += count;
        run.bytes.len = (size_t)(records.at - run.bytes.at);
        index += count;
    }
    run_end(r, header, &run);
}

static void batch_take(struct segment_repair *r, const struct mr_batch_header *header,
                       struct mr_span batch)
{
    const struct mr_take records = mr_take_from(
        mr_span_make(batch.at + MR_BATCH_HEADER_BYTES, batch.len - MR_BATCH_HEADER_BYTES));
    struct mr_take take = records;
    struct mr_record_raw record = {.type = 0};
    bool whole = true;

    r->time_us = header->time_base_us;
    for (uint32_t i = 0; i < header->record_count && whole && record.type != MR_RECORD_GAP; i++) {
        whole = mr_record_get(&take, header->time_base_us, &record) == MR_OK &&
                record_is_whole(r, &record);
    }
    if (!whole) {
        batch_cut(r, header, records);
    } else if (writing(r)) {
        put(r, batch.at, batch.len);
    }
}

/* ---- segments ---- */

/* Where the scan stopped: the next batch that counts.  OK: the scan stands there; AGAIN: there is
 * none.
 */
static enum mr_err batch_after_damage(struct segment_repair *r)
{
    struct mr_batch_header header;
    uint64_t pos = 0;

    if (r->seq_end == 0) {
        enum tail tail = TAIL_TORN;
        enum mr_err err = mr_recover_proof(r->scan, &r->header, &tail);
        return err != MR_OK ? err : tail == TAIL_DAMAGED ? MR_OK : MR_ERR_AGAIN;
    }
    enum mr_err err = mr_scan_resync(r->scan, &header, &pos);
    return err == MR_OK && header.seq_first >= r->seq_end ? MR_ERR_AGAIN : err;
}

/* Nothing more can be read from `expected` on: what of it is lost. */
static void lose_the_rest(struct segment_repair *r, uint64_t expected)
{
    uint64_t end = r->seq_end;

    if (end == 0 && expected == r->header.seq_first) {
        end = expected + mr_records_possible(r->scan, &r->header);
    }
    if (end > expected) {
        lose(r, expected, end - 1, false);
    }
}

static enum mr_err segment_walk(struct segment_repair *r)
{
    struct mr_batch_header header;
    struct mr_span batch;
    uint64_t pos = 0;

    memset(r->names, 0, sizeof(r->names));
    r->time_us = r->header.created_us;
    if (r->scan == NULL) {
        r->pos = 0;
        lose_the_rest(r, r->header.seq_first);
        return r->err;
    }
    mr_scan_seek(r->scan, MR_SEGMENT_HEADER_BYTES, r->header.seq_first);
    for (;;) {
        enum mr_err err = mr_scan_next(r->scan, &header, &batch, &pos);
        uint64_t expected = mr_scan_expected(r->scan);

        r->pos = pos;
        if (err == MR_OK) {
            batch_take(r, &header, batch);
            continue;
        }
        if (err == MR_ERR_IO || (r->seq_end != 0 && expected >= r->seq_end)) {
            return err == MR_ERR_IO ? err : r->err;
        }
        r->pos = mr_scan_pos(r->scan);
        err = batch_after_damage(r);
        if (err == MR_ERR_IO) {
            return err;
        }
        if (err != MR_OK) {
            lose_the_rest(r, expected);
            return r->err;
        }
        lose(r, expected, mr_scan_expected(r->scan) - 1, false);
    }
}

/* Salt and epoch of the first batch that agrees with itself, in a file whose header is damaged;
 * *guessed: there is one.  What cannot be read now may hold one, so that ends the repair.
 */
static enum mr_err header_guess(struct segment_repair *r, struct mr_file *file, uint64_t file_bytes,
                                bool *guessed)
{
    uint8_t *bytes = mr_alloc((size_t)file_bytes);
    struct mr_batch_header batch;
    bool found = false;
    size_t got = 0;

    /* One that was cut held what segments of this journal hold. */
    if (r->header.segment_bytes < file_bytes) {
        r->header.segment_bytes = (uint32_t)file_bytes;
    }
    enum mr_err err = mr_file_read(file, bytes, (size_t)file_bytes, 0, &got);
    for (uint64_t pos = MR_SEGMENT_HEADER_BYTES; !found && pos + MR_BATCH_HEADER_BYTES <= got;
         pos += MR_BATCH_ALIGN) {
        if (mr_get_u32(bytes + pos) == MR_BATCH_MAGIC) {
            mr_batch_header_read(bytes + pos, &batch);
            r->header.salt = batch.salt;
            r->header.epoch = batch.epoch;
            found = mr_batch_check(mr_span_make(bytes + pos, got - pos), pos, &r->header, 0,
                                   &batch) == MR_OK &&
                    batch.seq_first >= r->header.seq_first;
        }
    }
    r->header.created_us = found ? batch.time_base_us : mr_clock_wall_us();
    mr_free(bytes);
    *guessed = found;
    return err;
}

/* Open what stands under the name of `seq_first`, with the header it has or had. */
static enum mr_err segment_open(struct segment_repair *r, const struct mr_journal *journal,
                                uint64_t seq_first)
{
    uint16_t lane = r->header.lane;
    enum mr_err err = mr_scan_open(&r->scan, r->path, &r->header, r->why);

    if (err == MR_OK && (memcmp(&r->header.journal_id, &journal->id, sizeof(journal->id)) != 0 ||
                         r->header.lane != lane)) {
        return mr_error_set(r->why, MR_ERR_CONFIG,
                            "%s belongs to another journal or lane; move it away", r->path);
    }
    if (err != MR_ERR_CORRUPT && (err != MR_OK || r->header.seq_first == seq_first)) {
        return err;
    }
    mr_scan_close(r->scan);
    r->scan = NULL;
    r->damaged = true;
    r->header = (struct mr_segment_header){.journal_id = journal->id,
                                           .seq_first = seq_first,
                                           .epoch = journal->epoch,
                                           .segment_bytes = journal->segment_bytes,
                                           .lane = lane};
    struct mr_file file;
    uint64_t file_bytes = 0;
    err = mr_file_open(&file, r->path, MR_FILE_READ, r->why);
    if (err != MR_OK) {
        return err;
    }
    err = mr_file_size(&file, &file_bytes);
    bool guessed = false;
    err = err == MR_OK ? header_guess(r, &file, file_bytes, &guessed) : err;
    mr_file_close(&file);
    if (err != MR_OK) {
        return mr_error_set(r->why, MR_ERR_IO, "%s: cannot be read: %s", r->path,
                            mr_file_last_cause());
    }
    return guessed ? mr_scan_open_known(&r->scan, r->path, &r->header, r->why) : MR_OK;
}

/* ---- files ---- */

static enum mr_err disk_failed(struct segment_repair *r, enum mr_err err, const char *path)
{
    return mr_error_set(r->why, err == MR_ERR_FULL ? err : MR_ERR_IO,
                        "%s: cannot be written: %s; %s", path, mr_file_last_cause(),
                        r->replaced ? "what was written anew before it stays; run it again"
                                    : "nothing was changed");
}

/* An empty file under a name that only a repair uses. */
static enum mr_err unfinished_open(const char *path, struct mr_file *out, struct mr_error *why)
{
    enum mr_err err = mr_path_remove(path);

    return err == MR_OK || err == MR_ERR_REJECT ? mr_file_open(out, path, MR_FILE_CREATE, why)
                                                : err;
}

static enum mr_err bytes_copy(struct mr_file *from, struct mr_file *to)
{
    uint8_t *bytes = mr_alloc(COPY_BYTES);
    enum mr_err err = MR_OK;
    size_t got = 1;

    for (uint64_t pos = 0; err == MR_OK && got > 0; pos += got) {
        err = mr_file_read(from, bytes, COPY_BYTES, pos, &got);
        if (err == MR_OK && got > 0) {
            struct mr_span part = mr_span_make(bytes, got);
            err = mr_file_write(to, &part, 1, pos);
        }
    }
    mr_free(bytes);
    return err == MR_OK ? mr_file_sync(to) : err;
}

/* The first name that is free in the lane's folder of damaged files, which is made. */
static enum mr_err aside_name(struct segment_repair *r, struct path *folder, struct path *out)
{
    struct mr_text text = mr_text_over(folder->text, sizeof(folder->text));

    mr_text_fmt(&text, "%s/damaged/lane-%02u", r->journal_path, r->header.lane);
    enum mr_err err = mr_dir_create(folder->text, r->why);
    for (unsigned n = 0; err == MR_OK && n < ASIDE_TRIES; n++) {
        text = mr_text_over(out->text, sizeof(out->text));
        mr_text_fmt(&text, "%s/%020llu.seg", folder->text, (unsigned long long)r->header.seq_first);
        if (n > 0) {
            mr_text_fmt(&text, ".%u", n);
        }
        if (!mr_path_exists(out->text)) {
            return MR_OK;
        }
    }
    return err == MR_OK ? mr_error_set(r->why, MR_ERR_CONFIG, "%s is full of old repairs; clear it",
                                       folder->text)
                        : err;
}

static enum mr_err aside_copy(struct segment_repair *r)
{
    struct path folder;
    struct path name;
    struct path unfinished;
    struct mr_file from = {.fd = -1};
    struct mr_file to = {.fd = -1};
    struct mr_text text = mr_text_over(unfinished.text, sizeof(unfinished.text));
    enum mr_err err = aside_name(r, &folder, &name);

    if (err != MR_OK) {
        return err;
    }
    mr_text_fmt(&text, "%s/copy.tmp", folder.text);
    err = mr_file_open(&from, r->path, MR_FILE_READ, r->why);
    if (err == MR_OK) {
        err = unfinished_open(unfinished.text, &to, r->why);
    }
    if (err == MR_OK) {
        err = bytes_copy(&from, &to);
    }
    mr_file_close(&from);
    mr_file_close(&to);
    if (err == MR_OK) {
        err = mr_path_rename(unfinished.text, name.text);
    }
    if (err == MR_OK) {
        err = mr_dir_sync(folder.text);
    }
    return err == MR_OK ? MR_OK : disk_failed(r, err, name.text);
}

/* The header comes last: how much room the segment needs is known then. */
static enum mr_err segment_finish(struct segment_repair *r)
{
    uint8_t bytes[64];
    struct mr_span part = mr_span_make(bytes, sizeof(bytes));

    if (r->header.segment_bytes < r->out_pos) {
        r->header.segment_bytes = (uint32_t)r->out_pos;
    }
    mr_segment_header_put(&r->header, bytes);
    enum mr_err err = mr_file_write(&r->out, &part, 1, 0);
    return err == MR_OK ? mr_file_sync(&r->out) : err;
}

static enum mr_err segment_replace(struct segment_repair *r, const char *lane_path)
{
    struct path unfinished;
    struct mr_text text = mr_text_over(unfinished.text, sizeof(unfinished.text));

    mr_text_fmt(&text, "%s/repair.tmp", lane_path);
    enum mr_err err = unfinished_open(unfinished.text, &r->out, r->why);
    if (err == MR_OK) {
        r->out_pos = MR_SEGMENT_HEADER_BYTES;
        err = segment_walk(r);
    }
    if (err == MR_OK) {
        err = segment_finish(r);
    }
    mr_file_close(&r->out);
    if (err != MR_OK) {
        return disk_failed(r, err, unfinished.text);
    }
    err = aside_copy(r);
    if (err != MR_OK) {
        return err;
    }
    err = mr_path_rename(unfinished.text, r->path);
    if (err == MR_OK) {
        r->replaced = true;
        err = mr_dir_sync(lane_path);
    }
    return err == MR_OK ? MR_OK : disk_failed(r, err, r->path);
}

/* `seq_end` 0: the last one. */
static enum mr_err segment_repair(struct segment_repair *r, const struct mr_journal *journal,
                                  const char *lane_path, uint64_t seq_first, uint64_t seq_end)
{
    r->seq_end = seq_end;
    r->damaged = false;
    r->scan = NULL;
    r->out.fd = -1;
    r->err = MR_OK;
    enum mr_err err = segment_open(r, journal, seq_first);
    if (err != MR_OK) {
        mr_scan_close(r->scan);
        return err;
    }
    err = segment_walk(r);
    if (err != MR_OK) {
        err = mr_error_set(r->why, MR_ERR_IO, "%s: cannot be read: %s", r->path,
                           mr_file_last_cause());
    } else if (r->damaged) {
        r->repair->segments_damaged += 1;
        err = r->repair->dry_run ? MR_OK : segment_replace(r, lane_path);
    }
    r->repair->segments += 1;
    mr_scan_close(r->scan);
    return err;
}

static enum mr_err lane_repair(struct segment_repair *r, const struct mr_journal *journal,
                               uint32_t lane)
{
    char **paths = NULL;
    size_t count = 0;
    struct path lane_path;
    struct mr_text text = mr_text_over(lane_path.text, sizeof(lane_path.text));

    mr_text_fmt(&text, "%s/lane-%02u", journal->folder.text, lane);
    enum mr_err err = mr_scan_list(lane_path.text, &paths, &count);
    if (err != MR_OK) {
        return mr_error_set(r->why, MR_ERR_IO, "%s: cannot be listed: %s", lane_path.text,
                            mr_file_last_cause());
    }
    for (size_t i = 0; i < count && err == MR_OK; i++) {
        r->path = paths[i];
        r->header.lane = (uint16_t)lane;
        err = segment_repair(r, journal, lane_path.text, mr_scan_path_seq(paths[i]),
                             i + 1 < count ? mr_scan_path_seq(paths[i + 1]) : 0);
    }
    for (size_t i = 0; i < count; i++) {
        mr_free(paths[i]);
    }
    mr_free(paths);
    return err;
}

enum mr_err mr_journal_repair(struct mr_journal *journal, struct mr_repair *repair,
                              struct mr_error *why)
{
    struct segment_repair *r = mr_alloc(sizeof(*r));
    enum mr_err err = MR_OK;

    *r = (struct segment_repair){
        .repair = repair, .why = why, .journal_path = journal->folder.text, .out = {.fd = -1}};
    for (uint32_t lane = 0; lane < journal->lane_total && err == MR_OK; lane++) {
        err = lane_repair(r, journal, lane);
    }
    mr_free(r);
    return err;
}
