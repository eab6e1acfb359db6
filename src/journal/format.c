/* format.c - see format.h; docs/JOURNAL.md has the same in words.
 *
 * DESIGN
 *
 * One function per direction and structure, with the offsets written out once
 * as enums.  Checksums are part of putting and getting, so no caller can forget
 * one.  Records are encoded from a size that is computed first: the length
 * prefix is a varint, and moving the body afterwards would cost a second copy.
 *
 * Rejected: packed C structs over the bytes.  They would save the offsets here
 * and hide in every reader that the bytes come from a disk.
 */
#include "journal/format.h"

#include "base/hash.h"

/* Records are coded some millions of times a second; gcc leaves these apart, which
 * costs 2 to 4 ns an event each way (measured).
 */
#define ALWAYS_INLINE inline __attribute__((always_inline))

static const uint8_t segment_magic[8] = {'M', 'R', 'S', 'E', 'G', 'M', 'N', 'T'};

enum {
    SEGMENT_VERSION_AT = 8,
    SEGMENT_LANE_AT = 10,
    SEGMENT_EPOCH_AT = 12,
    SEGMENT_ID_AT = 16,
    SEGMENT_SEQ_AT = 32,
    SEGMENT_CREATED_AT = 40,
    SEGMENT_SALT_AT = 48,
    SEGMENT_BYTES_AT = 52,
    SEGMENT_ZERO_AT = 56,
    SEGMENT_CRC_AT = 60,

    BATCH_CRC_AT = 4,
    BATCH_LENGTH_AT = 8, /* the checksum covers everything from here on */
    BATCH_COUNT_AT = 12,
    BATCH_SEQ_AT = 16,
    BATCH_DURABLE_AT = 24,
    BATCH_TIME_AT = 32,
    BATCH_SALT_AT = 40,
    BATCH_EPOCH_AT = 44,

    RECORD_BYTES_MIN = 4, /* length, type, flags, time */

    FLAG_QOS = 0x03,
    FLAG_RETAIN = 0x04,
    FLAG_PROPERTIES = 0x08,
    FLAG_NAMING_SHIFT = 4,
    FLAG_PACKET_ID = 0x40,
    FLAG_WILL = 0x80,
};

void mr_journal_id_text(const struct mr_journal_id *id, char out[37])
{
    static const char digits[] = "0123456789abcdef";
    size_t at = 0;

    for (size_t i = 0; i < sizeof(id->bytes); i++) {
        if (i == 4 || i == 6 || i == 8 || i == 10) {
            out[at++] = '-';
        }
        out[at++] = digits[id->bytes[i] >> 4];
        out[at++] = digits[id->bytes[i] & 15];
    }
    out[at] = '\0';
}

/* ---- segment header ---- */

void mr_segment_header_put(const struct mr_segment_header *header, uint8_t out[64])
{
    memcpy(out, segment_magic, sizeof(segment_magic));
    mr_put_u16(out + SEGMENT_VERSION_AT, MR_FORMAT_VERSION);
    mr_put_u16(out + SEGMENT_LANE_AT, header->lane);
    mr_put_u32(out + SEGMENT_EPOCH_AT, header->epoch);
    memcpy(out + SEGMENT_ID_AT, header->journal_id.bytes, sizeof(header->journal_id.bytes));
    mr_put_u64(out + SEGMENT_SEQ_AT, header->seq_first);
    mr_put_u64(out + SEGMENT_CREATED_AT, (uint64_t)header->created_us);
    mr_put_u32(out + SEGMENT_SALT_AT, header->salt);
    mr_put_u32(out + SEGMENT_BYTES_AT, header->segment_bytes);
    mr_put_u32(out + SEGMENT_ZERO_AT, 0);
    mr_put_u32(out + SEGMENT_CRC_AT, mr_crc32c(0, out, SEGMENT_CRC_AT));
}

