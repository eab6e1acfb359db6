/* test_view_plain.c
 * links: journal os base
 *
 * Goal:   a plain event says what mr_view_event() says of the same record, and nothing else is
 * taken for one. Method: records of all kinds by a seeded die, in batches of all sizes; each is
 * looked at both ways, from the beginning of the view and from the middle of one.
 */
#include "base/rng.h"
#include "journal/reader.h"
#include "journal_folder.h"
#include "os/clock.h"

enum { RECORDS = 20000, NAMES = 40 };

static struct mr_wake owner;
static struct mr_rng rng;
static char value; /* of a name */

/* Any record; most are plain events. */
static void append_random(struct mr_lane *lane, uint64_t number)
{
    static uint8_t payload[70000];
    uint64_t dice = mr_rng_below(&rng, 100);
    char topic[32];
    struct mr_appended out;
    struct mr_record_raw record = {
        .type = dice < 2 ? MR_RECORD_SESSION : MR_RECORD_EVENT,
        .received_us = 1700000000000000 + (int64_t)(mr_rng_below(&rng, 1000) * number),
        .client = mr_span_of("press-7"),
        .topic = mr_span_make(topic, (size_t)snprintf(topic, sizeof(topic), "sensors/%u",
                                                      (unsigned)mr_rng_below(&rng, NAMES))),
        .payload = mr_span_make(payload, dice == 50 ? sizeof(payload) : mr_rng_below(&rng, 200)),
        .properties = mr_span_make("\x01\x01", dice == 60 ? 2 : 0),
        .body = mr_span_make("\x09\0\0", dice < 2 ? 3 : 0),
        .packet_id = 7,
        .qos = (uint8_t)(dice == 70 ? 2 : dice & 1),
        .retain = dice == 80,
        .will = dice == 90,
    };

    record.received_us -= dice == 40 ? 1000000000000 : 0; /* a time that needs more bytes */
    while (mr_lane_append(lane, &record, NULL, &out) == MR_ERR_FULL) {
        (void)mr_lane_submit(lane, mr_clock_mono_ns());
        mr_wake_wait(&owner, 1000000);
        mr_lane_release(lane, mr_lane_durable(lane));
    }
    if (mr_rng_below(&rng, 30) == 0) {
        (void)mr_lane_submit(lane, mr_clock_mono_ns());
    }
}

static void journal_fill(struct mr_lane *lane)
{
    for (uint64_t i = 1; i <= RECORDS; i++) {
        append_random(lane, i);
    }
    while (mr_lane_durable(lane) < RECORDS) {
        (void)mr_lane_submit(lane, mr_clock_mono_ns());
        mr_wake_wait(&owner, 1000000);
    }
    mr_lane_release(lane, RECORDS);
}

static bool is_plain(const struct mr_event *event)
{
    return event->type == MR_RECORD_EVENT && event->raw.naming == MR_NAMING_REFERENCE &&
           event->qos < 2 && !event->retain && !event->will && event->properties.len == 0;
}

/* Look at the record at `at` both ways, and go on behind it; false: the view is over. */
static bool look(const struct mr_view *view, struct mr_view_at *at, uint64_t *plain_count)
{
    struct mr_view_at passed = *at;
    struct mr_event event;
    struct mr_plain plain;
    bool found = mr_view_plain(view, at, &plain);

    if (!mr_view_event(view, at, &event)) {
        mr_assert(!found);
        return false;
    }
    if (event.name_id < MR_NAMES_MAX) { /* every fourth name has no value, ever */
        void **slot = mr_names_slot(view->names, event.name_id);
        *slot = event.name_id % 4 == 0 ? NULL : &value;
        mr_assert(!found || plain.slot == &value);
    }
    if (found) {
        mr_view_pass(&passed, &plain);
        mr_assert(passed.records.at == at->records.at && passed.seq == at->seq);
        mr_assert(passed.left == at->left && passed.next_batch == at->next_batch);
        mr_assert(is_plain(&event) && plain.seq == event.seq && plain.qos == event.qos);
        mr_assert(plain.received_us == event.received_us);
        mr_assert(plain.payload.at == event.payload.at && plain.payload.len == event.payload.len);
        *plain_count += 1;
    }
    return true;
}

static uint64_t read_from(struct mr_journal *journal, uint64_t seq)
{
    struct mr_reader *reader = NULL;
    struct mr_view view;
    struct mr_error why;
    uint64_t plain_count = 0;

    mr_assert(mr_reader_open(&reader, journal, 0, seq, NULL, &why) == MR_OK);
    while (mr_reader_next(reader, &view) == MR_OK) {
        struct mr_view_at at = mr_view_begin(&view);
        while (look(&view, &at, &plain_count)) {
        }
        mr_view_unpin(&view);
    }
    mr_assert(mr_reader_seq(reader) == RECORDS + 1);
    mr_reader_close(reader);
    return plain_count;
}

int main(void)
{
    struct mr_error why;

    mr_rng_seed(&rng, 7);
    folder_make();
    mr_assert(mr_wake_open(&owner, &why) == MR_OK);
    struct mr_journal *journal = folder_journal(&(struct mr_journal_options){
        .lane_count = 1,
        .max_bytes = 64 << 20,
        .segment_bytes = 4 << 20,
        .block_bytes = 256 << 10,
        .record_bytes_max = 128 << 10,
    });
    mr_lane_set_owner(mr_journal_lane(journal, 0), &owner);
    journal_fill(mr_journal_lane(journal, 0));
    mr_assert(read_from(journal, 1) > RECORDS / 2);
    for (uint64_t seq = 2; seq < RECORDS; seq += 1 + mr_rng_below(&rng, 4000)) {
        (void)read_from(journal, seq);
    }
    mr_assert(mr_journal_close(journal) == MR_OK);
    mr_wake_close(&owner);
    folder_remove();
    return 0;
}
