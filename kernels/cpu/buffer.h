// A growing buffer, for files that are compiled for different CPUs.
//
// In an anonymous namespace, so that each of them has its own code.
#pragma once

#include <stdint.h>
#include <stdlib.h>

namespace {

// Bytes that grow and are reused. Zero-initialised, it is empty. Its owner releases it. No exception
// where there is no memory left.
struct Buffer {
    uint8_t *data;
    uint64_t size;

    bool reserve(uint64_t bytes) {
        if (bytes <= size) return true;
        void *more = realloc(data, bytes);
        if (!more) return false;
        data = static_cast<uint8_t *>(more);
        size = bytes;
        return true;
    }

    void release() {
        free(data);
        data = nullptr, size = 0;
    }
};

}  // namespace
