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

struct stored *stored_new(struct mr_bufpool *pool, const struct mr_message *message, unsigned parts)
{
    static const struct mr_span nothing = {.at = NULL, .len = 0};
    struct mr_span client = (parts & STORED_NAMES) != 0 ? message->client : nothing;
    struct mr_span username = (parts & STORED_NAMES) != 0 ? message->username : nothing;
    struct mr_span payload = (parts & STORED_PAYLOAD) != 0 ? message->payload : nothing;
    size_t capacity = 0;
    size_t bytes = sizeof(struct stored) + message->topic.len + message->props.len + client.len +
                   username.len + payload.len;
    struct stored *stored = (struct stored *)(void *)mr_bufpool_take(pool, bytes, &capacity);

    if (stored == NULL) {
        return NULL;
    }
    uint8_t *at = (uint8_t *)(stored + 1);
    *stored = (struct stored){.capacity = capacity, .message = *message};
    stored->message.topic = copy_span(&at, message->topic);
    stored->message.props = copy_span(&at, message->props);
    stored->message.client = copy_span(&at, client);
    stored->message.username = copy_span(&at, username);
    stored->message.payload = copy_span(&at, payload);
    return stored;
}

void stored_free(struct mr_bufpool *pool, struct stored *stored)
{
    mr_bufpool_give(pool, (uint8_t *)stored, stored->capacity);
}