enum mr_err mr_segment_header_get(const uint8_t in[64], struct mr_segment_header *out)
{
    if (memcmp(in, segment_magic, sizeof(segment_magic)) != 0 ||
        mr_get_u32(in + SEGMENT_CRC_AT) != mr_crc32c(0, in, SEGMENT_CRC_AT)) {
        return MR_ERR_CORRUPT;
    }
    if (mr_get_u16(in + SEGMENT_VERSION_AT) > MR_FORMAT_VERSION) {
        return MR_ERR_CONFIG;
    }
    out->lane = mr_get_u16(in + SEGMENT_LANE_AT);
    out->epoch = mr_get_u32(in + SEGMENT_EPOCH_AT);
    memcpy(out->journal_id.bytes, in + SEGMENT_ID_AT, sizeof(out->journal_id.bytes));
    out->seq_first = mr_get_u64(in + SEGMENT_SEQ_AT);
    out->created_us = (int64_t)mr_get_u64(in + SEGMENT_CREATED_AT);
    out->salt = mr_get_u32(in + SEGMENT_SALT_AT);
    out->segment_bytes = mr_get_u32(in + SEGMENT_BYTES_AT);
    return MR_OK;
}

/* ---- batch ---- */

void mr_batch_header_put(const struct mr_batch_header *header, uint8_t *batch)
{
    mr_put_u32(batch, MR_BATCH_MAGIC);
    mr_put_u32(batch + BATCH_LENGTH_AT, header->byte_length);
    mr_put_u32(batch + BATCH_COUNT_AT, header->record_count);
    mr_put_u64(batch + BATCH_SEQ_AT, header->seq_first);
    mr_put_u64(batch + BATCH_DURABLE_AT, header->durable_seq);
    mr_put_u64(batch + BATCH_TIME_AT, (uint64_t)header->time_base_us);
    mr_put_u32(batch + BATCH_SALT_AT, header->salt);
    mr_put_u32(batch + BATCH_EPOCH_AT, header->epoch);
    mr_put_u32(batch + BATCH_CRC_AT,
               mr_crc32c(0, batch + BATCH_LENGTH_AT, header->byte_length - BATCH_LENGTH_AT));
}

void mr_batch_header_read(const uint8_t *batch, struct mr_batch_header *out)
{
    out->crc = mr_get_u32(batch + BATCH_CRC_AT);
    out->byte_length = mr_get_u32(batch + BATCH_LENGTH_AT);
    out->record_count = mr_get_u32(batch + BATCH_COUNT_AT);
    out->seq_first = mr_get_u64(batch + BATCH_SEQ_AT);
    out->durable_seq = mr_get_u64(batch + BATCH_DURABLE_AT);
    out->time_base_us = (int64_t)mr_get_u64(batch + BATCH_TIME_AT);
    out->salt = mr_get_u32(batch + BATCH_SALT_AT);
    out->epoch = mr_get_u32(batch + BATCH_EPOCH_AT);
}

/* Rule 3 without the end of the segment.  A gap is one record that stands for
 * `count` seqs, so only its own bytes can be asked for.
 */
static bool batch_length_plausible(const struct mr_batch_header *header, struct mr_span bytes)
{
    uint64_t records = header->record_count;

    if (records == 0) {
        return false;
    }
    if (bytes.len >= MR_BATCH_HEADER_BYTES + 2 &&
        bytes.at[MR_BATCH_HEADER_BYTES + 1] == MR_RECORD_GAP) {
        records = 1;
    }
    return header->byte_length >= MR_BATCH_HEADER_BYTES + RECORD_BYTES_MIN * records;
}

enum mr_err mr_batch_check(struct mr_span bytes, uint64_t pos,
                           const struct mr_segment_header *segment, uint64_t seq_expected,
                           struct mr_batch_header *out)
{
    if (pos % MR_BATCH_ALIGN != 0 || pos < MR_SEGMENT_HEADER_BYTES ||
        pos > segment->segment_bytes || segment->segment_bytes - pos < MR_BATCH_HEADER_BYTES) {
        return MR_ERR_CORRUPT;
    }
    if (bytes.len < MR_BATCH_HEADER_BYTES) {
        out->byte_length = MR_BATCH_HEADER_BYTES;
        return MR_ERR_AGAIN;
    }
    mr_batch_header_read(bytes.at, out);
    if (mr_get_u32(bytes.at) != MR_BATCH_MAGIC || out->salt != segment->salt ||
        out->epoch != segment->epoch) {
        return MR_ERR_CORRUPT;
    }
    if (out->byte_length < MR_BATCH_HEADER_BYTES + RECORD_BYTES_MIN ||
        out->byte_length > segment->segment_bytes - pos) {
        return MR_ERR_CORRUPT;
    }
    if (seq_expected != 0 && out->seq_first != seq_expected) {
        return MR_ERR_CORRUPT;
    }
    if (bytes.len < out->byte_length) {
        return MR_ERR_AGAIN;
    }
    if (!batch_length_plausible(out, bytes) ||
        mr_crc32c(0, bytes.at + BATCH_LENGTH_AT, out->byte_length - BATCH_LENGTH_AT) != out->crc) {
        return MR_ERR_CORRUPT;
    }
    return MR_OK;
}

