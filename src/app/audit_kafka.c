/* audit_kafka.c - `millrace audit --kafka`: is in Kafka what the books say?
 *
 * DESIGN
 *
 * The books are read first, then the topics, then the books again.  Everything that the first
 * books call delivered must have been found; what is newer than the second books' journal cannot
 * be ours.  So it may run beside a gateway that delivers all the time.
 *
 * With ids (header millrace_id: journal, lane, seq) it is counted how often each record is there
 * that the books are of.  The ranges say how often each was settled (audit_passes.h), the columns
 * how many of these were not deliveries.  So with exactly_once no record may be there more often
 * than it was settled, none that was given up, and what is missing must be as many as were skipped,
 * dead letters, lost, or no events.  What a target's position has confirmed after a crash may be
 * either, and of what was dropped as many must be missing as the column says.  At least once, a
 * record may be there more often.
 *
 * Where the ranges do not go back far enough, the number of different records must lie between two
 * bounds.
 */
#include "app/audit_passes.h"
#include "app/audit_position.h"
#include "app/cli/ends.h"
#include "sink/kafka/readback.h"

#include <inttypes.h>

/* For the counts of a lane; 256 MiB. */
static const uint64_t bits_max = (uint64_t)1 << 31;

enum {
    COUNT_BITS_ONCE = 1, /* is it there? */
    COUNT_BITS_OFTEN = 4 /* how often, up to 15: records were gone back over */
};

struct lane_check {
    const struct mr_ledger_row *row;
    uint8_t *counts;  /* of `base` + 1 and on */
    unsigned width;   /* bits of a count */
    uint64_t base;    /* begin, or later where there are too many */
    uint64_t covered; /* how many counts */
    uint64_t found;   /* different ones up to the cursor */
    uint64_t again;   /* had been found */
    uint64_t excused; /* up to this record repetitions were accepted (--accept) */
    uint64_t twice;   /* had been found, and is not excused */
    uint64_t unordered;
    uint64_t highest;
    struct mr_passes passes;
    bool known; /* passes are */
    /* by passes: */
    uint64_t missing; /* settled, and not there */
    uint64_t loose;   /* ... where it need not be */
    uint64_t over;    /* there more often than it was settled */
    uint64_t over_first;
    uint64_t passed_over; /* there, though it was given up */
    uint64_t passed_over_first;
};

struct check {
    const struct mr_audit *audit;
    const struct mr_bridge_settings *bridge;
    const struct mr_kafka_conf *conf;
    char *pattern;     /* of the topics */
    const char *named; /* the only one; NULL: the name has something to put in */
    struct lane_check *lanes;
    size_t lane_count;
    uint64_t *newest; /* by place, lane, and whether it is of a backlog */
    uint32_t places;
    uint32_t topics;
    uint32_t cut;       /* partitions of which retention has removed something */
    uint32_t compacted; /* topics, of which any record may be gone */
    char doubt[1024];   /* why it is not known whether Kafka has removed any; else "" */
    uint64_t records;   /* all */
    uint64_t without_id;
    uint64_t of_others; /* other journals */
    uint64_t malformed; /* our journal, but no such lane */
    bool failed;
    bool unsure; /* something is not there, and it is not known why */
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

    /* Kafka's own topics begin with "__"; a template may match them and never names one. */
    bool internal = strncmp(topic, "__", 2) == 0 && check->pattern[0] != '_';

    return strcmp(topic, check->conf->positions_topic) != 0 && !internal &&
           mr_text_glob(check->pattern, mr_span_of(topic));
}

