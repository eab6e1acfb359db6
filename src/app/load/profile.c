/* profile.c - see profile.h for the contract.
 *
 * DESIGN
 *
 * Each quantity walks: a step in proportion to its scale, pulled back toward its
 * usual value, kept inside its physical limits.  So neighbouring readings resemble
 * each other and no sensor drifts away in a long run.
 *
 * Numbers are printed from scaled integers, because printf("%f") is the most
 * expensive thing a generator can do (and follows the locale).  A waveform is an
 * oscillator that needs one multiplication a sample, no sine.  An event costs the
 * simulator 0.4 to 0.5 us in all, one with a waveform 1.3 us (`simulate --rate 0`).
 */
#include "app/load/profile.h"

#include <math.h>

enum { SAMPLES = 48, SAMPLE_MAX = 999, DAY_S = 86400 };

static const double samples_per_s = 3200;
static const double burst_s = 10;

/* A quantity that walks around `usual`. */
struct walk {
    double usual;
    double step; /* of one reading */
    double min;
    double max;
};

static const char *const kind_names[MR_SENSOR_KINDS] = {
    [MR_SENSOR_TEMPERATURE] = "temperature",
    [MR_SENSOR_PRESSURE] = "pressure",
    [MR_SENSOR_METER] = "meter",
    [MR_SENSOR_VIBRATION] = "vibration",
    [MR_SENSOR_TRAIN] = "train",
    [MR_SENSOR_TOLLING] = "tolling",
    [MR_SENSOR_WAVEFORM] = "vibration",
};

static const struct {
    const char *name;
    const char *about;
} profiles[MR_PROFILES] = {
    [MR_PROFILE_MIXED] = {"mixed", "a plant: temperatures, pressures, meters, vibration, and more"},
    [MR_PROFILE_METERS] = {"meters", "electricity meters of households, with the day's curve"},
    [MR_PROFILE_TRAINS] = {"trains", "trains on their lines: position, speed, brakes, doors"},
    [MR_PROFILE_TOLLING] = {"tolling", "tolling lanes: vehicles in bursts, dense at rush hour"},
    [MR_PROFILE_VIBRATION] = {"vibration", "vibration sensors, each reading with its waveform"},
};

/* Stations of a line, about where they are on a map. */
struct station {
    double lat;
    double lon;
};

static const struct line {
    const char *name;
    double kmh_max;
    uint8_t stations;
    struct station at[6];
} lines[] = {
    {"S1",
     100,
     6,
     {{52.3906, 13.0666},
      {52.4113, 13.1557},
      {52.4217, 13.1792},
      {52.4572, 13.2906},
      {52.4780, 13.3432},
      {52.5251, 13.3694}}},
    {"RE1",
     160,
     5,
     {{52.1205, 11.6276},
      {52.4124, 12.5316},
      {52.3906, 13.0666},
      {52.5251, 13.3694},
      {52.3479, 14.5506}}},
    {"IC5", 200, 4, {{53.5528, 10.0067}, {53.0831, 8.8138}, {52.3765, 9.7411}, {51.3133, 9.4898}}},
    {"ICE18",
     230,
     4,
     {{48.1402, 11.5600}, {49.4456, 11.0825}, {50.9726, 11.0380}, {51.3455, 12.3821}}},
};

const char *mr_sensor_kind_name(enum mr_sensor_kind kind)
{
    mr_assert(kind < MR_SENSOR_KINDS);
    return kind_names[kind];
}

const char *mr_profile_name(enum mr_profile profile)
{
    mr_assert(profile < MR_PROFILES);
    return profiles[profile].name;
}

const char *mr_profile_about(enum mr_profile profile)
{
    mr_assert(profile < MR_PROFILES);
    return profiles[profile].about;
}

/* Seven of ten vehicles come in three of ten seconds: what a traffic light up the road,
 * or a full lane beside, makes of a steady flow.
 */
double mr_profile_bend(enum mr_profile profile, double seconds)
{
    if (profile != MR_PROFILE_TOLLING) {
        return seconds;
    }
    double begin = floor(seconds / burst_s) * burst_s;
    double part = (seconds - begin) / burst_s;

    return begin + burst_s * (part < 0.7 ? part * (0.3 / 0.7) : 0.3 + (part - 0.7) * (0.7 / 0.3));
}

