/* audit_kafka.c - `millrace audit --kafka`: is in Kafka what the books say?
 *
 * DESIGN
 *
 * The books are read first, then the topics, then the books again.  Everything that the first
 * books call delivered must have been found; what is newer than the second books' journal cannot
 * be ours.  So it may run beside a gateway that delivers all the time.
 *
 * With ids (header millrace_id: journal, lane, seq) there is a bit per record that the books are
 * of.  Which of them were delivered the books do not say, but how many: deliveries that a seek
 * back went over may be repetitions, and what the position confirmed after a crash may have been
 * anything; so the number lies between two bounds, which are equal where neither happened.
 */
#include "app/audit.h"
#include "app/cli/ends.h"
#include "sink/kafka/readback.h"

#include <inttypes.h>

/* Records above the first books' begin that get a bit; 256 MiB. */
static const uint64_t bits_max = (uint64_t)1 << 31;

struct lane_check {
    const struct mr_ledger_row *row;
    uint8_t *bits;    /* of `base` + 1 and on */
    uint64_t base;    /* begin, or later where there are too many */
    uint64_t covered; /* how many bits */
    uint64_t found;   /* different ones up to the cursor */
    uint64_t again;   /* had been found */
    uint64_t unordered;
    uint64_t highest;
};

struct check {
    const struct mr_audit *audit;
    const struct mr_bridge_settings *bridge;
    const struct mr_kafka_conf *conf;
    char *pattern; /* of the topics */
    struct lane_check *lanes;
    size_t lane_count;
    uint64_t *newest; /* by place and lane */
    uint32_t places;
    uint32_t topics;
    uint32_t cut;     /* partitions of which retention has removed something */
    uint64_t records; /* all */
    uint64_t without_id;
    uint64_t of_others; /* other journals */
    uint64_t malformed; /* our journal, but no such lane */
    char key[256];
    bool position_is;
    uint64_t position;
    bool failed;
};

/* ---- topics ---- */

/* `sensor_${topic[1]}` matches what `sensor_*` does. */
static char *pattern_of(const char *template)
{
    char *pattern = mr_alloc(strlen(template) + 1);
    size_t len = 0;

    for (const char *at = template; *at != '\0';) {
        const char *end = at[0] == '$' && at[1] == '{' ? strchr(at, '}') : NULL;
        if (end == NULL) {
            pattern[len++] = *at++;
        } else {
            pattern[len++] = '*';
            at = end + 1;
        }
    }
    return pattern;
}

static bool wants_topic(void *arg, const char *topic)
{
    const struct check *check = arg;

    return strcmp(topic, check->conf->positions_topic) != 0 && topic[0] != '_' &&
           mr_text_glob(check->pattern, mr_span_of(topic));
}

static void began_topic(void *arg, const char *topic, uint32_t partitions, uint32_t cut)
{
    struct check *check = arg;
    size_t before = check->places * check->lane_count;

    (void)topic;
    check->topics += 1;
    check->places += partitions;
    check->cut += cut;
    size_t now = check->places * check->lane_count;
    check->newest = mr_realloc(check->newest, (now + 1) * sizeof(*check->newest));
    memset(check->newest + before, 0, (now - before) * sizeof(*check->newest));
}

/* ---- records ---- */

/* "<journal id>-<lane>-<seq>" */
static bool id_parse(const struct check *check, struct mr_span id, size_t *lane, uint64_t *seq)
{
    struct mr_span rest = mr_span_make(id.at + 37, id.len - 37);
    struct mr_span number = mr_span_split(&rest, '-');
    uint64_t wanted = 0;

    if (mr_parse_u64(number, UINT32_MAX, &wanted) != MR_OK || rest.at == NULL ||
        mr_parse_u64(rest, UINT64_MAX, seq) != MR_OK) {
        return false;
    }
    for (size_t i = 0; i < check->lane_count; i++) {
        if (check->lanes[i].row->lane == wanted) {
            *lane = i;
            return true;
        }
    }
    return false;
}

static void mark(struct check *check, size_t index, uint32_t place, uint64_t seq)
{
    struct lane_check *lane = &check->lanes[index];
    uint64_t *newest = &check->newest[place * check->lane_count + index];
    bool is_new = true;

    lane->highest = seq > lane->highest ? seq : lane->highest;
    if (seq <= lane->base) {
        return; /* older than the books */
    }
    if (seq - lane->base <= lane->covered) {
        uint8_t *byte = &lane->bits[(seq - lane->base - 1) / 8];
        uint8_t bit = (uint8_t)(1u << ((seq - lane->base - 1) % 8));
        is_new = (*byte & bit) == 0;
        *byte |= bit;
    }
    lane->again += !is_new;
    if (is_new) {
        lane->found += seq <= lane->row->seq;
        lane->unordered += seq < *newest;
        *newest = seq > *newest ? seq : *newest;
    }
}

