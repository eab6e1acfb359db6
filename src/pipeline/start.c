/* start.c - where a new bridge begins: `start: oldest | now | TIME`.
 *
 * TIME is looked for by halving the range of seqs: receive times rise with them, as
 * far as the gateway's clock did.  Where it was set back, one of the places that fit
 * is found.
 */
#include "pipeline/bridge_internal.h"

#include "os/file.h"

#include <inttypes.h>
#include <stdio.h>

enum mr_err mr_start_parse(const char *text, struct start *out, struct mr_error *why)
{
    *out = (struct start){.kind = MR_START_OLDEST};
    if (text == NULL || strcmp(text, "oldest") == 0) {
        return MR_OK;
    }
    if (strcmp(text, "now") == 0) {
        out->kind = MR_START_NOW;
        return MR_OK;
    }
    const char *fault = mr_timestamp_read(mr_span_of(text), MR_TIME_RFC3339, &out->time_us);
    if (fault != NULL) {
        return mr_error_set(why, MR_ERR_CONFIG,
                            "start: '%s' %s; write oldest, now, or a time as 2026-11-23T17:56:01Z",
                            text, fault);
    }
    out->is_time = true;
    return MR_OK;
}

/* The first event at or behind `seq` that can be read: its receive time.  AGAIN: there is none. */
static enum mr_err time_at(const struct start_at *where, uint64_t seq, int64_t *out_us,
                           struct mr_error *why)
{
    struct mr_reader *reader;
    struct mr_reader_options options = {.pins_max = 1};
    struct mr_view view;
    bool found = false;
    enum mr_err err = mr_reader_open(&reader, where->journal, where->lane, seq, &options, why);

    if (err != MR_OK) {
        return err;
    }
    while (!found && ((err = mr_reader_next(reader, &view)) == MR_OK || err == MR_ERR_CORRUPT)) {
        if (err == MR_ERR_CORRUPT) {
            continue; /* the journal has logged it */
        }
        struct mr_view_at at = mr_view_begin(&view);
        struct mr_event event;
        while (!found && mr_view_event(&view, &at, &event)) {
            found = true;
            *out_us = event.received_us;
        }
        mr_view_unpin(&view);
    }
    mr_reader_close(reader);
    if (found || err == MR_ERR_AGAIN) {
        return found ? MR_OK : MR_ERR_AGAIN;
    }
    return mr_error_set(why, err,
                        "bridge '%s': where `start` is cannot be found: record %" PRIu64
                        " of lane %" PRIu32 " cannot be read: %s; check the disk and try again",
                        where->name, seq, where->lane, mr_file_last_cause());
}

/* The cursor of a bridge that begins at the first event received at `time_us` or later.  What
 * cannot be read just now is no reason to begin anywhere else.
 */
static enum mr_err seq_before(const struct start_at *where, int64_t time_us, uint64_t *out,
                              struct mr_error *why)
{
    struct mr_lane_stats stats;

    mr_lane_stats(mr_journal_lane(where->journal, where->lane), &stats);
    uint64_t low = stats.seq_oldest;
    uint64_t high = stats.durable_seq + 1;
    while (low < high) {
        uint64_t middle = low + (high - low) / 2;
        int64_t there_us = 0;
        enum mr_err err = time_at(where, middle, &there_us, why);
        if (err != MR_OK && err != MR_ERR_AGAIN) {
            return err;
        }
        if (err == MR_OK && there_us < time_us) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    *out = low - 1;
    return MR_OK;
}

struct finding {
    const struct start_at *where;
    bool found;
};

static void on_cursor(void *arg, const char *name, uint32_t lane, uint64_t seq)
{
    struct finding *finding = arg;

    (void)seq;
    finding->found =
        finding->found || (lane == finding->where->lane && strcmp(name, finding->where->name) == 0);
}

static enum mr_err open_at_time(const struct start_at *where, int64_t time_us,
                                struct mr_cursor **out, bool *is_new, struct mr_error *why)
{
    struct finding finding = {.where = where};

    mr_cursor_list(where->journal, on_cursor, &finding);
    uint64_t seq = 0;
    enum mr_err err = finding.found ? MR_OK : seq_before(where, time_us, &seq, why);
    if (err != MR_OK) {
        return err;
    }
    return mr_cursor_open_behind(where->journal, where->name, where->lane, seq, out, is_new, why);
}

enum mr_err mr_start_cursor(const struct start_at *where, const struct start *start,
                            struct mr_cursor **out, struct mr_error *why)
{
    bool is_new = false;
    enum mr_err err = start->is_time ? open_at_time(where, start->time_us, out, &is_new, why)
                                     : mr_cursor_open(where->journal, where->name, where->lane,
                                                      start->kind, out, &is_new, why);

    if (err == MR_OK && is_new) {
        mr_log(MR_LOG_INFO, "bridge", "%s: is new in lane %u; begins behind record %" PRIu64,
               where->name, where->lane, mr_cursor_get(*out));
    }
    return err;
}
