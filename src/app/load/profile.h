/* profile.h - what a simulated sensor measures.
 *
 *     mr_profile_kind(profile, index)          which type sensor number `index` is
 *     mr_sensor_init(&sensor, kind, id, seed)
 *     mr_sensor_topic(&sensor, &text)              "meter/district-3/00012"
 *     mr_sensor_payload(&sensor, unix_ms, &text)   its next reading, as JSON
 *
 * A demo with random numbers teaches nothing: so each type has the fields, ranges
 * and inertia of the real thing, and a dashboard or rule that works on it works:
 *
 *     meters     households, whose power follows the hour of the day
 *     trains     run along lines between stations, brake, open doors, turn round
 *     tolling    vehicles come in bursts; they are slow and close at rush hour
 *     vibration  each reading carries a piece of the waveform
 *     mixed      a plant: some of everything, and temperatures and pressures
 *
 * Every payload has "t" (Unix milliseconds), "v" (the main value), and "n", which
 * counts the readings of the sensor from 1 on: a gap seen downstream is a loss.
 * A reading stands for a second in the sensor's life, whatever the rate.
 *
 * The same seed and times give the same bytes.
 *
 * Thread: values; one owner each.   Memory: inside the struct.   Time: given.
 */
#ifndef MR_APP_LOAD_PROFILE_H
#define MR_APP_LOAD_PROFILE_H

#include "base/rng.h"
#include "base/text.h"

enum mr_profile {
    MR_PROFILE_MIXED, /* a plant: some of everything */
    MR_PROFILE_METERS,
    MR_PROFILE_TRAINS,
    MR_PROFILE_TOLLING,
    MR_PROFILE_VIBRATION,
    MR_PROFILES,
};

enum mr_sensor_kind {
    MR_SENSOR_TEMPERATURE,
    MR_SENSOR_PRESSURE,
    MR_SENSOR_METER,
    MR_SENSOR_VIBRATION,
    MR_SENSOR_TRAIN,
    MR_SENSOR_TOLLING,
    MR_SENSOR_WAVEFORM, /* vibration, with samples */
    MR_SENSOR_KINDS,
};

enum {
    MR_SENSOR_PAYLOAD_MAX = 384,  /* bytes of the longest reading; a test checks it */
    MR_SENSOR_TOPIC_MAX = 40,     /* of the longest topic, without prefix */
    MR_SENSOR_KIND_NAME_MAX = 12, /* "temperature" and its NUL */
};

struct mr_sensor {
    struct mr_rng rng;
    uint64_t readings; /* made so far */
    double a;          /* state of the random walk; the kind says what each means */
    double b;
    double c;
    uint32_t id;
    uint8_t kind;    /* enum mr_sensor_kind */
    uint8_t station; /* trains: the last one, on their line */
    bool back;       /* trains: on the way back */
};

/* "temperature": the level of the topic, and part of the client id. */
const char *mr_sensor_kind_name(enum mr_sensor_kind kind);

const char *mr_profile_name(enum mr_profile profile);

/* One line for people: what the profile is. */
const char *mr_profile_about(enum mr_profile profile);

/* When the event is due that an even flow would bring at `seconds`: profiles whose
 * events come in bursts bend the time, never backwards, and keep the rate over 10 s.
 */
double mr_profile_bend(enum mr_profile profile, double seconds);

enum mr_sensor_kind mr_profile_kind(enum mr_profile profile, uint32_t index);

void mr_sensor_init(struct mr_sensor *sensor, enum mr_sensor_kind kind, uint32_t id, uint64_t seed);

/* Append type, place and number, as the levels of a topic. */
void mr_sensor_topic(const struct mr_sensor *sensor, struct mr_text *out);

/* Append the next reading, at most MR_SENSOR_PAYLOAD_MAX bytes. */
void mr_sensor_payload(struct mr_sensor *sensor, int64_t unix_ms, struct mr_text *out);

#endif
