/* session_peer.h - a client of fuzz_session.c: what it sent, what it is owed, what it may get.
 *
 *     peer_send() ─▶ bytes to the broker, and to our own decoders: what they come to is owed
 *     peer_read() ─▶ packets of the broker: each decodes, and is one that something asked for
 *
 * Whatever bytes a peer sends, its `sent` stream is read here as the broker has to read it: each
 * PUBLISH of QoS 1 is owed a PUBACK, and so on, up to the first packet that the decoders refuse
 * or that no client may send.  From there on the connection has `broke`: it must be closed, with
 * the reason that the specification names if it is one of 5.0.
 *
 * What only the session can judge (the Receive Maximum, acknowledgements of what was not sent, a
 * keep alive that passed) puts it in `doubt`: it may be closed.
 *
 * Thread: one.   Memory: static.   Time: none.
 */
#ifndef MR_TEST_FUZZ_SESSION_PEER_H
#define MR_TEST_FUZZ_SESSION_PEER_H

#include "codec/mqtt.h"
#include "session_machine.h"

enum {
    PEER_IN_BYTES = 32 << 10,
    PEER_SENT_BYTES = 32 << 10,
    PEER_ID_MAX = 300,
    OWED_MAX = 512,
    PENDING_MAX = 512,
    INBOUND_MAX = 256,
    NO_TAG = -1,
};

/* An answer that the broker owes. */
struct owed {
    uint8_t type;
    uint16_t id;
    int16_t tag; /* of the message that a PUBACK or PUBREC accepts, or NO_TAG */
};

/* An answer that we owe. */
struct pending {
    uint8_t type;
    uint16_t id;
};

struct peer {
    int fd; /* -1: no connection */
    const char *name;
    bool acks_at_once; /* the healthy ones */
    bool keeps_track;  /* ... and what it gets is counted: peer_got() */

    /* what it has said, as our decoders read it */
    uint8_t version; /* 0: no CONNECT yet */
    bool wants_clean;
    bool asked;         /* its CONNECT is in order */
    bool said_bye;      /* DISCONNECT */
    bool broke;         /* the broker must end it */
    uint8_t reason;     /* ... because of this */
    uint8_t reason_too; /* ... or of this; 0: of nothing else */
    bool doubt;         /* the broker may end it */
    bool spoilt;        /* some of its bytes are no packets of ours */
    bool taken;         /* another connection has its client id now */
    bool keep_alive;    /* it asked for some */
    bool no_expiry;     /* its session ends with the connection */
    bool known_alias[MACHINE_ALIASES + 1];
    uint16_t alias_max;   /* of the broker's aliases */
    uint16_t receive_max; /* what it takes at a time */
    uint32_t packet_max;
    uint32_t publishes; /* of QoS 1 and 2 that are not answered */
    size_t id_len;
    uint8_t id[PEER_ID_MAX];

    /* what it was told */
    bool let_in;
    bool session_present;
    bool told_bye;
    bool names_alias[MACHINE_ALIASES_OUT + 1];
    uint32_t in_flight; /* of the broker's publishes */

    uint32_t owed_count;
    uint32_t pending_count;
    uint32_t inbound_count; /* QoS 2: received, PUBREL has not come; outlives the connection */
    size_t sent_len;        /* not cut into packets yet */
    size_t in_len;
    struct owed owed[OWED_MAX];
    struct pending pending[PENDING_MAX];
    uint16_t inbound[INBOUND_MAX];
    uint8_t sent[PEER_SENT_BYTES];
    uint8_t in[PEER_IN_BYTES];
};

/* A connection; one that it had is dropped. */
void peer_open(struct peer *peer);
void peer_drop(struct peer *peer, bool reset);

/* Send bytes.  `tag`: of the PUBLISH that they are, or NO_TAG. */
void peer_send(struct peer *peer, const uint8_t *bytes, size_t len, int16_t tag);
void peer_connect(struct peer *peer, const struct mr_mqtt_connect *packet);
void peer_ack(struct peer *peer, uint8_t type, uint16_t id);

/* Take what came.  False: nothing did. */
bool peer_read(struct peer *peer);

/* Time has passed: keep alive and other limits of time may have. */
void peer_waited(struct peer *peer);

/* ---- fuzz_session.c: called by the above ---- */

void peer_took_over(struct peer *peer);                       /* its CONNECT names its id */
void peer_is_dropped(const struct peer *peer);                /* by us */
void peer_was_accepted(const struct peer *peer, int16_t tag); /* PUBACK, or PUBREC */
void peer_got(const struct mr_mqtt_publish *publish);

#endif
