/* crowd.c - see crowd.h for the contract.
 *
 * A table of places, found by a hash of listener and address under a key that is made at start,
 * with linear probing.  A place that gets free is filled by what stands behind it and belongs
 * there or before, so no look-up passes over a gap.
 */
#include "broker/crowd.h"

#include "base/hash.h"
#include "broker/peer_name.h"
#include "os/process.h"
#include "os/thread.h"

enum { PLACES_FIRST = 256 };

struct place {
    uint64_t hash;  /* of listener and address; 0: free */
    uint64_t count; /* of its connections */
};

struct crowd {
    struct mr_mutex mutex;
    struct mr_hash_key key;
    struct place *places;
    size_t mask;
    size_t used;
};

struct crowd *crowd_open(void)
{
    struct crowd *crowd = mr_alloc(sizeof(*crowd));

    mr_mutex_init(&crowd->mutex);
    mr_os_random(&crowd->key, sizeof(crowd->key));
    crowd->places = mr_alloc(PLACES_FIRST * sizeof(*crowd->places));
    crowd->mask = PLACES_FIRST - 1;
    return crowd;
}

void crowd_close(struct crowd *crowd)
{
    if (crowd != NULL) {
        mr_mutex_fini(&crowd->mutex);
        mr_free(crowd->places);
        mr_free(crowd);
    }
}

/* 0: the peer has no address. */
static uint64_t hash_of(const struct crowd *crowd, uint32_t listener, const char *peer)
{
    char name[MR_PEER_NAME_BYTES];
    struct mr_span address = mr_peer_name(peer, name);
    struct mr_hash_key key = {.k0 = crowd->key.k0 ^ listener, .k1 = crowd->key.k1};

    return address.len == 0 ? 0 : mr_siphash(&key, address.at, address.len) | 1;
}

/* The place of `hash`, or the free one where it would stand. */
static size_t place_find(const struct crowd *crowd, uint64_t hash)
{
    size_t at = hash / 2 & crowd->mask;

    while (crowd->places[at].hash != 0 && crowd->places[at].hash != hash) {
        at = (at + 1) & crowd->mask;
    }
    return at;
}

static void table_grow(struct crowd *crowd)
{
    struct place *before = crowd->places;
    size_t count = crowd->mask + 1;

    crowd->places = mr_alloc(2 * count * sizeof(*crowd->places));
    crowd->mask = 2 * count - 1;
    for (size_t i = 0; i < count; i++) {
        if (before[i].hash != 0) {
            crowd->places[place_find(crowd, before[i].hash)] = before[i];
        }
    }
    mr_free(before);
}

/* Let those behind it move up. */
static void place_free(struct crowd *crowd, size_t hole)
{
    size_t at = hole;

    crowd->used -= 1;
    for (;;) {
        at = (at + 1) & crowd->mask;
        if (crowd->places[at].hash == 0) {
            break;
        }
        size_t home = crowd->places[at].hash / 2 & crowd->mask;
        if (((at - home) & crowd->mask) >= ((at - hole) & crowd->mask)) {
            crowd->places[hole] = crowd->places[at];
            hole = at;
        }
    }
    crowd->places[hole] = (struct place){.hash = 0};
}

enum crowd_says crowd_enter(struct crowd *crowd, uint32_t listener, const char *peer, uint32_t max)
{
    uint64_t hash = hash_of(crowd, listener, peer);
    enum crowd_says says = CROWD_SHUT;

    if (hash == 0) {
        return CROWD_NOBODY;
    }
    mr_mutex_lock(&crowd->mutex);
    struct place *place = &crowd->places[place_find(crowd, hash)];
    if (place->count < (uint64_t)max + CROWD_SURPLUS) {
        says = place->count < max ? CROWD_FITS : CROWD_BEYOND;
        crowd->used += place->hash == 0;
        place->hash = hash;
        place->count += 1;
    }
    if (crowd->used * 2 > crowd->mask) {
        table_grow(crowd);
    }
    mr_mutex_unlock(&crowd->mutex);
    return says;
}

void crowd_leave(struct crowd *crowd, uint32_t listener, const char *peer)
{
    uint64_t hash = hash_of(crowd, listener, peer);

    mr_mutex_lock(&crowd->mutex);
    size_t at = place_find(crowd, hash);
    mr_assert(hash != 0 && crowd->places[at].count != 0);
    crowd->places[at].count -= 1;
    if (crowd->places[at].count == 0) {
        place_free(crowd, at);
    }
    mr_mutex_unlock(&crowd->mutex);
}

bool crowd_is_beyond(struct crowd *crowd, uint32_t listener, const char *peer, uint32_t max)
{
    uint64_t hash = hash_of(crowd, listener, peer);

    mr_mutex_lock(&crowd->mutex);
    bool beyond = hash != 0 && crowd->places[place_find(crowd, hash)].count > max;
    mr_mutex_unlock(&crowd->mutex);
    return beyond;
}
