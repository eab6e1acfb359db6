/* name.c - what a bridge may be called; see bridge.h.
 *
 * Its name is that of its cursors, of its folder of dead letters, and of a label of its metrics.
 * A name that another cursor has would be one position of two readers: what one has read, the
 * other has lost.
 */
#include "pipeline/bridge.h"

#include "journal/cursor.h"
#include "journal/live.h"

enum { NAME_MOST = MR_CURSOR_NAME_MAX - (int)(sizeof(MR_LIVE_PREFIX) - 1) };

const char *mr_bridge_name_fault(const char *name)
{
    size_t len = strlen(name);

    if (len == 0 || len > NAME_MOST) {
        return "a name has 1 to 122 bytes";
    }
    if (name[0] == '$') {
        return "names that begin with $ are those of the gateway's own positions in the journal";
    }
    if (strcmp(name, ".") == 0 || strcmp(name, "..") == 0 || strchr(name, '/') != NULL) {
        return "it is that of a folder of dead letters, so it has no / and is not . or ..";
    }
    for (size_t i = 0; i < len; i++) {
        if ((uint8_t)name[i] < 0x20 || name[i] == 0x7F || name[i] == '"' || name[i] == '\\') {
            return "a name has no quotes, backslashes or control characters";
        }
    }
    return NULL;
}

_Static_assert(NAME_MOST == 122, "as it is said");
