/* finder.c - exactly once: the position record, read back from its compacted topic.
 *
 *     key    <journal id>/<bridge>/<lane>
 *     value  {"v":1,"seq":4711,"epoch":1,"n":815,"of":16,"by":"9f2c…","gateway":"plant-7"}
 *
 * DESIGN
 *
 * The partition is the key's, by murmur2 as everywhere.  It is read to its end at
 * read_committed, and the end is the one that was there when the reading began (the high
 * watermark), not the last stable offset: while a neighbour's transaction is open in the
 * same partition, that one may lie in front of our own last record.  Such a transaction is
 * waited for; it ends within its own timeout.  But the log may have become shorter meanwhile (an
 * election of a leader that lacked records, a topic made anew), so after a minute (what librdkafka
 * waits for an answer) the partition is begun anew, and its end is the one of then.  Not sooner: a
 * new leader learns only from the other replicas how far it may be read.
 *
 * Newest first: our record is mostly among the last few thousand, so the tail is read, and
 * the whole partition only if it is not there.  Somebody may have added partitions since it was
 * written, so each says how many there were (`of`).  If the one in the key's own partition was
 * written when there were others, or there is none, all partitions are read: several may have one
 * of ours.  Each has a number (`n`) one higher than that before it, and the highest counts, however
 * the clock went.  Those of older versions have no numbers: of them the latest by Kafka's time
 * counts, and any with a number is later.  A tombstone takes away what has no higher number than
 * the record before it in its partition; where compaction has removed that one, by Kafka's time.
 *
 * librdkafka's simple consumer needs no group, hence no permission for one.
 *
 * Thread: the bridge's worker.   Memory: a consumer while it reads.
 * Time: a step blocks for 200 ms at most, a few hundred more where metadata are asked for.
 */
#include "sink/kafka/kafka_internal.h"

#include "base/hash.h"
#include "base/log.h"
#include "codec/json.h"
#include "os/clock.h"

#include <inttypes.h>
#include <stdio.h>

enum {
    POSITION_VERSION = 1,
    TAIL_RECORDS = 2000,
    STEP_MS = 200,
    POLL_MS = 20,
    METADATA_MS = 400,
    SAY_AFTER_MS = 2000,
    SILENT_MS = 5000, /* longer than it takes to choose a leader */
};

struct finder {
    rd_kafka_t *rk; /* a consumer */
    rd_kafka_topic_t *rkt;
    int32_t partitions; /* 0: not known yet */
    int32_t home;       /* the key's own */
    int32_t partition;  /* being read; -1: none */
    bool whole;         /* from its beginning */
    bool others;        /* not only the home */
    int64_t end;        /* to be reached; -1: not known yet */
    int64_t begun_ns;
    int64_t heard_ns; /* something came of the partition, or it was begun */
    int64_t waits_ns; /* all was read that can be, and the end is beyond that; 0: not */
    bool said;
    bool here;           /* this partition has a record of ours, or its tombstone */
    bool anywhere;       /* some partition that was read to its end has: */
    struct found found;  /* the latest of them */
    int64_t found_ms;    /* when it was written */
    uint64_t number_max; /* of all that were read */
    struct found last;   /* of this partition */
    int64_t last_ms;
    char fault[128]; /* a record of ours that cannot be read */
};

/* ---- the record ---- */

void mr_finder_put(const struct kafka *k, uint64_t seq, uint32_t epoch, struct mr_text *out)
{
    mr_text_fmt(out,
                "{\"v\":%d,\"seq\":%" PRIu64 ",\"epoch\":%" PRIu32 ",\"n\":%" PRIu64
                ",\"of\":%d,\"by\":\"%s\",\"gateway\":",
                POSITION_VERSION, seq, epoch, k->tx.number, k->tx.positions.partitions, k->tx.by);
    mr_json_add_string(out, mr_span_of(mr_sink_gateway_name(k->port)));
    mr_text_add(out, "}");
}

/* What stands behind `name` (with quotes and colon), up to the first of `ends`. */
static struct mr_span after(struct mr_span json, const char *name, const char *ends)
{
    const uint8_t *at = memmem(json.at, json.len, name, strlen(name));
    struct mr_span part = mr_span_make(json.at, 0);

