/* ws_frames.c - see ws_frames_internal.h for the contract.
 *
 * DESIGN
 *
 * wslay asks for bytes by callback, parses headers and unmasks; what frames may follow each
 * other, and what a control frame means, is said here.  Its payload lies in a buffer of its
 * own and is copied to the front of the caller's: the header is gone there, so the place it is
 * copied to never passes the place that is read next.
 *
 * Whether wslay holds half a header cannot be asked.  It is counted: bytes it was given, less
 * headers and payload of what it gave back.
 *
 * Rejected: wslay's event layer.  It gathers whole messages, or keeps another 4 KiB and a
 * queue per connection.
 *
 * INVARIANT: reader == NULL means that the next byte begins a frame.
 */
#include "net/ws_frames_internal.h"

#include "base/bytes.h"

#include <wslay/wslay.h>

struct ws_reader {
    wslay_frame_context_ptr wslay;
    const uint8_t *at; /* to be given to wslay */
    size_t left;
    uint64_t owed;       /* given to wslay, not yet seen as header or payload */
    uint64_t frame_left; /* payload of the frame that is being received */
    bool in_frame;       /* its header has been seen */
};

/* ---- wslay's readers ---- */

static ssize_t reader_give(uint8_t *into, size_t len, int flags, void *arg)
{
    struct ws_reader *reader = arg;
    size_t count = reader->left < len ? reader->left : len;

    (void)flags;
    if (count == 0) {
        return -1; /* wslay takes it for "nothing now" */
    }
    memcpy(into, reader->at, count);
    reader->at += count;
    reader->left -= count;
    reader->owed += count;
    return (ssize_t)count;
}

static struct ws_reader *reader_take(struct ws_reader **spare)
{
    static const struct wslay_frame_callbacks callbacks = {.recv_callback = reader_give};
    struct ws_reader *reader = *spare;

    if (reader != NULL) {
        *spare = NULL;
        return reader;
    }
    reader = mr_alloc(sizeof(*reader));
    int err = wslay_frame_context_init(&reader->wslay, &callbacks, reader);
    mr_assert(err == 0); /* its only failure is memory, as of mr_alloc */
    return reader;
}

void ws_reader_free(struct ws_reader *reader)
{
    if (reader != NULL) {
        wslay_frame_context_free(reader->wslay);
        mr_free(reader);
    }
}

/* ---- what may follow what ---- */

static void end(struct ws_frames *frames, uint16_t code, const char *fault)
{
    frames->ended = true;
    frames->close_code = code;
    frames->fault = fault;
}

static bool close_code_is_valid(uint16_t code)
{
    return (code >= 1000 && code <= 1003) || (code >= 1007 && code <= 1014) ||
           (code >= 3000 && code <= 4999);
}

/* The header of a frame, seen with its first bytes of payload. */
static void frame_begin(struct ws_frames *frames, const struct wslay_frame_iocb *frame)
{
    bool data = frame->opcode == WSLAY_BINARY_FRAME || frame->opcode == WSLAY_TEXT_FRAME;

    if (!frame->mask) {
        end(frames, WS_CLOSE_PROTOCOL, "a frame is not masked");
    } else if (frame->rsv != 0) {
        end(frames, WS_CLOSE_PROTOCOL, "a frame uses an extension that was not agreed on");
    } else if (wslay_is_ctrl_frame(frame->opcode)) {
        frames->pong_len = 0;
        frames->close_len = 0;
        if (frame->opcode > WSLAY_PONG) {
            end(frames, WS_CLOSE_PROTOCOL, "a control frame of an unknown kind");
        }
    } else if (frame->opcode > WSLAY_BINARY_FRAME) {
        end(frames, WS_CLOSE_PROTOCOL, "a data frame of an unknown kind");
    } else if (data == frames->in_message) {
        end(frames, WS_CLOSE_PROTOCOL,
            data ? "a message begins within another" : "a continuation of nothing");
    } else if (frame->opcode == WSLAY_TEXT_FRAME) {
        end(frames, WS_CLOSE_UNSUPPORTED, "a text frame; MQTT comes in binary frames");
    } else if (frame->payload_length > frames->frame_max) {
        end(frames, WS_CLOSE_TOO_BIG, "a frame is larger than the largest packet may be");
    } else {
        frames->in_message = !frame->fin;
    }
}

