/* audit_accept.c - `millrace audit BRIDGE --accept --reason TEXT`: the books do not balance, the
 * operator has looked, and that is that.
 *
 * What they were off by is written beside the books (journal/ranges.h), with the reason: it is
 * shown for ever, and they balance from then on.  With --kafka the word is about what Kafka has:
 * repetitions up to the cursor are accepted, because the bridge has delivered at least once.
 */
#include "app/audit.h"
#include "app/cli/ask.h"
#include "app/cli/walk.h"

#include <inttypes.h>

static bool is_of_kafka(const struct mr_audit *audit)
{
    return mr_cli_flag(audit->cli, "kafka");
}

static int accept_running(const struct mr_audit *audit, const struct mr_ledger_row *row,
                          const char *reason)
{
    char target[4 * (MR_CURSOR_NAME_MAX + MR_RANGE_REASON_MAX) + 128];
    struct mr_text text = mr_text_over(target, sizeof(target));
    struct mr_answer answer;

    mr_text_add(&text, "ledger/accept?name=");
    mr_ask_escape(&text, mr_span_of(row->name));
    mr_text_fmt(&text, "&lane=%" PRIu32 "&reason=", row->lane);
    mr_ask_escape(&text, mr_span_of(reason));
    mr_text_add(&text, is_of_kafka(audit) ? "&repetitions=true" : "");
    int code = mr_ask(audit->cli, "POST", target, &answer);
    if (code == MR_EXIT_OK) {
        mr_answer_free(&answer);
    }
    return code;
}

static int accept_stopped(const struct mr_audit *audit, const struct mr_ledger_row *row,
                          const char *reason)
{
    const struct mr_journal_options options = {
        .path = audit->path, .name = "journal", .cursors_only = true};
    struct mr_journal *journal = NULL;
    struct mr_cursor *cursor = NULL;
    struct mr_error why = {.text = ""};
    int64_t difference = 0;
    uint64_t seq = 0;
    bool is_new = false;
    enum mr_err err = mr_journal_open(&journal, &options, NULL, &why);

    if (err != MR_OK) {
        return mr_cli_fail(audit->cli, err == MR_ERR_AGAIN ? MR_EXIT_TRY_AGAIN : MR_EXIT_IO, "%s",
                           why.text);
    }
    err = mr_cursor_open(journal, row->name, row->lane, MR_START_OLDEST, &cursor, &is_new, &why);
    if (err == MR_OK) {
        err = is_of_kafka(audit) ? mr_cursor_accept_repeated(cursor, reason, &seq)
                                 : mr_cursor_accept(cursor, reason, &difference);
    }
    const char *full = err == MR_ERR_FULL ? mr_ledger_full(journal) : NULL;
    enum mr_err closed = mr_journal_close(journal);
    if (full != NULL) {
        return mr_cli_fail(audit->cli, MR_EXIT_DATA, "%s", full);
    }
    return err == MR_OK && closed == MR_OK
               ? MR_EXIT_OK
               : mr_cli_fail(audit->cli, MR_EXIT_IO, "it cannot be written: %s; check the disk",
                             why.text[0] == '\0' ? "an error of the disk" : why.text);
}

static int accept_one(const struct mr_audit *audit, const struct mr_ledger_row *row,
                      const char *reason)
{
    int code = audit->path[0] == '\0' ? accept_running(audit, row, reason)
                                      : accept_stopped(audit, row, reason);

    if (code == MR_EXIT_OK && is_of_kafka(audit)) {
        mr_cli_note(audit->cli, "%s, lane %" PRIu32 ": repetitions up to here, accepted", row->name,
                    row->lane);
    } else if (code == MR_EXIT_OK) {
        mr_cli_note(audit->cli, "%s, lane %" PRIu32 ": off by %" PRId64 ", accepted", row->name,
                    row->lane, mr_ledger_difference(row));
    }
    return code;
}

int mr_audit_accept(struct mr_audit *audit)
{
    const char *reason = mr_cli_text(audit->cli, "reason");
    uint64_t lane = 0;
    size_t accepted = 0;
    size_t looked_at = 0;
    int code = MR_EXIT_OK;

    if (audit->bridge == NULL || reason == NULL || reason[0] == '\0') {
        return mr_cli_fail(audit->cli, MR_EXIT_USAGE,
                           "--accept needs the bridge and why: millrace audit BRIDGE [LANE] "
                           "--accept --reason \"...\"");
    }
    bool one = mr_cli_argument_count(audit->cli) > 1;
    if (one &&
        mr_parse_u64(mr_span_of(mr_cli_argument(audit->cli, 1)), UINT32_MAX, &lane) != MR_OK) {
        return mr_cli_fail(audit->cli, MR_EXIT_USAGE, "'%s' is not the number of a lane",
                           mr_cli_argument(audit->cli, 1));
    }
    for (size_t i = 0; i < audit->count && code == MR_EXIT_OK; i++) {
        const struct mr_ledger_row *row = &audit->rows[i];
        bool meant = !one || row->lane == lane;
        looked_at += meant;
        if (meant && (mr_ledger_difference(row) != 0 || is_of_kafka(audit))) {
            code = accept_one(audit, row, reason);
            accepted += code == MR_EXIT_OK;
        }
    }
    if (code == MR_EXIT_OK && looked_at == 0) {
        return mr_cli_fail(audit->cli, MR_EXIT_NO_INPUT,
                           "the bridge '%s' has no lane %" PRIu64 " in this journal", audit->bridge,
                           lane);
    }
    if (code == MR_EXIT_OK && accepted == 0) {
        mr_cli_note(audit->cli, "the books balance; there is nothing to accept");
    }
    return code;
}
