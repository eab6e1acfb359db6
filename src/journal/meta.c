/* meta.c - the journal's identity on disk, and its epochs (docs/JOURNAL.md, "meta").
 *
 * DESIGN
 *
 * An epoch is a layout of lanes: how many there are, hence which lane a client's
 * events go to.  A changed count begins a new epoch while the journal is being opened,
 * after recovery and before anything is appended: then every lane's last seq is known
 * and on the medium, and writing `meta` anew is the one step that decides.  In front of
 * it the old epoch holds, behind it the new one.
 *
 * For each earlier epoch `meta` keeps where every lane ended with it.  That is what
 * tells readers when an epoch is drained, and the numbering where to go on even if a
 * lane's files are gone.  Lanes are never forgotten: one that is not of the present
 * epoch stays readable, and its seq goes on if it comes back.
 *
 * Rejected: a record in every lane that says "epoch ended".  A lane that was dropped
 * would have to be written to for it, and a reader that begins behind it missed it.
 */
#include "journal/cursors_internal.h"

enum {
    META_VERSION_AT = 8,
    META_SIZE_AT = 10,
    META_ID_AT = 16,
    META_CREATED_AT = 32,
    META_KEY_AT = 40,
    META_EPOCH_AT = 56,
    META_LANES_AT = 60,
    META_MAX_BYTES_AT = 64,
    META_SEGMENT_BYTES_AT = 72,
    META_LANE_TOTAL_AT = 76,
    META_PAST_COUNT_AT = 80,
    META_PAST_BYTES_AT = 84,
    META_CRC_AT = MR_META_BYTES - 4,

    PAST_NUMBER_AT = 0,
    PAST_LANES_AT = 4,
    PAST_TOTAL_AT = 8,
    PAST_ENDS_AT = 16,
    PAST_BYTES_MAX = EPOCHS_PAST_MAX * (PAST_ENDS_AT + 8 * LANES_MAX),
};

static const uint8_t meta_magic[8] = {'M', 'R', 'J', 'O', 'U', 'R', 'N', 'L'};

static void meta_path(const struct mr_journal *journal, const char *suffix, struct path *out)
{
    struct mr_text text = mr_text_over(out->text, sizeof(out->text));

    mr_text_fmt(&text, "%s/meta%s", journal->folder.text, suffix);
}

bool mr_meta_exists(const struct mr_journal *journal)
{
    struct path path;

    meta_path(journal, "", &path);
    return mr_path_exists(path.text);
}

/* ---- writing ---- */

static size_t past_bytes(const struct mr_journal *journal)
{
    size_t bytes = 0;

    for (uint32_t i = 0; i < journal->past_count; i++) {
        bytes += PAST_ENDS_AT + 8 * (size_t)journal->past[i].lane_total;
    }
    return bytes;
}

static void past_put(const struct epoch_past *past, uint8_t *out)
{
    mr_put_u32(out + PAST_NUMBER_AT, past->number);
    mr_put_u32(out + PAST_LANES_AT, past->lane_count);
    mr_put_u32(out + PAST_TOTAL_AT, past->lane_total);
    for (uint32_t lane = 0; lane < past->lane_total; lane++) {
        mr_put_u64(out + PAST_ENDS_AT + 8 * (size_t)lane, past->ends[lane]);
    }
}

