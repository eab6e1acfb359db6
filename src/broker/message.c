/* message.c - copies of messages; see message.h for the contract. */
#include "broker/message.h"

/* Put a copy of `span` at *at, move *at behind it. */
static struct mr_span copy_span(uint8_t **at, struct mr_span span)
{
    struct mr_span copy = {.at = *at, .len = span.len};

    if (span.len != 0) {
        memcpy(*at, span.at, span.len);
        *at += span.len;
    }
    return copy;
}

static struct mr_span part_of(struct mr_span span, unsigned parts, unsigned part)
{
    return (parts & part) != 0 ? span : (struct mr_span){.at = NULL, .len = 0};
}

size_t stored_bytes(const struct mr_message *message, unsigned parts)
{
    return sizeof(struct stored) + message->topic.len + message->props.len +
           part_of(message->client, parts, STORED_NAMES).len +
           part_of(message->username, parts, STORED_NAMES).len +
           part_of(message->payload, parts, STORED_PAYLOAD).len;
}

struct stored *stored_put(uint8_t *buffer, size_t capacity, const struct mr_message *message,
                          unsigned parts)
{
    struct stored *stored = (struct stored *)(void *)buffer;
    uint8_t *at = (uint8_t *)(stored + 1);

    *stored = (struct stored){.capacity = capacity, .message = *message};
    stored->message.topic = copy_span(&at, message->topic);
    stored->message.props = copy_span(&at, message->props);
    stored->message.client = copy_span(&at, part_of(message->client, parts, STORED_NAMES));
    stored->message.username = copy_span(&at, part_of(message->username, parts, STORED_NAMES));
    stored->message.payload = copy_span(&at, part_of(message->payload, parts, STORED_PAYLOAD));
    return stored;
}

struct stored *stored_new(struct mr_bufpool *pool, const struct mr_message *message, unsigned parts)
{
    size_t capacity = 0;
    uint8_t *buffer = mr_bufpool_take(pool, stored_bytes(message, parts), &capacity);

    return buffer == NULL ? NULL : stored_put(buffer, capacity, message, parts);
}

void stored_free(struct mr_bufpool *pool, struct stored *stored)
{
    mr_bufpool_give(pool, (uint8_t *)stored, stored->capacity);
}
