/* bridge.c - options, checks and the life cycle of a bridge; see bridge.h.
 *
 * DESIGN
 *
 * Everything a bridge ever needs is taken here, sized by two numbers: how many
 * records may be in flight, and how large a value may be.  The worker allocates
 * only when a name or a destination is first seen.
 */
#include "pipeline/bridge_internal.h"

#include "codec/topic.h"
#include "os/process.h"

#include <inttypes.h>
#include <stdio.h>

static const char *const unit_choices[] = {"auto", "s", "ms", "us", "ns", "rfc3339", NULL};
static const char *const drain_choices[] = {"ordered", "live_first", NULL};
static const char *const error_choices[] = {"received", "dead_letter", NULL};

const struct mr_option mr_bridge_options[] = {
    {.name = "type",
     .type = MR_OPT_STR,
     .offset = offsetof(struct mr_bridge_conf, type),
     .help = "What kind of target it is; by default the bridge's own name."},
    {.name = "from",
     .type = MR_OPT_LIST,
     .offset = offsetof(struct mr_bridge_conf, from),
     .help = "MQTT topic filters of the events to carry; by default all."},
    {.name = "start",
     .type = MR_OPT_STR,
     .offset = offsetof(struct mr_bridge_conf, start),
     .default_text = "oldest",
     .help = "Where a new bridge begins: oldest (of what the journal has kept), now, or the first "
             "event received at a time as 2026-11-23T17:56:01Z."},
    {.name = "timestamp",
     .type = MR_OPT_STR,
     .offset = offsetof(struct mr_bridge_conf, timestamp),
     .default_text = "received",
     .help = "The event's time at the target: received (by the gateway), or a template, as "
             "${payload.ts}."},
    {.name = "timestamp_unit",
     .type = MR_OPT_CHOICE,
     .offset = offsetof(struct mr_bridge_conf, timestamp_unit),
     .default_text = "auto",
     .choices = unit_choices,
     .help = "Unit of the number that `timestamp` gives; auto tells it by its size and reads "
             "RFC 3339 too."},
    {.name = "timestamp_max_past",
     .type = MR_OPT_DURATION,
     .offset = offsetof(struct mr_bridge_conf, timestamp_max_past_us),
     .default_text = "365d",
     .max = 315360000000000000,
     .help = "A time further before the receive time is impossible; 0: no bound."},
    {.name = "timestamp_max_future",
     .type = MR_OPT_DURATION,
     .offset = offsetof(struct mr_bridge_conf, timestamp_max_future_us),
     .default_text = "1h",
     .max = 315360000000000000,
     .help = "A time further behind the receive time is impossible; 0: no bound."},
    {.name = "timestamp_on_error",
     .type = MR_OPT_CHOICE,
     .offset = offsetof(struct mr_bridge_conf, timestamp_on_error),
     .default_text = "received",
     .choices = error_choices,
     .help = "An event whose time is missing, unreadable or impossible: received gives it the "
             "receive time (counted), dead_letter keeps it aside."},
    {.name = "drain",
     .type = MR_OPT_CHOICE,
     .offset = offsetof(struct mr_bridge_conf, drain),
     .default_text = "ordered",
     .choices = drain_choices,
     .help = "How it catches up when the target was away: ordered, or live_first: fresh events at "
             "once, the backlog at a limited rate, marked with the header millrace_backfill."},
    {.name = "live_after",
     .type = MR_OPT_DURATION,
     .offset = offsetof(struct mr_bridge_conf, live_after_us),
     .default_text = "30s",
     .max = 31536000000000,
     .help = "With live_first: the age of the oldest event that waits, from which on fresh events "
             "overtake (and at least 1,000 events wait)."},
    {.name = "backfill_rate",
     .type = MR_OPT_U64,
     .offset = offsetof(struct mr_bridge_conf, backfill_rate),
     .default_text = "0",
     .max = 100000000,
     .help = "With live_first: events of the backlog a second; 0: as many as fresh ones come, and "
             "at least 1,000."},
    {.name = "inflight_records",
     .type = MR_OPT_U64,
     .offset = offsetof(struct mr_bridge_conf, inflight_records),
     .default_text = "200000",
     .min = 1000,
     .max = 1000000,
     .help = "How many records may be on their way at once; bounds memory. exactly_once: three "
             "times as many, for those that are there wait for the commit."},
    {.name = "priority",
     .type = MR_OPT_U64,
     .offset = offsetof(struct mr_bridge_conf, priority),
     .default_text = "100",
     .max = 1000,
     .help = "With `journal.when_full: drop_oldest`: the higher, the more important. Where there "
             "is a choice, what only bridges of lower priority need is dropped first."},
    {.name = "may_drop",
     .type = MR_OPT_BOOL,
     .offset = offsetof(struct mr_bridge_conf, may_drop),
     .default_text = "true",
     .help = "With `journal.when_full: drop_oldest`: false, and nothing is dropped that this "
             "bridge has not delivered; publishers wait instead."},
    {.name = "retry_min",
     .type = MR_OPT_DURATION,
     .offset = offsetof(struct mr_bridge_conf, retry_min_us),
     .default_text = "100ms",
     .min = 1000,
     .max = 3600000000,
     .help = "Pause after the first failure; doubles with each further one."},
    {.name = "retry_max",
     .type = MR_OPT_DURATION,
     .offset = offsetof(struct mr_bridge_conf, retry_max_us),
     .default_text = "30s",
     .min = 1000,
     .max = 86400000000,
     .help = "The longest pause between two attempts."},
    {.name = NULL},
};

