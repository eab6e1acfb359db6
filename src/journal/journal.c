/* journal.c - the journal as a whole: its folder, identity, opening, closing. */
#include "journal/drops_internal.h"
#include "journal/journal_internal.h"

#include "os/clock.h"
#include "os/process.h"

enum {
    SEGMENT_BYTES_DEFAULT = 64 << 20,
    SEGMENT_BYTES_MIN = 64 << 10,
    SEGMENT_BYTES_MAX = 1 << 30,
    BLOCK_BYTES_DEFAULT = 1 << 20,
    BLOCK_COUNT_DEFAULT = 32,
    RECORD_BYTES_DEFAULT = 1 << 20,
    COMMIT_DELAY_US_DEFAULT = 500,
    SEGMENTS_PER_LANE_MIN = 3, /* being written, spare, and one that is read */
};

static uint64_t round_up(uint64_t bytes, uint64_t to)
{
    return (bytes + to - 1) / to * to;
}

/* Segments large enough for a record, small enough that max_bytes holds several for
 * each of `lane_count` lanes.
 */
static enum mr_err sizes_choose(struct mr_journal *journal,
                                const struct mr_journal_options *options, uint32_t lane_count,
                                struct mr_error *why)
{
    uint64_t per_lane = journal->max_bytes / lane_count;
    uint64_t segment =
        options->segment_bytes != 0 ? options->segment_bytes : journal->segment_bytes;
    uint64_t record = options->record_bytes_max;
    bool outgrown = lane_count > journal->lane_count && options->segment_bytes == 0 &&
                    per_lane < SEGMENTS_PER_LANE_MIN * segment;

    if (segment == 0 || outgrown) {
        segment = per_lane / 8 < SEGMENT_BYTES_DEFAULT ? per_lane / 8 : SEGMENT_BYTES_DEFAULT;
    }
    if (segment < SEGMENT_BYTES_MIN) {
        segment = SEGMENT_BYTES_MIN;
    }
    if (record == 0) {
        record = segment / 2 < RECORD_BYTES_DEFAULT ? segment / 2 : RECORD_BYTES_DEFAULT;
    }
    if (segment < record + 2 * PAGE_BYTES) {
        segment = record + 2 * PAGE_BYTES;
    }
    segment = round_up(segment, PAGE_BYTES);
    if (segment > SEGMENT_BYTES_MAX) {
        return mr_error_set(why, MR_ERR_CONFIG,
                            "%s: records of %llu bytes are too large for a journal; at most 1 GiB",
                            journal->name, (unsigned long long)record);
    }
    if (per_lane < SEGMENTS_PER_LANE_MIN * segment) {
        return mr_error_set(why, MR_ERR_CONFIG,
                            "%s: max_size %llu is too small for %u lanes; use at least %llu bytes",
                            journal->name, (unsigned long long)journal->max_bytes, lane_count,
                            (unsigned long long)(SEGMENTS_PER_LANE_MIN * segment * lane_count));
    }
    journal->segment_bytes = (uint32_t)segment;
    journal->record_bytes_max = (uint32_t)record;
    return MR_OK;
}

static enum mr_err identity_make(struct mr_journal *journal,
                                 const struct mr_journal_options *options, struct mr_error *why)
{
    mr_os_random(&journal->id, sizeof(journal->id));
    journal->id.bytes[6] = (uint8_t)((journal->id.bytes[6] & 0x0f) | 0x40); /* RFC 9562, 5.4 */
    journal->id.bytes[8] = (uint8_t)((journal->id.bytes[8] & 0x3f) | 0x80);
    mr_os_random(&journal->hash_key, sizeof(journal->hash_key));
    journal->created_us = mr_clock_wall_us();
    journal->meta_version = MR_META_VERSION_BASE;
    journal->epoch = 1;
    journal->lane_count = options->lane_count != 0 ? options->lane_count : options->lane_count_new;
    journal->lane_count = journal->lane_count == 0 ? 1 : journal->lane_count;
    journal->lane_total = journal->lane_count;
    journal->max_bytes = options->max_bytes;
    if (journal->max_bytes == 0) {
        uint64_t bytes_free = 0;
        if (mr_disk_free(journal->folder.text, &bytes_free) != MR_OK) {
            return mr_error_set(why, MR_ERR_IO, "%s: its free space cannot be read",
                                journal->folder.text);
        }
        journal->max_bytes = bytes_free / 2;
    }
    return MR_OK;
}

