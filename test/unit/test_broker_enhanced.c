/* test_broker_enhanced.c
 * links: broker auth net journal codec config os base
 *
 * Goal:   enhanced authentication (4.12): who proves its password by SCRAM comes in, and may do it
 *         again while connected; each packet out of turn, and each wrong proof, gets the reason
 *         that the specification names, and the end; nobody becomes another user.
 * Method: a real broker with a password file of SCRAM; a client whose every step can be spoilt.
 */
#include "broker_peer.h"

#include "auth/passfile.h"
#include "scram_client.h"
#include "tls_kit.h"

#define BARE(user) "n=" user ",r=0123456789"
#define FIRST(user) "n,," BARE(user)

static struct kit kit;

static void user_set(enum mr_passfile_how how, const char *user, const char *password)
{
    static const uint8_t salt[MR_SCRAM_SALT_BYTES] = {1, 2, 3};
    struct mr_scram_keys keys;
    char scram[MR_SCRAM_TEXT_MAX];
    size_t changed = 0;
    struct mr_error why;

    mr_scram_make(mr_span_of(password), MR_SCRAM_ITERATIONS_MIN, salt, &keys);
    mr_scram_write(&keys, scram);
    struct mr_passfile_change change = {
        .how = how, .user = user, .scram = scram, .scram_wanted = true};
    mr_assert(mr_passfile_write(tls_path("users"), &change, &changed, &why) == MR_OK);
    mr_assert(changed == 1);
}

static void connect_send(struct peer *peer, const char *id, const char *username, const char *first)
{
    uint8_t bytes[1024];
    struct mr_mqtt_connect packet = {
        .version = MR_MQTT_5, .client_id = mr_span_of(id), .clean_start = true};

    packet.props.auth_method = mr_span_of(MR_SCRAM_METHOD);
    mr_mqtt_set(&packet.props, MR_MQTT_PROP_AUTH_METHOD);
    packet.props.auth_data = mr_span_of(first);
    mr_mqtt_set(&packet.props, MR_MQTT_PROP_AUTH_DATA);
    if (username != NULL) {
        packet.has_username = true;
        packet.username = mr_span_of(username);
    }
    peer->version = MR_MQTT_5;
    ptrdiff_t len = mr_mqtt_connect_encode(&packet, bytes, sizeof(bytes));
    mr_assert(len > 0);
    peer_write(peer, bytes, (size_t)len);
}

static void auth_send(struct peer *peer, uint8_t reason, const char *method, const char *data)
{
    uint8_t bytes[1024];
    struct mr_mqtt_disconnect packet = {.type = MR_MQTT_AUTH, .reason = reason};

    packet.props.auth_method = mr_span_of(method);
    mr_mqtt_set(&packet.props, MR_MQTT_PROP_AUTH_METHOD);
    packet.props.auth_data = mr_span_of(data);
    mr_mqtt_set(&packet.props, MR_MQTT_PROP_AUTH_DATA);
    ptrdiff_t len = mr_mqtt_disconnect_encode(&packet, MR_MQTT_5, bytes, sizeof(bytes));
    mr_assert(len > 0);
    peer_write(peer, bytes, (size_t)len);
}

/* The next packet is AUTH with `reason`; its data as text. */
static void auth_expect(struct peer *peer, uint8_t reason, char data[MR_SCRAM_MESSAGE_MAX])
{
    struct mr_mqtt_mode mode = {.version = MR_MQTT_5, .from = MR_MQTT_FROM_SERVER};
    struct mr_mqtt_frame frame;
    struct mr_mqtt_disconnect packet;
    struct mr_mqtt_why why;

    mr_assert(peer_frame(peer, &frame) && frame.type == MR_MQTT_AUTH);
    mr_assert(mr_mqtt_disconnect_decode(&frame, mode, &packet, &why) == MR_OK);
    mr_assert(packet.reason == reason);
    mr_assert(mr_span_is(packet.props.auth_method, MR_SCRAM_METHOD)); /* [MQTT-4.12.0-5] */
    (void)snprintf(data, MR_SCRAM_MESSAGE_MAX, "%.*s", (int)packet.props.auth_data.len,
                   (const char *)packet.props.auth_data.at);
}

/* CONNECT as `press`; its client-final if it thinks that this is its password. */
static void begin(struct peer *peer, const char *id, const char *username, const char *password,
                  char final[MR_SCRAM_MESSAGE_MAX])
{
    char challenge[MR_SCRAM_MESSAGE_MAX];

    peer_open(peer, &kit);
    connect_send(peer, id, username, FIRST("press"));
    auth_expect(peer, MR_MQTT_CONTINUE_AUTHENTICATION, challenge);
    scram_final(BARE("press"), challenge, "biws", password, final);
}

