/* session_run.h - one run of fuzz_session.c: its clients, what they sent, what happens.
 *
 *     session_steps.c ─▶ slots ══ the broker ══▶ watcher: what was accepted comes, and once
 *
 * Thread: one.   Memory: static.   Time: os/sim.h; ns.
 */
#ifndef MR_TEST_FUZZ_SESSION_RUN_H
#define MR_TEST_FUZZ_SESSION_RUN_H

#include "session_peer.h"

enum {
    STEPS_MAX = 64,
    SLOTS = 4, /* connections of the clients that the input moves */
    IDS = 4,   /* of them */
    TAGS_MAX = 128,
    TAG_BYTES = 16,  /* that the payload begins with */
    TAG_PROBE = -2,  /* a message of the healthy pair's own */
    ENDING_MAX = 16, /* sessions that are ended at a time */
    GHOSTS_MAX = STEPS_MAX,
};
#define NS_PER_MS INT64_C(1000000)

extern const char *const session_ids[IDS];

/* A message whose payload we know again. */
struct tag {
    uint16_t packet_id;
    uint8_t qos;
    uint8_t topic;
    int client; /* index of session_ids, or -1 */
    uint8_t got;
    bool wanted; /* the healthy subscriber has to get it, once it is accepted */
    bool accepted;
    bool released; /* PUBREL was sent */
    bool may_double;
    uint32_t generation; /* of its client's session */
};

struct run {
    uint32_t number; /* since the disk was empty */
    uint32_t tag_count;
    uint16_t id_last;          /* a packet id is used once */
    uint32_t generations[IDS]; /* of sessions; goes up where one may have begun */
    bool spoilt_ids[IDS];      /* what their sessions have under way is not known */
    int client[SLOTS];         /* index of session_ids, or -1 */
    uint32_t ghost_count;
    struct tag tags[TAGS_MAX];
    struct { /* dropped before they were let in, as they still may be */
        size_t len;
        uint8_t id[PEER_ID_MAX];
    } ghosts[GHOSTS_MAX];
};
extern struct run run;

/* Since the disk was empty. */
extern struct probes {
    uint32_t sent;
    uint32_t accepted;
    uint32_t got;
} probes;

extern struct peer slots[SLOTS];
extern struct peer publisher; /* the healthy pair */
extern struct peer watcher;
extern struct peer ending[ENDING_MAX];

void run_begin(void);

/* Everything that can happen now. */
void happen(void);

/* ... and behind so much time. */
void time_passes(int64_t ns);

/* ... and in time, until `done`; a find if that takes too long. */
void wait_for(bool (*done)(void), const char *what);

/* Another message that is known again: its number, and what its payload begins with.  NO_TAG: there
 * were too many.
 */
int16_t tag_new(int client, uint8_t qos, uint8_t payload[TAG_BYTES]);
void tag_put(int16_t tag, uint8_t payload[TAG_BYTES]); /* of a known one, or TAG_PROBE */

/* ---- session_steps.c ---- */

/* What the input says, byte for byte. */
void steps_do(struct mr_span input);

#endif
