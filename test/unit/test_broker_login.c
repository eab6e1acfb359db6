/* test_broker_login.c
 * links: broker auth net journal codec config os base
 *
 * Goal:   a password decides who comes in, and files that are read again while the broker
 *         runs hold from then on; a bad one changes nothing.
 * Method: a real broker and its workers; the password file is changed under it.
 */
#include "broker_peer.h"

#include "auth/passfile.h"
#include "tls_kit.h"

static struct kit kit;

static void user_set(enum mr_passfile_how how, const char *user, const char *password)
{
    static const uint8_t salt[MR_PASSHASH_SALT_BYTES] = {1, 2, 3};
    char hash[MR_PASSHASH_TEXT_MAX];
    size_t changed = 0;
    struct mr_error why;

    mr_passhash_make(mr_span_of(password), 100, salt, hash);
    struct mr_passfile_change change = {.how = how, .user = user, .hash = hash};
    enum mr_err err = mr_passfile_write(tls_path("users"), &change, &changed, &why);
    mr_assert(err == MR_OK && changed == 1);
}

static uint8_t login(const char *user, const char *password, uint8_t version)
{
    struct peer peer;
    struct mr_mqtt_connack connack;

    peer_open(&peer, &kit);
    peer_send_connect(
        &peer, &(struct peer_connect){
                   .client_id = "x", .version = version, .username = user, .password = password});
    peer_expect_connack(&peer, &connack);
    peer_close(&peer);
    return connack.reason;
}

static void test_passwords_and_their_reload(void)
{
    struct mr_error why = {.text = ""};
    struct peer before;

    user_set(MR_PASSFILE_CREATE, "press", "one");
    kit_open(&kit, &(struct kit_options){.password_file = tls_path("users")});
    for (uint8_t version = 3; version <= 5; version++) {
        mr_assert(login("press", "one", version) == 0);
        mr_assert(login("press", "two", version) == MR_MQTT_BAD_CREDENTIALS);
        mr_assert(login("press", NULL, version) == MR_MQTT_BAD_CREDENTIALS);
        mr_assert(login("stranger", "one", version) == MR_MQTT_BAD_CREDENTIALS);
        mr_assert(login(NULL, NULL, version) == MR_MQTT_NOT_AUTHORIZED);
    }
    struct mr_mqtt_connack connack;
    peer_open(&before, &kit);
    peer_send_connect(
        &before, &(struct peer_connect){
                     .client_id = "before", .version = 5, .username = "press", .password = "one"});
    peer_expect_connack(&before, &connack);
    mr_assert(connack.reason == 0);

    user_set(MR_PASSFILE_SET, "press", "two");
    mr_assert(login("press", "one", 5) == 0); /* until it is read again */
    mr_assert(kit_reload(&kit, &why) == MR_OK);
    mr_assert(login("press", "one", 5) == MR_MQTT_BAD_CREDENTIALS);
    mr_assert(login("press", "two", 5) == 0);

    FILE *file = fopen(tls_path("users"), "w");
    mr_assert(file != NULL && fputs("press:plain\n", file) >= 0 && fclose(file) == 0);
    mr_assert(kit_reload(&kit, &why) == MR_ERR_CONFIG);
    mr_assert(strstr(why.text, "line 1, user 'press'") != NULL);
    mr_assert(login("press", "two", 5) == 0);
    peer_quiet(&before); /* it has been there all the time */
    peer_close(&before);
    kit_close(&kit);
    mr_assert(unlink(tls_path("users")) == 0);
}

static void test_certificates_are_read_again_together_or_not_at_all(void)
{
    char crt[320];
    char key[320];
    struct mr_error why = {.text = ""};

    (void)snprintf(crt, sizeof(crt), "%s", tls_path("one.crt"));
    (void)snprintf(key, sizeof(key), "%s", tls_path("one.key"));
    tls_certificate_make("one", 1);
    kit_open(&kit, &(struct kit_options){.tls = {.certfile = crt, .keyfile = key}});
    mr_assert(kit_reload(&kit, &why) == MR_OK); /* there is none */
    tls_certificate_make("one", 2);
    mr_assert(kit_reload(&kit, &why) == MR_OK);
    mr_assert(unlink(key) == 0);
    mr_assert(kit_reload(&kit, &why) == MR_ERR_CONFIG);
    mr_assert(strstr(why.text, "one.key: no such file") != NULL);
    kit_close(&kit);
    mr_assert(unlink(crt) == 0);
}

int main(void)
{
    tls_folder_make();
    test_passwords_and_their_reload();
    test_certificates_are_read_again_together_or_not_at_all();
    mr_assert(rmdir(tls_folder) == 0);
    return 0;
}
