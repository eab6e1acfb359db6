/* audit_drops.c - the ranges that bridges gave up because the journal was full, for `audit`. */
#include "app/audit.h"

#include "app/cli/ask.h"
#include "codec/json_read.h"

#include <inttypes.h>

static bool is_asked_for(const struct mr_audit *audit, const char *bridge)
{
    return (audit->bridge == NULL || strcmp(audit->bridge, bridge) == 0) &&
           audit->drop_count < MR_DROPS_MAX;
}

static void on_drop(void *arg, const struct mr_drop *drop)
{
    struct mr_audit *audit = arg;

    if (is_asked_for(audit, drop->name)) {
        audit->drops[audit->drop_count++] = *drop;
    }
}

void mr_audit_drops_read(struct mr_audit *audit, struct mr_journal *journal)
{
    mr_drops_list(journal, on_drop, audit);
}

static enum mr_drop_reason reason_of(struct mr_span object)
{
    char text[32];
    const char *reason = mr_answer_text(object, "reason", text, sizeof(text));

    return strcmp(reason, mr_drop_reasons[MR_DROP_DISK]) == 0 ? MR_DROP_DISK : MR_DROP_MAX_SIZE;
}

void mr_audit_drops_take(struct mr_audit *audit, struct mr_span answer)
{
    struct mr_span at = mr_json_member(answer, "dropped_ranges");
    struct mr_span object;

    while (mr_json_next(&at, &object)) {
        char name[MR_CURSOR_NAME_MAX + 1];
        struct mr_drop drop = {.lane = (uint32_t)mr_answer_u64(object, "lane"),
                               .seq_first = mr_answer_u64(object, "first"),
                               .seq_last = mr_answer_u64(object, "last"),
                               .first_us = (int64_t)mr_answer_u64(object, "since_us"),
                               .last_us = (int64_t)mr_answer_u64(object, "until_us"),
                               .reason = reason_of(object)};
        struct mr_text text = mr_text_over(drop.name, sizeof(drop.name));
        mr_text_add(&text, mr_answer_text(object, "bridge", name, sizeof(name)));
        on_drop(audit, &drop);
    }
}

static void show_one(struct mr_cli *cli, const struct mr_drop *drop)
{
    char when[40];
    struct mr_text text = mr_text_over(when, sizeof(when));

    mr_text_time_us(&text, drop->last_us);
    (void)mr_cli_out(
        cli, "%-16s  %4" PRIu32 "  %12" PRIu64 "  %12" PRIu64 "  %12" PRIu64 "  %-24s  %s\n",
        drop->name, drop->lane, drop->seq_first, drop->seq_last,
        drop->seq_last - drop->seq_first + 1, when, mr_drop_reasons[drop->reason]);
}

void mr_audit_drops_show(const struct mr_audit *audit)
{
    bool json = mr_cli_flag(audit->cli, "json");

    if (audit->drop_count != 0 && !json) {
        (void)mr_cli_out(audit->cli,
                         "\nDropped because the journal was full; what a bridge had in hand then "
                         "may have arrived.\n%-16s  %4s  %12s  %12s  %12s  %-24s  %s\n",
                         "BRIDGE", "LANE", "FIRST", "LAST", "RECORDS", "LATEST", "REASON");
    }
    for (size_t i = 0; i < audit->drop_count; i++) {
        char line[512];
        struct mr_text text = mr_text_over(line, sizeof(line));
        if (json) {
            mr_ledger_put_drop(&text, &audit->drops[i]);
            (void)mr_cli_out(audit->cli, "%s\n", line);
        } else {
            show_one(audit->cli, &audit->drops[i]);
        }
    }
}
