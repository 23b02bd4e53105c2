// A pair of images on standard input -> what the core's operations make of it, on standard output.
//
// Compiled with the core for another kind of CPU and run by an emulator: test_foreign.py compares
// the bytes with this CPU's. Each operation is called once, in the order of the solver.
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include <algorithm>
#include <vector>

#define ISA baseline
#include "../../kernels/cpu/operations.h"

static void put(const void *values, size_t bytes) { fwrite(values, 1, bytes, stdout); }

int main(int count, char **arguments) {
    const long h = atol(arguments[1]), w = atol(arguments[2]), size = h * w;
    const long h2 = (h + 1) / 2, w2 = (w + 1) / 2, size2 = h2 * w2;
    const int sampling = atoi(arguments[3]), block = atoi(arguments[4]), spaced = sampling == 0;
    std::vector<uint8_t> bytes(2 * size);
    if (fread(bytes.data(), 1, 2 * size, stdin) != (size_t)(2 * size)) return 1;
    std::vector<float> images(bytes.begin(), bytes.end()), small(2 * size2);
    pyramid_down_baseline(2, h, w, images.data(), small.data());
    put(small.data(), 2 * size2 * sizeof(float));

    std::vector<float> flow(2 * size2), upsampled(2 * size);
    const float tau = 0.25f, taut = (float)(0.25 / 0.3), lt = (float)(0.15 * 0.3);
    for (int level = 1; level >= 0; level--) {
        const long height = level ? h2 : h, width = level ? w2 : w, n = height * width;
        const float *first = level ? small.data() : images.data(), *second = first + n;
        const long floats = tvl1_floats_baseline(height, width);
        float *state = (float *)aligned_alloc(64, (floats * sizeof(float) + 63) / 64 * 64);
        std::vector<float> padded(padded_floats_baseline(height, width));
        centered_gradient_baseline(1, height, width, second, sampling != 0, padded.data());
        tvl1_start_baseline(1, height, width, level ? nullptr : upsampled.data(), state);
        for (int warp = 0; warp < 3; warp++) {
            int32_t done;
            double change;
            tvl1_warp_baseline(1, height, width, first, padded.data(), sampling, state, 60, block,
                               spaced, 1e-4 * n, tau, taut, lt, &done, &change);
            put(&done, sizeof done);
        }
        for (int field = 0; field < FIELDS; field++) {
            std::vector<float> image(n);
            tvl1_copy_baseline(1, height, width, state, field, n, image.data());
            put(image.data(), n * sizeof(float));
            if (level && field == U) std::copy(image.begin(), image.end(), flow.begin());
            if (level && field == V) std::copy(image.begin(), image.end(), flow.begin() + n);
            if (!level && field == U) std::copy(image.begin(), image.end(), upsampled.begin());
            if (!level && field == V) std::copy(image.begin(), image.end(), upsampled.begin() + n);
        }
        free(state);
        if (level)
            bilinear_baseline(2, h2, w2, flow.data(), h, w, (double)h2 / h, (double)w2 / w, 0, 2.f,
                              upsampled.data());
    }
    std::vector<uint8_t> levels(2 * size);
    uint32_t clipped;
    quantise_baseline(1, 2 * size, upsampled.data(), 20.0, levels.data(), &clipped);
    put(levels.data(), 2 * size);
    put(&clipped, sizeof clipped);
    const double homography[9] = {1.01, 0.02, -1.5, -0.01, 0.99, 0.7, 1e-4, -1e-4, 1.0};
    warp_homography_baseline(1, h, w, bytes.data(), homography, bytes.data() + size, 2,
                             levels.data());
    put(levels.data(), size);
    return 0;
}