/* Read meta, or make the journal; take over sizes that were configured anew.
 * *lane_count: as many as are wanted from now on.
 */
static enum mr_err identity_open(struct mr_journal *journal,
                                 const struct mr_journal_options *options, bool *is_new,
                                 uint32_t *lane_count, struct mr_error *why)
{
    enum mr_err err;

    if (options->lane_count > LANES_MAX || options->lane_count_new > LANES_MAX) {
        return mr_error_set(why, MR_ERR_CONFIG, "%s: that many lanes are not possible; at most %d",
                            journal->name, LANES_MAX);
    }
    *is_new = !journal->read_only && !journal->cursors_only && !mr_meta_exists(journal);
    err = *is_new ? identity_make(journal, options, why) : mr_meta_read(journal, why);
    *lane_count = journal->lane_count;
    if (err != MR_OK || journal->cursors_only) {
        return err;
    }
    uint64_t max_before = journal->max_bytes;
    uint32_t segment_before = journal->segment_bytes;
    if (options->max_bytes != 0) {
        journal->max_bytes = options->max_bytes;
    }
    if (options->lane_count != 0 && !journal->read_only) {
        *lane_count = options->lane_count;
    }
    err = sizes_choose(journal, options, *lane_count, why);
    if (err != MR_OK || journal->read_only) {
        return err;
    }
    if (*is_new || max_before != journal->max_bytes || segment_before != journal->segment_bytes) {
        return mr_meta_write(journal, why);
    }
    return MR_OK;
}

static void options_take(struct mr_journal *journal, const struct mr_journal_options *options)
{
    struct mr_text text = mr_text_over(journal->folder.text, sizeof(journal->folder.text));
    uint32_t block_bytes = options->block_bytes == 0 ? BLOCK_BYTES_DEFAULT : options->block_bytes;
    uint32_t block_count = options->block_count == 0 ? BLOCK_COUNT_DEFAULT : options->block_count;
    uint32_t delay_us = options->commit_delay_us_max;

    if (delay_us == 0) {
        delay_us = COMMIT_DELAY_US_DEFAULT;
    } else if (delay_us == MR_COMMIT_AT_ONCE) {
        delay_us = 0;
    }

    mr_text_add(&text, options->path);
    text = mr_text_over(journal->name, sizeof(journal->name));
    mr_text_add(&text, options->name == NULL ? "journal" : options->name);
    journal->keep_us = options->keep_us;
    journal->when_full = options->when_full;
    journal->read_only = options->read_only;
    journal->cursors_only = options->cursors_only;
    journal->keep_ranges = options->keep_ranges;
    journal->manual = options->manual;
    block_count = block_count > BLOCKS_MAX ? BLOCKS_MAX : block_count;
    journal->block_bytes = (uint32_t)round_up(block_bytes, PAGE_BYTES);
    journal->block_count =
        block_count < BLOCKS_FOR_WRITER + 2 ? BLOCKS_FOR_WRITER + 2 : block_count;
    journal->commit_delay_ns_max = (int64_t)delay_us * 1000;
}

static enum mr_err folder_take(struct mr_journal *journal, struct mr_error *why)
{
    enum mr_err err;

    if (strlen(journal->folder.text) > PATH_BYTES - 64) {
        return mr_error_set(why, MR_ERR_CONFIG,
                            "%s: the path of its folder is too long, use at most %d bytes: %s",
                            journal->name, PATH_BYTES - 64, journal->folder.text);
    }
    if (journal->read_only) {
        return MR_OK;
    }
    err = mr_dir_create(journal->folder.text, why);
    return err == MR_OK ? mr_dir_lock(journal->folder.text, &journal->lock, why) : err;
}

