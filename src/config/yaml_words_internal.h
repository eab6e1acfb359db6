/* yaml_words_internal.h - what libyaml complains about, in words that help.
 *
 * libyaml speaks of tokens and contexts ("did not find expected key").  The
 * person who reads it has a file with a tab in it.
 *
 * Thread: one.   Memory: the configuration's.   Time: none.
 */
#ifndef MR_CONFIG_YAML_WORDS_INTERNAL_H
#define MR_CONFIG_YAML_WORDS_INTERNAL_H

#include "config/config_internal.h"

#include <yaml.h>

struct config_words {
    struct config_place place;
    const char *text;
    const char *hint; /* NULL: none */
};

/* `parser` has just failed. */
struct config_words config_yaml_words(struct mr_config *config, const struct config_source *source,
                                      const yaml_parser_t *parser);

#endif
