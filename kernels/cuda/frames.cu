// RGB frames (N, H, W, 3) -> smaller frames, gray images, differences.
#include "resize.cuh"

// Resizes frames (N, h, w, 3) to out (N, height, width, 3), bilinear, centred pixels, as cv::resize.
extern "C" __global__ void resize(const u8 *frames, int h, int w, u8 *out, int height, int width) {
    const int x = column(), y = row();
    if (x >= width || y >= height) return;
    const Neighbours across = neighbours(x, w, width, false), down = neighbours(y, h, height, true);
    const u8 *frame = frames + (size_t)blockIdx.z * h * w * 3;
    u8 *pixel = out + (((size_t)blockIdx.z * height + y) * width + x) * 3;
    for (int channel = 0; channel < 3; channel++) {
        const u8 *near = frame + (size_t)down.near * w * 3 + channel;
        const u8 *far = frame + (size_t)down.far * w * 3 + channel;
        pixel[channel] = blend(across, down, near[across.near * 3], near[across.far * 3],
                                 far[across.near * 3], far[across.far * 3]);
    }
}

// Converts frames (N, pixels, 3) to BT.601 luma, out (N, pixels), in 15-bit fixed point, as
// cv::cvtColor.
extern "C" __global__ void gray(const u8 *frames, u8 *out, int pixels) {
    const int i = column();
    if (i >= pixels) return;
    const size_t at = (size_t)blockIdx.z * pixels + i;
    const u8 *rgb = frames + 3 * at;
    out[at] = (u8)((9798 * rgb[0] + 19235 * rgb[1] + 3735 * rgb[2] + (1 << 14)) >> 15);
}

// Writes next - this + 128 of frames (N + 1, pixels, 3) to planes (N, 3, pixels), and adds the number
// of clipped values to clipped (N,).
extern "C" __global__ void difference(const u8 *frames, u8 *planes, unsigned *clipped,
                                      int pixels) {
    const int i = column();
    unsigned beyond = 0;
    if (i < pixels) {
        const u8 *frame = frames + (size_t)blockIdx.z * 3 * pixels;
        const u8 *next = frame + (size_t)3 * pixels;
        u8 *out = planes + (size_t)blockIdx.z * 3 * pixels + i;
        for (int channel = 0; channel < 3; channel++) {
            const int change = next[3 * i + channel] - frame[3 * i + channel] + 128;
            const int level = change < 0 ? 0 : change > 255 ? 255 : change;
            beyond += level != change;
            out[(size_t)channel * pixels] = (u8)level;
        }
    }
    beyond = warp_sum(beyond);
    if (threadIdx.x % LANES == 0 && beyond) atomicAdd(clipped + blockIdx.z, beyond);
}