static void took_record(void *arg, const struct mr_kafka_read *read)
{
    struct check *check = arg;
    size_t lane = 0;
    uint64_t seq = 0;

    check->records += 1;
    if (read->id.len == 0) {
        check->without_id += 1;
    } else if (read->id.len < 40 || memcmp(read->id.at, check->audit->journal_id, 36) != 0) {
        check->of_others += 1;
    } else if (!id_parse(check, read->id, &lane, &seq)) {
        check->malformed += 1;
    } else {
        mark(check, lane, read->place, seq);
    }
}

/* ---- bounds ---- */

/* Different records of it that must be there, and that may. */
static uint64_t least(const struct mr_books *books)
{
    uint64_t delivered = books->columns[MR_COLUMN_DELIVERED];
    uint64_t repeated = books->columns[MR_COLUMN_REPEATED];

    return delivered > repeated ? delivered - repeated : 0;
}

/* What was given up, or refused at last, may have arrived before that was decided. */
static uint64_t most(const struct mr_books *books)
{
    return books->columns[MR_COLUMN_DELIVERED] + books->columns[MR_COLUMN_CONFIRMED] +
           books->columns[MR_COLUMN_GIVEN_UP] + books->columns[MR_COLUMN_DEAD_LETTERS];
}

static void complain(struct check *check, const struct lane_check *lane, const char *what,
                     uint64_t count)
{
    (void)mr_cli_fail(check->audit->cli, MR_EXIT_FAILED, "%s, lane %" PRIu32 ": %" PRIu64 " %s",
                      check->bridge->name, lane->row->lane, count, what);
    check->failed = true;
}

static void unchecked(const struct check *check, const char *what)
{
    mr_cli_note(check->audit->cli, "%s: not checked: %s", check->bridge->name, what);
}

/* ---- by ids ---- */

static bool has_ids(const struct check *check)
{
    return check->conf->headers.choice == MR_HEADERS_ID ||
           check->conf->headers.choice == MR_HEADERS_FULL;
}

/* Does another bridge write the same ids to where this one does? */
static bool is_shared(const struct check *check, const struct mr_settings *settings)
{
    bool shared = false;

    for (uint32_t i = 0; i < settings->bridge_count; i++) {
        const struct mr_bridge_settings *other = &settings->bridges[i];
        const struct mr_kafka_conf *conf = other->sink_conf;
        if (other != check->bridge && other->sink == check->bridge->sink) {
            char *pattern = pattern_of(conf->topic);
            shared = shared || (strcmp(conf->servers, check->conf->servers) == 0 &&
                                (mr_text_glob(check->pattern, mr_span_of(pattern)) ||
                                 mr_text_glob(pattern, mr_span_of(check->pattern))));
            mr_free(pattern);
        }
    }
    return shared;
}

static void judge_lane(struct check *check, const struct lane_check *lane, uint64_t newest,
                       bool shared)
{
    const struct mr_books *books = &lane->row->books;
    bool whole = check->cut == 0 && lane->base == books->begin;
    bool seeked = books->columns[MR_COLUMN_REPEATED] != 0;

    if (whole && lane->found < least(books)) {
        complain(check, lane, "events are missing: the books say delivered, Kafka has them not",
                 least(books) - lane->found);
    }
    if (whole && !shared && lane->found > most(books)) {
        complain(check, lane, "events are there that the books do not call delivered",
                 lane->found - most(books));
    }
    if (newest != MR_SEQ_UNKNOWN && lane->highest > newest) {
        complain(
            check, lane,
            "is the highest record in Kafka, beyond this journal's newest: it is an older copy",
            lane->highest);
    }
    if (!shared && !seeked && lane->unordered != 0) {
        complain(check, lane, "events came behind a newer one of the same partition",
                 lane->unordered);
    }
    if (!shared && !seeked && check->conf->delivery == MR_KAFKA_EXACTLY_ONCE && lane->again != 0) {
        complain(check, lane, "events are there twice", lane->again);
    }
}

