/* ws_frames_internal.h - WebSocket frames to bytes (RFC 6455 section 5), by wslay; and what they
 * ask to be answered.
 *
 *     from the socket ─▶ ws_frames_read() ─▶ payload of binary frames, in place
 *                                └─▶ a control frame to be sent: pong or close
 *
 * MQTT is a stream: where frames and messages begin says nothing about packets
 * [MQTT-6.0.0-2], so payload is passed on as it comes and no frame is ever gathered.
 * wslay's state of 4 KiB exists only while a frame is not complete; between two frames it
 * lies in the spare of the net, for whoever is next.
 *
 * Thread: the connection's.   Memory: some 200 bytes; 4 KiB more within a frame.
 * Time: one copy of the payload, and wslay's unmasking.
 */
#ifndef MR_NET_WS_FRAMES_INTERNAL_H
#define MR_NET_WS_FRAMES_INTERNAL_H

#include "base/span.h"

/* Close codes (RFC 6455 section 7.4.1). */
enum {
    WS_CLOSE_NORMAL = 1000,
    WS_CLOSE_PROTOCOL = 1002,
    WS_CLOSE_UNSUPPORTED = 1003, /* text frames */
    WS_CLOSE_TOO_BIG = 1009,
    WS_CLOSE_INTERNAL = 1011,
};

enum { WS_CONTROL_MAX = 2 + 125 }; /* a whole control frame, not masked */

struct ws_reader; /* wslay's state within a frame */

struct ws_frames {
    struct ws_reader *reader;        /* NULL: between two frames */
    uint64_t frame_max;              /* bytes of payload */
    uint8_t control[WS_CONTROL_MAX]; /* a frame to be sent before all others: pong or close */
    uint8_t control_len;             /* 0: none */
    uint8_t control_sent;
    bool control_begun;  /* TLS may have taken it without saying so: it stays what it is */
    uint8_t pong_len;    /* of the ping's payload that is being received */
    uint8_t close_len;   /* the same of a close frame */
    uint8_t pong[125];   /* its payload */
    uint8_t close[2];    /* the first two bytes of one: its code */
    bool in_message;     /* fragments are still to come */
    bool ended;          /* nothing more is read */
    bool closing;        /* a close frame has been queued; nothing is sent behind it */
    uint16_t close_code; /* once it has ended: why; 0: the peer said nothing */
    const char *fault;   /* once it has ended: what the peer did wrong; NULL: nothing */
};

/* Decode the `len` bytes at `at` in place; returns how many bytes of payload stand there now.
 * Look at `ended` afterwards.  *spare: of the net, NULL at first.
 */
size_t ws_frames_read(struct ws_frames *frames, struct ws_reader **spare, uint8_t *at, size_t len);

/* Queue the close frame, unless one is queued already.  It replaces a pong that waits. */
void ws_frames_close(struct ws_frames *frames, uint16_t code);

void ws_reader_free(struct ws_reader *reader); /* NULL: nothing happens */

#endif
