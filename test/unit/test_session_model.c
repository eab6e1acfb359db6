/* test_session_model.c
 * links: broker net store journal codec config os base
 *
 * Goal:   the state that a start rebuilds is the state that there was: sessions,
 *         subscriptions, deliveries with their ordinals, ids awaiting PUBREL, retained
 *         messages; whatever was done, with checkpoints at any moment and without a store.
 * Method: clients do random things to a real broker; at random moments everything is made
 *         durable, the disk is copied, and what a new broker makes of the copy is compared
 *         with the old one, line by line.  Then the clients go on with the new one.
 *
 * The seed is printed; MR_SEED repeats a run.
 */
#include "session_walk.h"

static void crash_and_compare(void)
{
    begin_and_compare(crash());
}

int main(void)
{
    uint64_t seed = walk_seed();

    walk(seed, &(struct kit_options){.manual = true, .no_store = true}, 600, crash_and_compare);
    walk(seed + 1, &(struct kit_options){.manual = true, .checkpoint_ms = 3}, 600,
         crash_and_compare);
    walk(seed + 2, &(struct kit_options){.manual = true, .checkpoint_ms = 40}, 600,
         crash_and_compare);
    walk(seed + 3,
         &(struct kit_options){
             .manual = true, .checkpoint_ms = 10, .max_queued_messages = 5, .receive_maximum = 100},
         600, crash_and_compare);
    printf("%llu lines of state were the same\n", (unsigned long long)compared);
    mr_assert(aliases_met != 0 && compared > 500); /* the walk did something */
    return 0;
}
