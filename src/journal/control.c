/* control.c - see control.h; docs/JOURNAL.md has the same in words. */
#include "journal/control.h"

#include "journal/format.h"

enum {
    FILTER_QOS = 0x03,
    FILTER_NO_LOCAL = 0x04,
    FILTER_RETAIN_AS_PUBLISHED = 0x08,
    FILTER_BRINGS = 0x10,
};

static size_t lengthed_size(struct mr_span span)
{
    return mr_varint_size(span.len) + span.len;
}

static uint8_t *put_raw(uint8_t *out, struct mr_span span)
{
    if (span.len != 0) {
        memcpy(out, span.at, span.len);
    }
    return out + span.len;
}

static uint8_t *put_lengthed(uint8_t *out, struct mr_span span)
{
    return put_raw(mr_put_varint(out, span.len), span);
}

static struct mr_span take_lengthed(struct mr_take *take)
{
    return mr_take_bytes(take, mr_take_varint(take));
}

static uint32_t take_u32(struct mr_take *take)
{
    uint64_t value = mr_take_varint(take);

    take->failed |= value > UINT32_MAX;
    return (uint32_t)value;
}

uint8_t mr_control_record_type(uint8_t kind)
{
    return kind == MR_CONTROL_PUBREL ? MR_RECORD_PUBREL : MR_RECORD_SESSION;
}

static size_t open_size(const struct mr_control *c)
{
    size_t size = lengthed_size(c->username) + mr_varint_size(c->expiry_s) + sizeof(uint16_t);

    if ((c->flags & MR_CONTROL_HAS_WILL) != 0) {
        size += mr_varint_size(c->will_delay_s) + lengthed_size(c->will_topic) +
                lengthed_size(c->will_props) + c->will_payload.len;
    }
    return size;
}

static size_t copy_size(const struct mr_control *c)
{
    return lengthed_size(c->username) + mr_varint_size(c->lane) + mr_varint_size(c->seq) +
           sizeof(uint64_t) + lengthed_size(c->will_topic) + lengthed_size(c->will_props) +
           c->will_payload.len;
}

size_t mr_control_size(const struct mr_control *c)
{
    size_t size = lengthed_size(c->client);

    switch (c->kind) {
    case MR_CONTROL_PUBREL:
        return size + sizeof(uint16_t);
    case MR_CONTROL_OPEN:
        return 2 + size + open_size(c);
    case MR_CONTROL_CLOSE:
        return 2 + size + mr_varint_size(c->expiry_s) + mr_varint_size(c->ordinal);
    case MR_CONTROL_SUBSCRIBE:
        return 2 + size + lengthed_size(c->retained) + c->list.len;
    case MR_CONTROL_COPY:
        return 2 + size + copy_size(c);
    case MR_CONTROL_GIVE:
        return 2 + size + lengthed_size(c->list) + lengthed_size(c->from) +
               mr_varint_size(c->ordinal) + copy_size(c);
    default:
        return 2 + size + c->list.len;
    }
}

static uint8_t *open_put(uint8_t *out, const struct mr_control *c)
{
    out = put_lengthed(out, c->username);
    out = mr_put_varint(out, c->expiry_s);
    mr_put_u16(out, c->window);
    out += sizeof(uint16_t);
    if ((c->flags & MR_CONTROL_HAS_WILL) != 0) {
        out = mr_put_varint(out, c->will_delay_s);
        out = put_lengthed(out, c->will_topic);
        out = put_lengthed(out, c->will_props);
        out = put_raw(out, c->will_payload);
    }
    return out;
}

static uint8_t *copy_put(uint8_t *out, const struct mr_control *c)
{
    out = put_lengthed(out, c->username);
    out = mr_put_varint(out, c->lane);
    out = mr_put_varint(out, c->seq);
    mr_put_u64(out, (uint64_t)c->received_us);
    out = put_lengthed(out + sizeof(uint64_t), c->will_topic);
    out = put_lengthed(out, c->will_props);
    return put_raw(out, c->will_payload);
}

