/* guard.c - see guard.h for the contract. */
#include "broker/guard.h"

#include "base/hash.h"
#include "broker/peer_name.h"
#include "os/process.h"
#include "os/thread.h"

enum {
    PLACE_WAYS = 4,
    PLACE_SETS = 1024,
    PLACE_NAME = MR_PEER_NAME_BYTES,
    BANS_MAX = 20,  /* doublings that are counted */
    SHUT_RATE = 10, /* connections a second of a banned address that are answered */
    SHUT_BURST = 50,
};
#define SECOND_NS ((int64_t)1000000000)
#define FORGIVE_NS (6 * SECOND_NS) /* one failure */

/* Of an address or a client id: what is known about it. */
struct place {
    uint64_t hash;      /* of the whole name; 0: free */
    int64_t touched_ns; /* by whatever made it useful */
    int64_t level_ns;   /* up to here the level has been lowered; clients: since when it counts */
    int64_t until_ns;   /* of its ban; 0: there was none */
    int64_t due_ns;     /* of its connections: when they are paid for */
    uint32_t level;
    uint16_t bans;
    uint8_t name_len;
    char name[PLACE_NAME];
};

struct table {
    struct place places[PLACE_SETS][PLACE_WAYS];
};

struct mr_guard {
    struct mr_mutex mutex;
    struct mr_hash_key key;
    struct mr_ban_conf ban;
    struct mr_flapping_conf flapping;
    _Atomic bool addresses_known; /* some address has failed, or come too often */
    _Atomic bool clients_counted; /* flapping is looked for, or somebody is banned for it */
    struct table addresses;
    struct table clients;
};

struct mr_guard *mr_guard_open(void)
{
    struct mr_guard *guard = mr_alloc(sizeof(*guard));

    mr_mutex_init(&guard->mutex);
    mr_os_random(&guard->key, sizeof(guard->key));
    return guard;
}

void mr_guard_close(struct mr_guard *guard)
{
    if (guard != NULL) {
        mr_mutex_fini(&guard->mutex);
        mr_free(guard);
    }
}

void mr_guard_set(struct mr_guard *guard, const struct mr_ban_conf *ban,
                  const struct mr_flapping_conf *flapping)
{
    mr_mutex_lock(&guard->mutex);
    guard->ban = *ban;
    guard->flapping = *flapping;
    mr_mutex_unlock(&guard->mutex);
    if (flapping->enable) {
        atomic_store(&guard->clients_counted, true);
    }
}

/* ---- places ---- */

static struct place *place_find(struct mr_guard *guard, struct table *table, struct mr_span name)
{
    uint64_t hash = mr_siphash(&guard->key, name.at, name.len) | 1;
    struct place *set = table->places[hash / 2 % PLACE_SETS];

    for (int i = 0; i < PLACE_WAYS; i++) {
        if (set[i].hash == hash) {
            return &set[i];
        }
    }
    return NULL;
}

/* Is `one` of less use than `other`?  A ban is, until it has ended. */
static bool place_is_lesser(const struct place *one, const struct place *other, int64_t now_ns)
{
    bool one_banned = one->until_ns > now_ns;
    bool other_banned = other->until_ns > now_ns;

    if (one_banned != other_banned) {
        return other_banned;
    }
    return one_banned ? one->until_ns < other->until_ns : one->touched_ns < other->touched_ns;
}

/* The place of `name`, made if need be from the one that is of least use. */
static struct place *place_make(struct mr_guard *guard, struct table *table, struct mr_span name,
                                int64_t now_ns)
{
    struct place *found = place_find(guard, table, name);

    if (found == NULL) {
        uint64_t hash = mr_siphash(&guard->key, name.at, name.len) | 1;
        struct place *set = table->places[hash / 2 % PLACE_SETS];
        found = &set[0];
        for (int i = 1; i < PLACE_WAYS; i++) {
            found = place_is_lesser(&set[i], found, now_ns) ? &set[i] : found;
        }
        *found = (struct place){.hash = hash, .level_ns = now_ns};
        found->name_len = (uint8_t)(name.len < PLACE_NAME ? name.len : PLACE_NAME);
        memcpy(found->name, name.at, found->name_len);
    }
    found->touched_ns = now_ns;
    return found;
}