/* CONNACK with `reason`, and the end if that is an error. */
static void connack_expect(struct peer *peer, uint8_t reason)
{
    struct mr_mqtt_connack connack;

    peer_expect_connack(peer, &connack);
    if (connack.reason != reason) {
        fprintf(stderr, "CONNACK 0x%02x, expected 0x%02x\n", connack.reason, reason);
        abort();
    }
    if (reason == MR_MQTT_SUCCESS) { /* it is proven that we know the password, too */
        mr_assert(mr_span_is(connack.props.auth_method, MR_SCRAM_METHOD));
        mr_assert(connack.props.auth_data.len > 2 &&
                  memcmp(connack.props.auth_data.at, "v=", 2) == 0);
    } else {
        peer_expect_closed(peer);
    }
}

static void join(struct peer *peer, const char *id)
{
    char final[MR_SCRAM_MESSAGE_MAX];

    begin(peer, id, NULL, "pencil", final);
    auth_send(peer, MR_MQTT_CONTINUE_AUTHENTICATION, MR_SCRAM_METHOD, final);
    connack_expect(peer, MR_MQTT_SUCCESS);
}

/* ---- before CONNACK ---- */

static void test_who_proves_its_password_comes_in(void)
{
    struct peer peer;
    char final[MR_SCRAM_MESSAGE_MAX];

    join(&peer, "plain");
    peer_quiet(&peer);
    peer_close(&peer);
    begin(&peer, "named", "press", "pencil", final); /* the same name twice is no claim more */
    auth_send(&peer, MR_MQTT_CONTINUE_AUTHENTICATION, MR_SCRAM_METHOD, final);
    connack_expect(&peer, MR_MQTT_SUCCESS);
    peer_close(&peer);
}

static void refused_step(const char *username, const char *password, uint8_t auth_reason,
                         const char *method, uint8_t reason)
{
    struct peer peer;
    char final[MR_SCRAM_MESSAGE_MAX];

    begin(&peer, "refused", username, password, final);
    auth_send(&peer, auth_reason, method, final);
    connack_expect(&peer, reason);
    peer_close(&peer);
}

static void test_a_step_that_is_wrong_is_refused(void)
{
    refused_step(NULL, "pencils", MR_MQTT_CONTINUE_AUTHENTICATION, MR_SCRAM_METHOD,
                 MR_MQTT_NOT_AUTHORIZED);
    refused_step("drill", "pencil", MR_MQTT_CONTINUE_AUTHENTICATION, MR_SCRAM_METHOD,
                 MR_MQTT_NOT_AUTHORIZED); /* it has proven to be press */
    refused_step(NULL, "pencil", MR_MQTT_REAUTHENTICATE, MR_SCRAM_METHOD, MR_MQTT_PROTOCOL_ERROR);
    refused_step(NULL, "pencil", MR_MQTT_CONTINUE_AUTHENTICATION, "OTHER", MR_MQTT_PROTOCOL_ERROR);
}

static void first_refused(const char *first)
{
    struct peer peer;

    peer_open(&peer, &kit);
    connect_send(&peer, "first", NULL, first);
    connack_expect(&peer, MR_MQTT_NOT_AUTHORIZED);
    peer_close(&peer);
}

static void test_first_messages_that_are_none(void)
{
    first_refused("");
    first_refused("n,,n=press");
    first_refused("p=tls-unique,," BARE("press"));
}

/* Whoever asks whether a user exists learns nothing: a stranger gets a challenge too. */
static void test_a_stranger_fails_only_at_the_end(void)
{
    struct peer peer;
    char challenge[MR_SCRAM_MESSAGE_MAX];
    char final[MR_SCRAM_MESSAGE_MAX];

    peer_open(&peer, &kit);
    connect_send(&peer, "stranger", NULL, FIRST("stranger"));
    auth_expect(&peer, MR_MQTT_CONTINUE_AUTHENTICATION, challenge);
    scram_final(BARE("stranger"), challenge, "biws", "pencil", final);
    auth_send(&peer, MR_MQTT_CONTINUE_AUTHENTICATION, MR_SCRAM_METHOD, final);
    connack_expect(&peer, MR_MQTT_NOT_AUTHORIZED);
    peer_close(&peer);
}

