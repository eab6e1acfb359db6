/* session_run.c - see session_run.h. */
#include "session_run.h"

#include "base/bytes.h"
#include "os/sim.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { SETTLE_MS = 60000, ROUNDS_MAX = 100000 };
#define TAG_MAGIC UINT32_C(0x7a9e51c3)
#define TAG_PRIME UINT32_C(0x9e3779b1)

const char *const session_ids[IDS] = {"a", "bb", "ccc", "dddd"};

struct run run;
struct probes probes;
struct peer slots[SLOTS];
struct peer publisher = {.fd = -1, .name = "the healthy publisher", .acks_at_once = true};
struct peer watcher = {
    .fd = -1, .name = "the healthy subscriber", .acks_at_once = true, .keeps_track = true};
struct peer ending[ENDING_MAX];

void broken(const char *fmt, ...)
{
    va_list args;

    va_start(args, fmt);
    fprintf(stderr, "broken, in input %u since the disk was empty: ", run.number);
    (void)vfprintf(stderr, fmt, args);
    va_end(args);
    fputc('\n', stderr);
    abort();
}

void tell(const char *fmt, ...)
{
    static int told = -1;
    va_list args;

    told = told < 0 ? getenv("FUZZ_TELL") != NULL : told;
    if (told == 1) {
        va_start(args, fmt);
        fprintf(stderr, "%u: ", run.number);
        (void)vfprintf(stderr, fmt, args);
        va_end(args);
        fputc('\n', stderr);
    }
}

void run_begin(void)
{
    uint32_t number = run.number + 1;

    memset(&run, 0, offsetof(struct run, tags));
    run.number = number;
    for (int i = 0; i < SLOTS; i++) {
        run.client[i] = -1;
    }
}

/* ---- what passes ---- */

static bool peers_read(void)
{
    bool any = peer_read(&publisher);

    any |= peer_read(&watcher);
    for (int i = 0; i < SLOTS; i++) {
        any |= peer_read(&slots[i]);
    }
    for (int i = 0; i < ENDING_MAX; i++) {
        any |= peer_read(&ending[i]);
    }
    return any;
}

void happen(void)
{
    uint32_t rounds = 0;

    do {
        (void)machine_run();
        rounds += 1;
        if (rounds == ROUNDS_MAX) {
            broken("the broker and its clients never come to rest");
        }
    } while (peers_read());
}

static void waited(void)
{
    for (int i = 0; i < SLOTS; i++) {
        peer_waited(&slots[i]);
    }
}

void time_passes(int64_t ns)
{
    tell("%lld ms pass", (long long)(ns / NS_PER_MS));
    waited();
    mr_sim_advance(ns);
    happen();
}

void wait_for(bool (*done)(void), const char *what)
{
    int64_t end_ns = machine_now_ns() + SETTLE_MS * NS_PER_MS;

    happen();
    while (!done()) {
        if (machine_now_ns() > end_ns) {
            broken("waited in vain for %s", what);
        }
        waited();
        (void)machine_wait();
        happen();
    }
}

/* ---- messages ---- */

/* A packet that was changed on its way is nobody's, or the message it was. */
static uint32_t tag_check(uint32_t number)
{
    return ((number + 1) * TAG_MAGIC) ^ (run.number * TAG_PRIME);
}

void tag_put(int16_t tag, uint8_t payload[TAG_BYTES])
{
    uint32_t number = (uint32_t)(int32_t)tag;

    mr_put_u32(payload, TAG_MAGIC);
    mr_put_u32(payload + 4, run.number);
    mr_put_u32(payload + 8, number);
    mr_put_u32(payload + 12, tag_check(number));
}

int16_t tag_new(int client, uint8_t qos, uint8_t payload[TAG_BYTES])
{
    if (run.tag_count == TAGS_MAX) {
        return NO_TAG;
    }
    run.tags[run.tag_count] = (struct tag){
        .qos = qos, .client = client, .generation = client < 0 ? 0 : run.generations[client]};
    tag_put((int16_t)run.tag_count, payload);
    run.tag_count += 1;
    return (int16_t)(run.tag_count - 1);
}

void peer_was_accepted(const struct peer *peer, int16_t tag)
{
    if (peer == &publisher) {
        probes.accepted += 1;
    } else if (peer->let_in) {
        run.tags[tag].accepted = true;
    }
}

void peer_got(const struct mr_mqtt_publish *publish)
{
    const uint8_t *at = publish->payload.at;

    if (publish->payload.len < TAG_BYTES || mr_get_u32(at) != TAG_MAGIC ||
        mr_get_u32(at + 4) != run.number) {
        return; /* raw bytes; or a will that waited */
    }
    uint32_t number = mr_get_u32(at + 8);
    if (mr_get_u32(at + 12) != tag_check(number)) {
        return;
    }
    if (number == (uint32_t)TAG_PROBE) {
        probes.got += 1;
        return;
    }
    if (number >= run.tag_count) {
        return;
    }
    struct tag *tag = &run.tags[number];
    tag->got += 1;
    if (tag->got > 1 && tag->qos != 0 && publish->qos != 0 && !tag->may_double) {
        broken("message %u of QoS %u comes twice", number, tag->qos);
    }
}

static bool is_same(const struct peer *a, const struct peer *b)
{
    return mr_span_equal(mr_span_make(a->id, a->id_len), mr_span_make(b->id, b->id_len));
}

/* Who was not let in yet may be so later than one that asks now, and take it over. */
void peer_took_over(struct peer *peer)
{
    for (int i = 0; i < IDS; i++) {
        bool is_it = mr_span_is(mr_span_make(peer->id, peer->id_len), session_ids[i]);
        run.generations[i] += is_it ? 1 : 0;
        run.spoilt_ids[i] = run.spoilt_ids[i] || (is_it && peer->spoilt);
    }
    for (int i = 0; i < SLOTS; i++) {
        struct peer *other = &slots[i];
        if (other != peer && other->asked && is_same(other, peer)) {
            other->taken = true;
            peer->taken = peer->taken || !other->let_in;
        }
    }
    for (uint32_t i = 0; i < run.ghost_count; i++) {
        peer->taken =
            peer->taken || mr_span_equal(mr_span_make(run.ghosts[i].id, run.ghosts[i].len),
                                         mr_span_make(peer->id, peer->id_len));
    }
}

void peer_is_dropped(const struct peer *peer)
{
    if (peer->asked && !peer->let_in && run.ghost_count < GHOSTS_MAX) {
        run.ghosts[run.ghost_count].len = peer->id_len;
        memcpy(run.ghosts[run.ghost_count].id, peer->id, peer->id_len);
        run.ghost_count += 1;
    }
}
