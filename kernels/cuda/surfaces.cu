// NVDEC's picture -> upright, resized RGB, with the arithmetic of libswscale and cv::resize.
#include "resize.cuh"

namespace {

// Chroma values that a row or column of luma is interpolated from, and their weights.
struct Taps {
    int near, far, near_weight, far_weight;
};

// Coefficients of libswscale, in 1/8192.
struct Colour {
    int black, luma, v_to_red, v_to_green, u_to_green, u_to_blue;
};

// NV12, or P016 with more than 8 bits: rows of luma, then rows of interleaved U and V, equally long.
struct Surface {
    const u8 *bytes;
    int bits, height, width, stride;
    const Colour *colour;
    const Taps *columns, *rows;

    __device__ __forceinline__ int level(int row, int column) const {
        const size_t at = (size_t)row * stride + column;
        return bits == 8 ? bytes[at] : ((const unsigned short *)bytes)[at] >> (16 - bits);
    }

    // Chroma of a luma column in a row of chroma, in 15 bits; `which` is 0 for U and 1 for V.
    __device__ __forceinline__ int across(int row, const Taps &taps, int which) const {
        const int value = level(height + row, 2 * taps.near + which) * taps.near_weight +
                          level(height + row, 2 * taps.far + which) * taps.far_weight;
        return value >> (bits - 1);
    }

    __device__ __forceinline__ int chroma(const Taps &column, const Taps &row, int which) const {
        const int value = across(row.near, column, which) * row.near_weight +
                          across(row.far, column, which) * row.far_weight;
        return (value + (1 << 9) - (128 << 19)) >> 10;
    }

    // Red, green and blue of a coded pixel. Sums wrap around at 32 bits, as libswscale's do for
    // impossible colours.
    __device__ __forceinline__ void rgb(int y, int x, int *out) const {
        const Taps column = columns[x], row = rows[y];
        const unsigned u = chroma(column, row, 0), v = chroma(column, row, 1);
        const unsigned luma = (level(y, x) << (17 - bits)) - colour->black;
        const unsigned gray = luma * colour->luma + (1 << 21);
        out[0] = byte_of(gray + v * colour->v_to_red);
        out[1] = byte_of(gray + v * colour->v_to_green + u * colour->u_to_green);
        out[2] = byte_of(gray + u * colour->u_to_blue);
    }

    static __device__ __forceinline__ int byte_of(unsigned wrapped) {
        const int value = (int)wrapped >> 22;
        return value < 0 ? 0 : value < 255 ? value : 255;
    }
};

// Map from pixels of the upright picture to the coded one: rotated clockwise, then mirrored.
struct Upright {
    int height, width, quarter_turns, mirrored;

    __device__ __forceinline__ int rows() const { return quarter_turns & 1 ? width : height; }
    __device__ __forceinline__ int columns() const { return quarter_turns & 1 ? height : width; }

    __device__ __forceinline__ void rgb(const Surface &surface, int y, int x, int *out) const {
        if (mirrored) x = columns() - 1 - x;
        switch (quarter_turns) {
            case 0: return surface.rgb(y, x, out);
            case 1: return surface.rgb(height - 1 - x, y, out);
            case 2: return surface.rgb(height - 1 - y, width - 1 - x, out);
            default: return surface.rgb(x, width - 1 - y, out);
        }
    }
};

}  // namespace

// Converts one picture, bytes (h + (h + 1) / 2, w + w % 2) of 1 or 2 bytes each, to out
// (height, width, 3). colour (1,), columns (w,) and rows (h,) are the conversion. Only pixels that the
// output needs are converted.
extern "C" __global__ void resize_surface(const u8 *bytes, int bits, int h, int w,
                                          const Colour *colour, const Taps *columns,
                                          const Taps *rows, int quarter_turns, int mirrored,
                                          u8 *out, int height, int width) {
    const int x = column(), y = row();
    if (x >= width || y >= height) return;
    const Surface surface = {bytes, bits, h, w, w + (w & 1), colour, columns, rows};
    const Upright upright = {h, w, quarter_turns, mirrored};
    const Neighbours across = neighbours(x, upright.columns(), width, false);
    const Neighbours down = neighbours(y, upright.rows(), height, true);
    int corners[4][3];
    upright.rgb(surface, down.near, across.near, corners[0]);
    upright.rgb(surface, down.near, across.far, corners[1]);
    upright.rgb(surface, down.far, across.near, corners[2]);
    upright.rgb(surface, down.far, across.far, corners[3]);
    u8 *pixel = out + ((size_t)y * width + x) * 3;
    for (int channel = 0; channel < 3; channel++)
        pixel[channel] = blend(across, down, corners[0][channel], corners[1][channel],
                                 corners[2][channel], corners[3][channel]);
}
