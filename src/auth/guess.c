/* guess.c - see guess.h for the contract. */
#include "auth/guess.h"

static struct guess *guess_find(struct guesses *guesses, uint64_t address)
{
    struct guess *set = guesses->table[address % GUESS_SETS];

    for (int i = 0; i < GUESS_WAYS; i++) {
        if (set[i].address == address && set[i].since_ns != 0) {
            return &set[i];
        }
    }
    return NULL;
}

/* Let the time that has passed lower the level. */
static void guess_age(struct guess *guess, int64_t now_ns)
{
    int64_t steps = (now_ns - guess->since_ns) / ((int64_t)GUESS_FORGET_MS * 1000000);

    if (steps > 0) {
        guess->level = steps < guess->level ? guess->level - (uint32_t)steps : 0;
        guess->since_ns += steps * GUESS_FORGET_MS * 1000000;
    }
}

/* The place of `address`, made if need be from the one that is of least use. */
static struct guess *guess_make(struct guesses *guesses, uint64_t address, int64_t now_ns)
{
    struct guess *found = guess_find(guesses, address);
    struct guess *set = guesses->table[address % GUESS_SETS];

    if (found != NULL) {
        return found;
    }
    found = &set[0];
    for (int i = 1; i < GUESS_WAYS; i++) {
        bool is_freer = set[i].open == 0 && found->open != 0;
        bool is_older =
            (set[i].open == 0) == (found->open == 0) && set[i].since_ns < found->since_ns;
        found = is_freer || is_older ? &set[i] : found;
    }
    *found = (struct guess){.address = address, .since_ns = now_ns > 0 ? now_ns : 1};
    return found;
}

uint32_t guess_delay_ms(struct guesses *guesses, uint64_t address, int64_t now_ns)
{
    struct guess *guess = guess_find(guesses, address);

    if (guess == NULL) {
        return 0;
    }
    guess_age(guess, now_ns);
    if (guess->level <= GUESS_FREE) {
        return 0;
    }
    uint32_t doublings = guess->level - GUESS_FREE - 1;
    uint32_t delay_ms = doublings > 8 ? GUESS_DELAY_MS_MAX : (uint32_t)GUESS_DELAY_MS << doublings;
    return delay_ms > GUESS_DELAY_MS_MAX ? GUESS_DELAY_MS_MAX : delay_ms;
}

bool guess_open(struct guesses *guesses, uint64_t address, int64_t now_ns)
{
    struct guess *guess = guess_make(guesses, address, now_ns);

    if (guess->open >= GUESS_OPEN_MAX) {
        return false;
    }
    guess->open += 1;
    return true;
}

void guess_close(struct guesses *guesses, uint64_t address)
{
    struct guess *guess = guess_find(guesses, address);

    if (guess != NULL && guess->open != 0) {
        guess->open -= 1;
    }
}

void guess_failed(struct guesses *guesses, uint64_t address, int64_t now_ns)
{
    struct guess *guess = guess_make(guesses, address, now_ns);

    guess_age(guess, now_ns);
    if (guess->level < GUESS_LEVEL_MAX) {
        guess->level += 1;
    }
}

void guess_succeeded(struct guesses *guesses, uint64_t address, int64_t now_ns)
{
    struct guess *guess = guess_find(guesses, address);

    if (guess != NULL) {
        guess_age(guess, now_ns);
        guess->level -= guess->level != 0;
    }
}