/* A pong is queued unless one is being sent: the newest ping is the one to answer. */
static void pong_queue(struct ws_frames *frames)
{
    if (frames->closing || frames->control_begun) {
        return;
    }
    frames->control[0] = 0x80 | WSLAY_PONG;
    frames->control[1] = frames->pong_len;
    memcpy(frames->control + 2, frames->pong, frames->pong_len);
    frames->control_len = (uint8_t)(2 + frames->pong_len);
}

static void close_received(struct ws_frames *frames, uint64_t payload_len)
{
    uint16_t code = mr_get_be16(frames->close);

    if (payload_len == 0) {
        end(frames, WS_CLOSE_NORMAL, NULL);
    } else if (payload_len == 1 || !close_code_is_valid(code)) {
        end(frames, WS_CLOSE_PROTOCOL, "a close frame with a code that does not exist");
    } else {
        end(frames, code, NULL);
    }
}

/* Some payload of a control frame; at its end it is acted on. */
static void control_take(struct ws_frames *frames, const struct wslay_frame_iocb *frame, bool last)
{
    size_t len = frame->data_length;

    if (frame->opcode == WSLAY_PING && len != 0) {
        memcpy(frames->pong + frames->pong_len, frame->data, len); /* 125 at most, by wslay */
        frames->pong_len = (uint8_t)(frames->pong_len + len);
    }
    for (size_t i = 0; frame->opcode == WSLAY_CONNECTION_CLOSE && i < len; i++) {
        if (frames->close_len < sizeof(frames->close)) {
            frames->close[frames->close_len++] = frame->data[i];
        }
    }
    if (last && frame->opcode == WSLAY_PING) {
        pong_queue(frames);
    } else if (last && frame->opcode == WSLAY_CONNECTION_CLOSE) {
        close_received(frames, frame->payload_length);
    }
}

static uint64_t head_bytes(const struct wslay_frame_iocb *frame)
{
    uint64_t len = frame->payload_length;

    return 2u + (len < 126 ? 0u : len <= UINT16_MAX ? 2u : 8u) + (frame->mask ? 4u : 0u);
}

/* One piece that wslay gave back; returns how many bytes of it are payload for the owner. */
static size_t piece_take(struct ws_frames *frames, struct ws_reader *reader,
                         const struct wslay_frame_iocb *frame, uint8_t *into)
{
    if (!reader->in_frame) {
        reader->in_frame = true;
        reader->frame_left = frame->payload_length;
        reader->owed -= head_bytes(frame);
        frame_begin(frames, frame);
    }
    reader->owed -= frame->data_length;
    reader->frame_left -= frame->data_length;
    bool last = reader->frame_left == 0;
    reader->in_frame = !last;
    if (frames->ended) {
        return 0;
    }
    if (wslay_is_ctrl_frame(frame->opcode)) {
        control_take(frames, frame, last);
        return 0;
    }
    if (frame->data_length != 0) {
        memcpy(into, frame->data, frame->data_length);
    }
    return frame->data_length;
}

size_t ws_frames_read(struct ws_frames *frames, struct ws_reader **spare, uint8_t *at, size_t len)
{
    struct ws_reader *reader = frames->reader;
    size_t got = 0;
    ssize_t piece = 0;

    if (frames->ended || len == 0) {
        return 0;
    }
    if (reader == NULL) {
        reader = reader_take(spare);
        frames->reader = reader;
    }
    reader->at = at;
    reader->left = len;
    while (!frames->ended && piece >= 0) {
        struct wslay_frame_iocb frame = {0};
        piece = wslay_frame_recv(reader->wslay, &frame);
        if (piece >= 0) {
            got += piece_take(frames, reader, &frame, at + got);
        } else if (piece != WSLAY_ERR_WANT_READ) {
            end(frames, WS_CLOSE_PROTOCOL, "a frame's header is not valid");
        }
    }
    if (!frames->ended && !reader->in_frame && reader->owed == 0) {
        frames->reader = NULL;
        if (*spare == NULL) {
            *spare = reader;
        } else {
            ws_reader_free(reader);
        }
    }
    return got;
}

/* ---- towards the peer ---- */

void ws_frames_close(struct ws_frames *frames, uint16_t code)
{
    if (frames->closing || frames->control_begun) {
        return;
    }
    frames->closing = true;
    frames->control[0] = 0x80 | WSLAY_CONNECTION_CLOSE;
    frames->control[1] = 2;
    mr_put_be16(frames->control + 2, code);
    frames->control_len = 4;
}