    if (at == NULL) {
        return part;
    }
    at += strlen(name);
    part.at = at;
    while (at + part.len < json.at + json.len && strchr(ends, at[part.len]) == NULL) {
        part.len += 1;
    }
    return part;
}

static bool take(struct finder *finder, struct mr_span value)
{
    struct found *found = &finder->last;
    uint64_t version = 0;
    uint64_t epoch = 0;
    uint64_t partitions = 0;
    struct mr_span by = after(value, "\"by\":\"", "\"");
    struct mr_span gateway = after(value, "\"gateway\":\"", "\"");

    if (mr_parse_u64(after(value, "\"v\":", ",}"), UINT32_MAX, &version) != MR_OK ||
        mr_parse_u64(after(value, "\"seq\":", ",}"), UINT64_MAX, &found->seq) != MR_OK ||
        mr_parse_u64(after(value, "\"epoch\":", ",}"), UINT32_MAX, &epoch) != MR_OK) {
        snprintf(finder->fault, sizeof(finder->fault), "it is not one of ours");
        return false;
    }
    if (version != POSITION_VERSION) {
        snprintf(finder->fault, sizeof(finder->fault),
                 "it is of version %" PRIu64 ", this gateway knows %d; use a newer millrace",
                 version, POSITION_VERSION);
        return false;
    }
    if (mr_parse_u64(after(value, "\"n\":", ",}"), UINT64_MAX, &found->number) != MR_OK ||
        mr_parse_u64(after(value, "\"of\":", ",}"), INT32_MAX, &partitions) != MR_OK) {
        found->number = 0;
        partitions = 0;
    }
    finder->number_max = found->number > finder->number_max ? found->number : finder->number_max;
    found->is = true;
    found->partitions = (int32_t)partitions;
    found->epoch = (uint32_t)epoch;
    snprintf(found->by, sizeof(found->by), "%.*s", (int)by.len, (const char *)by.at);
    snprintf(found->gateway, sizeof(found->gateway), "%.*s", (int)gateway.len,
             (const char *)gateway.at);
    return true;
}

/* ---- the topic ---- */

static void say_missing(const struct kafka *k, struct mr_error *why)
{
    (void)mr_error_set(
        why, MR_ERR_AGAIN,
        "topic '%s' does not exist; exactly_once keeps its position there. Create it: "
        "kafka-topics.sh --bootstrap-server %s --create --topic %s --partitions %d --config "
        "cleanup.policy=compact, or set auto_create.enable",
        k->conf->positions_topic, k->conf->servers, k->conf->positions_topic, POSITIONS_PARTITIONS);
}

static void say_denied(const struct kafka *k, struct mr_error *why)
{
    char principal[TEXT_MAX];

    mr_kafka_principal(k->conf, principal, sizeof(principal));
    (void)mr_error_set(
        why, MR_ERR_AGAIN,
        "topic '%s' may not be read by '%s', or is not there; exactly_once keeps its "
        "position there. Allow it: kafka-acls.sh --bootstrap-server %s --add "
        "--allow-principal '%s' --operation Read --operation Write --topic %s",
        k->conf->positions_topic, principal, k->conf->servers, principal, k->conf->positions_topic);
}

static void say_failed(const struct kafka *k, rd_kafka_resp_err_t err, struct mr_error *why)
{
    (void)mr_error_set(why, MR_ERR_AGAIN,
                       "topic '%s', where exactly_once keeps its position: Kafka says: %s (%s). "
                       "Look: kafka-topics.sh --bootstrap-server %s --describe --topic %s",
                       k->conf->positions_topic, rd_kafka_err2str(err), rd_kafka_err2name(err),
                       k->conf->servers, k->conf->positions_topic);
}

static enum find_result topic_judge(struct kafka *k, rd_kafka_resp_err_t err, int32_t partitions,
                                    struct mr_error *why)
{
    struct finder *finder = k->tx.finder;