static enum mr_err check_filter(const char *filter, struct mr_error *why)
{
    const char *fault = mr_topic_filter_fault(mr_span_of(filter));

    return fault == NULL
               ? MR_OK
               : mr_error_set(why, MR_ERR_CONFIG, "from: '%s' is not an MQTT topic filter: %s",
                              filter, fault);
}

struct checking {
    void (*say)(void *arg, const char *fault);
    void *arg;
    uint32_t faults;
};

static void checked(struct checking *checking, enum mr_err err, const struct mr_error *why)
{
    if (err != MR_OK) {
        checking->faults += 1;
        checking->say(checking->arg, why->text);
    }
}

uint32_t mr_bridge_check(const struct mr_bridge_conf *conf, const struct mr_sink_ops *sink,
                         const void *sink_conf, void (*say)(void *arg, const char *fault),
                         void *arg)
{
    struct checking checking = {.say = say, .arg = arg};
    struct mr_shape shape = {.dests_max = 0};
    struct shaping shaping;
    struct start start;
    struct mr_error why;

    for (size_t i = 0; i < conf->from.count; i++) {
        checked(&checking, check_filter(conf->from.items[i], &why), &why);
    }
    checked(&checking, mr_start_parse(conf->start, &start, &why), &why);
    if (conf->retry_min_us > conf->retry_max_us) {
        checked(&checking, mr_error_set(&why, MR_ERR_CONFIG, "retry_min: is longer than retry_max"),
                &why);
    }
    if (sink->check != NULL) {
        checked(&checking, sink->check(sink_conf, &why), &why);
    }
    sink->shape(sink_conf, &shape);
    uint32_t faults = mr_shaping_open(&shaping, conf, &shape, say, arg);
    if (faults == 0) {
        mr_shaping_close(&shaping);
    }
    return checking.faults + faults;
}

static struct mr_metric *metric(const struct mr_bridge *b, enum mr_metric_kind kind,
                                const char *name, const char *help)
{
    char labels[MR_CURSOR_NAME_MAX + 64];

    snprintf(labels, sizeof(labels), "bridge=\"%s\",lane=\"%u\"%s", mr_bridge_identity(b),
             b->options.lane, b->main == NULL ? "" : ",stream=\"live\"");
    return mr_metric_new(kind, name, help, labels);
}

static void create_ledger(struct mr_bridge *b)
{
    char labels[MR_CURSOR_NAME_MAX + 96];

    for (size_t i = 0; i < MR_COLUMNS; i++) {
        snprintf(labels, sizeof(labels), "bridge=\"%s\",lane=\"%u\",column=\"%s\"", b->name,
                 b->options.lane, mr_column_names[i]);
        b->metrics.ledger[i] = mr_metric_new(
            MR_METRIC_COUNTER, "millrace_ledger_records_total",
            "What became of the records that the cursor has passed, over restarts.", labels);
    }
    b->metrics.unbalanced =
        metric(b, MR_METRIC_GAUGE, "millrace_ledger_unbalanced",
               "1 if what became of the records does not add up to what the cursor has passed.");
}

