/* fill.c - turn a stretch of a view into one span of records.
 *
 * DESIGN
 *
 * One pass over the events: route by the name's number, take a record from the
 * ring, point it at the payload where it lies in the journal's memory.  Raw values
 * are never copied.  JSON values and headers are written into the span's bytes.
 *
 * When a ring is full in the middle of a view, the span ends before the event that
 * did not fit and the view stays open; the next span begins there.
 *
 * An event that cannot be sent for what it is goes to the dead letters right here
 * and counts as settled when the letter is durable (flight_retire).
 */
#include "pipeline/bridge_internal.h"

#include "codec/envelope.h"

#include <inttypes.h>
#include <stdio.h>

enum put_result {
    PUT_DONE,
    PUT_NO_ROOM,  /* end the span before this event */
    PUT_REJECTED, /* `reason` is filled */
};

static const char header_name[] = "millrace_id";

/* Header `millrace_id`: <journal id>-<lane>-<seq>. */
static bool put_header(struct mr_bridge *b, struct mr_record *record)
{
    size_t prefix_len = strlen(b->id_prefix);
    uint8_t *at = mr_bytes_take(&b->bytes, sizeof(struct mr_header) + prefix_len + 20);

    if (at == NULL) {
        return false;
    }
    struct mr_header *header = (void *)at;
    uint8_t *text = at + sizeof(*header);
    memcpy(text, b->id_prefix, prefix_len);

    char digits[20];
    size_t count = 0;
    for (uint64_t n = record->seq; n != 0; n /= 10) {
        digits[count++] = (char)('0' + n % 10);
    }
    for (size_t i = 0; i < count; i++) {
        text[prefix_len + i] = (uint8_t)digits[count - 1 - i];
    }
    *header = (struct mr_header){.name = mr_span_make(header_name, sizeof(header_name) - 1),
                                 .value = mr_span_make(text, prefix_len + count)};
    mr_bytes_shorten(&b->bytes, text + prefix_len + count);
    record->headers = header;
    record->header_count = 1;
    return true;
}

static enum put_result put_json(struct mr_bridge *b, const struct mr_event *event,
                                struct mr_record *record, char *reason, size_t reason_size)
{
    struct mr_envelope envelope = {
        .ts_ms = record->time_ms,
        .received_ms = record->time_ms,
        .client = event->client,
        .topic = event->topic,
        .payload = event->payload,
        .props_raw = event->properties,
        .qos = event->qos,
        .retain = event->retain,
    };

    mr_envelope_classify(&envelope);
    size_t size = mr_envelope_size_max(&envelope);
    if (size > b->bytes.size / 2) {
        snprintf(reason, reason_size,
                 "the JSON value may need %zu bytes, more than the %zu there is room for", size,
                 b->bytes.size / 2);
        return PUT_REJECTED;
    }
    uint8_t *at = mr_bytes_take(&b->bytes, size);
    if (at == NULL) {
        return PUT_NO_ROOM;
    }
    ptrdiff_t len = mr_envelope_write(&envelope, (char *)at, size);
    if (len < 0) {
        mr_bytes_shorten(&b->bytes, at);
        snprintf(reason, reason_size,
                 len == MR_ERR_REJECT ? "more than %d user properties cannot be shown as JSON"
                                      : "the MQTT properties do not parse (limit %d)",
                 MR_ENVELOPE_USER_PROPS_MAX);
        return PUT_REJECTED;
    }
    mr_bytes_shorten(&b->bytes, at + len);
    record->value = mr_span_make(at, (size_t)len);
    return PUT_DONE;
}

