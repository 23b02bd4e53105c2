// Places of JPEG files in shards -> their pixels: many snippets in one call, on several threads.
//
// What flowpipe/store/batch.py opens. It needs the headers of libjpeg-turbo and zlib where it is
// compiled; without them a store is read image by image through Python, to the same bytes.

#include <atomic>
#include <csetjmp>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <thread>
#include <vector>

#include <unistd.h>

#include <jpeglib.h>
#include <zlib.h>

#ifndef LIBJPEG_TURBO_VERSION_NUMBER
#error "libjpeg-turbo is needed: other libjpegs cannot decode a part of an image"
#endif

namespace {

// One snippet: consecutive images of a stream of a shard, and where their pixels are to be.
struct Snippet {
    int64_t offsets_at;  // in the file: offsets of its images and of the one after, from `bytes_at` on
    int64_t crcs_at;     // in the file: CRCs of its images; 0 if they are not to be compared
    int64_t end;         // size of the file
    uint8_t *out;        // (count, height, width, components), interleaved
    int64_t bytes_at;    // in the file
    int64_t count, height, width, components;
    int64_t top, bottom, left, right;  // the part that is needed; what is outside of it may stay
    int64_t fd;
};

struct Failure {
    jpeg_error_mgr handler;
    jmp_buf back;
};

void leave(j_common_ptr jpeg) { longjmp(reinterpret_cast<Failure *>(jpeg->err)->back, 1); }

void ignore(j_common_ptr, int) {}
void ignore_too(j_common_ptr) {}

// Whether the file has the size that is wanted and could be decoded.
bool decode(const Snippet &want, const uint8_t *file, uint64_t bytes, uint8_t *out) {
    jpeg_decompress_struct jpeg;
    Failure failure;
    jpeg.err = jpeg_std_error(&failure.handler);
    failure.handler.error_exit = leave;
    failure.handler.emit_message = ignore;
    failure.handler.output_message = ignore_too;
    if (setjmp(failure.back)) {
        jpeg_destroy_decompress(&jpeg);
        return false;
    }
    jpeg_create_decompress(&jpeg);
    jpeg_mem_src(&jpeg, file, bytes);
    jpeg_read_header(&jpeg, TRUE);
    bool fits = jpeg.image_height == want.height && jpeg.image_width == want.width &&
                jpeg.num_components == want.components;
    if (fits) {
        jpeg.out_color_space = want.components == 3 ? JCS_RGB : JCS_GRAYSCALE;
        jpeg.dct_method = JDCT_ISLOW;
        jpeg.do_fancy_upsampling = TRUE;
        jpeg_start_decompress(&jpeg);
        // Smooth chroma of a border looks at what is beyond: two blocks more, and it is exact.
        constexpr int64_t kMargin = 32;
        int64_t left = want.left > kMargin ? want.left - kMargin : 0;
        int64_t right = want.right + kMargin < want.width ? want.right + kMargin : want.width;
        JDIMENSION first = left, columns = right - left;
        if (columns < want.width) jpeg_crop_scanline(&jpeg, &first, &columns);
        int64_t top = want.top > kMargin ? want.top - kMargin : 0;
        if (top) jpeg_skip_scanlines(&jpeg, top);
        int64_t row_bytes = want.width * want.components;
        while (static_cast<int64_t>(jpeg.output_scanline) < want.bottom) {
            uint8_t *row = out + jpeg.output_scanline * row_bytes + first * want.components;
            jpeg_read_scanlines(&jpeg, &row, 1);
        }
        // A file that is cut short or damaged is decoded with a warning: Python says which.
        fits = jpeg.err->num_warnings == 0;
    }
    jpeg_abort_decompress(&jpeg);
    jpeg_destroy_decompress(&jpeg);
    return fits;
}

// Memory that grows and is kept from snippet to snippet; no exception where there is none left.
struct Block {
    uint8_t *data = nullptr;
    uint64_t size = 0;

    ~Block() { free(data); }

    bool reserve(uint64_t bytes) {
        if (bytes <= size) return true;
        void *more = realloc(data, bytes);
        if (!more) return false;
        data = static_cast<uint8_t *>(more);
        size = bytes;
        return true;
    }
};

struct Memory {
    Block offsets, crcs, payloads;
};

// Read a stretch of a file that ends before `end`, whatever the numbers are.
bool read_at(const Snippet &want, int64_t at, uint64_t bytes, Block &block) {
    if (at < 0 || at > want.end || bytes > static_cast<uint64_t>(want.end - at)) return false;
    if (!block.reserve(bytes)) return false;
    for (uint64_t have = 0; have < bytes;) {
        ssize_t got = pread(want.fd, block.data + have, bytes - have, at + have);
        if (got <= 0) return false;
        have += got;
    }
    return true;
}

// Read one snippet and decode its images.
bool make(const Snippet &want, Memory &memory) {
    uint64_t count = want.count;
    if (want.count < 0 || count > static_cast<uint64_t>(want.end) / 8) return false;
    if (!read_at(want, want.offsets_at, 8 * (count + 1), memory.offsets)) return false;
    if (want.crcs_at && !read_at(want, want.crcs_at, 4 * count, memory.crcs)) return false;
    auto offsets = reinterpret_cast<const uint64_t *>(memory.offsets.data);
    auto crcs = reinterpret_cast<const uint32_t *>(memory.crcs.data);
    uint64_t start = offsets[0], stop = offsets[count];
    if (start > stop || stop > static_cast<uint64_t>(want.end)) return false;
    if (!read_at(want, want.bytes_at + static_cast<int64_t>(start), stop - start, memory.payloads))
        return false;
    int64_t image = want.height * want.width * want.components;
    for (uint64_t k = 0; k < count; ++k) {
        uint64_t at = offsets[k], end = offsets[k + 1];
        if (at < start || end < at || end > stop) return false;
        const uint8_t *file = memory.payloads.data + (at - start);
        if (want.crcs_at && crc32(0, file, end - at) != crcs[k]) return false;
        if (!decode(want, file, end - at, want.out + k * image)) return false;
    }
    return true;
}

}  // namespace

extern "C" {

__attribute__((visibility("default"))) long flowpipe_snippets_abi() { return 2; }

// Number of snippets that could not be made; `failed` has a 1 for each of them.
__attribute__((visibility("default"))) long flowpipe_snippets(
    long count, const Snippet *snippets, long threads, uint8_t *failed) {
    std::atomic<long> next{0}, failures{0};
    auto work = [&] {
        Memory memory;
        for (long k = next++; k < count; k = next++) {
            failed[k] = !make(snippets[k], memory);
            failures += failed[k];
        }
    };
    std::vector<std::thread> others;
    for (long k = 1; k < threads && k < count; ++k) others.emplace_back(work);
    work();
    for (std::thread &other : others) other.join();
    return failures;
}

}  // extern "C"
