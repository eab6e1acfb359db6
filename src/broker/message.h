/* message.h - one published message on its way through the broker.
 *
 * mr_message borrows: the receive slab, a journal block, or a `stored` copy.
 * `stored` owns its bytes, in a buffer lent by the shard's pool.
 *
 * Thread: a shard's.   Memory: see above.   Time: received_us is wall time.
 */
#ifndef MR_BROKER_MESSAGE_H
#define MR_BROKER_MESSAGE_H

#include "base/bufpool.h"
#include "base/span.h"
#include "codec/mqtt.h"

struct share_group;

struct mr_message {
    struct mr_span topic;
    struct mr_span payload;
    struct mr_span props;  /* MQTT 5 property section without topic alias; empty: none */
    struct mr_span client; /* publisher's client id and user name, for the journal */
    struct mr_span username;
    uint64_t publisher; /* its connection id, for No Local; 0: nobody */
    int64_t received_us;
    uint16_t packet_id; /* the publisher's, with QoS 2 */
    uint8_t qos;
    bool retain;
    bool will;
};

/* What counts against the bounds in bytes: properties may be the larger part. */
static inline size_t message_bytes(const struct mr_message *message)
{
    return message->topic.len + message->props.len + message->payload.len;
}

/* Its properties, decoded into *into; NULL: it has none. */
static inline const struct mr_mqtt_props *message_props(const struct mr_message *message,
                                                        struct mr_mqtt_props *into)
{
    struct mr_mqtt_why why;

    return message->props.len != 0 && mr_mqtt_props_decode(message->props, MR_MQTT_PUBLISH,
                                                           MR_MQTT_FROM_CLIENT, into, &why) == MR_OK
               ? into
               : NULL;
}

/* A copy in a list. */
struct stored {
    struct stored *next;
    size_t capacity; /* as lent by the pool */
    struct mr_message message;
    uint64_t seq;              /* pending deliveries: not before this is durable */
    struct share_group *group; /* of a shared subscription: held; NULL: none */
    uint32_t subscription_id;  /* queued for a subscriber */
    uint16_t packet_id;        /* sent to it, and not acknowledged */
    uint8_t qos;
    bool retain;
};

enum stored_parts {
    STORED_NAMES = 1,   /* client and user name too (wills) */
    STORED_PAYLOAD = 2, /* the payload too; else its span is empty */
};

/* How many bytes its copy takes. */
size_t stored_bytes(const struct mr_message *message, unsigned parts);

/* Copy `message` into a buffer of the pool that has so many. */
struct stored *stored_put(uint8_t *buffer, size_t capacity, const struct mr_message *message,
                          unsigned parts);

/* Copy `message`; NULL: the pool has no room. */
struct stored *stored_new(struct mr_bufpool *pool, const struct mr_message *message,
                          unsigned parts);
void stored_free(struct mr_bufpool *pool, struct stored *stored);

/* Append to a list of first and last. */
static inline void stored_push(struct stored **first, struct stored **last, struct stored *stored)
{
    stored->next = NULL;
    if (*last != NULL) {
        (*last)->next = stored;
    } else {
        *first = stored;
    }
    *last = stored;
}

/* Take the first off; NULL if empty. */
static inline struct stored *stored_pop(struct stored **first, struct stored **last)
{
    struct stored *stored = *first;

    if (stored != NULL) {
        *first = stored->next;
        if (*first == NULL) {
            *last = NULL;
        }
    }
    return stored;
}

#endif
