/* fuzz_mqtt_server.c - every packet decoder, from either side, in every version.
 *
 * Input: one byte that chooses version and side, then a stream as it comes from
 * a socket.  Packets are cut off it until it ends or is refused; each that
 * decodes must encode and decode again to the same (any_check).
 */
#include "fuzz.h"
#include "mqtt_any.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const uint8_t versions[] = {MR_MQTT_5, MR_MQTT_311, MR_MQTT_31, MR_MQTT_5};
    struct mr_mqtt_frame frame;

    if (size == 0) {
        return 0;
    }
    struct mr_mqtt_mode mode = {.version = versions[data[0] & 3], .from = data[0] >> 2 & 1};
    struct mr_span rest = mr_span_make(data + 1, size - 1);
    while (mr_mqtt_frame(rest, MR_MQTT_PACKET_MAX, &frame) == MR_OK) {
        if (!any_check(rest, mode)) {
            break;
        }
        rest.at += frame.total_bytes;
        rest.len -= frame.total_bytes;
    }
    return 0;
}