static void test_other_packets_before_connack(void)
{
    struct peer peer;
    char final[MR_SCRAM_MESSAGE_MAX];

    begin(&peer, "early", NULL, "pencil", final);
    peer_publish(&peer, "t", "x", 0, 0); /* [MQTT-3.1.2-30] */
    connack_expect(&peer, MR_MQTT_PROTOCOL_ERROR);
    peer_close(&peer);

    begin(&peer, "leaves", NULL, "pencil", final);
    peer_write(&peer, "\xe0\x00", 2);
    peer_expect_closed(&peer); /* as it wanted: no packet */
    peer_close(&peer);

    begin(&peer, "twice", NULL, "pencil", final);
    connect_send(&peer, "twice", NULL, FIRST("press")); /* [MQTT-3.1.0-2]: no answer is due */
    peer_expect_closed(&peer);
    peer_close(&peer);
}

/* ---- while it is connected ---- */

static void again_begin(struct peer *peer, const char *password, char final[MR_SCRAM_MESSAGE_MAX])
{
    char challenge[MR_SCRAM_MESSAGE_MAX];

    auth_send(peer, MR_MQTT_REAUTHENTICATE, MR_SCRAM_METHOD, FIRST("press"));
    auth_expect(peer, MR_MQTT_CONTINUE_AUTHENTICATION, challenge);
    scram_final(BARE("press"), challenge, "biws", password, final);
}

static void test_it_may_prove_itself_again(void)
{
    struct peer peer;
    char final[MR_SCRAM_MESSAGE_MAX];
    char proof[MR_SCRAM_MESSAGE_MAX];

    join(&peer, "again");
    for (int round = 0; round < 2; round++) {
        again_begin(&peer, "pencil", final);
        peer_quiet(&peer); /* what it does meanwhile goes on */
        auth_send(&peer, MR_MQTT_CONTINUE_AUTHENTICATION, MR_SCRAM_METHOD, final);
        auth_expect(&peer, MR_MQTT_SUCCESS, proof);
        mr_assert(strncmp(proof, "v=", 2) == 0);
        peer_quiet(&peer);
    }
    peer_close(&peer);
}

static void test_wrong_re_authentications_end_it(void)
{
    struct peer peer;
    char final[MR_SCRAM_MESSAGE_MAX];

    join(&peer, "wrong");
    again_begin(&peer, "pencils", final);
    auth_send(&peer, MR_MQTT_CONTINUE_AUTHENTICATION, MR_SCRAM_METHOD, final);
    peer_expect_disconnect(&peer, MR_MQTT_NOT_AUTHORIZED); /* [MQTT-4.12.1-2] */
    peer_close(&peer);

    join(&peer, "other");
    auth_send(&peer, MR_MQTT_REAUTHENTICATE, MR_SCRAM_METHOD, FIRST("drill"));
    for (struct mr_mqtt_frame frame; peer.in[peer.begin] >> 4 != MR_MQTT_DISCONNECT;) {
        mr_assert(peer_frame(&peer, &frame) && frame.type == MR_MQTT_AUTH);
        while (peer.begin == peer.end) {
            peer_receive(&peer, 100000000);
        }
    }
    peer_expect_disconnect(&peer, MR_MQTT_NOT_AUTHORIZED);
    peer_close(&peer);

    join(&peer, "none");
    auth_send(&peer, MR_MQTT_REAUTHENTICATE, MR_SCRAM_METHOD, "n,,n=press");
    peer_expect_disconnect(&peer, MR_MQTT_NOT_AUTHORIZED);
    peer_close(&peer);
}

static void test_re_authentications_out_of_turn_end_it(void)
{
    struct peer peer;
    char final[MR_SCRAM_MESSAGE_MAX];

    join(&peer, "second");
    again_begin(&peer, "pencil", final);
    auth_send(&peer, MR_MQTT_REAUTHENTICATE, MR_SCRAM_METHOD, FIRST("press"));
    peer_expect_disconnect(&peer, MR_MQTT_PROTOCOL_ERROR);
    peer_close(&peer);

    join(&peer, "unbegun");
    auth_send(&peer, MR_MQTT_CONTINUE_AUTHENTICATION, MR_SCRAM_METHOD, "c=biws");
    peer_expect_disconnect(&peer, MR_MQTT_PROTOCOL_ERROR);
    peer_close(&peer);

    join(&peer, "method");
    auth_send(&peer, MR_MQTT_REAUTHENTICATE, "OTHER", FIRST("press"));
    peer_expect_disconnect(&peer, MR_MQTT_PROTOCOL_ERROR);
    peer_close(&peer);
}

