// Positions of JPEG files in shards -> their pixels: many snippets per call, on several threads.
//
// flowpipe/store/compiled_reader.py opens this library. Compiling it needs the headers of libjpeg-turbo
// and zlib; without them a store is read image by image through Python, to the same bytes. jpeg.h decodes
// nearly all files on CPUs with AVX2; libjpeg-turbo decodes the others.

#include <atomic>
#include <csetjmp>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <thread>
#include <vector>

#include <unistd.h>

#include <jpeglib.h>
#include <zlib.h>

#include "buffer.h"
#include "jpeg_part.h"

#ifndef LIBJPEG_TURBO_VERSION_NUMBER
#error "libjpeg-turbo is needed: other libjpegs cannot decode a part of an image"
#endif

namespace {

// One snippet: consecutive images of a stream of a shard, and the destination of their pixels.
struct Snippet {
    int64_t offsets_at;   // in the file: offsets of its images and of the one after, from `bytes_at` on
    int64_t crcs_at;      // in the file: CRCs of its images; 0 if they are not to be compared
    int64_t end;          // size of the file
    int64_t bytes_at;     // in the file
    int64_t count;
    int64_t fd;
    int64_t image_bytes;  // from image to image of `out`
    JpegPart part;        // of each image, with `out` of the first
};

struct Failure {
    jpeg_error_mgr handler;
    jmp_buf back;
};

void leave(j_common_ptr jpeg) { longjmp(reinterpret_cast<Failure *>(jpeg->err)->back, 1); }

void count(j_common_ptr jpeg, int level) {
    if (level < 0) jpeg->err->num_warnings++;
}

void ignore(j_common_ptr) {}

// Buffers that a thread reuses for its snippets.
struct Memory {
    Buffer offsets{}, crcs{}, payloads{}, row{};
    JpegDecoder *decoder = jpeg_decoder();

    ~Memory() {
        for (Buffer *one : {&offsets, &crcs, &payloads, &row}) one->release();
        jpeg_close(decoder);
    }
};

// Decode with libjpeg-turbo; false unless the file has the requested size and is complete.
bool decode_any(const JpegPart &part, const uint8_t *file, uint64_t bytes, Buffer &row) {
    jpeg_decompress_struct jpeg;
    Failure failure;
    jpeg.err = jpeg_std_error(&failure.handler);
    failure.handler.error_exit = leave;
    failure.handler.emit_message = count;
    failure.handler.output_message = ignore;
    if (!row.reserve(part.width * part.components)) return false;
    if (setjmp(failure.back)) {
        jpeg_destroy_decompress(&jpeg);
        return false;
    }
    jpeg_create_decompress(&jpeg);
    jpeg_mem_src(&jpeg, file, bytes);
    jpeg_read_header(&jpeg, TRUE);
    bool fits = jpeg.image_height == part.height && jpeg.image_width == part.width &&
                jpeg.num_components == part.components;
    if (fits) {
        jpeg.out_color_space = part.components == 3 ? JCS_RGB : JCS_GRAYSCALE;
        jpeg.dct_method = JDCT_ISLOW;
        jpeg.do_fancy_upsampling = TRUE;
        jpeg_start_decompress(&jpeg);
        // Smooth chroma at a border reads beyond it; with two more blocks it is exact.
        constexpr int64_t kMargin = 32;
        int64_t across = part.width / part.planes, end = (part.planes - 1) * across + part.right;
        int64_t left = part.left > kMargin ? part.left - kMargin : 0;
        int64_t right = end + kMargin < part.width ? end + kMargin : part.width;
        JDIMENSION first = left, columns = right - left;
        if (columns < part.width) jpeg_crop_scanline(&jpeg, &first, &columns);
        int64_t top = part.top > kMargin ? part.top - kMargin : 0;
        if (top) jpeg_skip_scanlines(&jpeg, top);
        uint8_t *made = row.data + first * part.components;
        while (static_cast<int64_t>(jpeg.output_scanline) < part.bottom) {
            int64_t y = jpeg.output_scanline;
            jpeg_read_scanlines(&jpeg, &made, 1);
            for (int64_t k = 0; k < part.planes && y >= part.top; ++k)
                memcpy(part.out + (y - part.top) * part.row_bytes + k * part.plane_bytes,
                       row.data + (k * across + part.left) * part.components,
                       (part.right - part.left) * part.components);
        }
        if (jpeg.output_scanline == jpeg.image_height) jpeg_finish_decompress(&jpeg);
        // A truncated or damaged file is decoded with a warning; Python reports which file it is.
        fits = jpeg.err->num_warnings == 0;
    }
    jpeg_abort_decompress(&jpeg);
    jpeg_destroy_decompress(&jpeg);
    return fits;
}

// Read a range of a file that must end before `end`; any numbers are safe.
bool read_at(const Snippet &want, int64_t at, uint64_t bytes, Buffer &block) {
    if (at < 0 || at > want.end || bytes > static_cast<uint64_t>(want.end - at)) return false;
    if (!block.reserve(bytes)) return false;
    for (uint64_t have = 0; have < bytes;) {
        ssize_t got = pread(want.fd, block.data + have, bytes - have, at + have);
        if (got <= 0) return false;
        have += got;
    }
    return true;
}

std::atomic<long> by_libjpeg{0};

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
    JpegPart part = want.part;
    for (uint64_t k = 0; k < count; ++k) {
        uint64_t at = offsets[k], end = offsets[k + 1];
        if (at < start || end < at || end > stop) return false;
        const uint8_t *file = memory.payloads.data + (at - start);
        if (want.crcs_at && crc32(0, file, end - at) != crcs[k]) return false;
        if (!jpeg_decode(memory.decoder, file, end - at, part)) {
            if (!decode_any(part, file, end - at, memory.row)) return false;
            ++by_libjpeg;
        }
        part.out += want.image_bytes;
    }
    return true;
}

}  // namespace

extern "C" {

__attribute__((visibility("default"))) long flowpipe_snippets_abi() { return 3; }

// Number of images decoded by libjpeg-turbo, since jpeg.h does not support their files or this CPU.
__attribute__((visibility("default"))) long flowpipe_snippets_by_libjpeg() { return by_libjpeg; }

// Reads snippets and returns the number of failures; `failed` has a 1 for each.
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