    switch (err) {
    case RD_KAFKA_RESP_ERR_NO_ERROR:
        finder->partitions = partitions;
        finder->home = mr_kafka_partition(k->tx.key, strlen(k->tx.key), partitions);
        k->tx.positions.partitions = partitions;
        k->tx.positions.missing_since_ns = 0;
        return FIND_MORE;
    case RD_KAFKA_RESP_ERR_UNKNOWN_TOPIC_OR_PART:
        if (k->rk != NULL && k->conf->auto_create.enable && !k->tx.positions.may_not_create) {
            k->tx.positions.created = false;
            (void)mr_kafka_topic_create(k, &k->tx.positions); /* it tells the port if it cannot */
            return FIND_MORE;
        }
        say_missing(k, why);
        return FIND_BLOCKED;
    case RD_KAFKA_RESP_ERR_LEADER_NOT_AVAILABLE:
        return FIND_MORE;
    case RD_KAFKA_RESP_ERR_TOPIC_AUTHORIZATION_FAILED:
        say_denied(k, why);
        return FIND_BLOCKED;
    default:
        say_failed(k, err, why);
        return FIND_BLOCKED;
    }
}

static enum find_result topic_look(struct kafka *k, struct mr_error *why)
{
    struct finder *finder = k->tx.finder;
    const struct rd_kafka_metadata *metadata = NULL;
    enum find_result result = FIND_MORE;

    if (rd_kafka_metadata(finder->rk, 0, finder->rkt, &metadata, METADATA_MS) !=
        RD_KAFKA_RESP_ERR_NO_ERROR) {
        return FIND_MORE; /* whether Kafka is away is judged elsewhere */
    }
    if (metadata->topic_cnt == 1) {
        result = topic_judge(k, metadata->topics[0].err, metadata->topics[0].partition_cnt, why);
    }
    rd_kafka_metadata_destroy(metadata);
    return result;
}

/* ---- reading ---- */

static void partition_stop(struct finder *finder)
{
    if (finder->partition >= 0) {
        (void)rd_kafka_consume_stop(finder->rkt, finder->partition);
        finder->partition = -1;
    }
}

static bool partition_begin(struct finder *finder, int32_t partition, bool whole)
{
    partition_stop(finder);
    finder->end = -1;
    finder->heard_ns = mr_clock_mono_ns();
    finder->waits_ns = 0;
    finder->here = false;
    finder->last = (struct found){.is = false};
    finder->whole = whole;
    if (rd_kafka_consume_start(finder->rkt, partition,
                               whole ? RD_KAFKA_OFFSET_BEGINNING
                                     : RD_KAFKA_OFFSET_TAIL(TAIL_RECORDS)) != 0) {
        return false;
    }
    finder->partition = partition;
    return true;
}

/* A record, or a tombstone of which it is known what it took away. */
static bool is_numbered(const struct found *found)
{
    return found->is || found->number != 0;
}

static bool is_newer(const struct finder *finder)
{
    if (is_numbered(&finder->last) && is_numbered(&finder->found) &&
        finder->last.number != finder->found.number) {
        return finder->last.number > finder->found.number;
    }
    return finder->last_ms >= finder->found_ms;
}

static void partition_keep(struct finder *finder)
{
    if (finder->here && (!finder->anywhere || is_newer(finder))) {
        finder->anywhere = true;
        finder->found = finder->last;
        finder->found_ms = finder->last_ms;
    }
}

/* The partition was read to its end: what next?  False: nothing, all was looked at. */
static bool partition_next(struct finder *finder)
{
    int32_t next = finder->others ? finder->partition + 1 : 0;

    partition_keep(finder);
    if (finder->found.is && !finder->others && finder->found.partitions == finder->partitions) {
        return false; /* whoever wrote elsewhere knew fewer partitions, hence was earlier */
    }
    if (!finder->whole && !finder->anywhere) {
        return partition_begin(finder, finder->partition, true);
    }
    finder->others = true;
    next += next == finder->home;
    return next < finder->partitions && partition_begin(finder, next, true);
}

