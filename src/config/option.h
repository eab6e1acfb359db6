/* option.h - a component's options are a table; everything else walks it.
 *
 *     table row ──▶ loader, `millrace check`, --help, docs/CONFIG.md, schema
 *
 * A component declares a plain struct, and rows that say for each field: name,
 * type, default, range, one sentence of help.  Adding an option is adding one
 * field and one row.  Defaults are text and go through the same parser as the
 * file, so a default that is out of range fails the first test.
 *
 * Thread: tables are constant.   Memory: what the loader fills lives as long as
 * the configuration (config.h).   Time: none.
 */
#ifndef MR_CONFIG_OPTION_H
#define MR_CONFIG_OPTION_H

#include "base/base.h"

struct mr_option;

enum mr_option_type {
    MR_OPT_STR,      /* const char *; NULL if absent and without default */
    MR_OPT_SECRET,   /* const char *; shown as *** everywhere; the file gives text, {file: PATH}
                        or {credential: NAME}, of which a trailing line end is cut */
    MR_OPT_PATH,     /* const char *; relative ones are relative to the file they stand in;
                        a default or --set value to the current folder */
    MR_OPT_U64,      /* uint64_t */
    MR_OPT_SIZE,     /* uint64_t bytes: 64MiB */
    MR_OPT_DURATION, /* uint64_t microseconds: 10ms, 24h */
    MR_OPT_BOOL,     /* bool */
    MR_OPT_CHOICE,   /* uint32_t: index into `choices` */
    MR_OPT_LIST,     /* struct mr_list of strings; one string is a list of one */
    MR_OPT_PAIRS,    /* struct mr_pairs: free keys with text values */
    MR_OPT_SECTION,  /* a struct of its own, rows in `table` */
    MR_OPT_CHOICE_OR_PAIRS, /* struct mr_choice_or_pairs: one of `choices`, or free keys with
                               text values, or a list of such keys, in which one may repeat */
};

struct mr_list {
    const char **items;
    size_t count;
};

struct mr_pair {
    const char *name;
    const char *value;
};

struct mr_pairs {
    struct mr_pair *items;
    size_t count;
};

struct mr_choice_or_pairs {
    uint32_t choice; /* index into `choices`; with pairs: of the NULL behind them */
    struct mr_pairs pairs;
};

struct mr_option {
    const char *name; /* as in the file; NULL ends the table */
    enum mr_option_type type;
    uint32_t offset;               /* of the field; in a SECTION of the sub-struct */
    const char *default_text;      /* NULL: none */
    uint64_t min;                  /* numbers, sizes, durations (us) */
    uint64_t max;                  /* 0: no upper bound */
    const char *help;              /* one sentence */
    const char *zero_word;         /* numbers: a word for 0, whatever the range ("auto") */
    const char *const *choices;    /* CHOICE, CHOICE_OR_PAIRS: NULL-terminated */
    const struct mr_option *table; /* SECTION */
    bool required;
    bool live;  /* a reload puts it in force; of a SECTION: all that is in it */
    bool paths; /* PAIRS: names and values are paths, relative as those of PATH */
};

/* Why a text is not a value of an option: what is wrong, and what would be right. */
struct mr_option_fault {
    char problem[192]; /* "'12x' is not a number" */
    char hint[320];    /* "write digits only, 1 to 65535" */
};

/* The value of a U64, SIZE, DURATION, BOOL (0 or 1) or CHOICE (index; the choice of a
 * CHOICE_OR_PAIRS too) from its text: the one parser behind files, defaults and the command line.
 * MR_ERR_REJECT: not a value, or out of range; *out is untouched, `fault` says why.
 */
enum mr_err mr_option_parse(const struct mr_option *option, const char *text, uint64_t *out,
                            struct mr_option_fault *fault) MR_MUST_USE;

#endif
