/* test_metric.c
 * links: base
 *
 * Goal:   what /metrics shows is what was counted, in the format Prometheus
 *         reads; a full table costs visibility and nothing else.
 * Method: whole lines of the rendered text are looked for.
 */
#include "base/log.h"
#include "base/metric.h"

#include <stdio.h>

static char rendered[1 << 20];
static unsigned log_lines;

static void count_line(const char *line, size_t len)
{
    (void)line;
    (void)len;
    log_lines += 1;
}

static void render(void)
{
    struct mr_text text = mr_text_over(rendered, sizeof(rendered));
    mr_assert(mr_metric_render(&text) == MR_OK);
}

/* Where `line`, with its newline, stands in the rendered text; -1: nowhere. */
static long position(const char *line)
{
    char whole[256];
    const char *hit = NULL;

    (void)snprintf(whole, sizeof(whole), "%s\n", line);
    hit = strstr(rendered, whole);
    mr_assert(hit == NULL || hit == rendered || hit[-1] == '\n');
    return hit == NULL ? -1 : (long)(hit - rendered);
}

static void test_samples_of_a_name_stand_together(void)
{
    struct mr_metric *a =
        mr_metric_new(MR_METRIC_COUNTER, "events_total", "Events\nper \\ bridge.", "bridge=\"a\"");
    struct mr_metric *depth = mr_metric_new(MR_METRIC_GAUGE, "depth", "Depth.", "");
    struct mr_metric *b = mr_metric_new(MR_METRIC_COUNTER, "events_total", "", "bridge=\"b\"");

    mr_assert(a != b && a->name == b->name);
    mr_assert(mr_metric_new(MR_METRIC_COUNTER, "events_total", "", "bridge=\"a\"") == a);
    mr_metric_add(a, 3);
    mr_metric_add(a, 4);
    mr_metric_add(b, UINT64_MAX);
    mr_metric_set(depth, -5);
    mr_assert(mr_metric_get(a) == 7);

    render();
    long help = position("# HELP events_total Events\\nper \\\\ bridge.");
    long type = position("# TYPE events_total counter");
    long of_a = position("events_total{bridge=\"a\"} 7");
    long of_b = position("events_total{bridge=\"b\"} 18446744073709551615");
    long gauge = position("# TYPE depth gauge");
    mr_assert(help >= 0 && help < type && type < of_a && of_a < of_b && of_b < gauge);
    mr_assert(position("depth -5") > gauge);
}

static void test_histogram_is_cumulative(void)
{
    struct mr_metric *puback =
        mr_metric_new(MR_METRIC_HISTOGRAM, "puback_seconds", "Time to PUBACK.", "");
    static const uint64_t observed[] = {0, 1, 2, 3, 1000000, 134217728, 134217729, 500000000};

    for (size_t i = 0; i < MR_COUNT_OF(observed); i++) {
        mr_metric_observe_us(puback, observed[i]);
    }
    render();
    mr_assert(position("puback_seconds_bucket{le=\"0.000001\"} 2") >= 0);
    mr_assert(position("puback_seconds_bucket{le=\"0.000002\"} 3") >= 0);
    mr_assert(position("puback_seconds_bucket{le=\"0.000004\"} 4") >= 0);
    mr_assert(position("puback_seconds_bucket{le=\"0.524288\"} 4") >= 0);
    mr_assert(position("puback_seconds_bucket{le=\"1.048576\"} 5") >= 0);
    mr_assert(position("puback_seconds_bucket{le=\"134.217728\"} 6") >= 0);
    mr_assert(position("puback_seconds_bucket{le=\"+Inf\"} 8") >= 0);
    mr_assert(position("puback_seconds_sum 769.435463") >= 0);
    mr_assert(position("puback_seconds_count 8") >= 0);

    struct mr_metric *labelled =
        mr_metric_new(MR_METRIC_HISTOGRAM, "commit_seconds", "Commit.", "lane=\"0\"");
    mr_metric_observe_us(labelled, 5);
    render();
    mr_assert(position("commit_seconds_bucket{lane=\"0\",le=\"0.000008\"} 1") >= 0);
    mr_assert(position("commit_seconds_sum{lane=\"0\"} 0.000005") >= 0);
}

static void test_small_buffer_says_so(void)
{
    char small[40];
    struct mr_text text = mr_text_over(small, sizeof(small));

    mr_assert(mr_metric_render(&text) == MR_ERR_FULL);
    mr_assert(strlen(small) == sizeof(small) - 1);
}

static void test_full_table_shares_one(void)
{
    struct mr_metric *last = NULL;
    struct mr_metric *before = NULL;

    mr_log_set_writer(count_line);
    for (unsigned i = 0; i < MR_METRICS_MAX + 10; i++) {
        char labels[32];
        (void)snprintf(labels, sizeof(labels), "n=\"%u\"", i);
        before = last;
        last = mr_metric_new(MR_METRIC_COUNTER, "many_total", "Many.", labels);
        mr_assert(last != NULL);
        mr_metric_add(last, 1);
    }
    mr_assert(last == before && log_lines > 0);
    render();
    mr_assert(position("many_total{n=\"0\"} 1") >= 0);
    mr_log_set_writer(NULL);
}

int main(void)
{
    test_samples_of_a_name_stand_together();
    test_histogram_is_cumulative();
    test_small_buffer_says_so();
    test_full_table_shares_one();
    return 0;
}
