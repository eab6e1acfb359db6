/* test_mqtt_refuse.c
 *
 * links: codec base
 *
 * Goal:   every rule that a packet can break is noticed, and answered with the
 *         reason the specification names.
 * Method: one packet for each way to be wrong.  The text is compared too, so that
 *         a packet is refused for the fault it was made for and no other.
 */
#include "../fuzz/mqtt_any.h"

#include <stdio.h>

enum { V31 = MR_MQTT_31, V4 = MR_MQTT_311, V5 = MR_MQTT_5 };
enum { C = MR_MQTT_FROM_CLIENT, S = MR_MQTT_FROM_SERVER };

struct fault {
    const char *bytes; /* without the fixed header's length, which is computed */
    size_t len;
    uint8_t version;
    uint8_t from;
    uint8_t reason; /* 0: must be accepted */
    const char *what;
};
#define P(literal) literal, sizeof(literal) - 1

#define V5HEAD "\x10\x00\x04MQTT\x05"
#define V4HEAD "\x10\x00\x04MQTT\x04"

static const struct fault connects[] = {
    /* Version and name. */
    {P("\x10\x00\x04MQTT\x04\x02\x00\x0a\x00\x01i"), V4, C, 0, NULL},
    {P("\x10\x00\x04MQTT\x05\x02\x00\x0a\x00\x00\x01i"), V5, C, 0, NULL},
    {P("\x10\x00\x04MQTX\x04\x02\x00\x0a\x00\x01i"), V4, C, 0x84, "protocol name"},
    {P("\x10\x00\x04mqtt\x04\x02\x00\x0a\x00\x01i"), V4, C, 0x84, "protocol name"},
    {P("\x10\x00\x04MQTT\x06\x02\x00\x0a\x00\x01i"), V5, C, 0x84, "protocol level"},
    {P("\x10\x00\x04MQTT\x03\x02\x00\x0a\x00\x01i"), V4, C, 0x84, "protocol level"},
    {P("\x10\x00\x04MQTT\x84\x02\x00\x0a\x00\x01i"), V4, C, 0x84, "protocol level"},
    {P("\x10\x00\x06MQIsdp\x04\x02\x00\x0a\x00\x01i"), V4, C, 0x84, "protocol level"},
    {P("\x10\x00\x04MQT"), V4, C, 0x81, "cut short in its protocol name"},
    {P("\x10\x00\x04MQTT"), V4, C, 0x81, "without protocol level"},
    /* Flags. */
    {P(V4HEAD "\x03\x00\x0a\x00\x01i"), V4, C, 0x81, "reserved flag"},
    {P(V5HEAD "\x03\x00\x0a\x00\x00\x01i"), V5, C, 0x81, "reserved flag"},
    {P(V4HEAD "\x1e\x00\x0a\x00\x01i\x00\x01t\x00\x00"), V4, C, 0x81, "will QoS 3"},
    {P(V4HEAD "\x1a\x00\x0a\x00\x01i"), V4, C, 0x81, "will QoS 3"},
    {P(V4HEAD "\x0a\x00\x0a\x00\x01i"), V4, C, 0x82, "will QoS but no will"},
    {P(V5HEAD "\x12\x00\x0a\x00\x00\x01i"), V5, C, 0x82, "will QoS but no will"},
    {P(V4HEAD "\x22\x00\x0a\x00\x01i"), V4, C, 0x82, "will retain but no will"},
    {P(V4HEAD "\x42\x00\x0a\x00\x01i\x00\x01p"), V4, C, 0x82, "no user name"},
    {P(V5HEAD "\x42\x00\x0a\x00\x00\x01i\x00\x01p"), V5, C, 0, NULL},
    {P(V4HEAD "\x02\x00"), V4, C, 0x81, "flags or keep alive"},
    /* Client id. */
    {P(V4HEAD "\x02\x00\x0a\x00\x00"), V4, C, 0, NULL},
    {P(V4HEAD "\x00\x00\x0a\x00\x00"), V4, C, 0x85, "empty client id"},
    {P(V5HEAD "\x00\x00\x0a\x00\x00\x00"), V5, C, 0, NULL},
    {P("\x10\x00\x06MQIsdp\x03\x02\x00\x0a\x00\x00"), V31, C, 0x85, "empty client id"},
    {P("\x10\x00\x06MQIsdp\x03\x03\x00\x0a\x00\x01i"), V31, C, 0, NULL},
    {P(V4HEAD "\x02\x00\x0a\x00\x01\x00"), V4, C, 0x81, "client id is not valid UTF-8"},
    {P(V4HEAD "\x02\x00\x0a\x00\x01\xff"), V4, C, 0x81, "client id is not valid UTF-8"},
    {P(V4HEAD "\x02\x00\x0a\x00\x03\xed\xa0\x80"), V4, C, 0x81, "client id is not valid"},
    {P(V4HEAD "\x02\x00\x0a\x00\x02i"), V4, C, 0x81, "cut short in its client id"},
    {P(V4HEAD "\x02\x00\x0a"), V4, C, 0x81, "cut short in its client id"},
    /* Will. */
    {P(V4HEAD "\x06\x00\x0a\x00\x01i\x00\x01t\x00\x00"), V4, C, 0, NULL},
    {P(V4HEAD "\x06\x00\x0a\x00\x01i"), V4, C, 0x81, "cut short in its will"},
    {P(V4HEAD "\x06\x00\x0a\x00\x01i\x00\x01t"), V4, C, 0x81, "cut short in its will"},
    {P(V4HEAD "\x06\x00\x0a\x00\x01i\x00\x01#\x00\x00"), V4, C, 0x90, "will topic"},
    {P(V4HEAD "\x06\x00\x0a\x00\x01i\x00\x00\x00\x00"), V4, C, 0x90, "will topic"},
    {P(V4HEAD "\x06\x00\x0a\x00\x01i\x00\x01\xfe\x00\x00"), V4, C, 0x81, "will topic is not"},
    {P(V5HEAD "\x06\x00\x0a\x00\x00\x01i\x02\x01\x02\x00\x01t\x00\x00"), V5, C, 0x82, "range"},
    {P(V5HEAD "\x06\x00\x0a\x00\x00\x01i\x03\x23\x00\x01\x00\x01t\x00\x00"), V5, C, 0x81,
     "not valid for this type"},
    /* Credentials, end. */
    {P(V4HEAD "\x82\x00\x0a\x00\x01i\x00\x02u"), V4, C, 0x81, "user name or password"},
    {P(V4HEAD "\x82\x00\x0a\x00\x01i\x00\x01\xc0"), V4, C, 0x81, "user name is not valid"},
    {P(V4HEAD "\xc2\x00\x0a\x00\x01i\x00\x01u"), V4, C, 0x81, "user name or password"},
    {P(V4HEAD "\xc2\x00\x0a\x00\x01i\x00\x01u\x00\x02\x00\xff"), V4, C, 0, NULL},
    {P(V4HEAD "\x02\x00\x0a\x00\x01i\x00"), V4, C, 0x81, "trailing"},
    {P(V5HEAD "\x02\x00\x0a\x00\x00\x01i\x00\x01u"), V5, C, 0x81, "trailing"},
    /* Properties. */
    {P(V5HEAD "\x02\x00\x0a"), V5, C, 0x81, "property length missing"},
    {P(V5HEAD "\x02\x00\x0a\x80\x00\x00\x01i"), V5, C, 0x81, "property length missing"},
    {P(V5HEAD "\x02\x00\x0a\x09\x21\x00\x01i"), V5, C, 0x81, "beyond the end"},
    {P(V5HEAD "\x02\x00\x0a\x03\x21\x00\x00\x00\x01i"), V5, C, 0x82, "out of range"},
    {P(V5HEAD "\x02\x00\x0a\x05\x27\x00\x00\x00\x00\x00\x01i"), V5, C, 0x82, "out of range"},
    {P(V5HEAD "\x02\x00\x0a\x02\x17\x02\x00\x01i"), V5, C, 0x82, "out of range"},
    {P(V5HEAD "\x02\x00\x0a\x02\x19\x02\x00\x01i"), V5, C, 0x82, "out of range"},
    {P(V5HEAD "\x02\x00\x0a\x04\x17\x01\x17\x01\x00\x01i"), V5, C, 0x82, "twice"},
    {P(V5HEAD "\x02\x00\x0a\x0a\x11\x00\x00\x00\x01\x11\x00\x00\x00\x01\x00\x01i"), V5, C, 0x82,
     "twice"},
    {P(V5HEAD "\x02\x00\x0a\x04\x16\x00\x01x\x00\x01i"), V5, C, 0x82, "without authentication"},
    {P(V5HEAD "\x02\x00\x0a\x08\x15\x00\x01m\x16\x00\x01x\x00\x01i"), V5, C, 0, NULL},
    {P(V5HEAD "\x02\x00\x0a\x02\x01\x01\x00\x01i"), V5, C, 0x81, "not valid for this type"},
    {P(V5HEAD "\x02\x00\x0a\x02\x24\x01\x00\x01i"), V5, C, 0x81, "not valid for this type"},
    {P(V5HEAD "\x02\x00\x0a\x02\x7f\x01\x00\x01i"), V5, C, 0x81, "unknown property"},
    {P(V5HEAD "\x02\x00\x0a\x02\x00\x01\x00\x01i"), V5, C, 0x81, "unknown property"},
    {P(V5HEAD "\x02\x00\x0a\x03\xa1\x00\x01\x00\x01i"), V5, C, 0x81, "unknown property"},
    {P(V5HEAD "\x02\x00\x0a\x02\x21\x00\x00\x01i"), V5, C, 0x81, "number property cut short"},
    {P(V5HEAD "\x02\x00\x0a\x06\x26\x00\x01k\x00\x05\x00\x01i"), V5, C, 0x81, "cut short"},
    {P(V5HEAD "\x02\x00\x0a\x07\x26\x00\x01k\x00\x01\xff\x00\x01i"), V5, C, 0x81, "not valid UTF"},
    {P(V5HEAD "\x02\x00\x0a\x07\x26\x00\x01\x00\x00\x01v\x00\x01i"), V5, C, 0x81, "not valid UTF"},
};

