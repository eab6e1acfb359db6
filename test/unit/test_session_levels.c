/* test_session_levels.c
 * links: broker net auth store journal codec config os base
 *
 * Goal:   a subscription of more levels than `max_topic_levels` now allows stays: the gateway
 *         starts, and where the limit is raised again its session gets what it was owed.
 * Method: a session with a subscription of many levels, a start that allows fewer, another one.
 */
#include "broker_peer.h"

#define DEEP "a/b/c/d/e/f/g/h"

int main(void)
{
    const struct mr_mqtt_subscription wanted[] = {{.filter = mr_span_of(DEEP), .qos = 1},
                                                  {.filter = mr_span_of("$share/g/" DEEP)}};
    struct mr_error why = {.text = ""};
    struct mr_broker *broker = NULL;
    struct mr_mqtt_publish got;
    struct kit kit;
    struct peer sub;
    struct peer pub;

    kit_open(&kit, &(struct kit_options){.checkpoint_ms = 1});
    peer_join_kept(&sub, &kit, false);
    mr_assert(peer_subscribe(&sub, &wanted[0], 0) == 1);
    mr_assert(peer_subscribe(&sub, &wanted[1], 0) == 0);
    peer_close(&sub);
    kit_end(&kit, 5000000000);

    kit_journal(&kit);
    struct mr_broker_run run = {.journal = kit.journal,
                                .listeners = &kit.listener,
                                .listener_count = 1,
                                .sessions_path = kit.sessions,
                                .limits = kit_limits(&kit.options)};
    run.limits.max_topic_levels = 3;
    if (mr_broker_open(&broker, &run, &why) != MR_OK) {
        fprintf(stderr, "%s\n", why.text);
        abort();
    }
    mr_broker_close(broker);
    mr_assert(mr_journal_close(kit.journal) == MR_OK);

    kit_begin(&kit);
    peer_join_kept(&sub, &kit, true);
    peer_join(&pub, &kit, "pub", 4);
    peer_publish(&pub, DEEP, "x", 0, 0);
    peer_expect_publish(&sub, DEEP, "x", 0, &got);
    peer_expect_publish(&sub, DEEP, "x", 0, &got); /* as a member of its group */
    peer_close(&pub);
    peer_close(&sub);
    kit_close(&kit);
    return 0;
}
