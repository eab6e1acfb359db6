/* template.h - small texts made from an event's names: topics, keys.
 *
 *     "sensor_${topic[1]}"  +  plant/temp/7  ─▶  "sensor_temp"
 *
 * Variables: ${clientid}, ${username}, ${topic}, ${topic[n]} (levels count from 0).
 * `$${` is a literal `${`; any other `$` stands for itself.
 *
 * A destination (MR_TEMPLATE_DEST) is a name at the target that a device must not
 * be able to choose freely: it begins with literal text (or has nothing else), and
 * each character of a substituted part outside [a-zA-Z0-9._-] becomes `_`.
 *
 * What an event does not have (a level, a user name) is never rendered as nothing:
 * the caller gets the reason and makes it a dead letter.
 *
 * Thread: compiled templates are constant.   Memory: control plane, freed by free().
 * Time:   once per name and segment, not per event.
 */
#ifndef MR_PIPELINE_TEMPLATE_H
#define MR_PIPELINE_TEMPLATE_H

#include "base/text.h"

struct mr_template;

enum mr_template_use {
    MR_TEMPLATE_TEXT, /* bytes as they come */
    MR_TEMPLATE_DEST, /* begins with literal text, substituted parts are tamed */
};

/* CONFIG: `why` names `option`, the column (from 1) and, if one is near, what was
 * probably meant.
 */
enum mr_err mr_template_compile(struct mr_template **out, const char *option, const char *text,
                                enum mr_template_use use, struct mr_error *why) MR_MUST_USE;
void mr_template_free(struct mr_template *tmpl); /* NULL is fine */

/* Without variables the result is known beforehand: its text, else NULL. */
const char *mr_template_literal(const struct mr_template *tmpl);

struct mr_template_vars {
    struct mr_span client;
    struct mr_span username;
    struct mr_span topic;
};

/* An upper bound of the rendered length. */
size_t mr_template_size(const struct mr_template *tmpl, const struct mr_template_vars *vars);

/* Write the result at `out`, which has room for mr_template_size(); *len is its
 * length.  REJECT: the event lacks a part; `why` (may be NULL) says which.
 */
enum mr_err mr_template_render(const struct mr_template *tmpl, const struct mr_template_vars *vars,
                               uint8_t *out, size_t *len, struct mr_error *why) MR_MUST_USE;

#endif