static void meta_put(const struct mr_journal *journal, uint8_t *bytes, size_t past_len)
{
    uint8_t *at = bytes + MR_META_BYTES;

    memcpy(bytes, meta_magic, sizeof(meta_magic));
    mr_put_u16(bytes + META_VERSION_AT, journal->meta_version);
    mr_put_u16(bytes + META_SIZE_AT, MR_META_BYTES);
    memcpy(bytes + META_ID_AT, journal->id.bytes, sizeof(journal->id.bytes));
    mr_put_u64(bytes + META_CREATED_AT, (uint64_t)journal->created_us);
    mr_put_u64(bytes + META_KEY_AT, journal->hash_key.k0);
    mr_put_u64(bytes + META_KEY_AT + 8, journal->hash_key.k1);
    mr_put_u32(bytes + META_EPOCH_AT, journal->epoch);
    mr_put_u32(bytes + META_LANES_AT, journal->lane_count);
    mr_put_u64(bytes + META_MAX_BYTES_AT, journal->max_bytes);
    mr_put_u32(bytes + META_SEGMENT_BYTES_AT, journal->segment_bytes);
    mr_put_u32(bytes + META_LANE_TOTAL_AT, journal->lane_total);
    mr_put_u32(bytes + META_PAST_COUNT_AT, journal->past_count);
    mr_put_u32(bytes + META_PAST_BYTES_AT, (uint32_t)past_len);
    mr_put_u32(bytes + META_CRC_AT, mr_crc32c(0, bytes, META_CRC_AT));
    for (uint32_t i = 0; i < journal->past_count; i++) {
        past_put(&journal->past[i], at);
        at += PAST_ENDS_AT + 8 * (size_t)journal->past[i].lane_total;
    }
    mr_put_u32(at, mr_crc32c(0, bytes + MR_META_BYTES, past_len));
}

/* Write `bytes` to a new file and give it the name when it is on the medium. */
static enum mr_err meta_replace(const struct mr_journal *journal, const uint8_t *bytes, size_t len,
                                struct mr_error *why)
{
    struct mr_span part = mr_span_make(bytes, len);
    struct path path;
    struct path unfinished;
    struct mr_file file;
    enum mr_err err;

    meta_path(journal, "", &path);
    meta_path(journal, ".tmp", &unfinished);
    err = mr_path_remove(unfinished.text);
    if (err != MR_OK && err != MR_ERR_REJECT) {
        return mr_error_set(why, err, "%s: cannot be removed: %s; check the disk", unfinished.text,
                            mr_file_last_cause());
    }
    err = mr_file_open(&file, unfinished.text, MR_FILE_CREATE, why);
    if (err != MR_OK) {
        return err == MR_ERR_FULL ? err : MR_ERR_IO;
    }
    err = mr_file_write(&file, &part, 1, 0);
    if (err == MR_OK && mr_file_sync(&file) != MR_OK) {
        err = MR_ERR_IO;
    }
    mr_file_close(&file);
    if (err == MR_OK) {
        err = mr_path_rename(unfinished.text, path.text);
    }
    if (err == MR_OK) {
        err = mr_dir_sync(journal->folder.text);
    }
    return err == MR_OK ? MR_OK
                        : mr_error_set(why, err, "%s: cannot be written: %s", path.text,
                                       mr_file_last_cause());
}

enum mr_err mr_meta_write(const struct mr_journal *journal, struct mr_error *why)
{
    size_t past_len = past_bytes(journal);
    size_t len = MR_META_BYTES + past_len + 4;
    uint8_t *bytes = mr_alloc(len);

    meta_put(journal, bytes, past_len);
    enum mr_err err = meta_replace(journal, bytes, len, why);
    mr_free(bytes);
    return err;
}

/* ---- reading ---- */

/* False: what stands there makes no sense. */
static bool past_get(struct mr_journal *journal, uint32_t count, struct mr_span bytes)
{
    for (uint32_t i = 0; i < count; i++) {
        struct epoch_past *past = &journal->past[i];

        if (bytes.len < PAST_ENDS_AT) {
            return false;
        }
        past->number = mr_get_u32(bytes.at + PAST_NUMBER_AT);
        past->lane_count = mr_get_u32(bytes.at + PAST_LANES_AT);
        past->lane_total = mr_get_u32(bytes.at + PAST_TOTAL_AT);
        size_t len = PAST_ENDS_AT + 8 * (size_t)past->lane_total;
        if (past->lane_total > journal->lane_total || past->lane_count > past->lane_total ||
            past->number >= journal->epoch || bytes.len < len) {
            return false;
        }
        past->ends = mr_alloc((past->lane_total + 1) * sizeof(*past->ends));
        journal->past_count = i + 1;
        for (uint32_t lane = 0; lane < past->lane_total; lane++) {
            past->ends[lane] = mr_get_u64(bytes.at + PAST_ENDS_AT + 8 * (size_t)lane);
        }
        bytes.at += len;
        bytes.len -= len;
    }
    return bytes.len == 0;
}

