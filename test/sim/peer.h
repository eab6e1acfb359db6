/* peer.h - what clients of all kinds do alike: connect, be let in, publish, subscribe.
 *
 * Thread: one.   Memory: the client's own.   Time: os/sim.h.
 */
#ifndef MR_TEST_SIM_PEER_H
#define MR_TEST_SIM_PEER_H

#include "codec/mqtt.h"
#include "world.h"

enum peer_state { PEER_AWAY, PEER_CONNECTING, PEER_UP };

struct peer {
    char name[24];
    uint8_t version;
    bool persistent;  /* its session outlives its connection */
    bool had_session; /* a CONNACK has said that it is kept */
    enum peer_state state;
    struct link link;
};

void peer_init(struct peer *peer, const char *kind, uint32_t index, bool persistent);

/* Send CONNECT, with the will that `like` has (NULL: none).  False: nobody listens. */
bool peer_connect(struct peer *peer, const struct mr_mqtt_connect *like);

/* A CONNACK has come; the run ends if it breaks a promise.  Is the session there? */
bool peer_is_let_in(struct peer *peer, const struct mr_mqtt_frame *frame);

void peer_publish(struct peer *peer, const struct mr_mqtt_publish *packet);
void peer_subscribe(struct peer *peer, const char *filter, uint8_t qos);
void peer_ack(struct peer *peer, uint8_t type, uint16_t packet_id);
void peer_disconnect(struct peer *peer);

/* Take what came, and send what waits. */
void peer_pump(struct peer *peer, void (*each)(void *arg, const struct mr_mqtt_frame *frame),
               void *arg);

/* Decode what the gateway sends; the run ends if it cannot be. */
void peer_take_publish(const struct peer *peer, const struct mr_mqtt_frame *frame,
                       struct mr_mqtt_publish *out);
uint16_t peer_take_ack(const struct peer *peer, const struct mr_mqtt_frame *frame);

#endif
