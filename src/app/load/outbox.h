/* outbox.h - what a simulated device has published and nobody has acknowledged.
 *
 * A publisher may forget a QoS 1 message only when its PUBACK is there.  The outbox
 * keeps the encoded packets in order until then, and after a lost connection gives
 * them out again, so that the simulator itself never loses an event.
 *
 *     push ──▶ [ acked ≤ written ≤ head ] ──gather──▶ socket
 *                  ▲                 │
 *                  └──── PUBACK ◀────┘        connection lost: written = acked
 *
 * Thread: one owner.
 * Memory: window * MR_OUTBOX_PACKET_MAX bytes, taken in open().   Time: given.
 */
#ifndef MR_APP_LOAD_OUTBOX_H
#define MR_APP_LOAD_OUTBOX_H

#include "base/span.h"

enum {
    MR_OUTBOX_PACKET_MAX = 512,
    MR_OUTBOX_WINDOW_MAX = 65535, /* packet ids: 1 to 65535 */
};

struct mr_outbox_slot {
    int64_t due_ns; /* when the event should have been sent */
    uint16_t len;   /* of the packet */
    bool acked;     /* out of order: waits for those before it */
};

struct mr_outbox {
    uint8_t *packets;             /* window slots of MR_OUTBOX_PACKET_MAX */
    struct mr_outbox_slot *slots; /* window */
    uint32_t window;
    uint32_t part;    /* bytes of packet `written` that have been sent */
    uint64_t acked;   /* packets given back, in order */
    uint64_t written; /* packets sent completely on this connection */
    uint64_t head;    /* packets pushed */
    uint64_t begun;   /* packets of which at least one byte was ever sent */
};

void mr_outbox_open(struct mr_outbox *outbox, uint32_t window);
void mr_outbox_close(struct mr_outbox *outbox);

static inline bool mr_outbox_has_room(const struct mr_outbox *outbox, uint32_t window)
{
    return outbox->head - outbox->acked < (window < outbox->window ? window : outbox->window);
}

/* Packets that have not been acknowledged. */
static inline uint64_t mr_outbox_held(const struct mr_outbox *outbox)
{
    return outbox->head - outbox->acked;
}

/* The id that the next packet must carry. */
uint16_t mr_outbox_next_id(const struct mr_outbox *outbox);

/* Where to encode the next packet (MR_OUTBOX_PACKET_MAX bytes); there must be room.
 * push() then takes it: a QoS 1 PUBLISH with the id above, or any QoS 0 one.
 */
uint8_t *mr_outbox_next(struct mr_outbox *outbox);
void mr_outbox_push(struct mr_outbox *outbox, size_t len, int64_t due_ns);

/* Copy what may be sent now, from where the last send stopped, until `size` is used
 * up.  Returns the bytes; sent() then says how many of them went out.
 */
size_t mr_outbox_gather(const struct mr_outbox *outbox, uint8_t *into, size_t size);
void mr_outbox_sent(struct mr_outbox *outbox, size_t bytes);

/* A PUBACK came.  *due_ns is that of the event.  MR_ERR_REJECT: nothing with this id
 * waits for one (an answer to something we never sent, or a second answer).
 */
enum mr_err mr_outbox_ack(struct mr_outbox *outbox, uint16_t packet_id,
                          int64_t *due_ns) MR_MUST_USE;

/* QoS 0: everything written counts as done.  Returns how many more that are. */
uint64_t mr_outbox_forget_written(struct mr_outbox *outbox);

/* A new connection: all that is not acknowledged goes out again, in its order
 * ([MQTT-4.6.0-1]).  `dup`: what has been sent before carries DUP ([MQTT-3.3.1-1]); not for
 * QoS 0 ([MQTT-3.3.1-2]).  Returns how many have been sent before.
 */
uint64_t mr_outbox_rewind(struct mr_outbox *outbox, bool dup);

#endif
