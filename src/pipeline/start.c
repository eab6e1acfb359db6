/* start.c - where a new bridge begins: `start: oldest | now | TIME`.
 *
 * TIME is looked for by halving the range of seqs: receive times rise with them, as
 * far as the gateway's clock did.  Where it was set back, one of the places that fit
 * is found.
 */
#include "pipeline/bridge_internal.h"

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

/* The first event at or behind `seq`: its receive time.  False: there is none. */
static bool time_at(struct mr_bridge *b, uint64_t seq, int64_t *out_us)
{
    struct mr_reader *reader;
    struct mr_reader_options options = {.pins_max = 1};
    struct mr_error why;
    struct mr_view view;
    bool found = false;
    enum mr_err err;

    if (mr_reader_open(&reader, b->options.journal, b->options.lane, seq, &options, &why) !=
        MR_OK) {
        return false;
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
    return found;
}

/* The cursor of a bridge that begins at the first event received at `time_us` or later. */
static uint64_t seq_before(struct mr_bridge *b, int64_t time_us)
{
    struct mr_lane_stats stats;

    mr_lane_stats(b->lane, &stats);
    uint64_t low = stats.seq_oldest;
    uint64_t high = stats.durable_seq + 1;
    while (low < high) {
        uint64_t middle = low + (high - low) / 2;
        int64_t there_us = 0;
        if (time_at(b, middle, &there_us) && there_us < time_us) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    return low - 1;
}

struct finding {
    const struct mr_bridge *bridge;
    bool found;
};

static void on_cursor(void *arg, const char *name, uint32_t lane, uint64_t seq)
{
    struct finding *finding = arg;

    (void)seq;
    finding->found = finding->found || (lane == finding->bridge->options.lane &&
                                        strcmp(name, finding->bridge->name) == 0);
}

enum mr_err mr_start_cursor(struct mr_bridge *b, const struct start *start, bool *is_new,
                            struct mr_error *why)
{
    struct finding finding = {.bridge = b};

    if (!start->is_time) {
        return mr_cursor_open(b->options.journal, b->name, b->options.lane, start->kind, &b->cursor,
                              is_new, why);
    }
    mr_cursor_list(b->options.journal, on_cursor, &finding);
    uint64_t seq = finding.found ? 0 : seq_before(b, start->time_us);
    return mr_cursor_open_behind(b->options.journal, b->name, b->options.lane, seq, &b->cursor,
                                 is_new, why);
}