enum mr_sensor_kind mr_profile_kind(enum mr_profile profile, uint32_t index)
{
    /* Of twenty sensors of a plant: six, three, five, three, two, one. */
    static const uint8_t mixed[] = {0, 2, 0, 3, 1, 2, 0, 4, 2, 0, 1, 3, 2, 0, 5, 2, 0, 3, 1, 4};

    switch (profile) {
    case MR_PROFILE_METERS:
        return MR_SENSOR_METER;
    case MR_PROFILE_TRAINS:
        return MR_SENSOR_TRAIN;
    case MR_PROFILE_TOLLING:
        return MR_SENSOR_TOLLING;
    case MR_PROFILE_VIBRATION:
        return MR_SENSOR_WAVEFORM;
    case MR_PROFILE_MIXED:
    case MR_PROFILES:
    default:
        return (enum mr_sensor_kind)mixed[index % MR_COUNT_OF(mixed)];
    }
}

static double sensor_between(struct mr_sensor *sensor, double min, double max)
{
    return min + (max - min) * mr_rng_unit(&sensor->rng);
}

static const struct line *line_of(const struct mr_sensor *sensor)
{
    return &lines[sensor->id % MR_COUNT_OF(lines)];
}

void mr_sensor_topic(const struct mr_sensor *sensor, struct mr_text *out)
{
    enum { METERS_PER_DISTRICT = 200, SENSORS_PER_HALL = 50, LANES = 8 };
    char digits[16];
    size_t len = 0;

    mr_text_add(out, mr_sensor_kind_name(sensor->kind));
    switch (sensor->kind) {
    case MR_SENSOR_METER:
        mr_text_add(out, "/district-");
        mr_text_u64(out, sensor->id / METERS_PER_DISTRICT + 1);
        break;
    case MR_SENSOR_TRAIN:
        mr_text_add(out, "/");
        mr_text_add(out, line_of(sensor)->name);
        break;
    case MR_SENSOR_TOLLING:
        mr_text_add(out, "/plaza-");
        mr_text_u64(out, sensor->id / LANES + 1);
        break;
    default:
        mr_text_add(out, "/hall-");
        mr_text_u64(out, sensor->id / SENSORS_PER_HALL + 1);
        break;
    }
    mr_text_add(out, "/");
    for (uint32_t rest = sensor->id; len < 5 || rest > 0; rest /= 10) {
        digits[sizeof(digits) - ++len] = (char)('0' + rest % 10);
    }
    mr_text_bytes(out, digits + sizeof(digits) - len, len);
}

void mr_sensor_init(struct mr_sensor *sensor, enum mr_sensor_kind kind, uint32_t id, uint64_t seed)
{
    *sensor = (struct mr_sensor){.id = id, .kind = (uint8_t)kind};
    /* An odd multiplier keeps the seeds of neighbours apart. */
    mr_rng_seed(&sensor->rng, seed ^ (id + UINT64_C(1)) * UINT64_C(0x9e3779b97f4a7c15));

    switch (kind) {
    case MR_SENSOR_TEMPERATURE:
        sensor->a = sensor_between(sensor, 18, 75); /* this place's usual temperature, C */
        sensor->b = sensor->a;
        break;
    case MR_SENSOR_PRESSURE:
        sensor->a = sensor_between(sensor, 2, 9); /* bar */
        sensor->b = sensor->a;
        break;
    case MR_SENSOR_METER:
        sensor->a = sensor_between(sensor, 1000, 90000); /* kWh on the counter */
        sensor->b = sensor_between(sensor, 150, 900);    /* W, this household's mean */
        sensor->c = 1;                                   /* what is switched on, against usual */
        break;
    case MR_SENSOR_VIBRATION:
    case MR_SENSOR_WAVEFORM:
        sensor->a = sensor_between(sensor, 0.4, 2.5); /* mm/s, ISO 20816 calls this good */
        sensor->b = sensor_between(sensor, 24, 50);   /* Hz of the shaft */
        break;
    case MR_SENSOR_TRAIN:
        sensor->station = (uint8_t)mr_rng_below(&sensor->rng, line_of(sensor)->stations - 1u);
        sensor->back = mr_rng_below(&sensor->rng, 2) != 0;
        sensor->station = (uint8_t)(sensor->station + (sensor->back ? 1 : 0));
        sensor->a = sensor_between(sensor, 0, 2000); /* m behind the last station */
        sensor->b = 0;                               /* s that it still stands there */
        sensor->c = sensor_between(sensor, 5, 20);   /* m/s */
        break;
    case MR_SENSOR_TOLLING:
        sensor->a = (double)(id % 8 + 1); /* lane */
        break;
    case MR_SENSOR_KINDS:
    default:
        mr_assert(kind < MR_SENSOR_KINDS);
    }
}