/* True: everything that was there when the reading began has been read. */
static bool at_end(struct finder *finder, int64_t offset)
{
    int64_t low = -1;
    int64_t high = -1;

    if (finder->end < 0 && rd_kafka_get_watermark_offsets(
                               finder->rk, rd_kafka_topic_name(finder->rkt), finder->partition,
                               &low, &high) == RD_KAFKA_RESP_ERR_NO_ERROR) {
        finder->end = high;
    }
    if (finder->waits_ns == 0) {
        finder->waits_ns = mr_clock_mono_ns();
    }
    return finder->end >= 0 && offset >= finder->end;
}

/* The end may not be there any more; see DESIGN. */
static void begin_again(struct kafka *k)
{
    struct finder *finder = k->tx.finder;
    int64_t low = -1;
    int64_t high = -1;

    if (finder->waits_ns == 0 || mr_clock_mono_ns() - finder->waits_ns < 2 * k->stall_ns) {
        return;
    }
    if (rd_kafka_get_watermark_offsets(finder->rk, k->conf->positions_topic, finder->partition,
                                       &low, &high) == RD_KAFKA_RESP_ERR_NO_ERROR &&
        high < finder->end) {
        mr_log(MR_LOG_WARN, "kafka",
               "%s: lane %" PRIu32 ": partition %d of %s has become shorter while it was read, it "
               "ends at %" PRId64 " instead of %" PRId64
               " (an unclean election of a leader, or a new topic); reading it again",
               mr_sink_bridge_name(k->port), mr_sink_lane(k->port), finder->partition,
               k->conf->positions_topic, high, finder->end);
    }
    (void)partition_begin(finder, finder->partition, finder->whole);
}

/* The cluster answers, and this partition does not: nothing else would tell why nothing goes on. */
static void say_silent(struct kafka *k)
{
    struct finder *finder = k->tx.finder;
    char text[2 * TEXT_MAX];

    if (finder->said || finder->end >= 0 || k->rk == NULL || !k->answered ||
        mr_clock_mono_ns() - finder->heard_ns < SILENT_MS * NS_PER_MS) {
        return;
    }
    finder->said = true;
    snprintf(text, sizeof(text),
             "partition %d of topic '%s', where the position of lane %" PRIu32
             " is, cannot be read: has it no leader? Look: kafka-topics.sh --bootstrap-server %s "
             "--describe --topic %s",
             finder->partition, k->conf->positions_topic, mr_sink_lane(k->port), k->conf->servers,
             k->conf->positions_topic);
    k->tx.blocked = true; /* until a transaction goes through */
    k->answered = false;
    mr_sink_refused(k->port, text);
}

static void say_waiting(const struct kafka *k)
{
    struct finder *finder = k->tx.finder;

    if (!finder->said && finder->end >= 0 &&
        mr_clock_mono_ns() - finder->begun_ns > SAY_AFTER_MS * NS_PER_MS) {
        finder->said = true;
        mr_log(MR_LOG_INFO, "kafka",
               "%s: lane %" PRIu32
               " waits for another producer's open transaction in partition %d of "
               "%s before it can be sure of its position",
               mr_sink_bridge_name(k->port), mr_sink_lane(k->port), finder->partition,
               k->conf->positions_topic);
    }
}

/* One message.  DONE: all was read. */
static enum find_result message_take(struct kafka *k, const rd_kafka_message_t *message,
                                     struct mr_error *why)
{
    struct finder *finder = k->tx.finder;

    if (message->err == RD_KAFKA_RESP_ERR_NO_ERROR ||
        message->err == RD_KAFKA_RESP_ERR__PARTITION_EOF) {
        finder->heard_ns = mr_clock_mono_ns();
    }
    switch (message->err) {
    case RD_KAFKA_RESP_ERR_NO_ERROR:
        if (message->key_len != strlen(k->tx.key) ||
            memcmp(message->key, k->tx.key, message->key_len) != 0) {
            return FIND_MORE;
        }
        finder->here = true;
        finder->last.is = false; /* a tombstone takes it away */
        finder->last_ms = rd_kafka_message_timestamp(message, NULL);
        if (message->payload != NULL &&
            !take(finder, mr_span_make(message->payload, message->len))) {
            (void)mr_error_set(why, MR_ERR_CONFIG,
                               "the position record '%s' at offset %" PRId64
                               " in partition %d of %s "
                               "cannot be read: %s",
                               k->tx.key, message->offset, message->partition,
                               k->conf->positions_topic, finder->fault);
            return FIND_BLOCKED;
        }
        return FIND_MORE;
    case RD_KAFKA_RESP_ERR__PARTITION_EOF:
        return at_end(finder, message->offset) && !partition_next(finder) ? FIND_DONE : FIND_MORE;
    case RD_KAFKA_RESP_ERR_TOPIC_AUTHORIZATION_FAILED:
        say_denied(k, why);
        return FIND_BLOCKED;
    default:
        return FIND_MORE; /* a connection, a leader: librdkafka goes on */
    }
}

