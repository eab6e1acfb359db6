/* envelope.h - one event as a JSON document: what `value_encoder: json` produces.
 *
 *     {"ts":1763920561123,"received":1763920561125,"client":"press-4","topic":"plant/press/temp",
 *      "qos":1,"retain":false,"payload":{"t":21.5},"encoding":"json",
 *      "props":{"content_type":"application/json","user_properties":{"unit":"C"}}}
 *
 * The names and their order are frozen; readers may rely on all nine being
 * there.  (The example is broken into lines; the document is one.)
 *
 * payload, encoding: the bytes as they are if they are JSON ("json"); else a
 * JSON string if they are UTF-8 without U+0000 ("text"); else base64 ("base64").
 * U+0000 goes as base64 because many readers, databases above all, refuse \u0000.
 * An empty payload is the text "".
 *
 * props: content_type, response_topic, correlation_data (base64 always),
 * payload_format_indicator, message_expiry_interval (seconds, as received), and
 * user_properties, each only if the publisher sent it.  User properties have an
 * object of their own, so that none of them can pass for one of the others.  Its
 * values are strings in the order of first appearance; a name that comes more
 * than once has an array of strings, in the sender's order.  What belongs to the
 * connection only (topic alias, subscription identifiers) is left out.
 *
 *     mr_envelope_classify(&e) -> mr_envelope_size_max(&e) -> mr_envelope_write(&e, ...)
 *
 * Thread: pure functions, no state.   Memory: the caller's buffer.   Time: none.
 */
#ifndef MR_CODEC_ENVELOPE_H
#define MR_CODEC_ENVELOPE_H

#include "base/span.h"

/* More user properties than this in one event are refused: finding repeated
 * names costs their square.
 */
enum { MR_ENVELOPE_USER_PROPS_MAX = 256 };

enum mr_envelope_encoding {
    MR_ENVELOPE_JSON,
    MR_ENVELOPE_TEXT,
    MR_ENVELOPE_BASE64,
};

/* All spans are borrowed for the length of the calls. */
struct mr_envelope {
    int64_t ts_ms;            /* event time, Unix milliseconds */
    int64_t received_ms;      /* when the gateway received it */
    struct mr_span client;    /* UTF-8 */
    struct mr_span topic;     /* UTF-8 */
    struct mr_span payload;   /* any bytes */
    struct mr_span props_raw; /* MQTT 5.0 property section of the PUBLISH, without its length */
    uint8_t qos;
    bool retain;
    uint8_t encoding; /* enum mr_envelope_encoding, set by classify */
};

/* Decide how the payload will be written.  Must come before the other two. */
void mr_envelope_classify(struct mr_envelope *envelope);

/* Bytes that surely suffice: exact for the payload, generous for the rest. */
size_t mr_envelope_size_max(const struct mr_envelope *envelope);

/* Write the document; returns its bytes.
 * MR_ERR_FULL     out_size is below mr_envelope_size_max(); nothing was written.
 * MR_ERR_CORRUPT  props_raw is not what a PUBLISH decoder accepts.
 * MR_ERR_REJECT   more than MR_ENVELOPE_USER_PROPS_MAX user properties.
 */
ptrdiff_t mr_envelope_write(const struct mr_envelope *envelope, char *out,
                            size_t out_size) MR_MUST_USE;

#endif