static void create_metrics(struct mr_bridge *b)
{
    b->metrics = (struct bridge_metrics){
        .up = metric(b, MR_METRIC_GAUGE, "millrace_sink_up", "1 if the target can be reached."),
        .records = metric(b, MR_METRIC_COUNTER, "millrace_sink_records_sent_total",
                          "Records the target has confirmed."),
        .bytes = metric(b, MR_METRIC_COUNTER, "millrace_sink_bytes_sent_total",
                        "Bytes of their values."),
        .skipped = metric(b, MR_METRIC_COUNTER, "millrace_sink_records_skipped_total",
                          "Events that no filter of this bridge matches."),
        .retries = metric(b, MR_METRIC_COUNTER, "millrace_sink_retries_total",
                          "How often the bridge went back to its cursor."),
        .dead_letters = metric(b, MR_METRIC_COUNTER, "millrace_sink_dead_letters_total",
                               "Events that can never be delivered, kept with the reason."),
        .times_replaced = metric(b, MR_METRIC_COUNTER, "millrace_sink_timestamps_replaced_total",
                                 "Records without a usable event time, sent with the receive "
                                 "time."),
        .lost = metric(b, MR_METRIC_COUNTER, "millrace_sink_records_lost_total",
                       "Records that the journal could not read back (corruption)."),
        .inflight = metric(b, MR_METRIC_GAUGE, "millrace_sink_inflight_records",
                           "Records offered to the target and not yet settled."),
        .lag_records = metric(b, MR_METRIC_GAUGE, "millrace_sink_lag_records",
                              "Durable records that are not settled yet."),
        .lag_seconds = metric(b, MR_METRIC_GAUGE, "millrace_sink_lag_seconds",
                              "Age of the oldest event that is not settled."),
        .lag_bytes = metric(b, MR_METRIC_GAUGE, "millrace_sink_lag_bytes",
                            "About what the records that are not settled take in the journal."),
        .committed_seq = metric(b, MR_METRIC_GAUGE, "millrace_sink_committed_seq",
                                "Everything at or below this seq is settled."),
    };
    if (b->main == NULL) {
        create_ledger(b);
    }
    if (b->shape.keeps_position) {
        b->metrics.position = metric(b, MR_METRIC_GAUGE, "millrace_sink_position_seq",
                                     "The target's own position: it has everything up to here.");
    }
}

static enum mr_err create_cursor(struct mr_bridge *b, struct mr_error *why)
{
    const struct start_at where = {
        .journal = b->options.journal, .name = b->name, .lane = b->options.lane};
    struct start start;
    enum mr_err err = MR_OK;

    if (b->options.group != NULL) {
        b->cursor = b->options.group->cursors[b->options.lane];
    } else {
        err = mr_start_parse(b->options.conf->start, &start, why);
        if (err == MR_OK) {
            err = mr_start_cursor(&where, &start, &b->cursor, why);
        }
    }
    if (err == MR_OK) {
        b->seq_cursor = mr_cursor_get(b->cursor);
        b->seq_done = b->seq_cursor;
    }
    return err;
}

/* For who wants the first fault only. */
static void keep_fault(void *arg, const char *text)
{
    struct mr_error *why = arg;

    if (why->code == MR_OK) {
        (void)mr_error_set(why, MR_ERR_CONFIG, "%s", text);
    }
}

enum mr_err mr_bridge_shape_init(struct mr_bridge *b, const struct mr_bridge_options_run *options,
                                 struct mr_error *why)
{
    struct mr_error first = {.code = MR_OK};

    b->options = *options;
    snprintf(b->name, sizeof(b->name), "%s", options->name);
    options->sink->shape(options->sink_conf, &b->shape);
    if (mr_shaping_open(&b->shaping, options->conf, &b->shape, keep_fault, &first) != 0) {
        return mr_error_set(why, MR_ERR_CONFIG, "bridge '%s': %s", b->name, first.text);
    }
    if (b->shaping.dest == NULL) {
        return mr_error_set(why, MR_ERR_CONFIG, "bridge '%s': %s: is missing", b->name,
                            b->shape.dest_option);
    }
    b->bytes.size = mr_shaping_bytes(&b->shaping, &b->shape);
    b->bytes.at = mr_alloc(b->bytes.size);
    mr_bufpool_init(&b->route_pool, ROUTE_POOL_BYTES, ROUTE_KEEP_BYTES);
    return mr_dests_open(b, why);
}

