/* link.c - the client's end of a connection: bytes wait here, and are cut here. */
#include "world.h"

#include "codec/mqtt.h"
#include "os/loop.h"
#include "os/sim.h"

#include <string.h>

const char *const listener_addresses[ACK_KINDS] = {"127.0.0.1:1883", "127.0.0.1:1884",
                                                   "127.0.0.1:1885"};

bool link_open(struct link *link)
{
    mr_assert(link->fd < 0);
    link->in_len = 0;
    link->out_len = 0;
    link->cut_soon = false;
    link->life = ledger_life();
    if (mr_socket_connect(listener_addresses[link->ack], &link->fd, NULL) != MR_OK) {
        link->fd = -1;
        return false;
    }
    mr_sim_stream_outlives(link->fd);
    if (plan.delay_ns_max != 0) {
        int64_t there = (int64_t)roll((uint64_t)plan.delay_ns_max);
        int64_t back = (int64_t)roll((uint64_t)plan.delay_ns_max);
        size_t piece = chance(500) ? 0 : 1 + roll(300);
        mr_sim_stream_shape(link->fd, there, piece);
        mr_sim_stream_shape_peer(link->fd, back, piece);
    }
    return true;
}

void link_cut(struct link *link, const char *why)
{
    if (link->fd < 0) {
        return;
    }
    say("connection %d ends: %s", link->fd, why);
    if (chance(500)) {
        mr_sim_stream_break(link->fd);
    }
    mr_socket_close(link->fd);
    link->fd = -1;
    link->in_len = 0;
    link->out_len = 0;
}

bool link_has_room(const struct link *link, size_t bytes)
{
    return link->fd >= 0 && !link->cut_soon && link->out_len + bytes <= LINK_BYTES;
}

void link_put(struct link *link, const uint8_t *bytes, size_t len)
{
    if (link_has_room(link, len)) { /* else it is lost, as in a connection that dies now */
        memcpy(link->out + link->out_len, bytes, len);
        link->out_len += len;
    } else if (link->fd >= 0) {
        link->cut_soon = true;
    }
}

void link_flush(struct link *link)
{
    size_t sent = 0;
    size_t wanted = link->out_len;

    if (link->fd < 0) {
        return;
    }
    if (link->cut_soon) {
        wanted = wanted == 0 ? 0 : roll(wanted + 1);
    }
    if (wanted != 0 && mr_socket_write(link->fd, link->out, wanted, &sent) != MR_OK) {
        link_cut(link, "it is broken");
        return;
    }
    memmove(link->out, link->out + sent, link->out_len - sent);
    link->out_len -= sent;
    if (link->cut_soon) {
        link_cut(link, "cut in the middle");
    }
}

/* Frames that are complete go to `each`; it may cut the link. */
static void link_frames(struct link *link,
                        void (*each)(void *arg, const struct mr_mqtt_frame *frame), void *arg)
{
    struct mr_mqtt_frame frame;
    size_t done = 0;

    while (link->fd >= 0) {
        struct mr_span bytes = mr_span_make(link->in + done, link->in_len - done);
        enum mr_err err = mr_mqtt_frame(bytes, MR_MQTT_PACKET_MAX, &frame);
        if (err == MR_ERR_AGAIN) {
            break;
        }
        if (err != MR_OK) {
            broken("the gateway sends what is no packet");
        }
        done += frame.total_bytes;
        each(arg, &frame);
    }
    if (link->fd >= 0) {
        memmove(link->in, link->in + done, link->in_len - done);
        link->in_len -= done;
    }
}

bool link_read(struct link *link, void (*each)(void *arg, const struct mr_mqtt_frame *frame),
               void *arg)
{
    bool again = false; /* "nothing now" is said between two pieces too */

    while (link->fd >= 0) {
        size_t got = 0;

        if (link->in_len == LINK_BYTES) {
            broken("a packet of more than %d bytes", LINK_BYTES);
        }
        enum mr_err err =
            mr_socket_read(link->fd, link->in + link->in_len, LINK_BYTES - link->in_len, &got);
        if (err == MR_ERR_AGAIN) {
            if (again) {
                return true;
            }
            again = true;
            continue;
        }
        again = false;
        if (err != MR_OK || got == 0) {
            link_cut(link, "by the gateway");
            return false;
        }
        link->in_len += got;
        link_frames(link, each, arg);
    }
    return false;
}