static void began_topic(void *arg, const struct mr_kafka_began *began)
{
    struct check *check = arg;
    size_t before = check->places * check->lane_count * 2;

    check->topics += 1;
    check->places += began->partitions;
    check->cut += began->cut;
    check->compacted += began->compacted;
    if (began->doubt != NULL && check->doubt[0] == '\0') {
        struct mr_text out = mr_text_over(check->doubt, sizeof(check->doubt));
        mr_text_fmt(&out, "whether topic %s is compacted is not known: %s", began->topic,
                    began->doubt);
    }
    size_t now = check->places * check->lane_count * 2;
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

/* Count it once more; how often it had been there. */
static unsigned count_up(struct lane_check *lane, uint64_t index)
{
    unsigned most = (1u << lane->width) - 1;
    unsigned shift = (unsigned)(index * lane->width % 8);
    uint8_t *byte = &lane->counts[index * lane->width / 8];
    unsigned before = *byte >> shift & most;

    if (before < most) {
        *byte = (uint8_t)(*byte + (1u << shift));
    }
    return before;
}

static unsigned count_of(const struct lane_check *lane, uint64_t index)
{
    return (unsigned)(lane->counts[index * lane->width / 8] >> (index * lane->width % 8)) &
           ((1u << lane->width) - 1);
}

/* Had it been settled when the books were read? */
static bool is_passed(const struct mr_ledger_row *row, uint64_t seq)
{
    return seq <= row->seq || (seq > row->live_from && seq <= row->live_from + row->ahead);
}

/* A backlog that fresh events have overtaken is in order by itself, and so are they. */
static void mark(struct check *check, size_t index, const struct mr_kafka_read *read, uint64_t seq)
{
    struct lane_check *lane = &check->lanes[index];
    uint64_t *newest =
        &check->newest[(read->place * check->lane_count + index) * 2 + read->backfill];
    bool is_new = true;

    lane->highest = seq > lane->highest ? seq : lane->highest;
    if (seq <= lane->base) {
        return; /* older than the books */
    }
    if (seq - lane->base <= lane->covered) {
        is_new = count_up(lane, seq - lane->base - 1) == 0;
    }
    lane->again += !is_new;
    lane->twice += !is_new && seq > lane->excused;
    if (is_new) {
        lane->found += is_passed(lane->row, seq);
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
        mark(check, lane, read, seq);
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

/* What was given up, or refused at last, may have arrived before that was decided; what was
 * dropped, in the moments before a crash.
 */
static uint64_t most(const struct mr_books *books)
{
    return books->columns[MR_COLUMN_DELIVERED] + books->columns[MR_COLUMN_CONFIRMED] +
           books->columns[MR_COLUMN_GIVEN_UP] + books->columns[MR_COLUMN_DEAD_LETTERS] +
           books->columns[MR_COLUMN_DROPPED];
}

static void complain(struct check *check, const struct lane_check *lane, const char *what,
                     uint64_t count)
{
    (void)mr_cli_fail(check->audit->cli, MR_EXIT_FAILED, "%s, lane %" PRIu32 ": %" PRIu64 " %s",
                      check->bridge->name, lane->row->lane, count, what);
    check->failed = true;
}

static void complain_of(struct check *check, const struct lane_check *lane, const char *what,
                        uint64_t count, uint64_t first)
{
    char text[160];
    struct mr_text out = mr_text_over(text, sizeof(text));

    mr_text_fmt(&out, "%s %" PRIu64, what, first);
    complain(check, lane, text, count);
}

/* A fact only where it is known that Kafka has not removed them itself. */
static void complain_missing(struct check *check, const char *subject, const char *what,
                             uint64_t count)
{
    if (check->doubt[0] == '\0') {
        (void)mr_cli_fail(check->audit->cli, MR_EXIT_FAILED, "%s: %" PRIu64 " %s", subject, count,
                          what);
        check->failed = true;
    } else {
        (void)mr_cli_fail(check->audit->cli, MR_EXIT_UNAVAILABLE,
                          "%s: %" PRIu64 " that the books call delivered are not in Kafka, and %s",
                          subject, count, check->doubt);
        check->unsure = true;
    }
}

static void events_missing(struct check *check, const struct lane_check *lane, uint64_t count)
{
    char subject[MR_CURSOR_NAME_MAX + 32];
    struct mr_text out = mr_text_over(subject, sizeof(subject));

    mr_text_fmt(&out, "%s, lane %" PRIu32, check->bridge->name, lane->row->lane);
    complain_missing(check, subject,
                     "events are missing: the books say delivered, Kafka has them not", count);
}

/* Is all still there that was ever written, as far as it is known? */
static bool is_whole(const struct check *check)
{
    return check->cut == 0 && check->compacted == 0;
}

static bool is_surely_whole(const struct check *check)
{
    return is_whole(check) && check->doubt[0] == '\0';
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

/* How often is each record there, against how often it was settled? */
static void sweep(struct lane_check *lane)
{
    for (size_t i = 0; i < lane->passes.count; i++) {
        const struct mr_piece *piece = &lane->passes.pieces[i];
        unsigned most = (1u << lane->width) - 1; /* a count goes no further */
        unsigned wanted = piece->settled + piece->loose;

        wanted = wanted > most ? most : wanted;
        for (uint64_t seq = piece->first; seq <= piece->last; seq++) {
            unsigned count = count_of(lane, seq - lane->base - 1);
            if (count > wanted && seq <= lane->excused) {
                continue;
            }
            if (count > wanted && wanted == 0) {
                lane->passed_over_first = lane->passed_over == 0 ? seq : lane->passed_over_first;
                lane->passed_over += 1;
            } else if (count > wanted) {
                lane->over_first = lane->over == 0 ? seq : lane->over_first;
                lane->over += count - wanted;
            } else {
                unsigned missing = wanted - count;
                unsigned loose = missing < piece->loose ? missing : piece->loose;
                lane->loose += loose;
                lane->missing += missing - loose;
            }
        }
    }
}

/* Those of the lane that were settled by a verdict, and are not in Kafka. */
static uint64_t absent(const struct lane_check *lane)
{
    const uint64_t *columns = lane->row->books.columns;

    return columns[MR_COLUMN_SKIPPED] + columns[MR_COLUMN_DEAD_LETTERS] +
           columns[MR_COLUMN_CONTROL] + columns[MR_COLUMN_LOST] - lane->passes.lost;
}

static const char extra_text[] = "events are there that the books do not call delivered";

/* How many cannot be there, of those that were settled one by one, and at most of the loose ones.
 */
static uint64_t missing_of(const struct lane_check *lane)
{
    const uint64_t *columns = lane->row->books.columns;
    uint64_t may = absent(lane) + columns[MR_COLUMN_CONFIRMED] + columns[MR_COLUMN_DROPPED];
    uint64_t all = lane->missing + lane->loose;
    uint64_t settled = lane->missing > absent(lane) ? lane->missing - absent(lane) : 0;
    uint64_t in_all = all > may ? all - may : 0;

    return settled > in_all ? settled : in_all;
}

static void judge_passes(struct check *check, struct lane_check *lane, bool shared)
{
    bool once = check->conf->delivery == MR_KAFKA_EXACTLY_ONCE;
    /* What was refused at last may have arrived before. */
    bool always_once = once && lane->excused == 0;
    uint64_t arrived = always_once ? 0 : lane->row->books.columns[MR_COLUMN_DEAD_LETTERS];

    sweep(lane);
    if (missing_of(lane) != 0) {
        events_missing(check, lane, missing_of(lane));
    }
    if (!shared && lane->missing + lane->loose + arrived < absent(lane)) {
        complain(check, lane, extra_text, absent(lane) - lane->missing - lane->loose - arrived);
    }
    if (!shared && once && lane->width == COUNT_BITS_OFTEN && lane->over != 0) {
        complain_of(check, lane, "repetitions are there, the first of record", lane->over,
                    lane->over_first);
    }
    if (!shared && once && lane->passed_over != 0) {
        complain_of(check, lane, "events are there that were given up, the first record",
                    lane->passed_over, lane->passed_over_first);
    }
}

static void judge_bounds(struct check *check, const struct lane_check *lane, bool shared)
{
    const struct mr_books *books = &lane->row->books;

    if (lane->found < least(books)) {
        events_missing(check, lane, least(books) - lane->found);
    }
    if (!shared && lane->found > most(books)) {
        complain(check, lane, extra_text, lane->found - most(books));
    }
}

static void judge_lane(struct check *check, struct lane_check *lane, uint64_t newest, bool shared)
{
    const struct mr_books *books = &lane->row->books;
    bool whole = is_whole(check) && lane->base == books->begin;
    bool seeked = books->columns[MR_COLUMN_REPEATED] != 0;

    if (whole && lane->known) {
        judge_passes(check, lane, shared);
    } else if (whole) {
        judge_bounds(check, lane, shared);
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
    if (!shared && !seeked && check->conf->delivery == MR_KAFKA_EXACTLY_ONCE && lane->twice != 0) {
        complain(check, lane,
                 "events are there twice; if they are of a time when the bridge delivered "
                 "at_least_once, say so: millrace audit BRIDGE --kafka --accept --reason \"...\"",
                 lane->twice);
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
                         lane->unordered, is_surely_whole(check) ? "true" : "false");
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
        struct lane_check *lane = &check->lanes[i];
        uint64_t newest = MR_SEQ_UNKNOWN;
        for (size_t j = 0; j < after->count; j++) {
            const struct mr_ledger_row *row = &after->rows[j];
            if (mr_ledger_is_of(row, lane->row->name, lane->row->lane)) {
                newest = row->newest;
            }
        }
        put_lane(check, lane);
        judge_lane(check, lane, newest, shared);
        if (lane->base != lane->row->books.begin) {
            unchecked(check, "there are too many records for a bit each; only the newest were");
        }
        if (lane->row->books.columns[MR_COLUMN_REPEATED] != 0) {
            unchecked(check, lane->known ? "order, because a seek went back"
                                         : "order and repetitions, because a seek went back");
        }
        if (lane->excused != 0) {
            char text[128];
            struct mr_text out = mr_text_over(text, sizeof(text));
            mr_text_fmt(&out,
                        "repetitions of lane %" PRIu32 " up to record %" PRIu64
                        ", because they were accepted",
                        lane->row->lane, lane->excused);
            unchecked(check, text);
        }
        if (!lane->known) {
            unchecked(check, "event by event, because the list of ranges is not whole; the number "
                             "was, between two bounds");
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
                         wanted, check->records, is_surely_whole(check) ? "true" : "false");
    } else {
        (void)mr_cli_out(cli, "%s: %" PRIu64 " records in Kafka, at least %" PRIu64 " wanted\n",
                         check->bridge->name, check->records, wanted);
    }
    if (is_whole(check) && check->records < wanted) {
        complain_missing(check, check->bridge->name, "records are missing",
                         wanted - check->records);
    }
    unchecked(check, "which events they are, their order, repetitions: set `headers: id`");
}

/* ---- all of it ---- */

/* Up to where the operator has accepted repetitions; 0: nowhere. */
static uint64_t excused_to(const struct mr_audit *audit, const struct mr_ledger_row *row)
{
    uint64_t to = 0;

    for (size_t i = 0; i < audit->range_count; i++) {
        const struct mr_range *range = &audit->ranges[i].range;
        if (range->is_acceptance && range->accepted == 0 &&
            mr_ledger_is_of(row, range->name, range->lane)) {
            to = range->to > to ? range->to : to;
        }
    }
    return to;
}

/* The newest record of the lane; where its end cannot be read, or the cursor was beyond it before a
 * seek went back, the newest that the books know of.
 */
static uint64_t newest_known(const struct lane_check *lane)
{
    const struct mr_ledger_row *row = lane->row;
    const struct mr_passes *passes = &lane->passes;
    uint64_t passed = row->ahead == 0 ? row->seq : row->live_from + row->ahead;
    uint64_t newest = row->newest == MR_SEQ_UNKNOWN ? passed : row->newest;

    if (passes->count != 0 && passes->pieces[passes->count - 1].last > newest) {
        newest = passes->pieces[passes->count - 1].last;
    }
    return newest;
}

static void check_lanes(struct check *check)
{
    check->lanes = mr_alloc((check->audit->count + 1) * sizeof(*check->lanes));
    for (size_t i = 0; i < check->audit->count; i++) {
        const struct mr_ledger_row *row = &check->audit->rows[i];
        struct lane_check *lane = &check->lanes[check->lane_count];
        if (strcmp(row->name, check->bridge->name) != 0) {
            continue;
        }
        *lane = (struct lane_check){
            .row = row, .base = row->books.begin, .excused = excused_to(check->audit, row)};
        lane->known = mr_passes_of(check->audit, row, &lane->passes);
        lane->width = lane->known && row->books.columns[MR_COLUMN_REPEATED] != 0 ? COUNT_BITS_OFTEN
                                                                                 : COUNT_BITS_ONCE;
        uint64_t newest = newest_known(lane);
        if (newest - lane->base > bits_max / lane->width) {
            lane->base = newest - bits_max / lane->width;
        }
        lane->covered = newest - lane->base;
        lane->counts = mr_alloc(lane->covered * lane->width / 8 + 1);
        check->lane_count += 1;
    }
}

static void say_gone(const struct check *check)
{
    char text[128];
    struct mr_text out = mr_text_over(text, sizeof(text));

    if (check->cut != 0) {
        mr_text_fmt(&out,
                    "whether any is missing, because retention has removed records of %" PRIu32
                    " partitions",
                    check->cut);
        unchecked(check, text);
    }
    if (check->compacted != 0) {
        unchecked(check, "whether any is missing, because a topic is compacted (cleanup.policy): "
                         "Kafka keeps the latest of each key");
    }
}

/* Of a name in which something is to be put in, Kafka may have all and show none. */
static void doubt_what_is_hidden(struct check *check)
{
    if (check->topics == 0 && check->named == NULL) {
        struct mr_text out = mr_text_over(check->doubt, sizeof(check->doubt));
        mr_text_fmt(&out, "no topic matches %s: there is none, or this user may see none",
                    check->pattern);
    }
}

static int check_verdict(const struct check *check)
{
    if (check->topics == 0 && check->named != NULL && check->failed) {
        mr_cli_note(check->audit->cli, "%s: there is no topic %s", check->bridge->name,
                    check->named);
    }
    if (check->topics != 0 && check->doubt[0] != '\0' && !check->unsure) {
        mr_cli_note(check->audit->cli, "%s: %s", check->bridge->name, check->doubt);
    }
    if (check->failed) {
        return MR_EXIT_FAILED;
    }
    return check->unsure ? MR_EXIT_UNAVAILABLE : MR_EXIT_OK;
}

static int check_run(struct check *check, const struct mr_settings *settings)
{
    const struct mr_kafka_reading reading = {.arg = check,
                                             .topic = check->named,
                                             .wants = wants_topic,
                                             .began = began_topic,
                                             .took = took_record};
    struct mr_audit after = *check->audit;
    struct mr_error why;

    if (mr_kafka_read_back(check->conf, &reading, &why) != MR_OK) {
        return mr_cli_fail(check->audit->cli, MR_EXIT_UNAVAILABLE, "%s: %s", check->bridge->name,
                           why.text);
    }
    after.rows = NULL;
    after.ranges = NULL;
    after.drops = NULL;
    int code = mr_audit_read(&after);
    if (code == MR_EXIT_OK) {
        say_gone(check);
        doubt_what_is_hidden(check);
        if (has_ids(check)) {
            judge_ids(check, settings, &after);
        } else {
            judge_counts(check);
        }
        if (check->conf->delivery == MR_KAFKA_EXACTLY_ONCE) {
            code = mr_audit_positions(check->audit, &after, check->bridge, &check->failed);
        }
    }
    mr_audit_free(&after);
    return code == MR_EXIT_OK ? check_verdict(check) : code;
}

int mr_audit_kafka(const struct mr_audit *audit, const struct mr_settings *settings,
                   const struct mr_bridge_settings *bridge)
{
    struct check check = {.audit = audit, .bridge = bridge, .conf = bridge->sink_conf};

    check.pattern = pattern_of(check.conf->topic);
    check.named = strcmp(check.pattern, check.conf->topic) == 0 ? check.conf->topic : NULL;
    check_lanes(&check);
    int code = check_run(&check, settings);
    for (size_t i = 0; i < check.lane_count; i++) {
        mr_free(check.lanes[i].counts);
        mr_free(check.lanes[i].passes.pieces);
    }
    mr_free(check.lanes);
    mr_free(check.newest);
    mr_free(check.pattern);
    return code;
}
