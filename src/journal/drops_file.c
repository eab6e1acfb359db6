/* drops_file.c - the file of what was given up; docs/JOURNAL.md has the slot's bytes.
 *
 * DESIGN
 *
 * The file has a fixed size and is filled when the mode is first used, because what has to be
 * written to it is written when nothing is left.  A range that goes on is written to a free slot,
 * larger; the smaller one counts no more, since the larger contains it.
 */
#include "journal/drops_internal.h"
#include "journal/live.h"

enum {
    DROP_SLOT_BYTES = 256,
    DROPS_FILE_BYTES = MR_DROPS_MAX * DROP_SLOT_BYTES,

    DROP_VERSION_AT = 4,
    DROP_LANE_AT = 6,
    DROP_REASON_AT = 8,
    DROP_NAME_LEN_AT = 9,
    DROP_NUMBER_AT = 16,
    DROP_FIRST_AT = 24,
    DROP_LAST_AT = 32,
    DROP_FIRST_US_AT = 40,
    DROP_LAST_US_AT = 48,
    DROP_NAME_AT = 56,
    DROP_CRC_AT = DROP_SLOT_BYTES - 4,
};

void mr_drops_path(const struct mr_journal *journal, struct path *out)
{
    struct mr_text text = mr_text_over(out->text, sizeof(out->text));

    mr_text_fmt(&text, "%s/drops", journal->folder.text);
}

/* ---- bytes ---- */

static void slot_put(const struct drop_slot *slot, uint8_t out[DROP_SLOT_BYTES])
{
    const struct mr_drop *drop = &slot->drop;
    size_t len = strlen(drop->name);

    memset(out, 0, DROP_SLOT_BYTES);
    memcpy(out, "MRDR", 4);
    mr_put_u16(out + DROP_VERSION_AT, MR_FORMAT_VERSION);
    mr_put_u16(out + DROP_LANE_AT, (uint16_t)drop->lane);
    out[DROP_REASON_AT] = (uint8_t)drop->reason;
    out[DROP_NAME_LEN_AT] = (uint8_t)len;
    mr_put_u64(out + DROP_NUMBER_AT, slot->number);
    mr_put_u64(out + DROP_FIRST_AT, drop->seq_first);
    mr_put_u64(out + DROP_LAST_AT, drop->seq_last);
    mr_put_u64(out + DROP_FIRST_US_AT, (uint64_t)drop->first_us);
    mr_put_u64(out + DROP_LAST_US_AT, (uint64_t)drop->last_us);
    memcpy(out + DROP_NAME_AT, drop->name, len);
    mr_put_u32(out + DROP_CRC_AT, mr_crc32c(0, out, DROP_CRC_AT));
}

/* False: nothing was written there, or a write of it was torn: what it would have replaced is
 * still in another slot.
 */
static bool slot_get(const uint8_t in[DROP_SLOT_BYTES], struct drop_slot *out)
{
    if (memcmp(in, "MRDR", 4) != 0 ||
        mr_get_u32(in + DROP_CRC_AT) != mr_crc32c(0, in, DROP_CRC_AT) ||
        mr_get_u16(in + DROP_VERSION_AT) > MR_FORMAT_VERSION ||
        in[DROP_NAME_LEN_AT] > MR_CURSOR_NAME_MAX) {
        return false;
    }
    *out = (struct drop_slot){
        .number = mr_get_u64(in + DROP_NUMBER_AT),
        .drop = {.lane = mr_get_u16(in + DROP_LANE_AT),
                 .reason = in[DROP_REASON_AT] <= MR_DROP_DISK ? in[DROP_REASON_AT] : 0,
                 .seq_first = mr_get_u64(in + DROP_FIRST_AT),
                 .seq_last = mr_get_u64(in + DROP_LAST_AT),
                 .first_us = (int64_t)mr_get_u64(in + DROP_FIRST_US_AT),
                 .last_us = (int64_t)mr_get_u64(in + DROP_LAST_US_AT)}};
    memcpy(out->drop.name, in + DROP_NAME_AT, in[DROP_NAME_LEN_AT]);
    return true;
}

enum mr_err mr_drop_slot_write(struct drops *drops, const struct drop_slot *slot)
{
    uint8_t bytes[DROP_SLOT_BYTES];
    struct mr_span part = mr_span_make(bytes, sizeof(bytes));

    slot_put(slot, bytes);
    return mr_file_write(&drops->file, &part, 1, (uint64_t)(slot - drops->slots) * DROP_SLOT_BYTES);
}

/* ---- opening ---- */

