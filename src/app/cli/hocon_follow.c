/* hocon_follow.c - substitutions of HOCON; see hocon_internal.h.
 *
 * A value is followed before whoever refers to it, so each is made once; one that is met again
 * on the way refers to itself, and means nothing.
 */
#include "app/cli/hocon_internal.h"

#include <stdlib.h>

enum { TEXT_BYTES = 16 << 10, NAME_BYTES = 256 };

static bool follow(struct hocon *hocon, struct hocon_value *value);

/* "a.b.c" from the root, or NULL. */
static struct hocon_value *find_path(struct hocon *hocon, const char *path)
{
    struct mr_span rest = mr_span_of(path);
    struct hocon_value *value = &hocon->root;

    while (value != NULL && rest.at != NULL) {
        struct mr_span part = mr_span_split(&rest, '.');
        char name[NAME_BYTES];
        struct mr_text text = mr_text_over(name, sizeof(name));

        mr_text_bytes(&text, part.at, part.len);
        value = value->kind == HOCON_OBJECT ? hocon_find(value, name) : NULL;
    }
    return value;
}

static void copy(struct hocon_value *to, const struct hocon_value *from)
{
    to->kind = from->kind;
    to->text = from->text == NULL ? NULL : mr_strdup(from->text);
    to->has_substitution = from->has_substitution;
    for (const struct hocon_value *child = from->first; child != NULL; child = child->next) {
        copy(hocon_add(to, child->name, child->place), child);
    }
}

/* The name in "${name}" or "${?name}" that begins at `at`; returns where it ends. */
static const char *name_of(const char *at, char name[NAME_BYTES], bool *optional)
{
    const char *end = strchr(at, '}'); /* there is one: hocon.c */
    struct mr_text text = mr_text_over(name, NAME_BYTES);

    *optional = at[2] == '?';
    at += *optional ? 3 : 2;
    mr_text_bytes(&text, at, (size_t)(end - at));
    return end + 1;
}

/* What `name` means, as text; NULL: nothing, or no text. */
static const char *meaning(struct hocon *hocon, const struct hocon_value *value, const char *name)
{
    struct hocon_value *found = find_path(hocon, name);
    bool usable = found != NULL && !found->following && follow(hocon, found) &&
                  found->kind == HOCON_TEXT && !found->has_substitution;

    if (usable) {
        return found->text;
    }
    const char *text = found == NULL ? getenv(name) : NULL;
    if (text != NULL) {
        import_note(hocon->import, value->place, name,
                    "its value is that of the environment of this command; ${env:%s} lets the "
                    "gateway take it from its own",
                    name);
    }
    return text;
}

/* All of the text is one substitution, of an object or a list: value becomes a copy of it. */
static bool follow_whole(struct hocon *hocon, struct hocon_value *value)
{
    char name[NAME_BYTES];
    bool optional = false;

    if (value->text[0] != HOCON_MARK || *name_of(value->text + 1, name, &optional) != '\0') {
        return false;
    }
    struct hocon_value *found = find_path(hocon, name);
    if (found == NULL || found->following || !follow(hocon, found) || found->kind == HOCON_TEXT) {
        return false;
    }
    hocon_empty(value);
    copy(value, found);
    return true;
}

/* False: nothing is left of it. */
static bool follow_text(struct hocon *hocon, struct hocon_value *value)
{
    char *whole = mr_alloc(TEXT_BYTES);
    struct mr_text out = mr_text_over(whole, TEXT_BYTES);
    bool missing = false;
    bool skipped = false;

    for (const char *at = value->text; *at != '\0';) {
        char name[NAME_BYTES];
        bool optional = false;
        size_t plain = strcspn(at, (const char[]){HOCON_MARK, '\0'});
        mr_text_bytes(&out, at, plain);
        at += plain;
        if (*at == '\0') {
            break;
        }
        const char *begin = at + 1;
        at = name_of(begin, name, &optional);
        const char *text = meaning(hocon, value, name);
        if (text != NULL) {
            mr_text_add(&out, text);
        } else if (optional) {
            skipped = true;
        } else {
            missing = true;
            mr_text_bytes(&out, begin, (size_t)(at - begin));
        }
    }
    bool gone = skipped && whole[0] == '\0';
    bool stays = !gone || value->before != NULL;
    if (stays) {
        mr_free(value->text);
        value->text = mr_strdup(gone ? value->before : whole);
        value->has_substitution = missing || out.truncated;
        value->followed = true;
    }
    mr_free(whole);
    return stays;
}

static void drop(struct hocon_value *parent, struct hocon_value *before, struct hocon_value *gone)
{
    if (before == NULL) {
        parent->first = gone->next;
    } else {
        before->next = gone->next;
    }
    parent->last = parent->last == gone ? before : parent->last;
    hocon_empty(gone);
    mr_free(gone->name);
    mr_free(gone);
}

/* False: it means nothing, and is to be left out. */
static bool follow(struct hocon *hocon, struct hocon_value *value)
{
    bool stays = true;

    if (value->following) {
        return true;
    }
    value->following = true;
    if (value->has_substitution && !value->followed && !follow_whole(hocon, value)) {
        stays = follow_text(hocon, value);
    }
    struct hocon_value *before = NULL;
    for (struct hocon_value *child = value->first; child != NULL;) {
        struct hocon_value *next = child->next;
        if (follow(hocon, child)) {
            before = child;
        } else if (!child->following) {
            drop(value, before, child);
        }
        child = next;
    }
    value->following = false;
    return stays;
}

void hocon_follow(struct hocon *hocon)
{
    (void)follow(hocon, &hocon->root);
}
