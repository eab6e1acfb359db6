/* known.c - see known.h for the contract. */
#include "auth/known.h"

#include "auth/passhash.h"
#include "os/clock.h"

#include <openssl/crypto.h>
#include <string.h>

static uint32_t now_s(void)
{
    return (uint32_t)(mr_clock_mono_ns() / 1000000000) + 1;
}

/* The places where a mark may lie. */
static size_t set_of(const uint8_t mark[KNOWN_BYTES])
{
    uint32_t place = 0;

    memcpy(&place, mark, sizeof(place));
    return (size_t)(place % (KNOWN_SLOTS / KNOWN_WAYS)) * KNOWN_WAYS;
}

bool known_has(const struct knowns *knowns, const uint8_t mark[KNOWN_BYTES])
{
    const struct known *set = &knowns->table[set_of(mark)];
    bool found = false;

    for (int i = 0; i < KNOWN_WAYS; i++) {
        bool same = CRYPTO_memcmp(set[i].mark, mark, KNOWN_BYTES) == 0;
        found = found || (same && set[i].until_s > now_s());
    }
    return found;
}

void known_add(struct knowns *knowns, const uint8_t mark[KNOWN_BYTES], uint32_t seconds)
{
    struct known *set = &knowns->table[set_of(mark)];
    struct known *place = &set[0];

    for (int i = 1; i < KNOWN_WAYS; i++) {
        place = set[i].until_s < place->until_s ? &set[i] : place;
    }
    memcpy(place->mark, mark, KNOWN_BYTES);
    place->until_s = now_s() + seconds;
}

void known_forget_all(struct knowns *knowns)
{
    mr_secret_wipe(knowns, sizeof(*knowns));
}