static void put_lane(const struct check *check, const struct lane_check *lane)
{
    struct mr_cli *cli = check->audit->cli;
    const struct mr_books *books = &lane->row->books;

    if (mr_cli_flag(cli, "json")) {
        (void)mr_cli_out(cli, "{\"kafka\":");
        (void)mr_cli_out_json(cli, check->bridge->name, strlen(check->bridge->name));
        (void)mr_cli_out(cli,
                         ",\"lane\":%" PRIu32 ",\"least\":%" PRIu64 ",\"most\":%" PRIu64
                         ",\"found\":%" PRIu64 ",\"repeated\":%" PRIu64 ",\"unordered\":%" PRIu64
                         ",\"whole\":%s}\n",
                         lane->row->lane, least(books), most(books), lane->found, lane->again,
                         lane->unordered, check->cut == 0 ? "true" : "false");
    } else {
        (void)mr_cli_out(cli,
                         "%s, lane %" PRIu32 ": %" PRIu64 " events found in Kafka, wanted %" PRIu64
                         " to %" PRIu64 "; %" PRIu64 " repetitions, %" PRIu64 " out of order\n",
                         check->bridge->name, lane->row->lane, lane->found, least(books),
                         most(books), lane->again, lane->unordered);
    }
}

static void judge_ids(struct check *check, const struct mr_settings *settings,
                      const struct mr_audit *after)
{
    bool shared = is_shared(check, settings);

    for (size_t i = 0; i < check->lane_count; i++) {
        const struct lane_check *lane = &check->lanes[i];
        uint64_t newest = MR_SEQ_UNKNOWN;
        for (size_t j = 0; j < after->count; j++) {
            const struct mr_ledger_row *row = &after->rows[j];
            if (row->lane == lane->row->lane && strcmp(row->name, lane->row->name) == 0) {
                newest = row->newest;
            }
        }
        put_lane(check, lane);
        judge_lane(check, lane, newest, shared);
        if (lane->base != lane->row->books.begin) {
            unchecked(check, "there are too many records for a bit each; only the newest were");
        }
        if (lane->row->books.columns[MR_COLUMN_REPEATED] != 0) {
            unchecked(check, "order and repetitions, because a seek went back");
        }
    }
    if (check->malformed != 0) {
        (void)mr_cli_fail(check->audit->cli, MR_EXIT_FAILED,
                          "%s: %" PRIu64 " records name this journal but no lane of this bridge",
                          check->bridge->name, check->malformed);
        check->failed = true;
    }
    if (shared) {
        unchecked(check, "order and repetitions, because another bridge writes to these topics");
    }
    if (check->without_id + check->of_others != 0) {
        mr_cli_note(check->audit->cli,
                    "%s: %" PRIu64 " records there have no id, %" PRIu64 " are of other gateways",
                    check->bridge->name, check->without_id, check->of_others);
    }
}

/* ---- by counts ---- */

static void judge_counts(struct check *check)
{
    struct mr_cli *cli = check->audit->cli;
    uint64_t wanted = 0;

    for (size_t i = 0; i < check->lane_count; i++) {
        wanted += least(&check->lanes[i].row->books);
    }
    if (mr_cli_flag(cli, "json")) {
        (void)mr_cli_out(cli, "{\"kafka\":");
        (void)mr_cli_out_json(cli, check->bridge->name, strlen(check->bridge->name));
        (void)mr_cli_out(cli, ",\"least\":%" PRIu64 ",\"records\":%" PRIu64 ",\"whole\":%s}\n",
                         wanted, check->records, check->cut == 0 ? "true" : "false");
    } else {
        (void)mr_cli_out(cli, "%s: %" PRIu64 " records in Kafka, at least %" PRIu64 " wanted\n",
                         check->bridge->name, check->records, wanted);
    }
    if (check->cut == 0 && check->records < wanted) {
        (void)mr_cli_fail(cli, MR_EXIT_FAILED, "%s: %" PRIu64 " records are missing",
                          check->bridge->name, wanted - check->records);
        check->failed = true;
    }
    unchecked(check, "which events they are, their order, repetitions: set `headers: id`");
}

/* ---- the position record ---- */

static bool wants_positions(void *arg, const char *topic)
{
    const struct check *check = arg;

    return strcmp(topic, check->conf->positions_topic) == 0;
}

static void took_position(void *arg, const struct mr_kafka_read *read)
{
    static const char name[] = "\"seq\":";
    struct check *check = arg;

    if (!mr_span_is(read->key, check->key)) {
        return;
    }
    const uint8_t *at = read->value.len == 0
                            ? NULL
                            : memmem(read->value.at, read->value.len, name, sizeof(name) - 1);
    check->position_is = at != NULL;
    check->position = 0;
    for (at += at == NULL ? 0 : sizeof(name) - 1;
         at != NULL && at < read->value.at + read->value.len && *at >= '0' && *at <= '9'; at++) {
        check->position = check->position * 10 + (uint64_t)(*at - '0');
    }
}

