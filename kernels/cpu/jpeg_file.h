// Bytes of a JPEG file -> its tables and the positions of its entropy-coded segments.
//
// It reads baseline files, gray or YCbCr in one scan, with or without restart markers, which nearly all
// files are. It returns false for others, and libjpeg-turbo decodes those.
#pragma once

#include "buffer.h"
#include "jpeg_entropy.h"

namespace {

constexpr int MOST_COMPONENTS = 3;
constexpr int MOST_BLOCKS = 10;   // of an MCU
constexpr uint64_t MOST_PIXELS = 1 << 28;
constexpr uint64_t SLACK = 4096;  // zeros after the last segment, more than an MCU reads

struct Component {
    int number;            // identifier in SOF0 and SOS
    int across, down;      // sampling factors: blocks in an MCU
    int steps, dc, ac;     // indices of its tables
};

// Header before the entropy-coded data; images of a stream nearly always have the same one.
struct Header {
    Buffer bytes;          // parsed header
    uint64_t length;       // bytes of the header; 0 if none is parsed
    int height, width, components;
    Component component[MOST_COMPONENTS];
    int across, down;      // the largest sampling factors
    int restart;           // MCUs between restart markers; 0 without these
    int16_t steps[4][POSITIONS];
    bool steps_there[4];
    Table dc[4], ac[4];