void mr_bridge_id_prefix(struct mr_bridge *b, const char *journal_id)
{
    int len =
        snprintf(b->id_prefix, sizeof(b->id_prefix), "%.37s-%u-", journal_id, b->options.lane);

    b->id_prefix_len = (size_t)len;
}

void mr_bridge_shape_fini(struct mr_bridge *b)
{
    mr_dests_close(&b->dests);
    mr_shaping_close(&b->shaping);
    mr_bufpool_fini(&b->route_pool);
    mr_free(b->bytes.at);
}

/* Records that may be offered and not settled.  A target that commits settles nothing before it
 * has committed, and nothing can be offered meanwhile; so it may have more, or with a backlog the
 * commits would come so often that their round trips take a third of the time.
 */
static size_t records_most(const struct mr_bridge *b)
{
    size_t inflight = (size_t)b->options.conf->inflight_records;

    return b->shape.keeps_position ? inflight * COMMITTED_TIMES : inflight;
}

static void create_memory(struct mr_bridge *b)
{
    uint64_t seed;

    b->records_size = records_most(b);
    b->records = mr_alloc(b->records_size * sizeof(*b->records));
    b->flights = mr_alloc(FLIGHTS_MAX * sizeof(*b->flights));
    mr_os_random(&seed, sizeof(seed));
    mr_rng_seed(&b->rng, seed);
}

static void create_names(struct mr_bridge *b)
{
    char id[37];

    snprintf(b->gateway_name, sizeof(b->gateway_name), "%s",
             b->options.gateway_name == NULL ? "" : b->options.gateway_name);
    snprintf(b->dead_path, sizeof(b->dead_path), "%s", b->options.dead_letters_path);
    mr_journal_id_text(mr_journal_identity(b->options.journal), id);
    mr_bridge_id_prefix(b, id);
    memcpy(b->journal_id, id, sizeof(b->journal_id));
}

const char *mr_bridge_identity(const struct mr_bridge *b)
{
    return b->main == NULL ? b->name : b->main->name;
}

/* Everything but cursor, group and second worker. */
static enum mr_err create_worker(struct mr_bridge **out,
                                 const struct mr_bridge_options_run *options,
                                 struct mr_bridge *first, struct mr_error *why)
{
    struct mr_bridge *b = mr_alloc(sizeof(*b));
    enum mr_err err = mr_wake_open(&b->wake, why);

    if (err != MR_OK) {
        mr_free(b);
        return err;
    }
    mr_mutex_init(&b->mutex);
    mr_mutex_init(&b->dead_alone.mutex);
    b->port.bridge = b;
    b->main = first;
    b->seq_epoch_end = UINT64_MAX;
    err = mr_bridge_shape_init(b, options, why);
    b->dead.store = options->group != NULL ? &options->group->dead : &b->dead_alone;
    if (b->options.record_bytes_max == 0) {
        b->options.record_bytes_max = 1 << 20;
    }
    b->lane = mr_journal_lane(options->journal, options->lane);
    create_names(b);
    create_memory(b);
    if (err == MR_OK && first == NULL) {
        err = create_cursor(b, why);
    }
    if (err == MR_OK) {
        create_metrics(b);
        void *state = mr_alloc(options->sink->state_size);
        err = options->sink->init(state, options->sink_conf, &b->port, why);
        if (err == MR_OK) {
            b->sink_state = state;
        } else {
            mr_free(state);
        }
    }
    if (err != MR_OK) {
        mr_bridge_destroy(b);
        return err;
    }
    *out = b;
    return MR_OK;
}

enum mr_err mr_bridge_create_second(struct mr_bridge **out, struct mr_bridge *first,
                                    struct mr_error *why)
{
    enum mr_err err = create_worker(out, &first->options, first, why);

