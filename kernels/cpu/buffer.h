// Growing buffer, for files that are compiled for different CPUs.
//
// It is in an anonymous namespace, so that each file has its own code.
#pragma once

#include <stdint.h>
#include <stdlib.h>

namespace {

// Growing, reusable bytes; empty if zero-initialised. The owner releases it. It throws no exception
// without memory.
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
