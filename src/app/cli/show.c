/* show.c - see show.h. */
#include "app/cli/show.h"

#include <inttypes.h>

#include "base/text.h"
#include "codec/json.h"

/* Bytes of the printable character at `at`; 0: it must be escaped. */
static size_t printable_len(const uint8_t *at, size_t left)
{
    if (at[0] < 0x20 || at[0] == 0x7f) {
        return 0;
    }
    if (at[0] < 0x80) {
        return 1;
    }
    for (size_t len = 2; len <= 4 && len <= left; len++) {
        if (mr_utf8_valid(mr_span_make(at, len))) {
            bool control = len == 2 && at[0] == 0xc2 && at[1] < 0xa0; /* U+0080 to U+009F */
            return control ? 0 : len;
        }
    }
    return 0;
}

static bool is_printable(struct mr_span text)
{
    for (size_t i = 0; i < text.len;) {
        size_t len = printable_len(text.at + i, text.len - i);
        if (len == 0) {
            return false;
        }
        i += len;
    }
    return true;
}

static void escape_put(struct mr_cli *cli, uint8_t byte)
{
    switch (byte) {
    case '\n':
        (void)mr_cli_out(cli, "\\n");
        break;
    case '\r':
        (void)mr_cli_out(cli, "\\r");
        break;
    case '\t':
        (void)mr_cli_out(cli, "\\t");
        break;
    case '\\':
        (void)mr_cli_out(cli, "\\\\");
        break;
    default:
        (void)mr_cli_out(cli, "\\x%02x", byte);
        break;
    }
}

bool mr_show_text(struct mr_cli *cli, struct mr_span text)
{
    if (is_printable(text)) {
        return mr_cli_out_bytes(cli, text.at, text.len);
    }
    size_t from = 0; /* first byte not yet written */
    for (size_t i = 0; i < text.len;) {
        size_t len = printable_len(text.at + i, text.len - i);
        if (len > 0 && text.at[i] != '\\') {
            i += len;
            continue;
        }
        (void)mr_cli_out_bytes(cli, text.at + from, i - from);
        escape_put(cli, text.at[i]);
        i += 1;
        from = i;
    }
    return mr_cli_out_bytes(cli, text.at + from, text.len - from);
}

static const char *time_text(int64_t unix_us, char *buffer, size_t size)
{
    struct mr_text text = mr_text_over(buffer, size);

    mr_text_time_us(&text, unix_us);
    return buffer;
}

static const char *type_text(uint8_t type)
{
    switch (type) {
    case MR_RECORD_EVENT:
        return "event";
    case MR_RECORD_PUBREL:
        return "pubrel";
    case MR_RECORD_SESSION:
        return "session";
    case MR_RECORD_GAP:
        return "gap";
    case MR_RECORD_DEAD_LETTER:
        return "dead_letter";
    default:
        return "unknown";
    }
}

static bool has_payload(const struct mr_walk_event *event)
{
    return event->raw.type == MR_RECORD_EVENT || event->raw.type == MR_RECORD_DEAD_LETTER;
}

/* ---- lines ---- */

static bool show_line(struct mr_cli *cli, const struct mr_walk_event *event)
{
    const struct mr_record_raw *raw = &event->raw;
    char time[40];

    (void)mr_cli_out(cli, "%" PRIu32 "\t%" PRIu64 "\t%s\t", event->lane, event->seq,
                     time_text(raw->received_us, time, sizeof(time)));
    if (raw->type == MR_RECORD_GAP) {
        return mr_cli_out(cli, "gap up to %" PRIu64 "\n", event->seq_last);
    }
    if (!has_payload(event)) {
        return mr_cli_out(cli, "%s\n", type_text(raw->type));
    }
    (void)mr_show_text(cli, event->client);
    (void)mr_cli_out_bytes(cli, "\t", 1);
    (void)mr_show_text(cli, event->topic);
    (void)mr_cli_out(cli, "\tq%u%s%s\t", raw->qos, raw->retain ? "r" : "", raw->will ? "w" : "");
    (void)mr_show_text(cli, raw->payload);
    if (raw->type == MR_RECORD_DEAD_LETTER) {
        (void)mr_cli_out(cli, "\t%" PRIu32 ":%" PRIu64 " ", raw->dead_lane, raw->dead_seq);
        (void)mr_show_text(cli, raw->dead_bridge);
        (void)mr_cli_out_bytes(cli, ": ", 2);
        (void)mr_show_text(cli, raw->dead_reason);
    }
    return mr_cli_out_bytes(cli, "\n", 1);
}

static bool show_short(struct mr_cli *cli, const struct mr_walk_event *event)
{
    if (!has_payload(event)) {
        return true;
    }
    (void)mr_show_text(cli, event->topic);
    (void)mr_cli_out_bytes(cli, " ", 1);
    (void)mr_show_text(cli, event->raw.payload);
    return mr_cli_out_bytes(cli, "\n", 1);
}

/* ---- JSON ---- */

static void member_text(struct mr_cli *cli, const char *name, struct mr_span text)
{
    (void)mr_cli_out(cli, ",\"%s\":", name);
    (void)mr_cli_out_json(cli, text.at, text.len);
}

/* A valid JSON text with line ends in it would break "one line, one event"; they
 * can only be white space there, since strings have them escaped.
 */