/* Lanes of earlier epochs beyond `lane_count` are opened for reading only. */
static void lanes_make(struct mr_journal *journal, uint32_t lane_count)
{
    if (lane_count > journal->lane_total) {
        journal->lane_total = lane_count;
    }
    journal->lanes = mr_alloc(journal->lane_total * sizeof(*journal->lanes));
    for (uint32_t i = 0; i < journal->lane_total; i++) {
        journal->lanes[i].journal = journal;
        journal->lanes[i].index = i;
        journal->lanes[i].dropped = i >= lane_count;
        journal->lanes[i].max_bytes = i < lane_count ? journal->max_bytes / lane_count : 0;
        journal->lanes[i].commit_wake.fd = -1;
        journal->lanes[i].dir.fd = -1;
        mr_mutex_init(&journal->lanes[i].mutex);
    }
}

static enum mr_err lanes_open(struct mr_journal *journal, uint32_t lane_count,
                              struct mr_recovery *recovery, struct mr_error *why)
{
    enum mr_err err = MR_OK;

    lanes_make(journal, lane_count);
    if (journal->cursors_only) {
        enum mr_err opened = mr_cursors_open(journal, why);
        return opened == MR_OK ? mr_drops_open(journal, why) : opened;
    }
    for (uint32_t i = 0; i < journal->lane_total && err == MR_OK; i++) {
        err = mr_lane_open(&journal->lanes[i], why);
    }
    if (err == MR_OK) {
        err = mr_cursors_open(journal, why);
    }
    if (err == MR_OK) {
        err = mr_drops_open(journal, why);
    }
    for (uint32_t i = 0; i < journal->lane_total && err == MR_OK; i++) {
        err = mr_lane_recover(&journal->lanes[i], recovery, why);
    }
    if (err == MR_OK && lane_count != journal->lane_count) {
        err = mr_epoch_begin(journal, lane_count, why);
    }
    return err;
}

/* The first round of the keeper, then the threads. */
static enum mr_err journal_start(struct mr_journal *journal, bool is_new, struct mr_error *why)
{
    enum mr_err err = MR_OK;

    mr_journal_step_keeper(journal);
    for (uint32_t i = 0; i < journal->lane_count; i++) {
        const struct mr_lane *lane = &journal->lanes[i];
        if (mr_lane_state(lane) == MR_LANE_FAILED) {
            return mr_error_set(why, MR_ERR_IO, "%s", mr_lane_state_text(lane));
        }
        if (is_new && lane->spare == NULL) {
            return mr_error_set(why, MR_ERR_FULL, "%s", lane->spare_text);
        }
    }
    for (uint32_t i = 0; i < journal->lane_count && err == MR_OK && !journal->manual; i++) {
        err = mr_lane_start(&journal->lanes[i], why);
    }
    if (err == MR_OK && !journal->manual) {
        err = mr_thread_start(&journal->keeper, "keeper", mr_keeper_run, journal, why);
    }
    return err;
}

static void recovery_log(const struct mr_journal *journal, const struct mr_recovery *recovery)
{
    char id[37];

    mr_journal_id_text(&journal->id, id);
    mr_log(MR_LOG_INFO, "journal",
           "opened %s, id %s: %llu segments, %llu records checked in %lld ms, %llu bytes of an "
           "unfinished commit cut, %llu records lost in %llu places",
           journal->folder.text, id, (unsigned long long)recovery->segments,
           (unsigned long long)recovery->records_scanned, (long long)recovery->took_us / 1000,
           (unsigned long long)recovery->torn_bytes, (unsigned long long)recovery->seqs_lost,
           (unsigned long long)recovery->corrupt_ranges);
}

enum mr_err mr_journal_open(struct mr_journal **out, const struct mr_journal_options *options,
                            struct mr_recovery *recovery, struct mr_error *why)
{
    struct mr_journal *journal = mr_alloc(sizeof(*journal));
    struct mr_recovery ignored;
    int64_t began_ns = mr_clock_mono_ns();
    bool is_new = false;
    uint32_t lane_count = 0;
    enum mr_err err;