    bool parse(const uint8_t *file, uint64_t size);
    bool quantisers(const uint8_t *at, const uint8_t *end);
    bool huffman(const uint8_t *at, const uint8_t *end);
    bool frame(const uint8_t *at, const uint8_t *end);
    bool scan(const uint8_t *at, const uint8_t *end);
};

inline int two(const uint8_t *at) { return at[0] << 8 | at[1]; }

inline bool Header::quantisers(const uint8_t *at, const uint8_t *end) {
    while (at < end) {
        int number = *at++;
        if (number > 3 || end - at < 64) return false;  // 16-bit steps are not baseline's
        for (int k = 0; k < 64; k++) steps[number][k] = *at++;
        steps_there[number] = true;
    }
    return true;
}

inline bool Header::huffman(const uint8_t *at, const uint8_t *end) {
    while (at < end) {
        int kind = *at >> 4, number = *at & 15, symbols = 0;
        if (kind > 1 || number > 3 || end - at < 17) return false;
        for (int k = 1; k <= 16; k++) symbols += at[k];
        if (symbols > 256 || end - at < 17 + symbols) return false;
        if (!make_table(at + 1, at + 17, !kind, (kind ? ac : dc)[number])) return false;
        at += 17 + symbols;
    }
    return true;
}

inline bool Header::frame(const uint8_t *at, const uint8_t *end) {
    if (components || end - at < 6 || at[0] != 8) return false;
    height = two(at + 1), width = two(at + 3), components = at[5];
    if ((components != 1 && components != 3) || end - at != 6 + 3 * components) return false;
    if (!height || !width || (uint64_t)height * width > MOST_PIXELS) return false;
    across = down = 1;
    for (int k = 0; k < components; k++) {
        const uint8_t *row = at + 6 + 3 * k;
        Component &one = component[k] = {row[0], row[1] >> 4, row[1] & 15, row[2], 0, 0};
        if (one.across < 1 || one.across > 2 || one.down < 1 || one.down > 2 || one.steps > 3)
            return false;
        if (components == 1) one.across = one.down = 1;  // a scan of one component has no MCUs
        if (across < one.across) across = one.across;
        if (down < one.down) down = one.down;
    }
    // Chroma may be halved across, or both ways; luma is not.
    const Component &y = component[0], &u = component[1], &v = component[2];
    if (components == 1) return true;
    bool alike = u.across == v.across && u.down == v.down;
    bool halved_down_only = u.down < down && u.across == across;
    // libjpeg does not smooth chroma of fewer than three columns.
    bool narrow = u.across < across && width < 5;
    bool large = y.across * y.down + 2 * u.across * u.down > MOST_BLOCKS;
    return y.across == across && y.down == down && alike && !halved_down_only && !narrow && !large;
}

inline bool Header::scan(const uint8_t *at, const uint8_t *end) {
    if (!components || end - at != 4 + 2 * components || at[0] != components) return false;
    for (int k = 0; k < components; k++) {
        Component &one = component[k];
        one.dc = at[2 + 2 * k] >> 4, one.ac = at[2 + 2 * k] & 15;
        if (at[1 + 2 * k] != one.number || one.dc > 3 || one.ac > 3) return false;
        if (!steps_there[one.steps] || !dc[one.dc].there || !ac[one.ac].there) return false;
    }
    const uint8_t *rest = at + 1 + 2 * components;
    return rest[0] == 0 && rest[1] == 63 && rest[2] == 0;
}

inline bool Header::parse(const uint8_t *file, uint64_t size) {
    // `bytes` ends with segment SOS, so a file that starts with it has the same header.
    if (length && length < size && !memcmp(bytes.data, file, length)) return true;
    length = 0, components = 0, restart = 0;
    memset(steps, 0, sizeof steps);
    memset(steps_there, 0, sizeof steps_there);
    for (int k = 0; k < 4; k++) dc[k].there = ac[k].there = false;
    bool jfif = false;
    bool scanned = false;
    const uint8_t *at = file, *end = file + size;
    if (size < 4 || two(at) != 0xffd8) return false;
    for (at += 2; !scanned;) {
        if (end - at < 4) return false;
        int marker = two(at), long_is = two(at + 2);
        if (long_is < 2 || long_is > end - at - 2) return false;
        const uint8_t *from = at + 4, *to = at + 2 + long_is;
        bool good = true;
        switch (marker) {
            case 0xffc0: good = frame(from, to); break;
            case 0xffc4: good = huffman(from, to); break;
            case 0xffdb: good = quantisers(from, to); break;
            case 0xffdd: good = long_is == 4; restart = good ? two(from) : 0; break;
            case 0xffda: good = scan(from, to); scanned = true; break;
            case 0xffe0: jfif |= long_is >= 16 && !memcmp(from, "JFIF", 5); break;
            case 0xffee: good = jfif; break;  // without JFIF, Adobe's segment gives the colour space
            default: good = (marker >= 0xffe1 && marker <= 0xffef) || marker == 0xfffe;
        }
        if (!good) return false;
        at = to;
    }
    // Without JFIF the component numbers give the colour space: 1, 2, 3 is YCbCr.
    for (int k = 0; k < components && components == 3 && !jfif; k++)
        if (component[k].number != k + 1) return false;
    uint64_t bytes_long = at - file;
    if (bytes_long >= size || !bytes.reserve(bytes_long)) return false;
    memcpy(bytes.data, file, bytes_long);
    length = bytes_long;
    return true;
}

// Copy the entropy-coded data without stuffed zeros, append zeros, and list the ends of its segments;
// false unless their number is right.
inline bool unstuff(const uint8_t *at, const uint8_t *end, long segments, Buffer &data,
                    Buffer &ends) {
    if (!data.reserve((end - at) + SLACK) || !ends.reserve(segments * sizeof(uint64_t)))
        return false;
    auto *end_of = reinterpret_cast<uint64_t *>(ends.data);
    uint8_t *to = data.data;
    for (long found = 0; found < segments;) {
        auto *marker = static_cast<const uint8_t *>(memchr(at, 0xff, end - at));
        if (!marker || end - marker < 2) return false;
        memcpy(to, at, marker - at);
        to += marker - at, at = marker + 2;
        if (marker[1] == 0) {
            *to++ = 0xff;
            continue;
        }
        end_of[found++] = to - data.data;
        if (marker[1] != (found == segments ? 0xd9 : 0xd0 + (found - 1) % 8)) return false;
    }
    memset(to, 0, SLACK);
    return true;
}

}  // namespace