static double sensor_walk(struct mr_sensor *sensor, double from, const struct walk *walk)
{
    double next = from + walk->step * (2 * mr_rng_unit(&sensor->rng) - 1);

    next += (walk->usual - next) * 0.02;
    if (next < walk->min) {
        return walk->min;
    }
    return next > walk->max ? walk->max : next;
}

/* ,"name":value with `decimals` digits behind the point. */
static void payload_number(struct mr_text *out, const char *name, double value, unsigned decimals)
{
    static const uint32_t powers[] = {1, 10, 100, 1000, 10000, 100000};
    uint64_t scale = powers[decimals];
    uint64_t scaled = (uint64_t)llround(fabs(value) * (double)scale);
    char digits[8];

    mr_text_add(out, ",\"");
    mr_text_add(out, name);
    mr_text_add(out, value < 0 && scaled > 0 ? "\":-" : "\":");
    mr_text_u64(out, scaled / scale);
    if (decimals == 0) {
        return;
    }
    uint64_t rest = scaled % scale;
    digits[0] = '.';
    for (unsigned i = decimals; i > 0; i--) {
        digits[i] = (char)('0' + rest % 10);
        rest /= 10;
    }
    mr_text_bytes(out, digits, decimals + 1);
}

static void payload_text(struct mr_text *out, const char *name, const char *value)
{
    mr_text_add(out, ",\"");
    mr_text_add(out, name);
    mr_text_add(out, "\":\"");
    mr_text_add(out, value);
    mr_text_add(out, "\"");
}

static void payload_temperature(struct mr_sensor *sensor, int64_t unix_ms, struct mr_text *out)
{
    (void)unix_ms;
    sensor->b = sensor_walk(sensor, sensor->b, &(struct walk){sensor->a, 0.15, -40, 150});
    payload_number(out, "v", sensor->b, 2);
    payload_text(out, "unit", "C");
}

static void payload_pressure(struct mr_sensor *sensor, int64_t unix_ms, struct mr_text *out)
{
    (void)unix_ms;
    sensor->b = sensor_walk(sensor, sensor->b, &(struct walk){sensor->a, 0.02, 0, 16});
    payload_number(out, "v", sensor->b, 3);
    payload_text(out, "unit", "bar");
}

/* How much of its mean a household takes at this time of day; mean of the day: 1. */
static double day_curve(int64_t unix_ms)
{
    static const double hours[] = {0.56, 0.50, 0.47, 0.46, 0.47, 0.56, 0.86, 1.16,
                                   1.11, 1.01, 0.99, 1.01, 1.11, 1.06, 0.96, 0.96,
                                   1.06, 1.31, 1.66, 1.81, 1.71, 1.41, 1.01, 0.71};
    double hour = (double)(unix_ms / 1000 % DAY_S) / 3600;
    size_t at = (size_t)hour;

    return hours[at] + (hours[(at + 1) % 24] - hours[at]) * (hour - (double)at);
}

static void payload_meter(struct mr_sensor *sensor, int64_t unix_ms, struct mr_text *out)
{
    sensor->c = sensor_walk(sensor, sensor->c, &(struct walk){1, 0.08, 0.3, 4});
    double watt = sensor->b * sensor->c * day_curve(unix_ms);
    double volt = 231 - watt / 1500 + sensor_between(sensor, -0.4, 0.4);
    sensor->a += watt / 1000 / 3600;
    payload_number(out, "v", sensor->a, 4);
    payload_text(out, "unit", "kWh");
    payload_number(out, "watt", watt, 1);
    payload_number(out, "volt", volt, 1);
    payload_number(out, "ampere", watt / volt, 2);
}