/* What version 2 added: the lanes and ends of earlier epochs. */
static bool past_read(struct mr_journal *journal, const uint8_t *bytes, size_t got)
{
    uint32_t count = mr_get_u32(bytes + META_PAST_COUNT_AT);
    uint32_t len = mr_get_u32(bytes + META_PAST_BYTES_AT);

    journal->lane_total = mr_get_u32(bytes + META_LANE_TOTAL_AT);
    if (journal->lane_total < journal->lane_count || journal->lane_total > LANES_MAX ||
        count > EPOCHS_PAST_MAX || len > PAST_BYTES_MAX || got < MR_META_BYTES + (size_t)len + 4) {
        return false;
    }
    const uint8_t *past = bytes + MR_META_BYTES;
    return mr_get_u32(past + len) == mr_crc32c(0, past, len) &&
           past_get(journal, count, mr_span_make(past, len));
}

static enum mr_err meta_get(struct mr_journal *journal, const uint8_t *bytes, size_t got,
                            const char *path, struct mr_error *why)
{
    if (got < MR_META_BYTES || memcmp(bytes, meta_magic, sizeof(meta_magic)) != 0 ||
        mr_get_u32(bytes + META_CRC_AT) != mr_crc32c(0, bytes, META_CRC_AT)) {
        return mr_error_set(why, MR_ERR_CORRUPT,
                            "%s is damaged; restore it from a copy, the segments need its identity",
                            path);
    }
    uint16_t version = mr_get_u16(bytes + META_VERSION_AT);
    if (version > MR_META_VERSION) {
        return mr_error_set(why, MR_ERR_CONFIG,
                            "%s has format %u, this millrace knows %u; use the newer version", path,
                            version, MR_META_VERSION);
    }
    journal->meta_version = version > MR_META_VERSION_BASE ? version : MR_META_VERSION_BASE;
    memcpy(journal->id.bytes, bytes + META_ID_AT, sizeof(journal->id.bytes));
    journal->created_us = (int64_t)mr_get_u64(bytes + META_CREATED_AT);
    journal->hash_key.k0 = mr_get_u64(bytes + META_KEY_AT);
    journal->hash_key.k1 = mr_get_u64(bytes + META_KEY_AT + 8);
    journal->epoch = mr_get_u32(bytes + META_EPOCH_AT);
    journal->lane_count = mr_get_u32(bytes + META_LANES_AT);
    journal->lane_total = journal->lane_count;
    journal->max_bytes = mr_get_u64(bytes + META_MAX_BYTES_AT);
    journal->segment_bytes = mr_get_u32(bytes + META_SEGMENT_BYTES_AT);
    if (journal->lane_count == 0 || journal->lane_count > LANES_MAX) {
        return mr_error_set(why, MR_ERR_CORRUPT, "%s names %u lanes; restore it from a copy", path,
                            journal->lane_count);
    }
    if (version >= 2 && !past_read(journal, bytes, got)) {
        return mr_error_set(why, MR_ERR_CORRUPT,
                            "%s is damaged where it names earlier epochs; restore it from a copy",
                            path);
    }
    return MR_OK;
}

enum mr_err mr_meta_read(struct mr_journal *journal, struct mr_error *why)
{
    const size_t size = MR_META_BYTES + PAST_BYTES_MAX + 4;
    struct path path;
    struct mr_file file;
    size_t got = 0;
    enum mr_err err;