static const struct fault publishes[] = {
    {P("\x30\x00\x01t"), V4, C, 0, NULL},
    {P("\x30\x00\x01t\x00"), V5, C, 0, NULL},
    {P("\x36\x00\x01t\x00\x01"), V4, C, 0x81, "QoS 3"},
    {P("\x3e\x00\x01t\x00\x01\x00"), V5, C, 0x81, "QoS 3"},
    {P("\x38\x00\x01t"), V4, C, 0x82, "DUP and QoS 0"},
    {P("\x38\x00\x01t\x00"), V5, C, 0x82, "DUP and QoS 0"},
    {P("\x30"), V4, C, 0x81, "cut short in its topic"},
    {P("\x30\x00"), V4, C, 0x81, "cut short in its topic"},
    {P("\x30\x00\x02t"), V4, C, 0x81, "cut short in its topic"},
    {P("\x32\x00\x01t\x00"), V4, C, 0x81, "without packet identifier"},
    {P("\x32\x00\x01t\x00\x00"), V4, C, 0x82, "packet identifier 0"},
    {P("\x34\x00\x01t\x00\x00\x00"), V5, C, 0x82, "packet identifier 0"},
    {P("\x30\x00\x01t"), V5, C, 0x81, "property length missing"},
    {P("\x30\x00\x01t\x02\x01"), V5, C, 0x81, "beyond the end"},
    {P("\x30\x00\x01+"), V4, C, 0x90, "wildcard"},
    {P("\x30\x00\x03t/#\x00"), V5, C, 0x90, "wildcard"},
    {P("\x30\x00\x0cplant/+/temp\x00"), V5, C, 0x90, "wildcard"},
    {P("\x30\x00\x01\x00"), V4, C, 0x81, "U+0000"},
    {P("\x30\x00\x0a"
       "ab\x00"
       "cdefghi"),
     V4, C, 0x81, "U+0000"},
    {P("\x30\x00\x02\xc0\x80"), V4, C, 0x81, "not valid UTF-8"},
    {P("\x30\x00\x03\xed\xbf\xbf"), V4, C, 0x81, "not valid UTF-8"},
    {P("\x30\x00\x03\xef\xbb\xbf"), V4, C, 0, NULL}, /* [MQTT-1.5.4-3] */
    {P("\x30\x00\x02\xc3\xa4"), V4, C, 0, NULL},
    {P("\x30\x00\x00"), V4, C, 0x82, "neither topic nor topic alias"},
    {P("\x30\x00\x00\x00"), V5, C, 0x82, "neither topic nor topic alias"},
    {P("\x30\x00\x00\x03\x23\x00\x01"), V5, C, 0, NULL},
    {P("\x30\x00\x01t\x03\x23\x00\x00"), V5, C, 0x94, "topic alias 0"},
    {P("\x30\x00\x01t\x06\x23\x00\x01\x23\x00\x01"), V5, C, 0x82, "twice"},
    {P("\x30\x00\x01t\x02\x01\x02"), V5, C, 0x82, "out of range"},
    {P("\x30\x00\x01t\x02\x0b\x01"), V5, C, 0x82, "only the other side"},
    {P("\x30\x00\x01t\x02\x0b\x01"), V5, S, 0, NULL},
    {P("\x30\x00\x01t\x04\x0b\x01\x0b\x02"), V5, S, 0, NULL},
    {P("\x30\x00\x01t\x02\x0b\x00"), V5, S, 0x82, "out of range"},
    {P("\x30\x00\x01t\x03\x0b\x80\x00"), V5, S, 0x81, "shortest form"},
    {P("\x30\x00\x01t\x06\x0b\x80\x80\x80\x80\x01"), V5, S, 0x81, "shortest form"},
    {P("\x30\x00\x01t\x04\x08\x00\x01#"), V5, C, 0x90, "response topic"},
    {P("\x30\x00\x01t\x03\x08\x00\x00"), V5, C, 0x90, "response topic"},
    {P("\x30\x00\x01t\x04\x08\x00\x01\xff"), V5, C, 0x81, "not valid UTF-8"},
    {P("\x30\x00\x01t\x04\x03\x00\x01\xff"), V5, C, 0x81, "not valid UTF-8"},
    {P("\x30\x00\x01t\x04\x09\x00\x01\xff"), V5, C, 0, NULL},
    {P("\x30\x00\x01t\x05\x11\x00\x00\x00\x01"), V5, C, 0x81, "not valid for this type"},
    {P("\x30\x00\x01t\x05\x18\x00\x00\x00\x01"), V5, C, 0x81, "not valid for this type"},
};