/* True: one more a second than `rate`, with `burst` at once, would be too many. */
static bool place_too_often(struct place *place, uint32_t rate, uint32_t burst, int64_t now_ns)
{
    int64_t interval_ns = SECOND_NS / (int64_t)rate;
    int64_t due_ns = place->due_ns > now_ns ? place->due_ns : now_ns;

    if (due_ns - now_ns > (int64_t)(burst - 1) * interval_ns) {
        return true;
    }
    place->due_ns = due_ns + interval_ns;
    return false;
}

/* Let the time that has passed lower the level. */
static void place_age(struct place *place, int64_t now_ns)
{
    int64_t steps = (now_ns - place->level_ns) / FORGIVE_NS;

    if (steps > 0) {
        place->level = steps < place->level ? place->level - (uint32_t)steps : 0;
        place->level_ns += steps * FORGIVE_NS;
    }
}

/* ---- addresses ---- */

enum mr_guard_says mr_guard_knock(struct mr_guard *guard, const char *peer, uint32_t rate,
                                  int64_t now_ns)
{
    char text[PLACE_NAME];
    enum mr_guard_says says = MR_GUARD_GO;

    if (rate == 0 && !atomic_load_explicit(&guard->addresses_known, memory_order_relaxed)) {
        return MR_GUARD_GO;
    }
    struct mr_span name = mr_peer_name(peer, text);
    if (name.len == 0) {
        return MR_GUARD_GO;
    }
    mr_mutex_lock(&guard->mutex);
    struct place *place = rate != 0 ? place_make(guard, &guard->addresses, name, now_ns)
                                    : place_find(guard, &guard->addresses, name);
    if (place != NULL && place->until_ns > now_ns) {
        says = place_too_often(place, SHUT_RATE, SHUT_BURST, now_ns) ? MR_GUARD_SHUT : MR_GUARD_GO;
    } else if (place != NULL && rate != 0) {
        says = place_too_often(place, rate, rate, now_ns) ? MR_GUARD_REFUSE : MR_GUARD_GO;
    }
    mr_mutex_unlock(&guard->mutex);
    return says;
}

bool mr_guard_bans_address(struct mr_guard *guard, const char *peer, int64_t now_ns)
{
    char text[PLACE_NAME];

    if (!atomic_load_explicit(&guard->addresses_known, memory_order_relaxed)) {
        return false;
    }
    struct mr_span name = mr_peer_name(peer, text);
    mr_mutex_lock(&guard->mutex);
    const struct place *place = name.len == 0 ? NULL : place_find(guard, &guard->addresses, name);
    bool is_banned = place != NULL && place->until_ns > now_ns;
    mr_mutex_unlock(&guard->mutex);
    return is_banned;
}

/* Twice as long as the last time, unless that is long ago. */
static uint32_t place_ban(struct place *place, const struct mr_ban_conf *conf, int64_t now_ns)
{
    int64_t max_ns = (int64_t)conf->max_time_us * 1000;
    int64_t time_ns = (int64_t)conf->time_us * 1000;

    if (now_ns - place->until_ns > max_ns) {
        place->bans = 0;
    }
    for (uint16_t i = 0; i < place->bans && time_ns < max_ns; i++) {
        time_ns *= 2;
    }
    time_ns = time_ns < max_ns ? time_ns : max_ns;
    place->bans = (uint16_t)(place->bans < BANS_MAX ? place->bans + 1 : BANS_MAX);
    place->until_ns = now_ns + time_ns;
    place->level = (uint32_t)conf->max_failures / 2; /* what it may do before the next one */
    return (uint32_t)((time_ns + SECOND_NS - 1) / SECOND_NS);
}

uint32_t mr_guard_failed(struct mr_guard *guard, const char *peer, int64_t now_ns)
{
    char text[PLACE_NAME];
    struct mr_span name = mr_peer_name(peer, text);
    uint32_t seconds = 0;

    mr_mutex_lock(&guard->mutex);
    if (guard->ban.max_failures != 0 && name.len != 0 &&
        (guard->ban.loopback || !mr_peer_name_is_loopback(name))) {
        struct place *place = place_make(guard, &guard->addresses, name, now_ns);
        place_age(place, now_ns);
        place->level += place->until_ns <= now_ns;
        if (place->level >= guard->ban.max_failures && place->until_ns <= now_ns) {
            seconds = place_ban(place, &guard->ban, now_ns);
        }
        atomic_store_explicit(&guard->addresses_known, true, memory_order_relaxed);
    }
    mr_mutex_unlock(&guard->mutex);
    return seconds;
}

