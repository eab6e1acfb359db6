/* fuzz.h - the one function that every fuzzer defines. */
#ifndef MR_TEST_FUZZ_FUZZ_H
#define MR_TEST_FUZZ_FUZZ_H

#include <stddef.h>
#include <stdint.h>

/* Feed `size` bytes, in memory that ends with them, to the code under test.
 * Returns 0; a broken promise ends the process.
 */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#endif