static void payload_vibration(struct mr_sensor *sensor, int64_t unix_ms, struct mr_text *out)
{
    (void)unix_ms;
    sensor->a = sensor_walk(sensor, sensor->a, &(struct walk){1.4, 0.08, 0.1, 11});
    sensor->b = sensor_walk(sensor, sensor->b, &(struct walk){49, 0.05, 10, 60});
    /* Now and then something hits the machine. */
    double crest = mr_rng_below(&sensor->rng, 500) == 0 ? 8 : sensor_between(sensor, 2.6, 3.4);
    payload_number(out, "v", sensor->a, 3);
    payload_text(out, "unit", "mm/s");
    payload_number(out, "peak", sensor->a * crest, 3);
    payload_number(out, "hz", sensor->b, 2);
}

/* ,"wave":[...]: one turn of the shaft, its third harmonic, and the bearing's noise. */
static void payload_wave(struct mr_sensor *sensor, struct mr_text *out)
{
    const double pi = 3.14159265358979;
    double step = 2 * pi * sensor->b / samples_per_s;
    double turn = 2 * cos(step); /* s[n+1] = 2 cos(step) s[n] - s[n-1] */
    double third = 2 * cos(3 * step);
    double phase = 2 * pi * mr_rng_unit(&sensor->rng);
    double now = sin(phase);
    double before = sin(phase - step);
    double now3 = sin(3 * phase);
    double before3 = sin(3 * (phase - step));
    double scale = sensor->a * 50;

    mr_text_add(out, ",\"wave\":[");
    for (unsigned i = 0; i < SAMPLES; i++) {
        double noise = (double)(mr_rng_u64(&sensor->rng) >> 56) / 128 - 1;
        int64_t sample = (int64_t)(scale * (now + 0.3 * now3 + 0.1 * noise));
        sample = sample > SAMPLE_MAX ? SAMPLE_MAX : sample < -SAMPLE_MAX ? -SAMPLE_MAX : sample;
        mr_text_add(out, i == 0 ? (sample < 0 ? "-" : "") : sample < 0 ? ",-" : ",");
        mr_text_u64(out, (uint64_t)(sample < 0 ? -sample : sample));
        double next = turn * now - before;
        double next3 = third * now3 - before3;
        before = now;
        now = next;
        before3 = now3;
        now3 = next3;
    }
    mr_text_add(out, "]");
}

static void payload_waveform(struct mr_sensor *sensor, int64_t unix_ms, struct mr_text *out)
{
    payload_vibration(sensor, unix_ms, out);
    payload_number(out, "rate", samples_per_s, 0);
    payload_wave(sensor, out);
}

/* Metres between two places that are not far apart, on a sphere. */
static double metres_between(const struct station *from, const struct station *to)
{
    const double metres_per_degree = 111200;
    double north = (to->lat - from->lat) * metres_per_degree;
    double east = (to->lon - from->lon) * metres_per_degree * cos(from->lat * 0.0174532925);

    return sqrt(north * north + east * east);
}

/* One second of a train's life.  True: it brakes. */
static bool train_run(struct mr_sensor *sensor, const struct line *line, double length)
{
    const double pull = 0.5;
    const double brake = 0.7; /* m/s^2 */

    if (sensor->b > 0) {
        sensor->b -= 1;
        return true; /* it stands */
    }
    double left = length - sensor->a;
    bool braking = left <= sensor->c * sensor->c / (2 * brake) + sensor->c;
    double next = braking ? sensor->c - brake : sensor->c + pull;
    double most = line->kmh_max / 3.6;
    sensor->c = next < 1.5 ? 1.5 : next > most ? most : next;
    sensor->a += sensor->c;
    if (sensor->a < length) {
        return braking;
    }
    sensor->station = (uint8_t)(sensor->station + (sensor->back ? -1 : 1));
    if (sensor->station == 0 || sensor->station == line->stations - 1) {
        sensor->back = sensor->station != 0;
    }
    sensor->a = 0;
    sensor->c = 0;
    sensor->b = floor(sensor_between(sensor, 25, 60));
    return true;
}