static void judge_position(struct check *check, const struct lane_check *lane,
                           const struct mr_audit *after)
{
    uint64_t newest = 0;

    for (size_t i = 0; i < after->count; i++) {
        const struct mr_ledger_row *row = &after->rows[i];
        if (row->lane == lane->row->lane && strcmp(row->name, lane->row->name) == 0) {
            newest = row->newest;
        }
    }
    if (!check->position_is) {
        mr_cli_note(check->audit->cli, "%s, lane %" PRIu32 ": there is no position record",
                    check->bridge->name, lane->row->lane);
    } else if (check->position > newest) {
        complain(check, lane, "is the position, beyond this journal's newest: it is an older copy",
                 check->position);
    } else if (check->position < lane->row->seq) {
        complain(check, lane, "records lie between the position record and the cursor",
                 lane->row->seq - check->position);
    }
}

static int check_positions(struct check *check, const struct mr_audit *after)
{
    const struct mr_kafka_reading reading = {
        .arg = check, .wants = wants_positions, .took = took_position};
    struct mr_error why;

    for (size_t i = 0; i < check->lane_count; i++) {
        struct mr_text key = mr_text_over(check->key, sizeof(check->key));
        mr_text_fmt(&key, "%s/%s/%" PRIu32, check->audit->journal_id, check->bridge->name,
                    check->lanes[i].row->lane);
        check->position_is = false;
        if (mr_kafka_read_back(check->conf, &reading, &why) != MR_OK) {
            return mr_cli_fail(check->audit->cli, MR_EXIT_UNAVAILABLE, "%s: %s",
                               check->bridge->name, why.text);
        }
        judge_position(check, &check->lanes[i], after);
    }
    return MR_EXIT_OK;
}

/* ---- all of it ---- */

static void check_lanes(struct check *check)
{
    check->lanes = mr_alloc((check->audit->count + 1) * sizeof(*check->lanes));
    for (size_t i = 0; i < check->audit->count; i++) {
        const struct mr_ledger_row *row = &check->audit->rows[i];
        struct lane_check *lane = &check->lanes[check->lane_count];
        if (strcmp(row->name, check->bridge->name) != 0) {
            continue;
        }
        uint64_t newest = row->newest == MR_SEQ_UNKNOWN ? row->seq : row->newest;
        *lane = (struct lane_check){.row = row, .base = row->books.begin};
        if (newest - lane->base > bits_max) {
            lane->base = newest - bits_max;
        }
        lane->covered = newest - lane->base;
        lane->bits = mr_alloc(lane->covered / 8 + 1);
        check->lane_count += 1;
    }
}

static int check_run(struct check *check, const struct mr_settings *settings)
{
    const struct mr_kafka_reading reading = {
        .arg = check, .wants = wants_topic, .began = began_topic, .took = took_record};
    struct mr_audit after = *check->audit;
    struct mr_error why;

    if (mr_kafka_read_back(check->conf, &reading, &why) != MR_OK) {
        return mr_cli_fail(check->audit->cli, MR_EXIT_UNAVAILABLE, "%s: %s", check->bridge->name,
                           why.text);
    }
    after.rows = NULL;
    int code = mr_audit_read(&after);
    if (code == MR_EXIT_OK) {
        if (check->cut != 0) {
            char text[128];
            struct mr_text out = mr_text_over(text, sizeof(text));
            mr_text_fmt(&out,
                        "whether any is missing, because retention has removed records of %" PRIu32
                        " partitions",
                        check->cut);
            unchecked(check, text);
        }
        if (has_ids(check)) {
            judge_ids(check, settings, &after);
        } else {
            judge_counts(check);
        }
        if (check->conf->delivery == MR_KAFKA_EXACTLY_ONCE) {
            code = check_positions(check, &after);
        }
    }
    mr_free(after.rows);
    return code == MR_EXIT_OK && check->failed ? MR_EXIT_FAILED : code;
}

int mr_audit_kafka(const struct mr_audit *audit, const struct mr_settings *settings,
                   const struct mr_bridge_settings *bridge)
{
    struct check check = {.audit = audit, .bridge = bridge, .conf = bridge->sink_conf};

    check.pattern = pattern_of(check.conf->topic);
    check_lanes(&check);
    int code = check_run(&check, settings);
    for (size_t i = 0; i < check.lane_count; i++) {
        mr_free(check.lanes[i].bits);
    }
    mr_free(check.lanes);
    mr_free(check.newest);
    mr_free(check.pattern);
    return code;
}