static void test_auth_of_who_came_in_without_a_method(void)
{
    struct peer peer;
    struct mr_mqtt_connack connack;
    struct kit open_to_all;

    kit_open(&open_to_all, &(struct kit_options){.allow_anonymous = MR_ANONYMOUS_TRUE});
    peer_open(&peer, &open_to_all);
    peer_send_connect(&peer, &(struct peer_connect){.client_id = "bare", .version = 5});
    peer_expect_connack(&peer, &connack);
    mr_assert(connack.reason == MR_MQTT_SUCCESS);
    auth_send(&peer, MR_MQTT_REAUTHENTICATE, MR_SCRAM_METHOD, FIRST("press"));
    peer_expect_disconnect(&peer, MR_MQTT_PROTOCOL_ERROR); /* [MQTT-4.12.0-7] */
    peer_close(&peer);

    peer_join(&peer, &open_to_all, "old", 4);
    auth_send(&peer, MR_MQTT_REAUTHENTICATE, MR_SCRAM_METHOD, FIRST("press"));
    peer_expect_closed(&peer); /* 3.1.1 has no AUTH, and no DISCONNECT from us */
    peer_close(&peer);
    kit_close(&open_to_all);
}

/* ---- the password file is read again ---- */

static void test_who_is_half_way_in_when_its_password_changes_stays_outside(void)
{
    struct mr_error why = {.text = ""};
    struct peer peer;
    char final[MR_SCRAM_MESSAGE_MAX];

    begin(&peer, "late", NULL, "pencil", final);
    user_set(MR_PASSFILE_SET, "press", "crayon");
    mr_assert(kit_reload(&kit, &why) == MR_OK);
    auth_send(&peer, MR_MQTT_CONTINUE_AUTHENTICATION, MR_SCRAM_METHOD, final);
    connack_expect(&peer, MR_MQTT_NOT_AUTHORIZED);
    peer_close(&peer);
    user_set(MR_PASSFILE_SET, "press", "pencil");
    mr_assert(kit_reload(&kit, &why) == MR_OK);
    join(&peer, "late");
    peer_close(&peer);
}

/* More wrong proofs than an address is forgiven: an exchange that began before that and did not
 * wait is no way to guess once more, right or wrong.
 */
static void test_an_exchange_begun_before_its_address_guessed_is_refused(void)
{
    enum { MORE_THAN_FREE = 24 };
    struct peer before;
    struct peer peer;
    char right[MR_SCRAM_MESSAGE_MAX];
    char wrong[MR_SCRAM_MESSAGE_MAX];
    struct peer guessing[MORE_THAN_FREE];
    char finals[MORE_THAN_FREE][MR_SCRAM_MESSAGE_MAX];

    begin(&before, "before", NULL, "pencil", right);
    for (int i = 0; i < MORE_THAN_FREE; i++) {
        begin(&guessing[i], "guess", NULL, "pencils", finals[i]);
    }
    for (int i = 0; i < MORE_THAN_FREE; i++) {
        struct mr_mqtt_connack connack;
        auth_send(&guessing[i], MR_MQTT_CONTINUE_AUTHENTICATION, MR_SCRAM_METHOD, finals[i]);
        peer_expect_connack(&guessing[i], &connack);
        mr_assert(connack.reason == MR_MQTT_NOT_AUTHORIZED ||
                  connack.reason == MR_MQTT_SERVER_BUSY);
        peer_close(&guessing[i]);
    }
    auth_send(&before, MR_MQTT_CONTINUE_AUTHENTICATION, MR_SCRAM_METHOD, right);
    connack_expect(&before, MR_MQTT_SERVER_BUSY);
    peer_close(&before);
    begin(&peer, "waits", NULL, "pencil", wrong); /* its challenge comes after the delay */
    auth_send(&peer, MR_MQTT_CONTINUE_AUTHENTICATION, MR_SCRAM_METHOD, wrong);
    connack_expect(&peer, MR_MQTT_SUCCESS);
    peer_close(&peer);
}

int main(void)
{
    tls_folder_make();
    user_set(MR_PASSFILE_CREATE, "press", "pencil");
    user_set(MR_PASSFILE_SET, "drill", "pencil");
    kit_open(&kit, &(struct kit_options){.password_file = tls_path("users")});
    test_who_proves_its_password_comes_in();
    test_a_step_that_is_wrong_is_refused();
    test_first_messages_that_are_none();
    test_a_stranger_fails_only_at_the_end();
    test_other_packets_before_connack();
    test_it_may_prove_itself_again();
    test_wrong_re_authentications_end_it();
    test_re_authentications_out_of_turn_end_it();
    test_auth_of_who_came_in_without_a_method();
    test_who_is_half_way_in_when_its_password_changes_stays_outside();
    test_an_exchange_begun_before_its_address_guessed_is_refused();
    kit_close(&kit);
    mr_assert(unlink(tls_path("users")) == 0 && rmdir(tls_folder) == 0);
    return 0;
}