static const struct fault acks[] = {
    {P("\x40"), V4, C, 0x81, "without packet identifier"},
    {P("\x40\x00"), V4, C, 0x81, "without packet identifier"},
    {P("\x40\x00\x00"), V4, C, 0x82, "packet identifier 0"},
    {P("\x62\x00\x00"), V5, C, 0x82, "packet identifier 0"},
    {P("\x40\x00\x01\x00"), V4, C, 0x81, "trailing"},
    {P("\x50\x00\x01\x00\x00\x00"), V5, C, 0x81, "trailing"},
    {P("\x40\x00\x01\x92"), V5, C, 0x82, "reason code of another packet"},
    {P("\x50\x00\x01\x04"), V5, C, 0x82, "reason code of another packet"},
    {P("\x62\x00\x01\x10"), V5, C, 0x82, "reason code of another packet"},
    {P("\x70\x00\x01\x80"), V5, C, 0x82, "reason code of another packet"},
    {P("\x70\x00\x01\xc5"), V5, C, 0x82, "reason code of another packet"},
    {P("\x70\x00\x01\x92"), V5, C, 0, NULL},
    {P("\x40\x00\x01\x99"), V5, C, 0, NULL},
    {P("\x40\x00\x01\x00\x05\x1f"), V5, C, 0x81, "beyond the end"},
    {P("\x40\x00\x01\x00\x03\x21\x00\x01"), V5, C, 0x81, "not valid for this type"},
    {P("\x40\x00\x01\x00\x06\x1f\x00\x00\x1f\x00\x00"), V5, C, 0x82, "twice"},
    /* DUP on these three existed in 3.1 only. */
    {P("\x6a\x00\x01"), V31, C, 0, NULL},
    {P("\x6a\x00\x01"), V4, C, 0x81, "reserved flags"},
    {P("\x8a\x00\x01\x00\x01t\x00"), V4, C, 0x81, "reserved flags"},
    {P("\xaa\x00\x01\x00\x00\x01t"), V5, C, 0x81, "reserved flags"},
    {P("\xc0\x00"), V4, C, 0x81, "trailing"},
    {P("\xd0\x00"), V5, S, 0x81, "trailing"},
    {P("\xe0\x00"), V4, C, 0x81, "trailing"},
    {P("\xe0"), V4, S, 0x82, "from a server"},
    {P("\xe0\x00\x00\x00"), V5, C, 0x81, "trailing"},
    {P("\xe0\x87"), V5, C, 0x82, "reason code"},
    {P("\xe0\x87"), V5, S, 0, NULL},
    {P("\xe0\x04"), V5, S, 0x82, "reason code"},
    {P("\xe0\x04"), V5, C, 0, NULL},
    {P("\xe0\x01"), V5, C, 0x82, "reason code"},
    {P("\xe0\x00\x05\x11\x00\x00\x00\x01"), V5, C, 0, NULL},
    {P("\xe0\x8e\x05\x11\x00\x00\x00\x01"), V5, S, 0x82, "only the other side"},
    {P("\xe0\x9c\x04\x1c\x00\x01h"), V5, S, 0, NULL},
    {P("\xe0\x00\x04\x1c\x00\x01h"), V5, C, 0x82, "only the other side"},
    {P("\xf0"), V4, C, 0x82, "AUTH before"},
    {P("\xf0"), V5, S, 0, NULL},
    {P("\xf0"), V5, C, 0x82, "reason code"},
    {P("\xf0\x19\x04\x15\x00\x01m"), V5, C, 0, NULL},
    {P("\xf0\x19\x04\x15\x00\x01m"), V5, S, 0x82, "reason code"},
    {P("\xf0\x18\x00"), V5, C, 0x82, "without authentication method"},
    {P("\xf0\x18\x08\x15\x00\x01m\x15\x00\x01m"), V5, C, 0x82, "twice"},
};