    journal->opened_ns = began_ns;
    recovery = recovery == NULL ? &ignored : recovery;
    *recovery = (struct mr_recovery){0};
    journal->lock.fd = -1;
    journal->cursor_file.fd = -1;
    journal->keeper_wake.fd = -1;
    mr_mutex_init(&journal->cursor_mutex);
    mr_mutex_init(&journal->watch_mutex);
    options_take(journal, options);
    err = folder_take(journal, why);
    if (err != MR_OK) {
        journal->lock.fd = -1;
    }
    if (err == MR_OK) {
        err = identity_open(journal, options, &is_new, &lane_count, why);
    }
    if (err == MR_OK && !journal->read_only) {
        err = mr_wake_open(&journal->keeper_wake, why);
    }
    if (err == MR_OK) {
        err = lanes_open(journal, lane_count, recovery, why);
    }
    if (err == MR_OK && !journal->read_only && !journal->cursors_only) {
        err = journal_start(journal, is_new, why);
    }
    if (err != MR_OK) {
        (void)mr_journal_close(journal); /* the first error is the one to tell */
        return err;
    }
    recovery->took_us = (mr_clock_mono_ns() - began_ns) / 1000;
    if (!journal->read_only && !journal->cursors_only) {
        recovery_log(journal, recovery);
    }
    *out = journal;
    return MR_OK;
}

enum mr_err mr_journal_close(struct mr_journal *journal)
{
    enum mr_err err = MR_OK;

    if (journal->keeper != NULL) {
        atomic_store_explicit(&journal->stopping, true, memory_order_release);
        mr_wake_ring(&journal->keeper_wake);
        mr_thread_join(journal->keeper);
    }
    for (uint32_t i = 0; journal->lanes != NULL && i < journal->lane_total; i++) {
        enum mr_err lane_err = mr_lane_close(&journal->lanes[i]);
        err = err == MR_OK ? lane_err : err;
    }
    if (journal->cursors != NULL) {
        if (journal->cursors_certain) {
            enum mr_err cursors_err = mr_cursors_write(journal);
            cursors_err = journal->cursors_wait ? MR_ERR_FULL : cursors_err; /* no next time */
            if (cursors_err != MR_OK && err == MR_OK) {
                mr_log(MR_LOG_ERROR, "journal",
                       "%s: the last cursors cannot be written: %s; some events are offered again",
                       journal->folder.text, mr_file_last_cause());
            }
            err = err == MR_OK ? cursors_err : err;
        }
        mr_drops_close(journal);
        mr_cursors_close(journal);
    }
    if (journal->keeper_wake.fd >= 0) {
        mr_wake_close(&journal->keeper_wake);
    }
    if (journal->lock.fd >= 0) {
        mr_file_close(&journal->lock);
    }
    mr_mutex_fini(&journal->cursor_mutex);
    mr_mutex_fini(&journal->watch_mutex);
    mr_meta_close(journal);
    mr_free(journal->lanes);
    mr_free(journal);
    return err;
}

const struct mr_journal_id *mr_journal_identity(const struct mr_journal *journal)
{
    return &journal->id;
}

uint32_t mr_journal_lane_count(const struct mr_journal *journal)
{
    return journal->lane_count;
}

uint32_t mr_journal_lane_total(const struct mr_journal *journal)
{
    return journal->lane_total;
}

uint32_t mr_journal_home_of(const struct mr_journal *journal, struct mr_span client_id,
                            uint32_t lane_count)
{
    return lane_count == 1
               ? 0
               : (uint32_t)(mr_siphash(&journal->hash_key, client_id.at, client_id.len) %
                            lane_count);
}

uint32_t mr_journal_home(const struct mr_journal *journal, struct mr_span client_id)
{
    return mr_journal_home_of(journal, client_id, journal->lane_count);
}

struct mr_lane *mr_journal_lane(struct mr_journal *journal, uint32_t lane)
{
    mr_assert(lane < journal->lane_total);
    return &journal->lanes[lane];
}