/* ---- records ---- */

static inline size_t lengthed_size(struct mr_span span)
{
    return mr_varint_size(span.len) + span.len;
}

static inline bool record_is_event(uint8_t type)
{
    return type == MR_RECORD_EVENT || type == MR_RECORD_DEAD_LETTER;
}

static ALWAYS_INLINE size_t event_size(const struct mr_record_raw *record)
{
    size_t size = record->payload.len;

    if (record->naming != MR_NAMING_INLINE) {
        size += mr_varint_size(record->name_id);
    }
    if (record->naming != MR_NAMING_REFERENCE) {
        size += lengthed_size(record->client) + lengthed_size(record->username) +
                lengthed_size(record->topic);
    }
    if (record->qos == 2) {
        size += sizeof(uint16_t);
    }
    if (record->properties.len != 0) {
        size += lengthed_size(record->properties);
    }
    return size;
}

/* What follows the length prefix. */
static ALWAYS_INLINE size_t record_content_size(const struct mr_record_raw *record,
                                                int64_t time_base_us)
{
    uint64_t delta = mr_zigzag((int64_t)((uint64_t)record->received_us - (uint64_t)time_base_us));
    size_t size = 2 + mr_varint_size(delta);

    if (MR_LIKELY(record->type == MR_RECORD_EVENT)) {
        return size + event_size(record);
    }
    if (record->type == MR_RECORD_DEAD_LETTER) {
        return size + mr_varint_size(record->dead_lane) + mr_varint_size(record->dead_seq) +
               mr_varint_size(record->dead_epoch) + lengthed_size(record->dead_bridge) +
               lengthed_size(record->dead_reason) + event_size(record);
    }
    return size + record->body.len;
}

size_t mr_record_size(const struct mr_record_raw *record, int64_t time_base_us)
{
    size_t size = record_content_size(record, time_base_us);

    return mr_varint_size(size) + size;
}

static inline uint8_t *put_raw(uint8_t *out, struct mr_span span)
{
    if (span.len != 0) {
        memcpy(out, span.at, span.len);
    }
    return out + span.len;
}

static inline uint8_t *put_lengthed(uint8_t *out, struct mr_span span)
{
    return put_raw(mr_put_varint(out, span.len), span);
}

static inline uint8_t event_flags(const struct mr_record_raw *record)
{
    return (uint8_t)((record->qos & FLAG_QOS) | (record->retain ? FLAG_RETAIN : 0) |
                     (record->properties.len != 0 ? FLAG_PROPERTIES : 0) |
                     record->naming << FLAG_NAMING_SHIFT | (record->qos == 2 ? FLAG_PACKET_ID : 0) |
                     (record->will ? FLAG_WILL : 0));
}

static ALWAYS_INLINE uint8_t *event_put(uint8_t *out, const struct mr_record_raw *record,
                                        const uint8_t **payload_at)
{
    if (record->naming != MR_NAMING_INLINE) {
        out = mr_put_varint(out, record->name_id);
    }
    if (record->naming != MR_NAMING_REFERENCE) {
        out = put_lengthed(out, record->client);
        out = put_lengthed(out, record->username);
        out = put_lengthed(out, record->topic);
    }
    if (record->qos == 2) {
        mr_put_u16(out, record->packet_id);
        out += sizeof(uint16_t);
    }
    if (record->properties.len != 0) {
        out = put_lengthed(out, record->properties);
    }
    if (payload_at != NULL) {
        *payload_at = out;
    }
    return put_raw(out, record->payload);
}

uint8_t *mr_record_put(uint8_t *out, const struct mr_record_raw *record, int64_t time_base_us,
                       const uint8_t **payload_at)
{
    uint64_t delta = mr_zigzag((int64_t)((uint64_t)record->received_us - (uint64_t)time_base_us));

    out = mr_put_varint(out, record_content_size(record, time_base_us));
    *out++ = record->type;
    *out++ = record_is_event(record->type) ? event_flags(record) : 0;
    out = mr_put_varint(out, delta);
    if (MR_LIKELY(record->type == MR_RECORD_EVENT)) {
        return event_put(out, record, payload_at);
    }
    if (record->type == MR_RECORD_DEAD_LETTER) {
        out = mr_put_varint(out, record->dead_lane);
        out = mr_put_varint(out, record->dead_seq);
        out = mr_put_varint(out, record->dead_epoch);
        out = put_lengthed(out, record->dead_bridge);
        out = put_lengthed(out, record->dead_reason);
        return event_put(out, record, payload_at);
    }
    if (payload_at != NULL) {
        *payload_at = out;
    }
    return put_raw(out, record->body);
}

