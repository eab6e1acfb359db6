/* simulate.c - `millrace simulate`: a plant full of sensors, for demos and tests.
 *
 * The work is done by app/load/generator.h; here are the options, the live status
 * line and the summary.
 *
 * The exit code answers the question a script has: was everything acknowledged?
 */
#include "app/cli/cli.h"
#include "app/load/generator.h"
#include "app/wire.h"
#include "os/clock.h"
#include "os/process.h"

#include <stdio.h>

enum { STATUS_EVERY_MS = 1000, STEP_MS = 100, CONNECTIONS_DEFAULT_MAX = 1000 };

#define SIMULATE_MS INT64_C(1000000)

static const char *const simulate_profiles[] = {
    [MR_PROFILE_MIXED] = "mixed",
    [MR_PROFILE_METERS] = "meters",
    [MR_PROFILE_TRAINS] = "trains",
    [MR_PROFILE_TOLLING] = "tolling",
    [MR_PROFILE_VIBRATION] = "vibration",
    [MR_PROFILES] = "help",
    NULL,
};

/* One run: the generator and what the person wants to see of it. */
struct simulate {
    struct mr_cli *cli;
    struct mr_generator *generator;
    struct mr_generator_options options;
    const char *address;
    int64_t begin_ns;
    int64_t status_ns;     /* when the status was shown last */
    uint64_t status_acked; /* what it said then */
    bool terminal;         /* the status line overwrites itself */
    bool status;
    bool json;
    bool was_up; /* all connections stood at the last look */
    bool said_trouble;
};

/* 1234567 ns -> "1.23 ms" */
static void simulate_latency(struct mr_text *out, int64_t ns)
{
    if (ns < 1000000) {
        mr_text_fmt(out, "%.0f us", (double)ns / 1e3);
    } else if (ns < 1000000000) {
        mr_text_fmt(out, "%.2f ms", (double)ns / 1e6);
    } else {
        mr_text_fmt(out, "%.2f s", (double)ns / 1e9);
    }
}

static void simulate_quantile(struct mr_text *out, const char *name,
                              const struct mr_histogram *histogram, double quantile)
{
    mr_text_fmt(out, "%s ", name);
    simulate_latency(out, mr_histogram_quantile_ns(histogram, quantile));
}

static void simulate_clear_line(const struct simulate *run)
{
    if (run->terminal) {
        (void)fputs("\r\033[K", stderr);
    }
}

/* Once when the server goes away, once when it is back. */
static void simulate_say_trouble(struct simulate *run, const struct mr_generator_stats *stats)
{
    bool all_up = stats->up + stats->resting == run->options.connections;

    if (!all_up && stats->trouble[0] != '\0' && !run->said_trouble) {
        simulate_clear_line(run);
        mr_cli_note(run->cli, "%s: %s; trying again, nothing is dropped meanwhile", run->address,
                    stats->trouble);
        run->said_trouble = true;
    }
    if (all_up && !run->was_up && run->said_trouble) {
        simulate_clear_line(run);
        mr_cli_note(run->cli, "%s: connected again", run->address);
        run->said_trouble = false;
    }
    run->was_up = all_up;
}

static void simulate_status(struct simulate *run, int64_t now_ns)
{
    struct mr_generator_stats stats;
    const struct mr_histogram *recent = mr_generator_interval(run->generator);
    char line[256];
    struct mr_text text = mr_text_over(line, sizeof(line));

    mr_generator_stats(run->generator, &stats);
    simulate_say_trouble(run, &stats);
    if (run->status) {
        double seconds = (double)(now_ns - run->status_ns) / 1e9;
        double rate = (double)(stats.acked - run->status_acked) / seconds;

        mr_text_fmt(&text, "%5.0f s  sent %llu  acked %llu  %.0f/s",
                    (double)(now_ns - run->begin_ns) / 1e9, (unsigned long long)stats.made,
                    (unsigned long long)stats.acked, rate);
        if (recent->count > 0) {
            simulate_quantile(&text, "  PUBACK p50", recent, 0.5);
            simulate_quantile(&text, " p99", recent, 0.99);
        }
        mr_text_fmt(&text, "  up %u/%u  reconnects %llu", stats.up, run->options.connections,
                    (unsigned long long)(stats.lost + stats.dropped));
        (void)fprintf(stderr, run->terminal ? "\r%s\033[K" : "%s\n", line);
        (void)fflush(stderr);
    }
    mr_generator_interval_clear(run->generator);
    run->status_ns = now_ns;
    run->status_acked = stats.acked;
}