static const struct fault subscribes[] = {
    {P("\x82\x00\x01\x00\x01t\x02"), V4, C, 0, NULL},
    {P("\x82\x00"), V4, C, 0x81, "packet identifier missing"},
    {P("\x82\x00\x00\x00\x01t\x00"), V4, C, 0x82, "packet identifier 0"},
    {P("\x82\x00\x01"), V4, C, 0x82, "no topic filter"},
    {P("\x82\x00\x01\x00"), V5, C, 0x82, "no topic filter"},
    {P("\x82\x00\x01\x00\x02t"), V4, C, 0x81, "topic filter cut short"},
    {P("\x82\x00\x01\x00\x01t"), V4, C, 0x81, "without options"},
    {P("\x82\x00\x01\x00\x01t\x00\x00"), V4, C, 0x81, "topic filter cut short"},
    {P("\x82\x00\x01\x00\x01t\x03"), V4, C, 0x82, "QoS 3"},
    {P("\x82\x00\x01\x00\x00\x01t\x03"), V5, C, 0x82, "QoS 3"},
    {P("\x82\x00\x01\x00\x01t\x04"), V4, C, 0x81, "reserved option bits"},
    {P("\x82\x00\x01\x00\x00\x01t\x40"), V5, C, 0x81, "reserved option bits"},
    {P("\x82\x00\x01\x00\x00\x01t\x80"), V5, C, 0x81, "reserved option bits"},
    {P("\x82\x00\x01\x00\x00\x01t\x30"), V5, C, 0x82, "retain handling 3"},
    {P("\x82\x00\x01\x00\x00\x0a$share/g/t\x04"), V5, C, 0x82, "No Local"},
    {P("\x82\x00\x01\x00\x00\x0a$share/g/t\x00"), V5, C, 0, NULL},
    {P("\x82\x00\x01\x00\x00\x08$share/g\x00"), V5, C, 0, NULL},
    {P("\x82\x00\x01\x00\x00\x09$share//t\x00"), V5, C, 0, NULL},
    {P("\x82\x00\x01\x00\x00\x09$share/g/\x00"), V5, C, 0, NULL},
    {P("\x82\x00\x01\x00\x00\x0a$share/+/t\x00"), V5, C, 0, NULL},
    {P("\x82\x00\x01\x00\x08$share/g\x00"), V4, C, 0, NULL},
    {P("\x82\x00\x01\x00\x00\x00"), V4, C, 0x8f, "empty"},
    {P("\x82\x00\x01\x00\x02t#\x00"), V4, C, 0x8f, "does not begin"},
    {P("\x82\x00\x01\x00\x02t+\x00"), V4, C, 0x8f, "does not begin"},
    {P("\x82\x00\x01\x00\x03#/t\x00"), V4, C, 0x8f, "not the last"},
    {P("\x82\x00\x01\x00\x03+t/\x00"), V4, C, 0x8f, "does not fill"},
    {P("\x82\x00\x01\x00\x01\xff\x00"), V4, C, 0x81, "not valid UTF-8"},
    {P("\x82\x00\x01\x00\x01\x00\x00"), V4, C, 0x81, "U+0000"},
    {P("\x82\x00\x01\x02\x0b\x00\x00\x01t\x00"), V5, C, 0x82, "out of range"},
    {P("\x82\x00\x01\x04\x0b\x01\x0b\x01\x00\x01t\x00"), V5, C, 0x82, "twice"},
    {P("\x82\x00\x01\x02\x01\x01\x00\x01t\x00"), V5, C, 0x81, "not valid for this type"},
    /* The second filter is judged like the first. */
    {P("\x82\x00\x01\x00\x01t\x00\x00\x02#t\x00"), V4, C, 0x8f, "not the last"},
    {P("\xa2\x00\x01"), V4, C, 0x82, "no topic filter"},
    {P("\xa2\x00\x00\x00\x01t"), V4, C, 0x82, "packet identifier 0"},
    {P("\xa2\x00\x01\x00\x02t"), V4, C, 0x81, "topic filter cut short"},
    {P("\xa2\x00\x01\x00\x01\xff"), V4, C, 0x81, "not valid UTF-8"},
    {P("\xa2\x00\x01\x00\x02t#"), V4, C, 0x8f, "does not begin"},
    {P("\xa2\x00\x01\x02\x0b\x01\x00\x01t"), V5, C, 0x81, "not valid for this type"},
};