uint8_t *mr_record_put_again(uint8_t *out, uint32_t name_id, uint8_t qos, int64_t delta_us,
                             struct mr_span payload)
{
    uint64_t delta = mr_zigzag(delta_us);
    size_t size = 2 + mr_varint_size(delta) + mr_varint_size(name_id) + payload.len;

    out = mr_put_varint(out, size);
    *out++ = MR_RECORD_EVENT;
    *out++ = qos; /* all other flags are 0, MR_NAMING_REFERENCE too */
    out = mr_put_varint(out, delta);
    out = mr_put_varint(out, name_id);
    return put_raw(out, payload);
}

static inline struct mr_span take_lengthed(struct mr_take *take)
{
    return mr_take_bytes(take, mr_take_varint(take));
}

static ALWAYS_INLINE void event_get(struct mr_take *take, uint8_t flags, struct mr_record_raw *out)
{
    const struct mr_span none = {.at = NULL, .len = 0};

    out->qos = flags & FLAG_QOS;
    out->retain = (flags & FLAG_RETAIN) != 0;
    out->will = (flags & FLAG_WILL) != 0;
    out->naming = flags >> FLAG_NAMING_SHIFT & 3;
    out->name_id = 0;
    if (out->naming != MR_NAMING_INLINE) {
        uint64_t id = mr_take_varint(take);
        take->failed |= id >= MR_NAMES_MAX;
        out->name_id = (uint32_t)id;
    }
    if (out->naming == MR_NAMING_REFERENCE) {
        out->client = none;
        out->username = none;
        out->topic = none;
    } else {
        out->client = take_lengthed(take);
        out->username = take_lengthed(take);
        out->topic = take_lengthed(take);
    }
    out->packet_id = 0;
    if ((flags & FLAG_PACKET_ID) != 0) {
        struct mr_span id = mr_take_bytes(take, sizeof(uint16_t));
        out->packet_id = id.len == sizeof(uint16_t) ? mr_get_u16(id.at) : 0;
    }
    out->properties = (flags & FLAG_PROPERTIES) != 0 ? take_lengthed(take) : none;
    out->payload = mr_take_bytes(take, mr_take_left(take));
    out->body = none;
    take->failed |= out->naming > MR_NAMING_INLINE;
}

static void record_get_other(struct mr_take *take, uint8_t flags, struct mr_record_raw *out)
{
    if (out->type == MR_RECORD_DEAD_LETTER) {
        uint64_t lane = mr_take_varint(take);
        uint64_t seq = mr_take_varint(take);
        uint64_t epoch = mr_take_varint(take);

        take->failed |= lane > UINT32_MAX || epoch > UINT32_MAX;
        out->dead_lane = (uint32_t)lane;
        out->dead_seq = seq;
        out->dead_epoch = (uint32_t)epoch;
        out->dead_bridge = take_lengthed(take);
        out->dead_reason = take_lengthed(take);
        event_get(take, flags, out);
        return;
    }
    int64_t received_us = out->received_us;
    uint8_t type = out->type;
    *out = (struct mr_record_raw){.received_us = received_us, .type = type};
    out->body = mr_take_bytes(take, mr_take_left(take));
}

enum mr_err mr_record_get(struct mr_take *take, int64_t time_base_us, struct mr_record_raw *out)
{
    struct mr_span content = take_lengthed(take);
    struct mr_take inner = mr_take_from(content);
    uint8_t flags;

    out->type = mr_take_u8(&inner);
    flags = mr_take_u8(&inner);
    out->received_us =
        (int64_t)((uint64_t)time_base_us + (uint64_t)mr_unzigzag(mr_take_varint(&inner)));
    if (MR_LIKELY(out->type == MR_RECORD_EVENT)) {
        event_get(&inner, flags, out);
    } else {
        record_get_other(&inner, flags, out);
    }
    return MR_UNLIKELY(take->failed || inner.failed) ? MR_ERR_CORRUPT : MR_OK;
}