static void simulate_summary_json(struct simulate *run, const struct mr_generator_stats *stats,
                                  double seconds)
{
    const struct mr_histogram *all = mr_generator_latency(run->generator);

    (void)mr_cli_out(run->cli,
                     "{\"sent\": %llu, \"acked\": %llu, \"resent\": %llu, \"unacked\": %llu, "
                     "\"refused\": %llu, \"reconnects\": %llu, \"dropped\": %llu, "
                     "\"seconds\": %.3f, "
                     "\"puback_us_p50\": %.1f, \"puback_us_p99\": %.1f, \"puback_us_p999\": %.1f, "
                     "\"puback_us_max\": %.1f}\n",
                     (unsigned long long)stats->made, (unsigned long long)stats->acked,
                     (unsigned long long)stats->resent,
                     (unsigned long long)(stats->made - stats->acked),
                     (unsigned long long)stats->refused, (unsigned long long)stats->lost,
                     (unsigned long long)stats->dropped, seconds,
                     (double)mr_histogram_quantile_ns(all, 0.5) / 1e3,
                     (double)mr_histogram_quantile_ns(all, 0.99) / 1e3,
                     (double)mr_histogram_quantile_ns(all, 0.999) / 1e3,
                     (double)mr_histogram_quantile_ns(all, 1) / 1e3);
}

static void simulate_summary_text(struct simulate *run, const struct mr_generator_stats *stats,
                                  double seconds)
{
    const struct mr_histogram *all = mr_generator_latency(run->generator);
    char line[256];
    struct mr_text text = mr_text_over(line, sizeof(line));

    (void)mr_cli_out(run->cli,
                     "sent %llu, acknowledged %llu, sent again %llu, not acknowledged %llu; "
                     "%.1f s, %.0f events/s, %llu reconnects\n",
                     (unsigned long long)stats->made, (unsigned long long)stats->acked,
                     (unsigned long long)stats->resent,
                     (unsigned long long)(stats->made - stats->acked), seconds,
                     (double)stats->acked / (seconds > 0 ? seconds : 1),
                     (unsigned long long)stats->lost);
    if (stats->dropped > 0) {
        (void)mr_cli_out(run->cli, "%llu times a device dropped its connection and came back\n",
                         (unsigned long long)stats->dropped);
    }
    if (stats->refused > 0) {
        (void)mr_cli_out(run->cli, "%llu of them were acknowledged with an error code\n",
                         (unsigned long long)stats->refused);
    }
    if (all->count > 0) {
        simulate_quantile(&text, "PUBACK p50", all, 0.5);
        simulate_quantile(&text, ", p99", all, 0.99);
        simulate_quantile(&text, ", p99.9", all, 0.999);
        simulate_quantile(&text, ", longest", all, 1);
        (void)mr_cli_out(run->cli, "%s%s\n", line,
                         run->options.rate != 0 ? " (from the time an event was due)" : "");
    }
}

static int simulate_end(struct simulate *run)
{
    struct mr_generator_stats stats;

    mr_generator_stats(run->generator, &stats);
    double seconds = stats.begin_ns == 0 ? 0 : (double)(mr_clock_mono_ns() - stats.begin_ns) / 1e9;
    simulate_clear_line(run);
    if (run->json) {
        simulate_summary_json(run, &stats, seconds);
    } else {
        simulate_summary_text(run, &stats, seconds);
    }
    if (!stats.ever_up) {
        return mr_cli_fail(run->cli, MR_EXIT_UNAVAILABLE, "no connection to %s: %s", run->address,
                           stats.trouble[0] != '\0' ? stats.trouble : "it did not answer");
    }
    if (stats.made != stats.acked) {
        return mr_cli_fail(run->cli, MR_EXIT_FAILED, "%llu events were not acknowledged",
                           (unsigned long long)(stats.made - stats.acked));
    }
    return stats.refused == 0 ? MR_EXIT_OK : MR_EXIT_FAILED;
}

/* Has --duration passed since the first event was due? */
static bool simulate_over(const struct simulate *run, int64_t now_ns)
{
    const int64_t duration_ns = (int64_t)mr_cli_number(run->cli, "duration") * 1000;
    struct mr_generator_stats stats;

    if (duration_ns == 0) {
        return false;
    }
    mr_generator_stats(run->generator, &stats);
    return stats.begin_ns != 0 && now_ns - stats.begin_ns >= duration_ns;
}