static const struct fault answers[] = {
    {P("\x20\x00"), V4, S, 0x81, "cut short"},
    {P("\x20\x02\x00"), V4, S, 0x81, "reserved flags"},
    {P("\x20\x02\x00"), V31, S, 0, NULL},
    {P("\x20\x00\x06"), V4, S, 0x82, "reserved return code"},
    {P("\x20\x01\x01"), V4, S, 0x82, "session present"},
    {P("\x20\x01\x86\x00"), V5, S, 0x82, "session present"},
    {P("\x20\x00\x8b\x00"), V5, S, 0x82, "reason code of another packet"},
    {P("\x20\x00\x00"), V5, S, 0x81, "property length missing"},
    {P("\x20\x00\x00\x00"), V4, S, 0x81, "trailing"},
    {P("\x20\x00\x00\x00\x00"), V5, S, 0x81, "trailing"},
    {P("\x20\x00\x00\x02\x24\x02"), V5, S, 0x82, "out of range"},
    {P("\x20\x00\x00\x02\x25\x02"), V5, S, 0x82, "out of range"},
    {P("\x20\x00\x00\x02\x28\x02"), V5, S, 0x82, "out of range"},
    {P("\x20\x00\x00\x02\x29\x02"), V5, S, 0x82, "out of range"},
    {P("\x20\x00\x00\x02\x2a\x02"), V5, S, 0x82, "out of range"},
    {P("\x20\x00\x00\x03\x21\x00\x00"), V5, S, 0x82, "out of range"},
    {P("\x20\x00\x00\x02\x17\x01"), V5, S, 0x81, "not valid for this type"},
    {P("\x90\x00\x01"), V4, S, 0x81, "without codes"},
    {P("\x90\x00\x00\x00"), V4, S, 0x82, "packet identifier 0"},
    {P("\x90\x00\x01\x03"), V4, S, 0x82, "code of another packet"},
    {P("\x90\x00\x01\x87"), V4, S, 0x82, "code of another packet"},
    {P("\x90\x00\x01\x00\x87"), V5, S, 0, NULL},
    {P("\x90\x00\x01\x00\x11"), V5, S, 0x82, "code of another packet"},
    {P("\xb0\x00\x01\x00"), V4, S, 0x81, "trailing"},
    {P("\xb0\x00\x01\x00"), V5, S, 0x81, "without codes"},
    {P("\xb0\x00\x01\x00\x01"), V5, S, 0x82, "code of another packet"},
    {P("\xb0\x00\x01\x00\x11"), V5, S, 0, NULL},
};

