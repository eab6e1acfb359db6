/* test_session_origin.c
 * links: broker net store journal codec config os base
 *
 * Goal:   a session store that says more of the lanes than they have (of another journal, or of a
 *         later copy of this one) takes nothing from the messages that come now: what has the seq
 *         of one that was read then reaches the sessions of other shards all the same.
 * Method: a broker of two shards; a subscriber at home in one, a publisher in the other; the
 *         journal's files are removed, or replaced by a copy made before, and the stores stay.
 */
#include "broker_peer.h"

enum { LANES = 2, MESSAGES = 20 };

static struct kit kit;

/* A name that is at home in this lane. */
static void name_at(uint32_t lane, char out[16])
{
    for (int i = 0;; i++) {
        (void)snprintf(out, 16, "name-%d", i);
        if (mr_journal_home_of(kit.journal, mr_span_of(out), LANES) == lane) {
            return;
        }
    }
}

static void join(struct peer *peer, uint32_t lane, bool keeps)
{
    struct mr_mqtt_connack connack;
    char id[16];

    name_at(lane, id);
    peer_open(peer, &kit);
    peer_send_connect(peer, &(struct peer_connect){.client_id = id,
                                                   .version = 5,
                                                   .keep_session = keeps,
                                                   .expiry_s = keeps ? 3600 : 0});
    peer_expect_connack(peer, &connack);
    mr_assert(connack.reason == 0);
}

static void subscribe_and_leave(void)
{
    struct mr_mqtt_subscription filter = {.filter = mr_span_of("t"), .qos = 1};
    struct peer sub;

    join(&sub, 0, true);
    mr_assert(peer_subscribe(&sub, &filter, 0) == 1);
    peer_close(&sub);
}

static void publish(const char *payload, int count)
{
    struct peer pub;

    join(&pub, 1, false);
    for (int i = 0; i < count; i++) {
        peer_publish(&pub, "t", payload, 1, 1);
        mr_assert(peer_expect_puback(&pub, 1) == 0);
    }
    peer_close(&pub);
}

static void take(const char *payload, int count)
{
    struct mr_mqtt_publish got;
    struct peer sub;

    join(&sub, 0, true);
    for (int i = 0; i < count; i++) {
        peer_expect_publish(&sub, "t", payload, 1, &got);
        peer_ack(&sub, got.packet_id);
    }
    peer_quiet(&sub);
    peer_close(&sub);
}

static void copy_all(const char *from, const char *to)
{
    mr_assert(mr_dir_list(from, kit_copy, &(struct kit_copying){from, to}) == MR_OK);
}

/* The stores as they are, and of the journal what `journal` has, which goes. */
static void stores_with(const char *journal)
{
    struct kit now = {.options = kit.options};
    char sessions[300];

    kit_end(&kit, 5000000000);
    kit_folder(&now);
    if (journal != NULL) {
        copy_all(journal, now.folder);
        mr_assert(mr_dir_list(journal, kit_remove, (void *)(uintptr_t)journal) == MR_OK);
        mr_assert(rmdir(journal) == 0);
    }
    (void)snprintf(sessions, sizeof(sessions), "%s/sessions", now.folder);
    if (mr_path_exists(sessions)) {
        kit_remove(now.folder, "sessions");
    }
    mr_assert(mr_dir_create(sessions, NULL) == MR_OK);
    copy_all(kit.sessions, sessions);
    mr_assert(mr_dir_list(kit.folder, kit_remove, kit.folder) == MR_OK);
    mr_assert(rmdir(kit.folder) == 0);
    kit = now;
    kit_begin(&kit);
}

static void begin(void)
{
    kit_open(&kit, &(struct kit_options){.lanes = LANES, .checkpoint_ms = 1});
    subscribe_and_leave();
}

static void test_store_of_another_journal(void)
{
    begin();
    publish("old", MESSAGES);
    take("old", MESSAGES);
    stores_with(NULL);
    subscribe_and_leave();
    publish("new", 1);
    take("new", 1);
    kit_close(&kit);
}

static void test_store_of_a_later_copy(void)
{
    struct kit older = {.options = kit.options};

    begin();
    kit_folder(&older);
    copy_all(kit.folder, older.folder);
    publish("old", MESSAGES);
    take("old", MESSAGES);
    stores_with(older.folder);
    publish("new", 1);
    take("new", 1);
    kit_close(&kit);
}

int main(void)
{
    test_store_of_another_journal();
    test_store_of_a_later_copy();
    return 0;
}