static void copy_get(struct mr_take *take, struct mr_control *out)
{
    out->username = take_lengthed(take);
    out->lane = take_u32(take);
    out->seq = mr_take_varint(take);
    struct mr_span received = mr_take_bytes(take, sizeof(uint64_t));
    out->received_us = received.len == 0 ? 0 : (int64_t)mr_get_u64(received.at);
    out->will_topic = take_lengthed(take);
    out->will_props = take_lengthed(take);
    out->will_payload = mr_take_bytes(take, mr_take_left(take));
}

uint8_t *mr_control_put(uint8_t *out, const struct mr_control *c)
{
    if (c->kind == MR_CONTROL_PUBREL) {
        out = put_lengthed(out, c->client);
        mr_put_u16(out, c->packet_id);
        return out + sizeof(uint16_t);
    }
    *out++ = c->kind;
    *out++ = c->flags;
    out = put_lengthed(out, c->client);
    switch (c->kind) {
    case MR_CONTROL_OPEN:
        return open_put(out, c);
    case MR_CONTROL_CLOSE:
        return mr_put_varint(mr_put_varint(out, c->expiry_s), c->ordinal);
    case MR_CONTROL_COPY:
        return copy_put(out, c);
    case MR_CONTROL_GIVE:
        out = put_lengthed(put_lengthed(out, c->list), c->from);
        return copy_put(mr_put_varint(out, c->ordinal), c);
    case MR_CONTROL_SUBSCRIBE:
        out = put_lengthed(out, c->retained);
        break;
    default:
        break;
    }
    return put_raw(out, c->list);
}

static uint16_t take_u16(struct mr_take *take)
{
    struct mr_span bytes = mr_take_bytes(take, sizeof(uint16_t));

    return bytes.len == sizeof(uint16_t) ? mr_get_u16(bytes.at) : 0;
}

static void open_get(struct mr_take *take, struct mr_control *out)
{
    out->username = take_lengthed(take);
    out->expiry_s = take_u32(take);
    out->window = take_u16(take);
    if ((out->flags & MR_CONTROL_HAS_WILL) != 0) {
        out->will_delay_s = take_u32(take);
        out->will_topic = take_lengthed(take);
        out->will_props = take_lengthed(take);
        out->will_payload = mr_take_bytes(take, mr_take_left(take));
    }
}

enum mr_err mr_control_get(uint8_t record_type, struct mr_span body, struct mr_control *out)
{
    struct mr_take take = mr_take_from(body);

    *out = (struct mr_control){.kind = MR_CONTROL_PUBREL};
    if (record_type == MR_RECORD_PUBREL) {
        out->client = take_lengthed(&take);
        out->packet_id = take_u16(&take);
        return take.failed ? MR_ERR_CORRUPT : MR_OK;
    }
    if (record_type != MR_RECORD_SESSION) {
        return MR_ERR_AGAIN;
    }
    out->kind = mr_take_u8(&take);
    out->flags = mr_take_u8(&take);
    out->client = take_lengthed(&take);
    if (take.failed || out->kind == MR_CONTROL_PUBREL) {
        return MR_ERR_CORRUPT;
    }
    if (out->kind >= MR_CONTROL_KINDS) {
        return MR_ERR_AGAIN;
    }
    if (out->kind == MR_CONTROL_OPEN) {
        open_get(&take, out);
    } else if (out->kind == MR_CONTROL_CLOSE) {
        out->expiry_s = take_u32(&take);
        out->ordinal = mr_take_varint(&take);
    } else if (out->kind == MR_CONTROL_COPY) {
        copy_get(&take, out);
    } else if (out->kind == MR_CONTROL_GIVE) {
        out->list = take_lengthed(&take);
        out->from = take_lengthed(&take);
        out->ordinal = mr_take_varint(&take);
        copy_get(&take, out);
    } else {
        if (out->kind == MR_CONTROL_SUBSCRIBE) {
            out->retained = take_lengthed(&take);
        }
        out->list = mr_take_bytes(&take, mr_take_left(&take));
    }
    return take.failed ? MR_ERR_CORRUPT : MR_OK;
}

/* ---- lists ---- */