static enum find_result read_on(struct kafka *k, struct mr_error *why)
{
    struct finder *finder = k->tx.finder;
    int64_t until_ns = mr_clock_mono_ns() + STEP_MS * NS_PER_MS;
    enum find_result result = FIND_MORE;

    while (result == FIND_MORE && mr_clock_mono_ns() < until_ns) {
        rd_kafka_poll(finder->rk, 0);
        rd_kafka_message_t *message = rd_kafka_consume(finder->rkt, finder->partition, POLL_MS);
        if (message != NULL) {
            result = message_take(k, message, why);
            rd_kafka_message_destroy(message);
        }
    }
    say_waiting(k);
    say_silent(k);
    if (result == FIND_MORE) {
        begin_again(k);
    }
    return result;
}

enum find_result mr_finder_step(struct kafka *k, struct found *out, struct mr_error *why)
{
    struct finder *finder = k->tx.finder;

    if (finder->partitions == 0) {
        enum find_result result = topic_look(k, why);
        if (finder->partitions == 0 || !partition_begin(finder, finder->home, false)) {
            return result;
        }
    }
    enum find_result result = read_on(k, why);
    if (result == FIND_DONE) {
        *out = finder->found;
        out->number = finder->number_max; /* an older version may have written behind it */
    }
    return result;
}

/* ---- life cycle ---- */

/* Called by librdkafka's own threads.  The producer beside it meets the same troubles and
 * tells them.
 */
static void on_log(const rd_kafka_t *rk, int level, const char *facility, const char *text)
{
    (void)rk;
    (void)level;
    mr_log(MR_LOG_DEBUG, "kafka", "librdkafka: %s: %s", facility, text);
}

enum mr_err mr_finder_begin(struct kafka *k, struct mr_error *why)
{
    char text[TEXT_MAX];
    rd_kafka_conf_t *rk_conf = mr_kafka_conf_make_reader(k->conf, why);

    if (rk_conf == NULL) {
        return MR_ERR_CONFIG;
    }
    rd_kafka_conf_set_opaque(rk_conf, k); /* for tokens */
    rd_kafka_conf_set_log_cb(rk_conf, on_log);
    mr_kafka_token_attach(rk_conf, k);
    rd_kafka_t *rk = rd_kafka_new(RD_KAFKA_CONSUMER, rk_conf, text, sizeof(text));
    if (rk == NULL) {
        rd_kafka_conf_destroy(rk_conf);
        return mr_error_set(why, MR_ERR_CONFIG, "librdkafka: %s", text);
    }
    mr_kafka_token_begin(k, rk);
    k->tx.finder = mr_alloc(sizeof(*k->tx.finder));
    *k->tx.finder = (struct finder){.rk = rk, .partition = -1, .begun_ns = mr_clock_mono_ns()};
    k->tx.finder->rkt = rd_kafka_topic_new(rk, k->conf->positions_topic, NULL);
    mr_assert(k->tx.finder->rkt != NULL); /* the name was checked */
    return MR_OK;
}

void mr_finder_end(struct kafka *k)
{
    struct finder *finder = k->tx.finder;

    if (finder == NULL) {
        return;
    }
    k->tx.finder = NULL;
    partition_stop(finder);
    rd_kafka_topic_destroy(finder->rkt);
    if (k->rk == NULL) {
        mr_kafka_token_end(k); /* nobody else wants one */
    }
    rd_kafka_destroy(finder->rk);
    if (k->rk == NULL) {
        mr_kafka_token_free(k);
    }
    mr_free(finder);
}