/* Step until all is done: by count, by duration, or by a signal and then the drain. */
static void simulate_loop(struct simulate *run, struct mr_wake *wake)
{
    const int64_t drain_ns = (int64_t)mr_cli_number(run->cli, "drain") * 1000;
    int64_t stop_ns = -1;

    run->begin_ns = mr_clock_mono_ns();
    run->status_ns = run->begin_ns;
    while (mr_generator_step(run->generator, STEP_MS * SIMULATE_MS, wake)) {
        int64_t now_ns = mr_clock_mono_ns();
        bool asked = (mr_signals_take() & MR_SIGNAL_TERMINATE) != 0;

        if (asked && stop_ns >= 0) {
            return; /* asked twice: do not wait for the rest */
        }
        if (stop_ns < 0 && (asked || simulate_over(run, now_ns))) {
            mr_generator_stop(run->generator);
            stop_ns = now_ns;
        }
        if (stop_ns >= 0 && now_ns - stop_ns > drain_ns) {
            return;
        }
        if (now_ns - run->status_ns >= STATUS_EVERY_MS * SIMULATE_MS) {
            simulate_status(run, now_ns);
        }
    }
}

static void simulate_options(struct mr_cli *cli, struct simulate *run, char *address, size_t size)
{
    const char *host = mr_cli_text(cli, "host");
    struct mr_text text = mr_text_over(address, size);
    uint32_t sensors = (uint32_t)mr_cli_number(cli, "sensors");
    uint32_t connections = (uint32_t)mr_cli_number(cli, "connections");

    if (connections == 0) {
        connections = sensors < CONNECTIONS_DEFAULT_MAX ? sensors : CONNECTIONS_DEFAULT_MAX;
    }
    /* A v6 address needs brackets before the port. */
    mr_text_fmt(&text, strchr(host, ':') != NULL && host[0] != '[' ? "[%s]:%llu" : "%s:%llu", host,
                (unsigned long long)mr_cli_number(cli, "port"));
    *run = (struct simulate){
        .cli = cli,
        .address = address,
        .terminal = mr_is_terminal(2) && !mr_cli_quiet(cli),
        .status = mr_cli_flag(cli, "status") || (mr_is_terminal(2) && !mr_cli_quiet(cli)),
        .json = mr_cli_flag(cli, "json"),
        .options =
            {
                .address = address,
                .prefix = mr_cli_text(cli, "topic-prefix"),
                .username = mr_cli_text(cli, "username"),
                .password = mr_cli_text(cli, "password"),
                .profile = (enum mr_profile)mr_cli_number(cli, "profile"),
                .qos = (uint8_t)mr_cli_number(cli, "qos"),
                .sensors = sensors,
                .connections = connections,
                .window = (uint32_t)mr_cli_number(cli, "window"),
                .rate = mr_cli_given(cli, "rate") ? mr_cli_number(cli, "rate") : sensors,
                .count = mr_cli_number(cli, "count"),
                .seed = mr_cli_number(cli, "seed"),
                .time_begin_s = mr_cli_number(cli, "time"),
                .disconnect_pct = (uint32_t)mr_cli_number(cli, "disconnect"),
                .disconnect_every_us = mr_cli_number(cli, "disconnect-every"),
            },
    };
}

/* Each profile with the topic and payload of one of its sensors. */
static int simulate_list(struct mr_cli *cli)
{
    for (unsigned profile = 0; profile < MR_PROFILES; profile++) {
        char topic[MR_SENSOR_TOPIC_MAX + 1];
        char payload[MR_SENSOR_PAYLOAD_MAX + 1];
        struct mr_text topic_text = mr_text_over(topic, sizeof(topic));
        struct mr_text payload_text = mr_text_over(payload, sizeof(payload));
        struct mr_sensor sensor;

        mr_sensor_init(&sensor, mr_profile_kind((enum mr_profile)profile, 0), 0,
                       mr_cli_number(cli, "seed"));
        mr_sensor_topic(&sensor, &topic_text);
        mr_sensor_payload(&sensor, mr_clock_wall_us() / 1000, &payload_text);
        (void)mr_cli_out(cli, "%-10s %s\n           %s/%s\n           %s\n",
                         mr_profile_name((enum mr_profile)profile),
                         mr_profile_about((enum mr_profile)profile),
                         mr_cli_text(cli, "topic-prefix"), topic, payload);
    }
    return MR_EXIT_OK;
}

static int simulate_run(struct mr_cli *cli)
{
    char address[320];
    struct simulate run;
    struct mr_error why;
    struct mr_wake wake;

    if (mr_cli_flag(cli, "list") || mr_cli_number(cli, "profile") == MR_PROFILES) {
        return simulate_list(cli);
    }
    simulate_options(cli, &run, address, sizeof(address));
    if (mr_generator_open(&run.generator, &run.options, &why) != MR_OK) {
        return mr_cli_fail(cli, MR_EXIT_USAGE, "%s", why.text);
    }
    if (mr_wake_open(&wake, &why) != MR_OK) {
        mr_generator_close(run.generator);
        return mr_cli_fail(cli, MR_EXIT_SOFTWARE, "%s", why.text);
    }
    mr_signals_route(&wake);
    simulate_loop(&run, &wake);
    int code = simulate_end(&run);
    mr_generator_close(run.generator);
    return code; /* the wake stays open: a signal may still ring it */
}

