// Six images of floats on standard input -> keypoints, bits, corners and matches of them.
//
// Compiled with the core for another kind of CPU and run by an emulator: test_foreign.py compares
// the bytes with this CPU's.
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include <vector>

#define ISA baseline
#include "../../kernels/cpu/operations.h"

static void put(const void *values, size_t bytes) { fwrite(values, 1, bytes, stdout); }

int main(int count, char **arguments) {
    const long h = atol(arguments[1]), w = atol(arguments[2]), size = h * w;
    std::vector<float> images(6 * size), points(size), corners(2 * size);
    if (fread(images.data(), 4, 6 * size, stdin) != (size_t)(6 * size)) return 1;
    const float *gray = images.data(), *dx = gray + size, *dy = dx + size, *xx = dy + size;
    const long found =
        akaze_keypoints_baseline(h, w, xx, xx + size, xx + 2 * size, 2e-4f, points.data());
    std::vector<uint64_t> bits(8 * found);
    akaze_bits_baseline(found, w, gray, dx, dy, points.data(), bits.data());
    put(points.data(), 2 * found * sizeof(float));
    put(bits.data(), bits.size() * sizeof(uint64_t));
    const long chosen = select_corners_baseline(h, w, gray, nullptr, 200, 3.0, corners.data());
    put(corners.data(), 2 * chosen * sizeof(float));
    std::vector<float> x(found), y(found);  // in order of y, taken for x
    std::vector<int64_t> number(found), matched(found);
    for (long k = 0; k < found; k++) {
        x[k] = (float)(k / 3);
        y[k] = points[2 * k];
        number[k] = found - 1 - k;
    }
    match_bits_baseline(found, found, 8, 9.5f, x.data(), y.data(), bits.data(), number.data(),
                        points.data(), bits.data(), matched.data());
    put(matched.data(), found * sizeof(int64_t));
    return 0;
}