size_t mr_control_filter_size(uint8_t kind, const struct mr_control_filter *filter)
{
    size_t size = lengthed_size(filter->filter);

    return kind == MR_CONTROL_UNSUBSCRIBE ? size
                                          : size + 1 + mr_varint_size(filter->subscription_id);
}

uint8_t *mr_control_filter_put(uint8_t *out, uint8_t kind, const struct mr_control_filter *filter)
{
    out = put_lengthed(out, filter->filter);
    if (kind == MR_CONTROL_UNSUBSCRIBE) {
        return out;
    }
    *out++ = (uint8_t)(filter->qos | (filter->no_local ? FILTER_NO_LOCAL : 0) |
                       (filter->retain_as_published ? FILTER_RETAIN_AS_PUBLISHED : 0) |
                       (filter->brings ? FILTER_BRINGS : 0));
    return mr_put_varint(out, filter->subscription_id);
}

bool mr_control_filter_next(struct mr_take *take, uint8_t kind, struct mr_control_filter *out)
{
    if (take->at == take->end || take->failed) {
        return false;
    }
    *out = (struct mr_control_filter){.filter = take_lengthed(take)};
    if (kind != MR_CONTROL_UNSUBSCRIBE) {
        uint8_t options = mr_take_u8(take);

        out->qos = options & FILTER_QOS;
        out->no_local = (options & FILTER_NO_LOCAL) != 0;
        out->retain_as_published = (options & FILTER_RETAIN_AS_PUBLISHED) != 0;
        out->brings = (options & FILTER_BRINGS) != 0;
        out->subscription_id = take_u32(take);
        take->failed |= out->qos > 2;
    }
    return !take->failed;
}

size_t mr_control_taker_size(const struct mr_control_taker *taker)
{
    return 1 + lengthed_size(taker->client) + lengthed_size(taker->filter);
}

uint8_t *mr_control_taker_put(uint8_t *out, const struct mr_control_taker *taker)
{
    *out++ = taker->keeps;
    return put_lengthed(put_lengthed(out, taker->client), taker->filter);
}

bool mr_control_taker_next(struct mr_take *take, struct mr_control_taker *out)
{
    if (take->at == take->end || take->failed) {
        return false;
    }
    out->keeps = (mr_take_u8(take) & 1) != 0;
    out->client = take_lengthed(take);
    out->filter = take_lengthed(take);
    return !take->failed;
}

uint8_t *mr_control_ref_put(uint8_t *out, const struct mr_control_ref *ref)
{
    out = mr_put_varint(out, ref->lane);
    out = mr_put_varint(out, ref->seq);
    *out++ = ref->qos;
    return out;
}

bool mr_control_ref_next(struct mr_take *take, struct mr_control_ref *out)
{
    if (take->at == take->end || take->failed) {
        return false;
    }
    out->lane = take_u32(take);
    out->seq = mr_take_varint(take);
    out->qos = mr_take_u8(take);
    return !take->failed;
}

uint8_t *mr_control_position_put(uint8_t *out, uint32_t lane, uint64_t seq)
{
    return mr_put_varint(mr_put_varint(out, lane), seq);
}

bool mr_control_position_next(struct mr_take *take, uint32_t *lane, uint64_t *seq)
{
    if (take->at == take->end || take->failed) {
        return false;
    }
    *lane = take_u32(take);
    *seq = mr_take_varint(take);
    return !take->failed;
}

uint8_t *mr_control_run_put(uint8_t *out, uint64_t *end, uint64_t first, uint64_t count)
{
    mr_assert(first >= *end && count != 0);
    out = mr_put_varint(mr_put_varint(out, first - *end), count);
    *end = first + count;
    return out;
}

bool mr_control_run_next(struct mr_take *take, uint64_t *end, uint64_t *first, uint64_t *count)
{
    if (take->at == take->end || take->failed) {
        return false;
    }
    uint64_t gap = mr_take_varint(take);
    *count = mr_take_varint(take);
    take->failed |= *count == 0 || gap > UINT64_MAX - *end || *count > UINT64_MAX - *end - gap;
    if (take->failed) {
        return false;
    }
    *first = *end + gap;
    *end = *first + *count;
    return true;
}