    if (err == MR_OK) {
        snprintf((*out)->name, sizeof((*out)->name), "%.120s (live)", first->name);
        (*out)->dead.store = first->dead.store;
    }
    return err;
}

enum mr_err mr_bridge_create(struct mr_bridge **out, const struct mr_bridge_options_run *options,
                             struct mr_error *why)
{
    struct mr_bridge *b = NULL;
    enum mr_err err = create_worker(&b, options, NULL, why);

    if (err == MR_OK && options->group != NULL) {
        mr_group_join(b);
    }
    if (err == MR_OK) {
        err = mr_live_create(b, why);
    }
    if (err != MR_OK) {
        mr_bridge_destroy(b);
        return err;
    }
    *out = b;
    return MR_OK;
}

static enum mr_err start_worker(struct mr_bridge *b, const char *prefix, struct mr_error *why)
{
    char name[16];

    mr_assert(b->thread == NULL);
    snprintf(name, sizeof(name), "%s-%.8s", prefix, mr_bridge_identity(b));
    return mr_thread_start(&b->thread, name, mr_worker_run, b, why);
}

enum mr_err mr_bridge_start(struct mr_bridge *b, struct mr_error *why)
{
    enum mr_err err = b->live.worker == NULL ? MR_OK : start_worker(b->live.worker, "live", why);

    return err == MR_OK ? start_worker(b, "bridge", why) : err;
}

static void stop_begin(struct mr_bridge *b, int64_t patience_ns)
{
    atomic_store(&b->patience_ns, patience_ns);
    atomic_store(&b->stopping, true);
    mr_wake_ring(&b->wake);
}

void mr_bridge_stop_begin(struct mr_bridge *b, int64_t patience_ns)
{
    stop_begin(b, patience_ns);
    if (b->live.worker != NULL) {
        stop_begin(b->live.worker, patience_ns);
    }
}

static void stop_worker(struct mr_bridge *b, int64_t patience_ns)
{
    if (b->thread == NULL) {
        mr_worker_close(b, patience_ns);
        return;
    }
    mr_thread_join(b->thread);
    b->thread = NULL;
}

void mr_bridge_stop(struct mr_bridge *b, int64_t patience_ns)
{
    if (!atomic_load(&b->stopping)) {
        mr_bridge_stop_begin(b, patience_ns);
    }
    stop_worker(b, patience_ns);
    if (b->live.worker != NULL) {
        stop_worker(b->live.worker, patience_ns);
    }
}

void mr_bridge_nudge(struct mr_bridge *b)
{
    mr_wake_ring(&b->wake);
}

/* Of a bridge that is gone nothing waits; its counters stay where they are. */
static void destroy_metrics(struct mr_bridge *b)
{
    struct mr_metric *const gauges[] = {b->metrics.up, b->metrics.inflight, b->metrics.lag_records,
                                        b->metrics.lag_seconds, b->metrics.lag_bytes};

    for (size_t i = 0; i < MR_COUNT_OF(gauges) && gauges[i] != NULL; i++) {
        mr_metric_set(gauges[i], 0);
    }
}

void mr_bridge_destroy(struct mr_bridge *b)
{
    if (b == NULL) {
        return;
    }
    if (b->options.group != NULL && b->main == NULL) {
        mr_group_leave(
            b); /* first: other lanes, which may still run, ring it and its second worker */
    }
    mr_bridge_destroy(b->live.worker);
    mr_assert(b->thread == NULL && b->reader == NULL);
    if (b->cursor != NULL) {
        mr_cursor_close(b->cursor);
    }
    destroy_metrics(b);
    if (b->sink_state != NULL) {
        b->options.sink->fini(b->sink_state);
        mr_free(b->sink_state);
    }
    mr_dead_close(b);
    mr_bridge_shape_fini(b);
    mr_free(b->flights);
    mr_free(b->records);
    mr_mutex_fini(&b->dead_alone.mutex);
    mr_mutex_fini(&b->mutex);
    mr_wake_close(&b->wake);
    mr_free(b);
}

const char *mr_bridge_state_name(enum mr_bridge_state state)
{
    static const char *const names[] = {"up", "down", "stopped", "paused"};

    return names[state];
}

