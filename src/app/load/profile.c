/* profile.c - see profile.h for the contract.
 *
 * DESIGN
 *
 * Each quantity walks: a step in proportion to its scale, pulled back toward its
 * usual value, kept inside its physical limits.  So neighbouring readings resemble
 * each other and no sensor drifts away in a long run.
 *
 * Numbers are printed from scaled integers, because printf("%f") is the most
 * expensive thing a generator can do (and follows the locale).
 */
#include "app/load/profile.h"

#include <math.h>

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
};

const char *mr_sensor_kind_name(enum mr_sensor_kind kind)
{
    mr_assert(kind < MR_SENSOR_KINDS);
    return kind_names[kind];
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
        return MR_SENSOR_VIBRATION;
    case MR_PROFILE_MIXED:
    default:
        return (enum mr_sensor_kind)mixed[index % MR_COUNT_OF(mixed)];
    }
}

static double sensor_between(struct mr_sensor *sensor, double min, double max)
{
    return min + (max - min) * mr_rng_unit(&sensor->rng);
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
        sensor->b = sensor_between(sensor, 200, 4000);   /* W */
        sensor->c = 230;                                 /* V */
        break;
    case MR_SENSOR_VIBRATION:
        sensor->a = sensor_between(sensor, 0.4, 2.5); /* mm/s, ISO 20816 calls this good */
        sensor->b = sensor_between(sensor, 24, 50);   /* Hz of the shaft */
        break;
    case MR_SENSOR_TRAIN:
        sensor->a = sensor_between(sensor, 46.2, 53.8); /* latitude */
        sensor->b = sensor_between(sensor, 7.0, 15.5);  /* longitude */
        sensor->c = sensor_between(sensor, 0, 160);     /* km/h */
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

static void payload_temperature(struct mr_sensor *sensor, struct mr_text *out)
{
    sensor->b = sensor_walk(sensor, sensor->b, &(struct walk){sensor->a, 0.15, -40, 150});
    payload_number(out, "v", sensor->b, 2);
    payload_text(out, "unit", "C");
}

static void payload_pressure(struct mr_sensor *sensor, struct mr_text *out)
{
    sensor->b = sensor_walk(sensor, sensor->b, &(struct walk){sensor->a, 0.02, 0, 16});
    payload_number(out, "v", sensor->b, 3);
    payload_text(out, "unit", "bar");
}

static void payload_meter(struct mr_sensor *sensor, struct mr_text *out)
{
    sensor->b = sensor_walk(sensor, sensor->b, &(struct walk){1500, 90, 0, 12000});
    sensor->c = sensor_walk(sensor, sensor->c, &(struct walk){230, 0.6, 207, 253});
    sensor->a += sensor->b / 1000 / 3600; /* a reading stands for a second */
    payload_number(out, "v", sensor->a, 4);
    payload_text(out, "unit", "kWh");
    payload_number(out, "watt", sensor->b, 1);
    payload_number(out, "volt", sensor->c, 1);
    payload_number(out, "ampere", sensor->b / sensor->c, 2);
}

static void payload_vibration(struct mr_sensor *sensor, struct mr_text *out)
{
    sensor->a = sensor_walk(sensor, sensor->a, &(struct walk){1.4, 0.08, 0.1, 11});
    sensor->b = sensor_walk(sensor, sensor->b, &(struct walk){49, 0.05, 10, 60});
    /* Now and then something hits the machine. */
    double crest = mr_rng_below(&sensor->rng, 500) == 0 ? 8 : sensor_between(sensor, 2.6, 3.4);
    payload_number(out, "v", sensor->a, 3);
    payload_text(out, "unit", "mm/s");
    payload_number(out, "peak", sensor->a * crest, 3);
    payload_number(out, "hz", sensor->b, 2);
}

static void payload_train(struct mr_sensor *sensor, struct mr_text *out)
{
    sensor->c = sensor_walk(sensor, sensor->c, &(struct walk){95, 4, 0, 230});
    double degrees = sensor->c / 3600 / 111.2; /* one second's way north-east */
    sensor->a = sensor->a + degrees * 0.7 > 54.8 ? 46.2 : sensor->a + degrees * 0.7;
    sensor->b = sensor->b + degrees > 16.5 ? 7.0 : sensor->b + degrees;
    payload_number(out, "v", sensor->c, 1);
    payload_text(out, "unit", "km/h");
    payload_number(out, "lat", sensor->a, 5);
    payload_number(out, "lon", sensor->b, 5);
    payload_number(out, "doors", sensor->c < 1 ? 1 : 0, 0);
}

static void payload_tolling(struct mr_sensor *sensor, struct mr_text *out)
{
    static const char *const classes[] = {"car",   "car",   "car", "van",
                                          "truck", "truck", "bus", "motorcycle"};
    static const char letters[] = "ABCDEFGHJKLMNPRSTUVWXYZ";
    const char *class_name = classes[mr_rng_below(&sensor->rng, MR_COUNT_OF(classes))];
    char plate[8];

    for (size_t i = 0; i < 3; i++) {
        plate[i] = letters[mr_rng_below(&sensor->rng, sizeof(letters) - 1)];
    }
    for (size_t i = 3; i < 7; i++) {
        plate[i] = (char)('0' + mr_rng_below(&sensor->rng, 10));
    }
    plate[7] = '\0';
    payload_number(out, "v", sensor_between(sensor, 60, 135), 1);
    payload_text(out, "unit", "km/h");
    payload_number(out, "lane", sensor->a, 0);
    payload_text(out, "class", class_name);
    payload_text(out, "plate", plate);
    mr_text_add(out, mr_rng_below(&sensor->rng, 40) == 0 ? ",\"paid\":false" : ",\"paid\":true");
}

void mr_sensor_payload(struct mr_sensor *sensor, int64_t unix_ms, struct mr_text *out)
{
    static void (*const kinds[MR_SENSOR_KINDS])(struct mr_sensor *, struct mr_text *) = {
        [MR_SENSOR_TEMPERATURE] = payload_temperature,
        [MR_SENSOR_PRESSURE] = payload_pressure,
        [MR_SENSOR_METER] = payload_meter,
        [MR_SENSOR_VIBRATION] = payload_vibration,
        [MR_SENSOR_TRAIN] = payload_train,
        [MR_SENSOR_TOLLING] = payload_tolling,
    };

    sensor->readings += 1;
    mr_text_add(out, "{\"t\":");
    mr_text_u64(out, (uint64_t)unix_ms);
    mr_text_add(out, ",\"n\":");
    mr_text_u64(out, sensor->readings);
    kinds[sensor->kind](sensor, out);
    mr_text_add(out, "}");
}