static const struct mr_cli_option simulate_table[] = {
    {"host", 0, MR_OPT_STR, "HOST", "127.0.0.1", 0, 0, NULL, "Server to publish to."},
    {"port", 'p', MR_OPT_U64, "PORT", "1883", 1, 65535, NULL, "Its TCP port."},
    {"username", 'u', MR_OPT_STR, "USER", NULL, 0, 0, NULL, "User name, the same for all."},
    {"password", 'P', MR_OPT_STR, "PASSWORD", NULL, 0, 0, NULL,
     "Its password; others may see it there."},
    {"sensors", 'n', MR_OPT_U64, "COUNT", "1000", 1, MR_GENERATOR_SENSORS_MAX, NULL,
     "How many sensors."},
    {"profile", 0, MR_OPT_CHOICE, "PROFILE", "mixed", 0, 0, simulate_profiles,
     "What kind of sensors; help shows them."},
    {"list", 0, MR_OPT_BOOL, NULL, NULL, 0, 0, NULL,
     "Show the profiles, each with a topic and a payload, and end."},
    {"rate", 'r', MR_OPT_U64, "EVENTS", NULL, 0, 100000000, NULL,
     "Events per second in all (default: one per sensor; 0: as fast as acknowledgements allow)."},
    {"qos", 0, MR_OPT_U64, "QOS", "1", 0, 1, NULL, "Quality of service, 0 or 1."},
    {"topic-prefix", 't', MR_OPT_STR, "TOPIC", "sensors", 0, 0, NULL,
     "Topics are TOPIC/<type>/<place>/<number>."},
    {"count", 0, MR_OPT_U64, "EVENTS", "0", 0, 0, NULL, "Stop after so many (0: no limit)."},
    {"duration", 0, MR_OPT_DURATION, "TIME", "0", 0, 0, NULL,
     "Stop after this time (0: no limit)."},
    {"drain", 0, MR_OPT_DURATION, "TIME", "10s", 0, 0, NULL,
     "How long to wait for the last acknowledgements."},
    {"connections", 0, MR_OPT_U64, "COUNT", "0", 0, MR_GENERATOR_SENSORS_MAX, NULL,
     "MQTT connections (0: one per sensor, at most 1000)."},
    {"window", 0, MR_OPT_U64, "COUNT", "64", 1, 65535, NULL,
     "Unacknowledged publishes per connection."},
    {"seed", 0, MR_OPT_U64, "NUMBER", "1", 0, 0, NULL,
     "Same seed, same readings; with --time byte for byte."},
    {"time", 0, MR_OPT_U64, "SECONDS", "0", 0, 253402300799, NULL,
     "Time of the first reading, Unix; 0: now. Without a rate each takes 1 ms."},
    {"disconnect", 0, MR_OPT_U64, "PERCENT", "0", 0, 100, NULL,
     "So many of 100 devices drop their connection now and then, and come back."},
    {"disconnect-every", 0, MR_OPT_DURATION, "TIME", "30s", 100000, 86400000000, NULL,
     "About so long each of them stays connected."},
    {"status", 0, MR_OPT_BOOL, NULL, NULL, 0, 0, NULL,
     "A status line every second, even if stderr is no terminal."},
    {"json", 0, MR_OPT_BOOL, NULL, NULL, 0, 0, NULL, "Print the summary as JSON."},
    {.name = NULL},
};

const struct mr_command mr_command_simulate = {
    .name = "simulate",
    .group = "Tools",
    .summary = "publish what a plant full of sensors would",
    .help = "Publishes readings of simulated sensors over MQTT until Ctrl-C, --count or\n"
            "--duration. What is not acknowledged is sent again after a lost connection, so a\n"
            "gap in the \"n\" of a sensor downstream is a loss of the server.\n"
            "\n"
            "Exit code 0: everything was acknowledged; 1: something was not; 69: no connection.\n"
            "\n"
            "  millrace simulate\n"
            "  millrace simulate --sensors 200 --profile meters --rate 20000 --duration 30s\n"
            "  millrace simulate --profile trains --disconnect 20 --disconnect-every 10s\n",
    .options = simulate_table,
    .run = simulate_run,
};