/* What the second worker adds. */
static void stats_live(struct mr_bridge *b, struct mr_bridge_stats *out)
{
    struct mr_bridge *w = b->live.worker;
    uint64_t from;
    uint64_t to;

    if (w == NULL || !mr_cursor_ahead(b->cursor, &from, &to)) {
        return;
    }
    out->live.open = true;
    out->live.from = from;
    out->live.seq = to;
    out->live.lag_records = out->durable_seq > to ? out->durable_seq - to : 0;
    out->live.lag_s = (uint64_t)mr_metric_get(w->metrics.lag_seconds);
    out->lag_records -= to - from < out->lag_records ? to - from : out->lag_records;
    out->inflight += (uint64_t)mr_metric_get(w->metrics.inflight);
    out->up = out->up && atomic_load_explicit(&w->up, memory_order_relaxed);
}

/* Since the start; the second worker may have run before. */
static void stats_add(struct mr_bridge *w, struct mr_bridge_stats *out)
{
    out->delivered += atomic_load_explicit(&w->delivered, memory_order_relaxed);
    out->skipped += atomic_load_explicit(&w->skipped, memory_order_relaxed);
    out->dead_letters += atomic_load_explicit(&w->dead_count, memory_order_relaxed);
    out->retries += atomic_load_explicit(&w->retries, memory_order_relaxed);
}

static void stats_error(struct mr_bridge *b, struct mr_bridge_stats *out)
{
    mr_mutex_lock(&b->mutex);
    memcpy(out->last_error, b->last_error, sizeof(out->last_error));
    mr_mutex_unlock(&b->mutex);
}

void mr_bridge_stats(struct mr_bridge *b, struct mr_bridge_stats *out)
{
    struct mr_books books;
    struct mr_bridge *w = b->live.worker;
    uint64_t ahead = 0;
    uint64_t seq = mr_cursor_books_all(b->cursor, &books, &ahead);
    bool stopped = atomic_load_explicit(&b->stopped, memory_order_relaxed);

    *out = (struct mr_bridge_stats){
        .name = b->name,
        .type = b->options.sink->name,
        .lane = b->options.lane,
        .cursor_seq = seq,
        .balanced = mr_books_difference(&books, seq + ahead) == 0,
        .durable_seq = mr_lane_durable(b->lane),
        .delivered = atomic_load_explicit(&b->delivered, memory_order_relaxed),
        .skipped = atomic_load_explicit(&b->skipped, memory_order_relaxed),
        .dead_letters = atomic_load_explicit(&b->dead_count, memory_order_relaxed),
        .retries = atomic_load_explicit(&b->retries, memory_order_relaxed),
        .inflight = (uint64_t)mr_metric_get(b->metrics.inflight),
        .lag_s = (uint64_t)mr_metric_get(b->metrics.lag_seconds),
        .up = atomic_load_explicit(&b->up, memory_order_relaxed),
    };
    out->lag_records = out->durable_seq > out->cursor_seq ? out->durable_seq - out->cursor_seq : 0;
    out->lag_bytes = mr_lane_bytes_behind(b->lane, out->cursor_seq);
    stats_live(b, out);
    if (w != NULL) {
        stats_add(w, out);
        stopped = stopped || atomic_load_explicit(&w->stopped, memory_order_relaxed);
    }
    if (stopped) {
        out->state = MR_BRIDGE_STOPPED;
    } else if (mr_cursor_is_paused(b->cursor)) {
        out->state = MR_BRIDGE_PAUSED;
    } else {
        out->state = out->up ? MR_BRIDGE_UP : MR_BRIDGE_DOWN;
    }
    stats_error(b, out);
    if (w != NULL && out->last_error[0] == '\0') {
        stats_error(w, out);
    }
}

void mr_bridge_refresh(struct mr_bridge *b)
{
    struct mr_books books;
    uint64_t ahead = 0;
    uint64_t seq = mr_cursor_books_all(b->cursor, &books, &ahead);

    mr_metric_set(b->metrics.lag_bytes, (int64_t)mr_lane_bytes_behind(b->lane, seq));
    for (size_t i = 0; i < MR_COLUMNS; i++) {
        mr_metric_set(b->metrics.ledger[i], (int64_t)books.columns[i]);
    }
    mr_metric_set(b->metrics.unbalanced, mr_books_difference(&books, seq + ahead) != 0);
}