    meta_path(journal, "", &path);
    err = mr_file_open(&file, path.text, MR_FILE_READ, why);
    if (err != MR_OK) {
        return err == MR_ERR_REJECT
                   ? mr_error_set(why, MR_ERR_CONFIG, "%s: there is no journal here", path.text)
                   : err;
    }
    uint8_t *bytes = mr_alloc(size);
    err = mr_file_read(&file, bytes, size, 0, &got);
    mr_file_close(&file);
    if (err == MR_OK) {
        err = meta_get(journal, bytes, got, path.text, why);
    } else {
        err = mr_error_set(why, MR_ERR_IO, "%s: cannot be read: %s; check the disk", path.text,
                           mr_file_last_cause());
    }
    mr_free(bytes);
    return err;
}

/* ---- epochs ---- */

void mr_meta_close(struct mr_journal *journal)
{
    for (uint32_t i = 0; i < journal->past_count; i++) {
        mr_free(journal->past[i].ends);
    }
    journal->past_count = 0;
}

/* Has every bridge passed the end of the oldest epoch that is remembered? */
static bool past_is_settled(struct mr_journal *journal)
{
    const struct epoch_past *oldest = &journal->past[0];

    for (uint32_t lane = 0; lane < oldest->lane_total; lane++) {
        if (mr_cursors_lowest(journal, lane, NULL) < oldest->ends[lane]) {
            return false;
        }
    }
    return true;
}

static enum mr_err past_make_room(struct mr_journal *journal, struct mr_error *why)
{
    if (journal->past_count < EPOCHS_PAST_MAX) {
        return MR_OK;
    }
    if (!past_is_settled(journal)) {
        return mr_error_set(why, MR_ERR_CONFIG,
                            "%s: the number of lanes was changed %d times, and a bridge has not "
                            "delivered what is older; let it catch up before the next change",
                            journal->name, EPOCHS_PAST_MAX);
    }
    mr_free(journal->past[0].ends);
    journal->past_count -= 1;
    memmove(&journal->past[0], &journal->past[1], journal->past_count * sizeof(journal->past[0]));
    return MR_OK;
}

enum mr_err mr_epoch_begin(struct mr_journal *journal, uint32_t lane_count, struct mr_error *why)
{
    enum mr_err err = past_make_room(journal, why);

    if (err != MR_OK) {
        return err;
    }
    struct epoch_past *past = &journal->past[journal->past_count++];
    past->number = journal->epoch;
    past->lane_count = journal->lane_count;
    past->lane_total = journal->lane_total;
    past->ends = mr_alloc((journal->lane_total + 1) * sizeof(*past->ends));
    for (uint32_t lane = 0; lane < journal->lane_total; lane++) {
        past->ends[lane] = journal->lanes[lane].seq_next - 1;
    }
    journal->epoch += 1;
    journal->lane_count = lane_count;
    err = mr_meta_write(journal, why);
    if (err == MR_OK) {
        mr_log(MR_LOG_INFO, "journal",
               "%s: lanes are %u now and were %u: epoch %u begins, and what is older is delivered "
               "first",
               journal->name, lane_count, past->lane_count, journal->epoch);
    }
    return err;
}

uint64_t mr_epoch_floor(const struct mr_journal *journal, uint32_t lane)
{
    const struct epoch_past *last =
        journal->past_count == 0 ? NULL : &journal->past[journal->past_count - 1];

    return last == NULL || lane >= last->lane_total ? 0 : last->ends[lane];
}

uint64_t mr_journal_epoch_end(const struct mr_journal *journal, uint32_t epoch, uint32_t lane)
{
    if (epoch >= journal->epoch) {
        return UINT64_MAX;
    }
    for (uint32_t i = 0; i < journal->past_count; i++) {
        const struct epoch_past *past = &journal->past[i];
        if (past->number == epoch) {
            return lane < past->lane_total ? past->ends[lane] : 0;
        }
    }
    return 0;
}

uint32_t mr_journal_epoch_lanes(const struct mr_journal *journal, uint32_t epoch)
{
    if (epoch == journal->epoch) {
        return journal->lane_count;
    }
    for (uint32_t i = 0; i < journal->past_count; i++) {
        if (journal->past[i].number == epoch) {
            return journal->past[i].lane_count;
        }
    }
    return 0;
}

uint32_t mr_journal_epoch(const struct mr_journal *journal)
{
    return journal->epoch;
}
