/* paho_c.c - the Paho C client against the gateway: paho_c CA URL...
 *
 * What each step does is in README.md beside this file; "VERSION URL step" says
 * that one went well.  A fault ends the program, with a line that says which.
 */
#include <MQTTClient.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

enum { PATIENCE_MS = 30000, NAME_BYTES = 80 };

#define CHECK(what)                                                            \
    do {                                                                       \
        if (!(what)) {                                                         \
            fprintf(stderr, "%s:%d: not so: %s\n", __FILE__, __LINE__, #what); \
            exit(1);                                                           \
        }                                                                      \
    } while (0)

static const char *ca;

struct how {
    const char *url;
    const char *name;
    const char *will_topic;
    int version;
    bool clean;
};

struct peer {
    MQTTClient client;
    int version;
    bool present;
};

/* The URL as this library writes it. */
static void paho_url(const char *url, char out[NAME_BYTES])
{
    if (strncmp(url, "mqtts:", 6) == 0) {
        (void)snprintf(out, NAME_BYTES, "ssl:%s", url + 6);
    } else if (strncmp(url, "mqtt:", 5) == 0) {
        (void)snprintf(out, NAME_BYTES, "tcp:%s", url + 5);
    } else {
        (void)snprintf(out, NAME_BYTES, "%s", url);
    }
}

static struct peer peer_open(const struct how *how)
{
    struct peer peer = {.version = how->version};
    MQTTClient_createOptions create = MQTTClient_createOptions_initializer;
    MQTTClient_connectOptions four = MQTTClient_connectOptions_initializer;
    MQTTClient_connectOptions five = MQTTClient_connectOptions_initializer5;
    MQTTClient_connectOptions *options = how->version == MQTTVERSION_5 ? &five : &four;
    MQTTClient_SSLOptions ssl = MQTTClient_SSLOptions_initializer;
    MQTTClient_willOptions will = MQTTClient_willOptions_initializer;
    MQTTProperties props = MQTTProperties_initializer;
    MQTTProperty expiry = {.identifier = MQTTPROPERTY_CODE_SESSION_EXPIRY_INTERVAL,
                           .value.integer4 = 600};
    char url[NAME_BYTES];

    paho_url(how->url, url);
    create.MQTTVersion = how->version;
    CHECK(MQTTClient_createWithOptions(&peer.client, url, how->name, MQTTCLIENT_PERSISTENCE_NONE,
                                       NULL, &create) == 0);
    ssl.trustStore = ca;
    ssl.verify = 1;
    options->ssl = strncmp(url, "ssl", 3) == 0 || strncmp(url, "wss", 3) == 0 ? &ssl : NULL;
    options->MQTTVersion = how->version;
    if (how->will_topic != NULL) {
        will.topicName = how->will_topic;
        will.message = "gone";
        will.qos = 1;
        options->will = &will;
    }
    if (how->version != MQTTVERSION_5) {
        four.cleansession = how->clean;
        CHECK(MQTTClient_connect(peer.client, options) == 0);
        peer.present = options->returned.sessionPresent != 0;
        return peer;
    }
    five.cleanstart = how->clean;
    if (!how->clean) {
        CHECK(MQTTProperties_add(&props, &expiry) == 0);
    }
    MQTTResponse response = MQTTClient_connect5(peer.client, options, &props, NULL);
    CHECK(response.reasonCode == MQTTREASONCODE_SUCCESS);
    peer.present = options->returned.sessionPresent != 0;
    MQTTResponse_free(response);
    MQTTProperties_free(&props);
    return peer;
}

static void peer_close(struct peer *peer)
{
    if (peer->version == MQTTVERSION_5) {
        CHECK(MQTTClient_disconnect5(peer->client, PATIENCE_MS, MQTTREASONCODE_SUCCESS, NULL) == 0);
    } else {
        CHECK(MQTTClient_disconnect(peer->client, PATIENCE_MS) == 0);
    }
    MQTTClient_destroy(&peer->client);
}

static void peer_subscribe(struct peer *peer, const char *topic, int qos)
{
    if (peer->version != MQTTVERSION_5) {
        CHECK(MQTTClient_subscribe(peer->client, topic, qos) == 0);
        return;
    }
    MQTTResponse response = MQTTClient_subscribe5(peer->client, topic, qos, NULL, NULL);
    CHECK((int)response.reasonCode == qos);
    MQTTResponse_free(response);
}

static void peer_publish(struct peer *peer, const char *topic, const char *text, int qos,
                         bool retain, const MQTTProperties *props)
{
    MQTTClient_message message = MQTTClient_message_initializer;
    MQTTClient_deliveryToken token = 0;

    message.payload = (void *)text;
    message.payloadlen = (int)strlen(text);
    message.qos = qos;
    message.retained = retain;
    if (peer->version == MQTTVERSION_5) {
        if (props != NULL) {
            message.properties = *props;
        }
        MQTTResponse response = MQTTClient_publishMessage5(peer->client, topic, &message, &token);
        CHECK(response.reasonCode == MQTTREASONCODE_SUCCESS);
        MQTTResponse_free(response);
    } else {
        CHECK(MQTTClient_publishMessage(peer->client, topic, &message, &token) == 0);
    }
    CHECK(qos == 0 || MQTTClient_waitForCompletion(peer->client, token, PATIENCE_MS) == 0);
}

/* The next message, which must have this text; the caller frees it. */
static MQTTClient_message *peer_message(struct peer *peer, const char *text)
{
    MQTTClient_message *message = NULL;
    char *topic = NULL;
    int topic_len = 0;
    int code = MQTTClient_receive(peer->client, &topic, &topic_len, &message, PATIENCE_MS);

    CHECK(code == 0 && message != NULL);
    CHECK((size_t)message->payloadlen == strlen(text) &&
          memcmp(message->payload, text, strlen(text)) == 0);
    MQTTClient_free(topic);
    return message;
}

static void peer_expect(struct peer *peer, const char *text, int qos, bool retain)
{
    MQTTClient_message *message = peer_message(peer, text);

    CHECK(message->qos == qos && (message->retained != 0) == retain);
    MQTTClient_freeMessage(&message);
}

static struct peer open_as(struct how how, const char *scope, const char *what)
{
    char name[NAME_BYTES];

    (void)snprintf(name, sizeof(name), "%s-%s", scope, what);
    how.name = name;
    return peer_open(&how);
}

static void step_qos(struct how how, const char *scope)
{
    struct peer peer = open_as(how, scope, "qos");

    peer_subscribe(&peer, scope, 2);
    for (int qos = 0; qos <= 2; qos++) {
        char text[2] = {(char)('0' + qos), 0};
        peer_publish(&peer, scope, text, qos, false, NULL);
        peer_expect(&peer, text, qos, false);
    }
    peer_close(&peer);
}

static void step_retained(struct how how, const char *scope)
{
    struct peer peer = open_as(how, scope, "retained");

    peer_publish(&peer, scope, "kept", 1, true, NULL);
    peer_subscribe(&peer, scope, 1);
    peer_expect(&peer, "kept", 1, true);
    peer_publish(&peer, scope, "", 1, true, NULL);
    peer_expect(&peer, "", 1, false);
    peer_close(&peer);
}

/* A process of its own vanishes: where one connection of this library is taken
 * over, it may end another one, too.
 */
static void step_will(struct how how, const char *scope)
{
    struct peer watch = open_as(how, scope, "watch");
    struct how dying = how;
    int status = 0;

    peer_subscribe(&watch, scope, 1);
    dying.will_topic = scope;
    pid_t child = fork();
    CHECK(child >= 0);
    if (child == 0) {
        (void)open_as(dying, scope, "dying");
        _exit(0);
    }
    CHECK(waitpid(child, &status, 0) == child && status == 0);
    peer_expect(&watch, "gone", 1, false);
    peer_close(&watch);
}

static void step_session(struct how how, const char *scope)
{
    struct how lasting = how;

    lasting.clean = false;
    struct peer first = open_as(lasting, scope, "session");
    CHECK(!first.present);
    peer_subscribe(&first, scope, 2);
    peer_close(&first);
    struct peer sender = open_as(how, scope, "sender");
    peer_publish(&sender, scope, "1", 1, false, NULL);
    peer_publish(&sender, scope, "2", 2, false, NULL);
    struct peer again = open_as(lasting, scope, "session");
    CHECK(again.present || how.version == MQTTVERSION_5); /* it tells this of 3.1.1 alone */
    peer_expect(&again, "1", 1, false);
    peer_expect(&again, "2", 2, false);
    peer_close(&again);
    peer_close(&sender);
}

static void add_text(MQTTProperties *props, enum MQTTPropertyCodes code, char *name, char *value)
{
    MQTTProperty one = {.identifier = code};

    one.value.data = (MQTTLenString){.data = name, .len = (int)strlen(name)};
    one.value.value = (MQTTLenString){.data = value, .len = (int)strlen(value)};
    CHECK(MQTTProperties_add(props, &one) == 0);
}

static void expect_text(MQTTProperties *props, enum MQTTPropertyCodes code, int index,
                        const char *name, const char *value)
{
    MQTTProperty *one = MQTTProperties_getPropertyAt(props, code, index);

    CHECK(one != NULL && one->value.data.len == (int)strlen(name) &&
          memcmp(one->value.data.data, name, strlen(name)) == 0);
    CHECK(value == NULL || (one->value.value.len == (int)strlen(value) &&
                            memcmp(one->value.value.data, value, strlen(value)) == 0));
}

static void step_properties(struct how how, const char *scope)
{
    MQTTProperties props = MQTTProperties_initializer;
    MQTTProperty expiry = {.identifier = MQTTPROPERTY_CODE_MESSAGE_EXPIRY_INTERVAL,
                           .value.integer4 = 1000};

    if (how.version != MQTTVERSION_5) {
        return;
    }
    struct peer peer = open_as(how, scope, "properties");
    peer_subscribe(&peer, scope, 1);
    add_text(&props, MQTTPROPERTY_CODE_CONTENT_TYPE, "text/plain", "");
    add_text(&props, MQTTPROPERTY_CODE_RESPONSE_TOPIC, "answers", "");
    add_text(&props, MQTTPROPERTY_CODE_CORRELATION_DATA, "42", "");
    add_text(&props, MQTTPROPERTY_CODE_USER_PROPERTY, "b", "1");
    add_text(&props, MQTTPROPERTY_CODE_USER_PROPERTY, "a", "2");
    CHECK(MQTTProperties_add(&props, &expiry) == 0);
    peer_publish(&peer, scope, "x", 1, false, &props);
    MQTTClient_message *message = peer_message(&peer, "x");
    expect_text(&message->properties, MQTTPROPERTY_CODE_CONTENT_TYPE, 0, "text/plain", NULL);
    expect_text(&message->properties, MQTTPROPERTY_CODE_RESPONSE_TOPIC, 0, "answers", NULL);
    expect_text(&message->properties, MQTTPROPERTY_CODE_CORRELATION_DATA, 0, "42", NULL);
    expect_text(&message->properties, MQTTPROPERTY_CODE_USER_PROPERTY, 0, "b", "1");
    expect_text(&message->properties, MQTTPROPERTY_CODE_USER_PROPERTY, 1, "a", "2");
    MQTTProperty *left =
        MQTTProperties_getProperty(&message->properties, MQTTPROPERTY_CODE_MESSAGE_EXPIRY_INTERVAL);
    CHECK(left != NULL && left->value.integer4 > 900 && left->value.integer4 <= 1000);
    MQTTClient_freeMessage(&message);
    MQTTProperties_free(&props);
    peer_close(&peer);
}

static const struct {
    const char *name;
    void (*run)(struct how how, const char *scope);
} steps[] = {{"qos", step_qos},
             {"retained", step_retained},
             {"will", step_will},
             {"session", step_session},
             {"properties", step_properties}};

int main(int argc, char **argv)
{
    static const int versions[] = {MQTTVERSION_3_1_1, MQTTVERSION_5};
    unsigned number = 0;

    CHECK(argc > 2);
    ca = argv[1];
    for (int i = 2; i < argc; i++) {
        for (size_t v = 0; v < 2; v++) {
            for (size_t s = 0; s < sizeof(steps) / sizeof(steps[0]); s++) {
                char scope[NAME_BYTES];
                struct how how = {.url = argv[i], .version = versions[v], .clean = true};

                (void)snprintf(scope, sizeof(scope), "paho-c-%u", ++number);
                steps[s].run(how, scope);
                printf("%s %s %s\n", v == 0 ? "3.1.1" : "5.0", argv[i], steps[s].name);
                (void)fflush(stdout);
            }
        }
    }
    return 0;
}
