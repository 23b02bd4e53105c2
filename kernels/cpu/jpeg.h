// One JPEG file -> the pixels of a crop of it, skipping the rest.
//
// Pixels are bit-exact to libjpeg-turbo (accurate transform, smooth upsampling). Blocks outside of the
// crop are read but not transformed; segments between restart markers without blocks of the crop are
// not read.
#pragma once

#include "jpeg_file.h"
#include "jpeg_part.h"
#include "jpeg_pixels.h"

namespace {

// MCUs of an image: the tiles of pixels whose blocks are interleaved in the file.
struct Grid {
    int64_t width, height;             // of an MCU in pixels
    int64_t columns, rows;             // of MCUs in the image
    int64_t stride[MOST_COMPONENTS];   // bytes from row to row of a component's samples
    int64_t first_row, end_row;        // rows of MCUs that are needed
    int64_t margin;                    // pixels around the part that are needed

    Grid(const Header &header, const JpegPart &part) {
        width = 8 * header.across, height = 8 * header.down;
        columns = (header.width + width - 1) / width;
        rows = (header.height + height - 1) / height;
        for (int k = 0; k < header.components; k++)
            stride[k] = columns * 8 * header.component[k].across;
        // Smooth upsampling reads one more chroma sample, which is two pixels.
        margin = header.across > header.component[header.components - 1].across ? 2 : 0;
        const int64_t top = part.top > margin ? part.top - margin : 0;
        const int64_t bottom =
            part.bottom + margin < header.height ? part.bottom + margin : header.height;
        first_row = top / height;
        end_row = (bottom + height - 1) / height;
    }
};

// Tables and buffers, reused for the next file; zero-initialised, they are empty.
struct Decoder {
    Header header;
    Buffer data;                       // entropy-coded, without stuffed zeros
    Buffer ends;                       // of its segments, uint64
    Buffer samples[MOST_COMPONENTS];   // as large as the image, filled where they are needed
    Buffer wanted;                     // 1 for each column of MCUs that is needed
    Buffer lines;                      // rows under construction