/* Ranges that a later one contains were replaced by it. */
static void drops_clean(struct drops *drops)
{
    for (size_t i = 0; i < MR_DROPS_MAX; i++) {
        struct drop_slot *slot = &drops->slots[i];
        for (size_t k = 0; k < MR_DROPS_MAX && slot->number != 0; k++) {
            const struct drop_slot *later = &drops->slots[k];
            if (later->number > slot->number &&
                mr_drop_is_of(&later->drop, slot->drop.name, slot->drop.lane) &&
                later->drop.seq_first <= slot->drop.seq_first &&
                later->drop.seq_last >= slot->drop.seq_last) {
                slot->number = 0;
            }
        }
    }
}

static void drops_apply(struct mr_journal *journal)
{
    for (uint32_t i = 0; i < MR_CURSORS_MAX; i++) {
        if (journal->cursors[i].used) {
            mr_drop_look(&journal->cursors[i]);
        }
    }
}

static void drops_count(struct mr_journal *journal)
{
    for (size_t k = 0; k < MR_DROPS_MAX; k++) {
        const struct drop_slot *slot = &journal->drops->slots[k];
        if (slot->number != 0 && slot->drop.lane < journal->lane_total && !journal->cursors_only) {
            const struct mr_lane *lane = &journal->lanes[slot->drop.lane];
            mr_metric_add(lane->metrics.dropped_records,
                          slot->drop.seq_last - slot->drop.seq_first + 1);
        }
    }
}

static enum mr_err drops_load(struct mr_journal *journal, const char *path, struct mr_error *why)
{
    struct drops *drops = journal->drops;
    uint8_t *bytes = mr_alloc(DROPS_FILE_BYTES);
    size_t got = 0;
    enum mr_err err = mr_file_read(&drops->file, bytes, DROPS_FILE_BYTES, 0, &got);

    if (err != MR_OK) {
        mr_free(bytes);
        return mr_error_set(why, MR_ERR_IO, "%s: cannot be read: %s; check the disk", path,
                            mr_file_last_cause());
    }
    for (size_t i = 0; (i + 1) * DROP_SLOT_BYTES <= got; i++) {
        struct drop_slot *slot = &drops->slots[i];
        if (slot_get(bytes + i * DROP_SLOT_BYTES, slot) && slot->number > drops->number_last) {
            drops->number_last = slot->number;
        }
    }
    drops_clean(drops);
    drops_apply(journal);
    drops_count(journal);
    /* After a failed sync the page cache may hold what the medium does not (recover.c). */
    if (!journal->read_only) {
        struct mr_span part = mr_span_make(bytes, got);
        err = mr_file_write(&drops->file, &part, 1, 0);
        err = err == MR_OK ? mr_file_sync(&drops->file) : err;
    }
    mr_free(bytes);
    return err == MR_OK ? MR_OK
                        : mr_error_set(why, MR_ERR_IO, "%s: cannot be flushed: %s; check the disk",
                                       path, mr_file_last_cause());
}

/* The file, zeroed and under its name, and a `meta` that older versions do not read: they would
 * take what was given up for lost.
 */
static enum mr_err drops_make(struct mr_journal *journal, const char *path, struct mr_error *why)
{
    journal->meta_version = MR_META_VERSION;
    enum mr_err err = mr_meta_write(journal, why);
    return err == MR_OK ? mr_cursors_file_make(journal, path, DROPS_FILE_BYTES, why) : err;
}

enum mr_err mr_drops_open(struct mr_journal *journal, struct mr_error *why)
{
    bool writes = !journal->read_only && !journal->cursors_only;
    struct path path;

    mr_drops_path(journal, &path);
    if (!mr_path_exists(path.text)) {
        if (!writes || journal->when_full != MR_WHEN_FULL_DROP) {
            return MR_OK;
        }
        enum mr_err err = drops_make(journal, path.text, why);
        if (err == MR_ERR_FULL) {
            mr_log(MR_LOG_WARN, "journal",
                   "%s: the disk has no room for the list of what is dropped; until the next start "
                   "nothing is, and publishers wait when the journal is full",
                   journal->name);
            return MR_OK;
        }
        if (err != MR_OK) {
            return err;
        }
    }
    journal->drops = mr_alloc(sizeof(*journal->drops));
    enum mr_err err = mr_file_open(&journal->drops->file, path.text,
                                   journal->read_only ? MR_FILE_READ : MR_FILE_READ_WRITE, why);
    if (err != MR_OK) {
        journal->drops->file.fd = -1;
        return err;
    }
    return drops_load(journal, path.text, why);
}

void mr_drops_close(struct mr_journal *journal)
{
    if (journal->drops != NULL && journal->drops->file.fd >= 0) {
        mr_file_close(&journal->drops->file);
    }
    mr_free(journal->drops);
}