/* Put the fixed header in front; with `padded` in one byte too many. */
static size_t packet_of(const struct fault *fault, bool padded, uint8_t *out)
{
    size_t body = fault->len - 1;
    size_t at = 0;

    mr_assert(body < 128);
    out[at++] = (uint8_t)fault->bytes[0];
    out[at++] = (uint8_t)(body | (padded ? 0x80 : 0));
    if (padded) {
        out[at++] = 0;
    }
    memcpy(out + at, fault->bytes + 1, body);
    return at + body;
}

static void test_fault(const struct fault *fault)
{
    const struct mr_mqtt_mode mode = {.version = fault->version, .from = fault->from};
    struct mr_mqtt_why why = {0};
    struct mr_mqtt_frame frame;
    struct any any;
    uint8_t buffer[160];

    for (int padded = 0; padded < 2; padded++) {
        size_t len = packet_of(fault, padded != 0, buffer);
        mr_assert(mr_mqtt_frame(mr_span_make(buffer, len), 1000, &frame) == MR_OK);
        mr_assert(frame.padded == (padded != 0));
        enum mr_err err = any_decode(&frame, mode, &any, &why);
        if (padded != 0 && fault->version == V5) { /* [MQTT-1.5.5-1] */
            mr_assert(err != MR_OK);
            mr_assert(fault->reason != 0 || strstr(why.what, "shortest form") != NULL);
            continue;
        }
        bool as_told = fault->reason == 0 ? err == MR_OK
                                          : err != MR_OK && why.reason == fault->reason &&
                                                strstr(why.what, fault->what) != NULL;
        if (!as_told) {
            printf("type %s version %u: expected 0x%02x '%s', got %d 0x%02x '%s'\n",
                   mr_mqtt_type_name(frame.type), fault->version, fault->reason,
                   fault->what == NULL ? "" : fault->what, err, why.reason,
                   err == MR_OK ? "accepted" : why.what);
        }
        mr_assert(as_told);
        mr_assert(err == MR_OK || (err == MR_ERR_CORRUPT) == (why.reason == 0x81));
    }
    size_t len = packet_of(fault, false, buffer);
    uint8_t *exact = malloc(len); /* so that the sanitizer sees a read behind the end */
    mr_assert(exact != NULL);
    memcpy(exact, buffer, len);
    mr_assert(any_check(mr_span_make(exact, len), mode) == (fault->reason == 0));
    free(exact);
}

