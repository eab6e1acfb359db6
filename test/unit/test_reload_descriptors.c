/* test_reload_descriptors.c
 * links: broker net store journal codec config os base
 *
 * Goal:   a reload in a process that may open no more files changes all shards, or none and says
 *         that: never some of them.
 * Method: a real broker with two shards and a client at home in each; the limit of descriptors is
 *         lowered until the reload needs none more.
 */
#include "broker_peer.h"

#include <fcntl.h>
#include <sys/resource.h>

enum { SHARDS = 2, CLIENTS = 8, TOPIC_MAX = 5 };

static struct peer peers[CLIENTS];
static uint16_t packet_id;

/* As many descriptors as there are, and `more`. */
static void descriptors_allow(rlim_t more)
{
    struct rlimit limit;
    int first_free = open("/dev/null", O_RDONLY | O_CLOEXEC);

    mr_assert(first_free >= 0 && close(first_free) == 0);
    mr_assert(getrlimit(RLIMIT_NOFILE, &limit) == 0);
    limit.rlim_cur = (rlim_t)first_free + more;
    mr_assert(setrlimit(RLIMIT_NOFILE, &limit) == 0);
}

/* Is the topic longer than each of them may use?  They are at home in both shards, all but once in
 * 128 runs.
 */
static void check_topics(uint8_t reason)
{
    packet_id += 1;
    for (int i = 0; i < CLIENTS; i++) {
        peer_publish(&peers[i], "longer/than/that", "x", 1, packet_id);
        mr_assert(peer_expect_puback(&peers[i], packet_id) == reason);
    }
}

int main(void)
{
    struct mr_error why = {.text = ""};
    enum mr_err err = MR_ERR_CONFIG;
    struct rlimit limit;
    struct kit kit;

    mr_assert(getrlimit(RLIMIT_NOFILE, &limit) == 0);
    kit_open(&kit, &(struct kit_options){.lanes = SHARDS});
    for (int i = 0; i < CLIENTS; i++) {
        char id[16];
        (void)snprintf(id, sizeof(id), "c%d", i);
        peer_join(&peers[i], &kit, id, 5);
    }
    check_topics(0);
    kit.limits.max_topic_length = TOPIC_MAX;
    for (rlim_t more = 0; err != MR_OK; more++) {
        descriptors_allow(more);
        err = kit_reload(&kit, &why);
        mr_assert(setrlimit(RLIMIT_NOFILE, &limit) == 0);
        mr_assert(more < 8 &&
                  (err == MR_OK || (err == MR_ERR_CONFIG && strstr(why.text, "open files"))));
        check_topics(err == MR_OK ? MR_MQTT_TOPIC_NAME_INVALID : 0);
    }
    for (int i = 0; i < CLIENTS; i++) {
        peer_close(&peers[i]);
    }
    kit_close(&kit);
    return 0;
}