static void put_json_in_line(struct mr_cli *cli, struct mr_span text)
{
    size_t from = 0;

    for (size_t i = 0; i < text.len; i++) {
        if (text.at[i] == '\n' || text.at[i] == '\r') {
            (void)mr_cli_out_bytes(cli, text.at + from, i - from);
            (void)mr_cli_out_bytes(cli, " ", 1);
            from = i + 1;
        }
    }
    (void)mr_cli_out_bytes(cli, text.at + from, text.len - from);
}

static void put_base64(struct mr_cli *cli, struct mr_span bytes)
{
    enum { PIECE = 3 * 1024 }; /* a multiple of 3: no padding between pieces */
    char encoded[MR_BASE64_SIZE(PIECE)];

    for (size_t at = 0; at < bytes.len; at += PIECE) {
        size_t len = bytes.len - at < PIECE ? bytes.len - at : PIECE;
        char *end = mr_base64_put(encoded, mr_span_make(bytes.at + at, len));
        (void)mr_cli_out_bytes(cli, encoded, (size_t)(end - encoded));
    }
}

/* The same three encodings as the envelope of bridges. */
static void member_payload(struct mr_cli *cli, struct mr_span payload)
{
    if (payload.len > 0 && mr_json_valid(payload)) {
        (void)mr_cli_out(cli, ",\"payload\":");
        put_json_in_line(cli, payload);
        (void)mr_cli_out(cli, ",\"encoding\":\"json\"");
    } else if (mr_utf8_valid(payload)) {
        member_text(cli, "payload", payload);
        (void)mr_cli_out(cli, ",\"encoding\":\"text\"");
    } else {
        (void)mr_cli_out(cli, ",\"payload\":\"");
        put_base64(cli, payload);
        (void)mr_cli_out(cli, "\",\"encoding\":\"base64\"");
    }
}

static bool show_json(struct mr_cli *cli, const struct mr_walk_event *event)
{
    const struct mr_record_raw *raw = &event->raw;
    char time[40];

    (void)mr_cli_out(cli, "{\"lane\":%" PRIu32 ",\"seq\":%" PRIu64 ",\"time\":\"%s\"", event->lane,
                     event->seq, time_text(raw->received_us, time, sizeof(time)));
    if (raw->type != MR_RECORD_EVENT) {
        (void)mr_cli_out(cli, ",\"type\":\"%s\"", type_text(raw->type));
    }
    if (raw->type == MR_RECORD_GAP) {
        return mr_cli_out(cli, ",\"seq_last\":%" PRIu64 "}\n", event->seq_last);
    }
    if (!has_payload(event)) {
        return mr_cli_out(cli, "}\n");
    }
    (void)mr_cli_out(cli, ",\"received\":%" PRId64, raw->received_us / 1000);
    member_text(cli, "client", event->client);
    if (event->username.len > 0) {
        member_text(cli, "username", event->username);
    }
    member_text(cli, "topic", event->topic);
    (void)mr_cli_out(cli, ",\"qos\":%u,\"retain\":%s", raw->qos, raw->retain ? "true" : "false");
    if (raw->will) {
        (void)mr_cli_out(cli, ",\"will\":true");
    }
    member_payload(cli, raw->payload);
    if (raw->type == MR_RECORD_DEAD_LETTER) {
        member_text(cli, "bridge", raw->dead_bridge);
        member_text(cli, "reason", raw->dead_reason);
        (void)mr_cli_out(cli, ",\"from_lane\":%" PRIu32 ",\"from_seq\":%" PRIu64, raw->dead_lane,
                         raw->dead_seq);
    }
    return mr_cli_out(cli, "}\n");
}

bool mr_show_event(struct mr_cli *cli, enum mr_show how, const struct mr_walk_event *event)
{
    switch (how) {
    case MR_SHOW_JSON:
        return show_json(cli, event);
    case MR_SHOW_RAW:
        if (!has_payload(event)) {
            return true;
        }
        (void)mr_cli_out_bytes(cli, event->raw.payload.at, event->raw.payload.len);
        return mr_cli_out_bytes(cli, "\n", 1);
    case MR_SHOW_SHORT:
        return show_short(cli, event);
    case MR_SHOW_LINE:
    default:
        return show_line(cli, event);
    }
}

void mr_show_damage(struct mr_cli *cli, uint32_t lane, const struct mr_walk_damage *damage)
{
    char range[64];
    struct mr_text text = mr_text_over(range, sizeof(range));

    if (damage->seq_last < damage->seq_first) {
        mr_text_fmt(&text, "seqs from %" PRIu64 " on", damage->seq_first);
    } else {
        mr_text_fmt(&text, "seqs %" PRIu64 " to %" PRIu64, damage->seq_first, damage->seq_last);
    }
    switch (damage->loss) {
    case MR_WALK_RETIRED:
        mr_cli_note(cli, "lane %" PRIu32 ": %s were removed by the gateway before they were read",
                    lane, range);
        break;
    case MR_WALK_REWOUND:
        mr_cli_note(cli,
                    "lane %" PRIu32 ": %s are given out once more: what had them before was lost "
                    "in a crash, unacknowledged",
                    lane, range);
        break;
    case MR_WALK_LOST:
    default:
        (void)mr_cli_fail(cli, MR_EXIT_FAILED,
                          "lane %" PRIu32 ": %s, position %" PRIu64 ": %s; %s are lost", lane,
                          damage->path, damage->pos, damage->what, range);
        break;
    }
}