static void test_all(const struct fault *faults, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        test_fault(&faults[i]);
    }
}

/* The version as read is told, because the answer depends on it. */
static void test_version_is_told(void)
{
    static const uint8_t bytes[] = "\x10\x0b\x00\x04MQTT\x07\x02\x00\x0a";
    struct mr_mqtt_connect connect;
    struct mr_mqtt_frame frame;
    struct mr_mqtt_why why;

    mr_assert(mr_mqtt_frame(mr_span_make(bytes, 13), 100, &frame) == MR_OK);
    mr_assert(mr_mqtt_connect_decode(&frame, &connect, &why) == MR_ERR_REJECT);
    mr_assert(why.reason == 0x84 && connect.version == 7);
}

/* Table 2-4: every property in every packet from either side. */
static void test_property_table(void)
{
    static const struct {
        uint8_t id;
        const char *value;
        size_t len;
        uint32_t client; /* bit n: type n */
        uint32_t server;
    } rows[] = {
        {0x01, P("\x01"), 0x0009, 0x0008},
        {0x02, P("\0\0\0\1"), 0x0009, 0x0008},
        {0x03, P("\0\1c"), 0x0009, 0x0008},
        {0x08, P("\0\1t"), 0x0009, 0x0008},
        {0x09, P("\0\1\xff"), 0x0009, 0x0008},
        {0x0B, P("\x01"), 0x0100, 0x0008},
        {0x11, P("\0\0\0\1"), 0x4002, 0x0004},
        {0x12, P("\0\1c"), 0, 0x0004},
        {0x13, P("\0\1"), 0, 0x0004},
        {0x15, P("\0\1m"), 0x8002, 0x8004},
        {0x16, P("\0\1\xff"), 0x8002, 0x8004},
        {0x17, P("\x01"), 0x0002, 0},
        {0x18, P("\0\0\0\1"), 0x0001, 0},
        {0x19, P("\x01"), 0x0002, 0},
        {0x1A, P("\0\1r"), 0, 0x0004},
        {0x1C, P("\0\1s"), 0, 0x4004},
        {0x1F, P("\0\1r"), 0xC0F0, 0xCAF4},
        {0x21, P("\0\1"), 0x0002, 0x0004},
        {0x22, P("\0\1"), 0x0002, 0x0004},
        {0x23, P("\0\1"), 0x0008, 0x0008},
        {0x24, P("\x01"), 0, 0x0004},
        {0x25, P("\x01"), 0, 0x0004},
        {0x26, P("\0\1k\0\1v"), 0xC5FB, 0xCAFC},
        {0x27, P("\0\0\0\1"), 0x0002, 0x0004},
        {0x28, P("\x01"), 0, 0x0004},
        {0x29, P("\x01"), 0, 0x0004},
        {0x2A, P("\x01"), 0, 0x0004},
    };
    struct mr_mqtt_props props;
    struct mr_mqtt_why why;
    uint8_t bytes[32];

    for (size_t i = 0; i < MR_COUNT_OF(rows); i++) {
        bytes[0] = rows[i].id;
        memcpy(bytes + 1, rows[i].value, rows[i].len);
        for (unsigned type = 0; type < 16; type++) {
            for (unsigned from = 0; from < 2; from++) {
                bool mine = ((from == C ? rows[i].client : rows[i].server) >> type & 1) != 0;
                bool any = ((rows[i].client | rows[i].server) >> type & 1) != 0;
                enum mr_err err = mr_mqtt_props_decode(mr_span_make(bytes, rows[i].len + 1), type,
                                                       from, &props, &why);
                mr_assert(err == (mine ? MR_OK : any ? MR_ERR_REJECT : MR_ERR_CORRUPT));
                if (mine) {
                    mr_assert(props.present == (uint64_t)1 << rows[i].id);
                    uint8_t out[32];
                    mr_assert(mr_mqtt_props_encode(&props, type, out, sizeof(out)) ==
                              (ptrdiff_t)rows[i].len + 1);
                    mr_assert(memcmp(out, bytes, rows[i].len + 1) == 0);
                    mr_assert(mr_mqtt_props_size(&props, type) == rows[i].len + 1);
                    mr_assert(mr_mqtt_props_size_framed(&props, type) == rows[i].len + 2);
                }
            }
        }
    }
}

int main(void)
{
    test_all(connects, MR_COUNT_OF(connects));
    test_all(publishes, MR_COUNT_OF(publishes));
    test_all(acks, MR_COUNT_OF(acks));
    test_all(subscribes, MR_COUNT_OF(subscribes));
    test_all(answers, MR_COUNT_OF(answers));
    test_version_is_told();
    test_property_table();
    printf("mqtt refusals: ok\n");
    return 0;
}