    bool decode(const uint8_t *file, uint64_t bytes, const JpegPart &part);
    bool want(const Grid &grid, const JpegPart &part);
    bool read_segments(const Grid &grid, long segments);
    template <bool KEEP>
    void read_mcu(const Grid &grid, int64_t row, int64_t column, int *last, Bits &bits);
    void write_plane(const Grid &grid, const JpegPart &part, int64_t plane);
    const uint8_t *colours(const Grid &grid, int component, int64_t y, int64_t left, int64_t right);
    void release();
};

// Mark the columns of MCUs that are needed.
inline bool Decoder::want(const Grid &grid, const JpegPart &part) {
    if (!wanted.reserve(grid.columns)) return false;
    memset(wanted.data, 0, grid.columns);
    const int64_t across = part.width / part.planes;
    for (int64_t k = 0; k < part.planes; k++) {
        int64_t left = k * across + part.left - grid.margin;
        int64_t right = k * across + part.right + grid.margin;
        if (left < 0) left = 0;
        if (right > part.width) right = part.width;
        left /= grid.width, right = (right + grid.width - 1) / grid.width;
        memset(wanted.data + left, 1, right - left);
    }
    return true;
}

template <bool KEEP>
inline void Decoder::read_mcu(const Grid &grid, int64_t row, int64_t column, int *last,
                                  Bits &bits) {
    for (int k = 0; k < header.components; k++) {
        const Component &one = header.component[k];
        const int64_t stride = grid.stride[k];
        for (int y = 0; y < one.down; y++)
            for (int x = 0; x < one.across; x++) {
                Coefficients block;
                if (KEEP) block.clear();
                const int end = read_block<KEEP>(bits, header.dc[one.dc], header.ac[one.ac],
                                                 header.steps[one.steps], last[k], block.at);
                if (!KEEP) continue;
                uint8_t *out = samples[k].data + 8 * (row * one.down + y) * stride +
                               8 * (column * one.across + x);
                const bool possible = end != AFTER_END ? transform(block, out, stride)
                                                       : fill_block(block.at[0], out, stride);
                bits.wrong |= !possible;
            }
    }
}

// Read all segments with blocks of the crop, each up to its last such block.
inline bool Decoder::read_segments(const Grid &grid, long segments) {
    const auto *end_of = reinterpret_cast<const uint64_t *>(ends.data);
    const int64_t length = header.restart ? header.restart : grid.columns * grid.rows;
    auto needed = [&](int64_t row, int64_t column) {
        return row >= grid.first_row && row < grid.end_row && wanted.data[column];
    };
    for (long segment = 0; segment < segments; segment++) {
        int64_t mcu = segment * length, end = mcu + length;
        if (end > grid.columns * grid.end_row) end = grid.columns * grid.end_row;
        while (end > mcu && !needed((end - 1) / grid.columns, (end - 1) % grid.columns)) end--;
        if (end <= mcu) continue;
        Bits bits(data.data + (segment ? end_of[segment - 1] : 0));
        const uint8_t *limit = data.data + end_of[segment];
        int last[MOST_COMPONENTS] = {};
        int64_t row = mcu / grid.columns, column = mcu % grid.columns;
        for (; mcu < end; mcu++) {
            if (needed(row, column)) read_mcu<true>(grid, row, column, last, bits);
            else read_mcu<false>(grid, row, column, last, bits);
            if (bits.wrong || bits.next - bits.count / 8 > limit) return false;
            if (++column == grid.columns) column = 0, row++;
        }
        // A segment that was read to its end must have no bytes left over.
        const bool whole = end == (segment + 1) * length || end == grid.columns * grid.rows;
        if (whole && bits.next - bits.count / 8 != limit) return false;
    }
    return true;
}

// Upsample a row of Cb or Cr to the width of the image, between two of its columns.
inline const uint8_t *Decoder::colours(const Grid &grid, int component, int64_t y, int64_t left,
                                           int64_t right) {
    const uint8_t *all = samples[component].data;
    const Component &one = header.component[component];
    const int64_t stride = grid.stride[component];
    if (one.across == header.across) return all + y * stride;
    const bool halved_down = one.down < header.down;
    const int64_t near = halved_down ? y / 2 : y;
    int64_t far = halved_down ? (y % 2 ? near + 1 : near - 1) : near;
    if (far < 0 || (halved_down && far >= (header.height + 1) / 2)) far = near;
    const int64_t width = (header.width + 1) / 2;
    uint8_t *sums = lines.data, *out = lines.data + component * 2 * (width + 2);
    widen(all + near * stride, all + far * stride, halved_down, width, left, right,
          reinterpret_cast<uint16_t *>(sums), out);
    return out;
}

// Write the crop of a plane.
inline void Decoder::write_plane(const Grid &grid, const JpegPart &part, int64_t plane) {
    const int64_t across = part.width / part.planes;
    const int64_t left = plane * across + part.left, right = plane * across + part.right;
    uint8_t *out = part.out + plane * part.plane_bytes;
    for (int64_t y = part.top; y < part.bottom; y++, out += part.row_bytes) {
        const uint8_t *light = samples[0].data + y * grid.stride[0] + left;
        if (header.components == 1)
            memcpy(out, light, right - left);
        else
            to_rgb(light, colours(grid, 1, y, left, right) + left,
                   colours(grid, 2, y, left, right) + left, right - left, out);
    }
}

// Decode a crop; false if this decoder does not support the file, the size differs, or the file is
// damaged where it was read.
inline bool Decoder::decode(const uint8_t *file, uint64_t bytes, const JpegPart &part) {
    if (!header.parse(file, bytes)) return false;
    if (header.height != part.height || header.width != part.width ||
        header.components != part.components)
        return false;
    const Grid grid(header, part);
    for (int k = 0; k < header.components; k++)
        if (!samples[k].reserve(grid.stride[k] * 8 * header.component[k].down * grid.rows))
            return false;
    if (!want(grid, part) || !lines.reserve(4 * (part.width + 8))) return false;
    const int64_t mcus = grid.columns * grid.rows;
    const long segments = header.restart ? (mcus + header.restart - 1) / header.restart : 1;
    if (!unstuff(file + header.length, file + bytes, segments, data, ends)) return false;
    if (!read_segments(grid, segments)) return false;
    for (int64_t k = 0; k < part.planes; k++) write_plane(grid, part, k);
    return true;
}

inline void Decoder::release() {
    header.bytes.release();
    for (Buffer &one : samples) one.release();
    data.release(), ends.release(), wanted.release(), lines.release();
}

}  // namespace