static enum put_result put_record(struct mr_bridge *b, const struct mr_event *event,
                                  struct route *route, struct mr_record *record, char *reason,
                                  size_t reason_size)
{
    *record = (struct mr_record){
        .seq = event->seq,
        .time_ms = event->received_us / 1000,
        .route = &route->pub,
        .value = event->payload,
        .payload = event->payload,
        .qos = event->qos,
        .retain = event->retain,
    };
    if (b->shape.value_encoder == MR_VALUE_JSON) {
        enum put_result result = put_json(b, event, record, reason, reason_size);
        if (result != PUT_DONE) {
            return result;
        }
    }
    if (b->shape.value_bytes_max != 0 && record->value.len > b->shape.value_bytes_max) {
        snprintf(reason, reason_size, "the value has %zu bytes, more than the %u allowed",
                 record->value.len, b->shape.value_bytes_max);
        return PUT_REJECTED;
    }
    if (b->shape.headers == MR_HEADERS_ID && !put_header(b, record)) {
        return PUT_NO_ROOM;
    }
    return PUT_DONE;
}

/* One event into the span.  OK; FULL: end the span before it; IO: stop. */
static enum mr_err fill_event(struct mr_bridge *b, struct flight *flight,
                              const struct mr_event *event)
{
    struct route *route = mr_route_of(b, &b->view, event);
    char text[REASON_MAX];
    const char *reason = text;

    if (MR_UNLIKELY(route == NULL)) {
        return MR_ERR_FULL;
    }
    if (MR_LIKELY(route->kind == ROUTE_SEND)) {
        struct mr_record *record = &b->records[b->records_head % b->records_size];
        enum put_result result = put_record(b, event, route, record, text, sizeof(text));
        if (MR_LIKELY(result == PUT_DONE)) {
            b->records_head += 1;
            flight->batch.record_count += 1;
            flight->value_bytes += record->value.len;
            return MR_OK;
        }
        if (result == PUT_NO_ROOM) {
            return MR_ERR_FULL;
        }
    } else if (route->kind == ROUTE_SKIP) {
        flight->skipped += 1;
        return MR_OK;
    } else {
        reason = route->reason;
    }

    enum mr_err err = mr_dead_letter(b, event, reason, &flight->dead_seq);
    if (err == MR_OK) {
        flight->dead += 1;
    }
    return err;
}

/* The view had nothing more.  The span before this one may have ended with its last
 * event without knowing it, and still borrow from it: then it is that span's to
 * unpin.
 */
static void fill_leave_view(struct mr_bridge *b)
{
    if (b->flight_head != b->flight_tail) {
        struct flight *newest = mr_flight_at(b, b->flight_head - 1);
        if (!newest->ends_view && newest->view.pin == b->view.pin) {
            newest->ends_view = true;
            return;
        }
    }
    mr_view_unpin(&b->view);
}

/* Make one span of at most `records_max` records from the open view. */
enum fill_result mr_fill_span(struct mr_bridge *b, uint32_t records_max, int64_t now_ns)
{
    size_t room = mr_flight_records_room(b);
    struct flight *flight = room == 0 ? NULL : mr_flight_open(b);
    uint64_t seq_last = b->seq_done;
    struct mr_event event;
    enum mr_err err = MR_OK;

    if (flight == NULL) {
        return FILL_FULL;
    }
    if (room < records_max) {
        records_max = (uint32_t)room;
    }
    while (flight->batch.record_count < records_max) {
        struct mr_view_at before = b->view_at;
        if (!mr_view_event(&b->view, &b->view_at, &event)) {
            flight->ends_view = true;
            break;
        }
        if (event.type == MR_RECORD_EVENT) {
            uint64_t bytes_head = b->bytes.head;
            err = fill_event(b, flight, &event);
            if (MR_UNLIKELY(err != MR_OK)) {
                b->bytes.head = bytes_head;
                b->view_at = before;
                break;
            }
        }
        seq_last = event.seq;
    }
    if (err == MR_ERR_IO) {
        return FILL_BROKEN;
    }
    if (err == MR_ERR_FULL && b->dead.said_full) {
        b->blocked_until_ns = now_ns + NS_PER_S;
    }
    if (flight->ends_view) {
        seq_last = b->view.seq_last;
        b->view_open = false;
    }
    if (seq_last == b->seq_done) {
        if (flight->ends_view) {
            fill_leave_view(b);
            return FILL_EMPTY;
        }
        return FILL_FULL;
    }
    mr_flight_close(b, flight, seq_last);
    return FILL_READY;
}
