/* ws_pack_internal.h - what is queued for a peer, as WebSocket frames: one packet, one frame.
 *
 *     queue of whole packets ─▶ ws_pack() ─▶ header, packet, header, packet, …
 *
 * A receiver has to take packets however they are cut [MQTT-6.0.0-2], but some libraries read
 * of a frame the first packet only, and wait.  So each frame holds just one.  Where a packet
 * ends says whoever owns the connection (websocket.h): nothing here knows what it is.
 *
 * A pure walk over the queue: the same place gives the same bytes again, so what the wire did
 * not take is not kept but made once more.  (TLS wants to be offered again what it refused.)
 *
 * Thread: the connection's.   Memory: 24 bytes a connection.   Time: one copy of small packets.
 */
#ifndef MR_NET_WS_PACK_INTERNAL_H
#define MR_NET_WS_PACK_INTERNAL_H

#include "base/span.h"

enum { WS_DATA_HEAD_MAX = 10 }; /* of a frame that is not masked */

/* Where the wire is in the queue. */
struct ws_pack {
    uint32_t (*packet_len)(struct mr_span bytes); /* of websocket.h */
    uint64_t left;                                /* bytes that follow before the next header */
    uint8_t head_sent;                            /* of the next header */
};

/* Go `wire` bytes on, or to the end of the queue: *queue begins there then.  The bytes of the
 * way are written to `into` unless it is NULL; returns how many.
 */
size_t ws_pack(struct ws_pack *pack, struct mr_span *queue, uint8_t *into, size_t wire);

/* Is this the place between two frames? */
static inline bool ws_pack_is_between(const struct ws_pack *pack)
{
    return pack->left == 0 && pack->head_sent == 0;
}

#endif
