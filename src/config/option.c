/* option.c - from the text of an option to its value, and words for both ways.
 *
 * The accepted form and the range are said in every refusal: whoever reads the
 * message should not have to open the manual.
 */
#include "config/config_internal.h"

#include <inttypes.h>

/* A duration in the largest unit that divides it: 5000000 -> "5s". */
static void duration_describe(uint64_t us, struct mr_text *out)
{
    static const struct {
        const char *name;
        uint64_t us;
    } units[] = {
        {"d", 86400 * UINT64_C(1000000)},
        {"h", 3600 * UINT64_C(1000000)},
        {"m", 60 * UINT64_C(1000000)},
        {"s", 1000000},
        {"ms", 1000},
        {"us", 1},
    };

    if (us == 0) {
        mr_text_add(out, "0");
        return;
    }
    for (size_t i = 0; i < MR_COUNT_OF(units); i++) {
        if (us % units[i].us == 0) {
            mr_text_fmt(out, "%" PRIu64 "%s", us / units[i].us, units[i].name);
            return;
        }
    }
}

/* A size as one would write it in the file: 65536 -> "64KiB". */
static void size_describe(uint64_t bytes, struct mr_text *out)
{
    static const char *const units[] = {"", "KiB", "MiB", "GiB", "TiB"};
    size_t power = 0;

    while (bytes != 0 && bytes % 1024 == 0 && power + 1 < MR_COUNT_OF(units)) {
        bytes /= 1024;
        power += 1;
    }
    mr_text_fmt(out, "%" PRIu64 "%s", bytes, units[power]);
}

void config_value_describe(const struct mr_option *option, uint64_t value, struct mr_text *out)
{
    if (option->type == MR_OPT_SIZE) {
        size_describe(value, out);
    } else if (option->type == MR_OPT_DURATION) {
        duration_describe(value, out);
    } else {
        mr_text_u64(out, value);
    }
}

void config_range_describe(const struct mr_option *option, struct mr_text *out)
{
    if (option->max != 0) {
        config_value_describe(option, option->min, out);
        mr_text_add(out, " to ");
        config_value_describe(option, option->max, out);
    } else if (option->min != 0) {
        mr_text_add(out, "at least ");
        config_value_describe(option, option->min, out);
    }
}

void config_choices_describe(const struct mr_option *option, struct mr_text *out)
{
    for (size_t i = 0; option->choices[i] != NULL; i++) {
        mr_text_fmt(out, "%s%s", i == 0 ? "" : ", ", option->choices[i]);
    }
}

/* What a value of this type looks like, and its range. */
static void form_describe(const struct mr_option *option, struct mr_text *out)
{
    switch (option->type) {
    case MR_OPT_SIZE:
        mr_text_add(out, "write a number with a unit, such as 512KiB, 64MiB or 100GiB");
        break;
    case MR_OPT_DURATION:
        mr_text_add(out, "write a number with a unit, such as 10ms, 5s, 3m, 24h or 7d");
        break;
    default:
        mr_text_add(out, "write digits only");
        break;
    }
    if (option->min != 0 || option->max != 0) {
        mr_text_add(out, "; ");
        config_range_describe(option, out);
    }
    if (option->zero_word != NULL) {
        mr_text_fmt(out, "; or %s", option->zero_word);
    }
}

static enum mr_err parse_number(const struct mr_option *option, const char *text, uint64_t *out)
{
    struct mr_span span = mr_span_of(text);

    switch (option->type) {
    case MR_OPT_SIZE:
        return mr_parse_size(span, out);
    case MR_OPT_DURATION:
        return mr_parse_duration(span, out);
    default:
        return mr_parse_u64(span, UINT64_MAX, out);
    }
}

static const char *type_noun(enum mr_option_type type)
{
    switch (type) {
    case MR_OPT_SIZE:
        return "a size";
    case MR_OPT_DURATION:
        return "a duration";
    default:
        return "a number";
    }
}

static enum mr_err parse_bounded(const struct mr_option *option, const char *text, uint64_t *out,
                                 struct mr_text *problem, struct mr_text *hint)
{
    uint64_t value = 0;

    if (option->zero_word != NULL && strcmp(text, option->zero_word) == 0) {
        *out = 0;
        return MR_OK;
    }
    if (parse_number(option, text, &value) != MR_OK) {
        mr_text_fmt(problem, "'%.64s' is not %s", text, type_noun(option->type));
        form_describe(option, hint);
        return MR_ERR_REJECT;
    }
    if (value < option->min || (option->max != 0 && value > option->max)) {
        mr_text_fmt(problem, "'%.64s' is out of range", text);
        mr_text_add(hint, "allowed: ");
        config_range_describe(option, hint);
        if (option->zero_word != NULL) {
            mr_text_fmt(hint, ", or %s", option->zero_word);
        }
        return MR_ERR_REJECT;
    }
    *out = value;
    return MR_OK;
}

