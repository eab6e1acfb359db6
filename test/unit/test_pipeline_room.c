/* test_pipeline_room.c
 * links: pipeline journal codec config os base
 *
 * Goal:   no event is so large that a bridge waits for room in silence: what needs most
 *         of a bridge's memory is delivered, wherever in the ring it would begin, and
 *         what can never have enough is a dead letter.
 * Method: a key that is the payload and a JSON value, so that one event takes up to all
 *         of the ring in two pieces; a sink that settles at once.  The bridge is stepped
 *         by hand.
 */
#include "base/log.h"
#include "journal_folder.h"
#include "os/clock.h"
#include "pipeline/bridge.h"

/* shaping.c: the ring of a bridge that writes something per record, and its half. */
enum { MIB = 1 << 20, HALF = 16 * MIB, RECORD_MAX = 17 * MIB, ZEROS = 296 };

static struct mr_wake owner;

/* ---- the sink ---- */

struct prompt {
    struct mr_sink_port *port;
    const struct mr_batch *batch;
};

static enum mr_err prompt_init(void *state, const void *conf, struct mr_sink_port *port,
                               struct mr_error *why)
{
    (void)conf;
    (void)why;
    ((struct prompt *)state)->port = port;
    return MR_OK;
}

static enum mr_err prompt_open(void *state, struct mr_error *why)
{
    (void)why;
    mr_sink_up(((struct prompt *)state)->port);
    return MR_OK;
}

static enum mr_err prompt_submit(void *state, const struct mr_batch *batch)
{
    struct prompt *prompt = state;

    if (prompt->batch != NULL) {
        return MR_ERR_FULL;
    }
    prompt->batch = batch;
    return MR_OK;
}

static void prompt_tick(void *state, int64_t now_ns)
{
    struct prompt *prompt = state;
    const struct mr_batch *batch = prompt->batch;

    (void)now_ns;
    prompt->batch = NULL;
    for (uint32_t i = 0; batch != NULL && i < batch->record_count; i++) {
        const struct mr_record *record = &batch->records[i];
        mr_assert(record->route->key.len == record->payload.len + ZEROS);
        mr_assert(record->header_count == 5);
        mr_assert(record->value.len > record->payload.len);
    }
    if (batch != NULL) {
        mr_sink_settle(prompt->port, batch->token, batch->record_count, MR_VERDICT_DONE, NULL);
    }
}

static void prompt_close(void *state, int64_t patience_ns)
{
    (void)state;
    (void)patience_ns;
}

static void prompt_fini(void *state)
{
    (void)state;
}

/* "${payload}" and so many zeros that key and value are the largest for one payload. */
static char key_template[10 + ZEROS + 1];

static void prompt_shape(const void *conf, struct mr_shape *out)
{
    (void)conf;
    snprintf(key_template, sizeof(key_template), "${payload}%0*d", ZEROS, 0);
    *out = (struct mr_shape){.dest_template = "t",
                             .dest_option = "topic",
                             .key_template = key_template,
                             .key_option = "key",
                             .value_encoder = MR_VALUE_JSON,
                             .headers = MR_HEADERS_FULL,
                             .dests_max = 1};
}

static const struct mr_sink_ops prompt_sink = {
    .name = "prompt",
    .state_size = sizeof(struct prompt),
    .conf_size = 1,
    .shape = prompt_shape,
    .init = prompt_init,
    .open = prompt_open,
    .submit = prompt_submit,
    .tick = prompt_tick,
    .close = prompt_close,
    .fini = prompt_fini,
};

/* ---- helpers ---- */

static struct mr_journal *journal_make(void)
{
    folder_make();
    struct mr_journal *journal = folder_journal(&(struct mr_journal_options){
        .lane_count = 1,
        .max_bytes = 256 * MIB,
        .segment_bytes = 32 * MIB,
        .record_bytes_max = RECORD_MAX,
    });
    mr_lane_set_owner(mr_journal_lane(journal, 0), &owner);
    return journal;
}

/* One event whose payload is `len` letters. */
static void append(struct mr_lane *lane, size_t len)
{
    char *payload = mr_alloc(len);
    struct mr_appended out;

    memset(payload, 'x', len);
    struct mr_record_raw record = {.type = MR_RECORD_EVENT,
                                   .received_us = 1700000000000000,
                                   .client = mr_span_of("device"),
                                   .topic = mr_span_of("a/b"),
                                   .payload = mr_span_make(payload, len)};
    enum mr_err err;
    while ((err = mr_lane_append(lane, &record, NULL, &out)) == MR_ERR_FULL) {
        mr_lane_submit(lane, mr_clock_mono_ns());
        mr_wake_wait(&owner, 1000000);
        mr_lane_release(lane, mr_lane_durable(lane));
    }
    mr_assert(err == MR_OK);
    while (mr_lane_durable(lane) < out.seq) {
        mr_lane_submit(lane, mr_clock_mono_ns());
        mr_wake_wait(&owner, 1000000);
    }
    mr_lane_release(lane, out.seq);
    mr_free(payload);
}

/* ---- the test ---- */

static void test_no_event_waits_for_room_for_ever(void)
{
    static const struct mr_bridge_conf conf = {
        .inflight_records = 100, .retry_min_us = 1000, .retry_max_us = 4000};
    struct mr_journal *journal = journal_make();
    struct mr_lane *lane = mr_journal_lane(journal, 0);
    struct mr_bridge *bridge = NULL;
    struct mr_bridge_stats stats;
    struct mr_error why = {.text = ""};

    append(lane, 5 * MIB);    /* leaves the ring's head at 10 MiB: */
    append(lane, 12 * MIB);   /* key up to 22 MiB, no room behind it nor in front of it */
    append(lane, HALF - 380); /* either fits, and their headers do not */
    append(lane, 1);
    struct mr_bridge_options_run options = {.name = "test",
                                            .journal = journal,
                                            .conf = &conf,
                                            .sink = &prompt_sink,
                                            .sink_conf = "",
                                            .dead_letters_path = dead_path,
                                            .dead_letters_bytes_max = 128 * MIB,
                                            .record_bytes_max = RECORD_MAX};
    if (mr_bridge_create(&bridge, &options, &why) != MR_OK) {
        fprintf(stderr, "%s\n", why.text);
        abort();
    }
    int64_t now_ns = mr_clock_mono_ns();
    int64_t until_ns = now_ns + (int64_t)20 * 1000000000;
    do {
        now_ns += mr_bridge_step(bridge, now_ns) > 0 ? 5000000 : 1000; /* the bridge's time */
        mr_bridge_stats(bridge, &stats);
        if (mr_clock_mono_ns() > until_ns) {
            fprintf(stderr, "stays at %llu\n", (unsigned long long)stats.cursor_seq);
            abort();
        }
    } while (stats.cursor_seq < 4);
    mr_assert(stats.delivered == 3 && stats.dead_letters == 1);
    mr_bridge_stop(bridge, 0);
    mr_bridge_destroy(bridge);
    mr_assert(mr_journal_close(journal) == MR_OK);
    folder_remove();
}

int main(void)
{
    mr_log_set_level(MR_LOG_ERROR);
    mr_assert(mr_wake_open(&owner, NULL) == MR_OK);
    test_no_event_waits_for_room_for_ever();
    mr_wake_close(&owner);
    printf("ok\n");
    return 0;
}
