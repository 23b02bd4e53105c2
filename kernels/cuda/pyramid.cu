// Images (N, H, W) -> images of other sizes: levels of a pyramid, and upsampled flow.
#include "common.cuh"

// Converts gray (N, values) to floats out (N, values): the finest level.
extern "C" __global__ void widen(const u8 *gray, float *out, int values) {
    const int i = column();
    const size_t at = (size_t)blockIdx.z * values + i;
    if (i < values) out[at] = (float)gray[at];
}

// Halves images (N, h, w) to out (N, (h + 1) / 2, (w + 1) / 2) by 1-4-6-4-1 windows at every second
// pixel; columns first, as on the CPU.
extern "C" __global__ void pyramid_down(const float *images, int h, int w, float *out, int height,
                                        int width) {
    const int x = column(), y = row();
    if (x >= width || y >= height) return;
    const float *image = images + (size_t)blockIdx.z * h * w;
    const float *rows[5];
    for (int k = 0; k < 5; k++) rows[k] = image + tvl1::mirror(2 * y + k - 2, h) * w;
    float across[5];
    for (int k = 0; k < 5; k++) {
        const long i = tvl1::mirror(2 * x + k - 2, w);
        across[k] = tvl1::binomial(rows[0][i], rows[1][i], rows[2][i], rows[3][i], rows[4][i]);
    }
    out[((size_t)blockIdx.z * height + y) * width + x] =
        tvl1::binomial(across[0], across[1], across[2], across[3], across[4]);
}

namespace {

struct Between {
    int near, far;
    float weight;
};

// Source position of an index along one side, clamped: index * step, or if `centred`
// (index + 1/2) * step - 1/2, which OpenCV computes in double precision.
__device__ __forceinline__ Between between(int index, double step, int centred, int source) {
    const float at =
        centred ? (float)((index + 0.5) * step - 0.5) : (float)index * (float)step;
    const float inside = tvl1::clamp(at, 0.f, (float)(source - 1));
    const int near = (int)inside;
    return {near, near < source - 1 ? near + 1 : near, inside - (float)near};
}

}  // namespace

// Resizes images (N, h, w) to out (N, height, width), bilinear, times `factor`. A step is the distance
// of two output pixels in the input.
extern "C" __global__ void bilinear(const float *images, int h, int w, float *out, int height,
                                    int width, double step_y, double step_x, int centred,
                                    float factor) {
    const int x = column(), y = row();
    if (x >= width || y >= height) return;
    const Between across = between(x, step_x, centred, w), down = between(y, step_y, centred, h);
    const float *image = images + (size_t)blockIdx.z * h * w;
    const float *upper = image + (size_t)down.near * w, *lower = image + (size_t)down.far * w;
    const float near = tvl1::between(upper[across.near], lower[across.near], down.weight);
    const float far = tvl1::between(upper[across.far], lower[across.far], down.weight);
    out[((size_t)blockIdx.z * height + y) * width + x] =
        factor * tvl1::between(near, far, across.weight);
}