/* Lower-cased and compared: True and YES are meant as they look. */
static bool word_is(const char *text, const char *word)
{
    size_t len = strlen(word);

    if (strlen(text) != len) {
        return false;
    }
    for (size_t i = 0; i < len; i++) {
        bool upper = text[i] >= 'A' && text[i] <= 'Z';
        if ((upper ? text[i] + ('a' - 'A') : text[i]) != word[i]) {
            return false;
        }
    }
    return true;
}

static enum mr_err parse_bool(const char *text, uint64_t *out, struct mr_text *problem,
                              struct mr_text *hint)
{
    static const char *const words[] = {"false", "true", "no", "yes", "off", "on"};

    for (size_t i = 0; i < MR_COUNT_OF(words); i++) {
        if (word_is(text, words[i])) {
            *out = i % 2;
            return MR_OK;
        }
    }
    mr_text_fmt(problem, "'%.64s' is neither true nor false", text);
    mr_text_add(hint, "write true or false (yes, no, on and off are understood too)");
    return MR_ERR_REJECT;
}

static enum mr_err parse_choice(const struct mr_option *option, const char *text, uint64_t *out,
                                struct mr_text *problem, struct mr_text *hint)
{
    for (size_t i = 0; option->choices[i] != NULL; i++) {
        if (strcmp(option->choices[i], text) == 0) {
            *out = i;
            return MR_OK;
        }
    }
    const char *near = mr_config_nearest(text, option->choices);

    mr_text_fmt(problem, "'%.64s' is not one of the choices", text);
    if (near != NULL) {
        mr_text_fmt(hint, "did you mean '%s'? ", near);
    }
    mr_text_add(hint, "choose one of: ");
    config_choices_describe(option, hint);
    return MR_ERR_REJECT;
}

enum mr_err mr_option_parse(const struct mr_option *option, const char *text, uint64_t *out,
                            struct mr_option_fault *fault)
{
    struct mr_text problem = mr_text_over(fault->problem, sizeof(fault->problem));
    struct mr_text hint = mr_text_over(fault->hint, sizeof(fault->hint));

    switch (option->type) {
    case MR_OPT_BOOL:
        return parse_bool(text, out, &problem, &hint);
    case MR_OPT_CHOICE:
    case MR_OPT_CHOICE_OR_PAIRS:
        return parse_choice(option, text, out, &problem, &hint);
    default:
        return parse_bounded(option, text, out, &problem, &hint);
    }
}

/* The only candidate that begins with `wrong`, or NULL. */
static const char *begun_by(const char *wrong, size_t wrong_len, const char *const *candidates)
{
    const char *found = NULL;

    for (size_t i = 0; candidates[i] != NULL; i++) {
        if (strncmp(candidates[i], wrong, wrong_len) == 0) {
            if (found != NULL) {
                return NULL;
            }
            found = candidates[i];
        }
    }
    return found;
}

/* One typing error in three characters is a typing error; more is another word. */
const char *mr_config_nearest(const char *wrong, const char *const *candidates)
{
    const char *best = NULL;
    size_t wrong_len = strlen(wrong);
    unsigned best_distance = (unsigned)(wrong_len < 6 ? 2 : wrong_len / 3) + 1;

    for (size_t i = 0; candidates[i] != NULL; i++) {
        unsigned distance = mr_text_distance(wrong, candidates[i]);
        if (distance < best_distance && distance < wrong_len && distance < strlen(candidates[i])) {
            best = candidates[i];
            best_distance = distance;
        }
    }
    return best != NULL || wrong_len < 2 ? best : begun_by(wrong, wrong_len, candidates);
}

const char *config_names_hint(struct mr_config *config, const char *wrong,
                              const char *const *candidates)
{
    enum { COLUMNS_MAX = 88 };
    const char *near = mr_config_nearest(wrong, candidates);
    char buffer[1024];
    struct mr_text text = mr_text_over(buffer, sizeof(buffer));
    size_t line_begin = 0;

    if (near != NULL) {
        return config_format(config, "did you mean '%s'?", near);
    }
    if (candidates[0] == NULL) {
        return NULL;
    }
    mr_text_add(&text, "known keys: ");
    for (size_t i = 0; candidates[i] != NULL; i++) {
        bool full = text.len - line_begin + strlen(candidates[i]) > COLUMNS_MAX;
        if (i > 0) {
            mr_text_add(&text, full ? ",\n  " : ", ");
        }
        line_begin = full ? text.len : line_begin;
        mr_text_add(&text, candidates[i]);
    }
    return config_copy(config, buffer, text.len);
}