void mr_guard_succeeded(struct mr_guard *guard, const char *peer, int64_t now_ns)
{
    char text[PLACE_NAME];

    if (!atomic_load_explicit(&guard->addresses_known, memory_order_relaxed)) {
        return;
    }
    struct mr_span name = mr_peer_name(peer, text);
    mr_mutex_lock(&guard->mutex);
    struct place *place = name.len == 0 ? NULL : place_find(guard, &guard->addresses, name);
    if (place != NULL) {
        place_age(place, now_ns);
        place->level -= place->level != 0;
    }
    mr_mutex_unlock(&guard->mutex);
}

/* ---- client ids ---- */

bool mr_guard_bans_client(struct mr_guard *guard, struct mr_span client_id, int64_t now_ns)
{
    if (!atomic_load_explicit(&guard->clients_counted, memory_order_relaxed) ||
        client_id.len == 0) {
        return false;
    }
    mr_mutex_lock(&guard->mutex);
    const struct place *place = place_find(guard, &guard->clients, client_id);
    bool is_banned = place != NULL && place->until_ns > now_ns;
    mr_mutex_unlock(&guard->mutex);
    return is_banned;
}

uint32_t mr_guard_client_left(struct mr_guard *guard, struct mr_span client_id, int64_t now_ns)
{
    const struct mr_flapping_conf *conf = &guard->flapping;
    uint32_t seconds = 0;

    if (!atomic_load_explicit(&guard->clients_counted, memory_order_relaxed)) {
        return 0;
    }
    mr_mutex_lock(&guard->mutex);
    if (conf->enable) {
        struct place *place = place_make(guard, &guard->clients, client_id, now_ns);
        if (now_ns - place->level_ns > (int64_t)conf->window_time_us * 1000) {
            place->level = 0;
            place->level_ns = now_ns;
        }
        place->level += 1;
        if (place->level >= conf->max_count && place->until_ns <= now_ns) {
            place->level = 0;
            place->bans = (uint16_t)(place->bans < BANS_MAX ? place->bans + 1 : BANS_MAX);
            place->until_ns = now_ns + (int64_t)conf->ban_time_us * 1000;
            seconds = (uint32_t)((conf->ban_time_us + 999999) / 1000000);
        }
    }
    mr_mutex_unlock(&guard->mutex);
    return seconds;
}

/* ---- the operator ---- */

static void table_each(struct table *table, bool is_client, int64_t now_ns,
                       void (*each)(void *arg, const struct mr_ban_info *info), void *arg)
{
    struct place *places = &table->places[0][0];

    for (size_t i = 0; i < (size_t)PLACE_SETS * PLACE_WAYS; i++) {
        if (places[i].until_ns > now_ns) {
            each(arg, &(struct mr_ban_info){.who = mr_span_make(places[i].name, places[i].name_len),
                                            .left_ns = places[i].until_ns - now_ns,
                                            .times = places[i].bans,
                                            .is_client = is_client});
        }
    }
}

void mr_guard_each(struct mr_guard *guard, int64_t now_ns,
                   void (*each)(void *arg, const struct mr_ban_info *info), void *arg)
{
    mr_mutex_lock(&guard->mutex);
    table_each(&guard->addresses, false, now_ns, each, arg);
    table_each(&guard->clients, true, now_ns, each, arg);
    mr_mutex_unlock(&guard->mutex);
}

static uint64_t table_clear(struct table *table, struct mr_span who, int64_t now_ns)
{
    struct place *places = &table->places[0][0];
    uint64_t count = 0;

    for (size_t i = 0; i < (size_t)PLACE_SETS * PLACE_WAYS; i++) {
        struct place *place = &places[i];
        size_t len = who.len < PLACE_NAME ? who.len : PLACE_NAME;
        bool is_it =
            who.at == NULL || (place->name_len == len && memcmp(place->name, who.at, len) == 0);
        if (place->hash != 0 && is_it) {
            count += place->until_ns > now_ns;
            *place = (struct place){.hash = 0};
        }
    }
    return count;
}

uint64_t mr_guard_clear(struct mr_guard *guard, struct mr_span who, int64_t now_ns)
{
    mr_mutex_lock(&guard->mutex);
    uint64_t count =
        table_clear(&guard->addresses, who, now_ns) + table_clear(&guard->clients, who, now_ns);
    mr_mutex_unlock(&guard->mutex);
    return count;
}
