/* audit_position.c - see audit_position.h.
 *
 * Where partitions were added to the topic, an older record of the same key may lie in another
 * one: in each the last one counts, and of several partitions that with the highest number; by
 * Kafka's time where an older version wrote them, without one.
 */
#include "app/audit_position.h"

#include "app/cli/ask.h"
#include "app/cli/ends.h"
#include "codec/json.h"
#include "codec/json_read.h"
#include "sink/kafka/readback.h"

#include <inttypes.h>

struct position {
    char key[256];
    bool is;
    uint64_t seq;
    uint64_t number; /* rises with each */
    int64_t at_ms;   /* when it was written */
    uint32_t place;  /* and where */
};

static void took(void *arg, const struct mr_kafka_read *read)
{
    struct position *position = arg;
    uint64_t seq = 0;

    if (!mr_span_is(read->key, position->key)) {
        return;
    }
    bool is = mr_json_valid(read->value) && mr_json_u64(mr_json_member(read->value, "seq"), &seq);
    uint64_t number = is ? mr_answer_u64(read->value, "n") : 0;
    bool by_number = is && position->is && number != position->number;
    if (read->place != position->place &&
        (by_number ? number < position->number : read->time_ms < position->at_ms)) {
        return;
    }
    position->at_ms = read->time_ms;
    position->place = read->place;
    position->is = is;
    position->seq = seq;
    position->number = number;
}

static uint64_t newest_of(const struct mr_audit *after, const struct mr_ledger_row *row)
{
    uint64_t newest = 0;

    for (size_t i = 0; i < after->count; i++) {
        if (mr_ledger_is_of(row, after->rows[i].name, after->rows[i].lane)) {
            newest = after->rows[i].newest;
        }
    }
    return newest;
}

/* False: it does not fit. */
static bool judge(struct mr_cli *cli, const struct position *position,
                  const struct mr_ledger_row *row, uint64_t passed, uint64_t newest)
{
    if (row->leads) {
        mr_cli_note(cli,
                    "%s, lane %" PRIu32 ": the position record is not checked: the cursor was put "
                    "elsewhere, or the bridge has delivered at_least_once; it is written anew when "
                    "the bridge goes on",
                    row->name, row->lane);
    } else if (!position->is) {
        mr_cli_note(cli, "%s, lane %" PRIu32 ": there is no position record", row->name, row->lane);
    } else if (position->seq > newest) {
        (void)mr_cli_fail(cli, MR_EXIT_FAILED,
                          "%s, lane %" PRIu32 ": %" PRIu64
                          " is the position, beyond this journal's newest: it is an older copy",
                          row->name, row->lane, position->seq);
        return false;
    } else if (position->seq < passed) {
        (void)mr_cli_fail(cli, MR_EXIT_FAILED,
                          "%s, lane %" PRIu32 ": %" PRIu64
                          " records lie between the position record and the cursor",
                          row->name, row->lane, passed - position->seq);
        return false;
    }
    return true;
}

/* One of a lane's; `passed`: its cursor. */
static int check(const struct mr_audit *before, const struct mr_ledger_row *row, uint64_t passed,
                 const char *stream, const struct mr_audit *after,
                 const struct mr_bridge_settings *bridge, bool *failed)
{
    const struct mr_kafka_conf *conf = bridge->sink_conf;
    struct position position = {.at_ms = INT64_MIN, .place = UINT32_MAX};
    const struct mr_kafka_reading reading = {
        .arg = &position, .topic = conf->positions_topic, .took = took};
    struct mr_text key = mr_text_over(position.key, sizeof(position.key));
    struct mr_error why;

    mr_text_fmt(&key, "%s/%s/%" PRIu32 "%s", before->journal_id, bridge->name, row->lane, stream);
    if (mr_kafka_read_back(conf, &reading, &why) != MR_OK) {
        return mr_cli_fail(before->cli, MR_EXIT_UNAVAILABLE, "%s: %s", bridge->name, why.text);
    }
    *failed = !judge(before->cli, &position, row, passed, newest_of(after, row)) || *failed;
    return MR_EXIT_OK;
}

int mr_audit_positions(const struct mr_audit *before, const struct mr_audit *after,
                       const struct mr_bridge_settings *bridge, bool *failed)
{
    int code = MR_EXIT_OK;

    for (size_t i = 0; i < before->count && code == MR_EXIT_OK; i++) {
        const struct mr_ledger_row *row = &before->rows[i];
        if (strcmp(row->name, bridge->name) != 0) {
            continue;
        }
        code = check(before, row, row->seq, "", after, bridge, failed);
        if (code == MR_EXIT_OK && row->ahead != 0) {
            code = check(before, row, row->live_from + row->ahead, "/live", after, bridge, failed);
        }
    }
    return code;
}
