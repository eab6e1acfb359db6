/* scan.c - what the journal holds, appends and gives up, told to the ledger. */
#include "machine.h"

#include "journal/drops.h"
#include "journal/reader.h"

#include <string.h>

enum mr_err __real_mr_lane_append(struct mr_lane *lane, struct mr_record_raw *record,
                                  struct mr_name_ref *name, struct mr_appended *out);
enum mr_err __wrap_mr_lane_append(struct mr_lane *lane, struct mr_record_raw *record,
                                  struct mr_name_ref *name, struct mr_appended *out);

uint64_t __real_mr_lane_append_again(struct mr_lane *lane, const struct mr_event_again *again,
                                     struct mr_span payload);
uint64_t __wrap_mr_lane_append_again(struct mr_lane *lane, const struct mr_event_again *again,
                                     struct mr_span payload);

static struct mr_journal *appended_to;

/* ---- all of it, at a start ---- */

static void scan_event(uint32_t lane, const struct mr_event *event)
{
    if (board_has_topic(event->topic)) {
        board_check(event->topic, event->payload);
    } else if (mortal_has_topic(event->topic)) {
        mortals_scan_will(event->topic, event->payload);
    } else {
        ledger_scan_event(lane, event->seq, event_read(event->topic, event->payload, event->qos));
    }
}

static enum mr_err scan_lane(struct mr_journal *journal, uint32_t lane, struct mr_error *why)
{
    struct mr_reader *reader = NULL;
    struct mr_view view;
    struct mr_event event;
    uint64_t seq_last = 0;
    enum mr_err err =
        mr_reader_open(&reader, journal, lane, 1, &(struct mr_reader_options){.holds = false}, why);

    while (err == MR_OK && (err = mr_reader_next(reader, &view)) == MR_OK) {
        struct mr_view_at at = mr_view_begin(&view);
        while (mr_view_event(&view, &at, &event)) {
            scan_event(lane, &event);
        }
        seq_last = view.seq_last;
        mr_view_unpin(&view);
    }
    if (reader != NULL) {
        mr_reader_close(reader);
    }
    if (seq_last != 0) {
        ledger_scan_lane_end(lane, seq_last);
    }
    if (err == MR_ERR_CORRUPT) {
        broken("records %llu to %llu of lane %u do not read back",
               (unsigned long long)view.seq_first, (unsigned long long)view.seq_last, lane);
    }
    return err == MR_ERR_AGAIN ? MR_OK : mr_error_set(why, err, "the journal cannot be read");
}

enum mr_err scan_journal(struct mr_journal *journal, struct mr_error *why)
{
    enum mr_err err = MR_OK;

    ledger_scan_begin();
    mortals_scan_begin();
    for (uint32_t lane = 0; lane < mr_journal_lane_total(journal) && err == MR_OK; lane++) {
        err = scan_lane(journal, lane, why);
    }
    if (err == MR_OK) {
        scan_drops(journal);
        ledger_scan_end();
    }
    return err;
}

/* ---- what is appended ---- */

void scan_appends_of(struct mr_journal *journal)
{
    appended_to = journal;
}

/* No payload: it is no event. */
static void tell_append(const struct mr_lane *lane, struct mr_span payload, uint64_t seq)
{
    struct event_id id;
    bool is_of_device = event_is_in(payload, &id);

    for (uint32_t i = 0; appended_to != NULL && i < mr_journal_lane_count(appended_to); i++) {
        if (mr_journal_lane(appended_to, i) != lane) {
            continue;
        }
        if (is_of_device) {
            ledger_appended(i, seq, id);
        } else {
            ledger_appended_other(i, seq);
        }
    }
}

enum mr_err __wrap_mr_lane_append(struct mr_lane *lane, struct mr_record_raw *record,
                                  struct mr_name_ref *name, struct mr_appended *out)
{
    enum mr_err err = __real_mr_lane_append(lane, record, name, out);

    if (err == MR_OK) {
        bool is_event = record->type == MR_RECORD_EVENT;
        tell_append(lane, is_event ? record->payload : (struct mr_span){.len = 0}, out->seq);
    }
    return err;
}

uint64_t __wrap_mr_lane_append_again(struct mr_lane *lane, const struct mr_event_again *again,
                                     struct mr_span payload)
{
    uint64_t seq = __real_mr_lane_append_again(lane, again, payload);

    if (seq != 0) {
        tell_append(lane, payload, seq);
    }
    return seq;
}

/* ---- what is given up ---- */

static void on_drop(void *arg, const struct mr_drop *drop)
{
    (void)arg;
    for (uint32_t i = 0; i < plan.bridges; i++) {
        if (strcmp(drop->name, bridge_names[i]) != 0) {
            continue;
        }
        if (!bridge_may_be_dropped(i)) {
            broken("records %llu to %llu of lane %u are given up, which bridge %s may not drop",
                   (unsigned long long)drop->seq_first, (unsigned long long)drop->seq_last,
                   drop->lane, drop->name);
        }
        ledger_dropped(i, drop->lane, drop->seq_first, drop->seq_last);
    }
}

void scan_drops(struct mr_journal *journal)
{
    mr_drops_list(journal, on_drop, NULL);
}
