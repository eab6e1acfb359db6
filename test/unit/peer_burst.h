/* peer_burst.h - more messages than a small gateway's memory holds, from one client to another.
 *
 *     peer_publish_burst(pub)   BURST_MESSAGES of BURST_BYTES with QoS 1, each acknowledged
 *     peer_expect_burst(sub)    the same, in order; acknowledged
 *
 * More come than the disk takes: so many are under way at a time.
 */
#ifndef MR_TEST_PEER_BURST_H
#define MR_TEST_PEER_BURST_H

#include "broker_peer.h"

enum { BURST_MESSAGES = 4000, BURST_WINDOW = 900, BURST_BYTES = 1500 };

static inline void burst_payload(char out[BURST_BYTES + 1], int number)
{
    memset(out, 'x', BURST_BYTES);
    (void)snprintf(out, 16, "%06d", number);
    out[6] = 'x';
    out[BURST_BYTES] = '\0';
}

static inline void peer_publish_burst(struct peer *pub, const char *topic)
{
    char payload[BURST_BYTES + 1];

    for (int i = 0; i < BURST_MESSAGES + BURST_WINDOW; i++) {
        if (i < BURST_MESSAGES) {
            burst_payload(payload, i);
            peer_publish(pub, topic, payload, 1, (uint16_t)(i + 1));
        }
        if (i >= BURST_WINDOW) {
            mr_assert(peer_expect_puback(pub, (uint16_t)(i - BURST_WINDOW + 1)) == 0);
        }
    }
}

static inline void peer_expect_burst(struct peer *sub, const char *topic)
{
    char payload[BURST_BYTES + 1];
    struct mr_mqtt_publish got;

    for (int i = 0; i < BURST_MESSAGES; i++) {
        burst_payload(payload, i);
        peer_expect_publish(sub, topic, payload, 1, &got);
        peer_ack(sub, got.packet_id);
    }
}

#endif