static void payload_train(struct mr_sensor *sensor, int64_t unix_ms, struct mr_text *out)
{
    const struct line *line = line_of(sensor);
    const struct station *from = &line->at[sensor->station];
    const struct station *to = sensor->back ? from - 1 : from + 1;

    (void)unix_ms;
    bool braking = train_run(sensor, line, metres_between(from, to));
    from = &line->at[sensor->station];
    to = sensor->back ? from - 1 : from + 1;
    double part = sensor->a / metres_between(from, to);
    payload_number(out, "v", sensor->c * 3.6, 1);
    payload_text(out, "unit", "km/h");
    payload_text(out, "line", line->name);
    payload_number(out, "lat", from->lat + (to->lat - from->lat) * part, 5);
    payload_number(out, "lon", from->lon + (to->lon - from->lon) * part, 5);
    mr_text_add(out, braking ? ",\"brake\":true" : ",\"brake\":false");
    payload_text(out, "doors", sensor->b > 3 ? "open" : "closed");
}

/* 0 at night, 1 in the middle of a rush hour (7:30 and 17:00). */
static double rush_hour(int64_t unix_ms)
{
    double hour = (double)(unix_ms / 1000 % DAY_S) / 3600;
    double off = fmin(fabs(hour - 7.5), fabs(hour - 17));

    return off < 2 ? 1 - off / 2 : 0;
}

static void payload_tolling(struct mr_sensor *sensor, int64_t unix_ms, struct mr_text *out)
{
    static const char *const classes[] = {"car",   "car",   "car", "van",
                                          "truck", "truck", "bus", "motorcycle"};
    static const char letters[] = "ABCDEFGHJKLMNPRSTUVWXYZ";
    const char *class_name = classes[mr_rng_below(&sensor->rng, MR_COUNT_OF(classes))];
    double rush = rush_hour(unix_ms);
    char plate[8];

    for (size_t i = 0; i < 3; i++) {
        plate[i] = letters[mr_rng_below(&sensor->rng, sizeof(letters) - 1)];
    }
    for (size_t i = 3; i < 7; i++) {
        plate[i] = (char)('0' + mr_rng_below(&sensor->rng, 10));
    }
    plate[7] = '\0';
    payload_number(out, "v", sensor_between(sensor, 70, 135) * (1 - 0.6 * rush), 1);
    payload_text(out, "unit", "km/h");
    payload_number(out, "gap", sensor_between(sensor, 0.8, 12) * (1 - 0.85 * rush), 1);
    payload_number(out, "lane", sensor->a, 0);
    payload_text(out, "class", class_name);
    payload_text(out, "plate", plate);
    mr_text_add(out, mr_rng_below(&sensor->rng, 40) == 0 ? ",\"paid\":false" : ",\"paid\":true");
}

void mr_sensor_payload(struct mr_sensor *sensor, int64_t unix_ms, struct mr_text *out)
{
    static void (*const kinds[MR_SENSOR_KINDS])(struct mr_sensor *, int64_t, struct mr_text *) = {
        [MR_SENSOR_TEMPERATURE] = payload_temperature,
        [MR_SENSOR_PRESSURE] = payload_pressure,
        [MR_SENSOR_METER] = payload_meter,
        [MR_SENSOR_VIBRATION] = payload_vibration,
        [MR_SENSOR_TRAIN] = payload_train,
        [MR_SENSOR_TOLLING] = payload_tolling,
        [MR_SENSOR_WAVEFORM] = payload_waveform,
    };

    sensor->readings += 1;
    mr_text_add(out, "{\"t\":");
    mr_text_u64(out, (uint64_t)unix_ms);
    mr_text_add(out, ",\"n\":");
    mr_text_u64(out, sensor->readings);
    kinds[sensor->kind](sensor, unix_ms, out);
    mr_text_add(out, "}");
}
