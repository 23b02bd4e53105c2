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
    const uint64_t *offsets;  // of its images and of the one after them, from `bytes_at` on
    const uint32_t *crcs;     // of its images; null if they are not to be compared
    uint8_t *out;             // (count, height, width, components), interleaved
    int64_t bytes_at;         // in the file
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

// Read one snippet and decode its images.
bool make(const Snippet &want, std::vector<uint8_t> &block) {
    uint64_t start = want.offsets[0], bytes = want.offsets[want.count] - start;
    if (want.offsets[want.count] < start || bytes > (uint64_t{1} << 32)) return false;
    block.resize(bytes);
    for (uint64_t have = 0; have < bytes;) {
        ssize_t got = pread(want.fd, block.data() + have, bytes - have, want.bytes_at + start + have);
        if (got <= 0) return false;
        have += got;
    }
    int64_t image = want.height * want.width * want.components;
    for (int64_t k = 0; k < want.count; ++k) {
        uint64_t at = want.offsets[k] - start, end = want.offsets[k + 1] - start;
        if (want.offsets[k] < start || end < at || end > bytes) return false;
        const uint8_t *file = block.data() + at;
        if (want.crcs && crc32(0, file, end - at) != want.crcs[k]) return false;
        if (!decode(want, file, end - at, want.out + k * image)) return false;
    }
    return true;
}

}  // namespace

extern "C" {

__attribute__((visibility("default"))) long flowpipe_snippets_abi() { return 1; }

// Number of snippets that could not be made; `failed` has a 1 for each of them.
__attribute__((visibility("default"))) long flowpipe_snippets(
    long count, const Snippet *snippets, long threads, uint8_t *failed) {
    std::atomic<long> next{0}, failures{0};
    auto work = [&] {
        std::vector<uint8_t> block;
        for (long k = next++; k < count; k = next++) {
            failed[k] = !make(snippets[k], block);
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
