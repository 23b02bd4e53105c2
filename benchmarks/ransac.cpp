// Matches in a file -> microseconds of each part of the search for two homographies, see ransac.py.
#include <stdio.h>
#include <time.h>

#include <vector>

#include "../kernels/cpu/homography.h"

constexpr int REPEAT = 20, MOST = 2, LEAST = 25;

static double seconds() {
    timespec now;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
    return now.tv_sec + 1e-9 * now.tv_nsec;
}

static double drawing, counting, polishing, fitting, whole;
static long rounds, pairs;

// search_homography, its hypotheses drawn first and counted then.
static Homography search(const Matches &all, float threshold, uint8_t *agree) {
    static Homography drawn[DRAWS];
    Homography best = {};
    for (long batch = 0; batch < MOST_DRAWS; batch++) {
        Homography leader = {};
        const double began = seconds();
        for (long k = 0; k < DRAWS; k++) minimal_homography(all, batch * DRAWS + k, drawn[k].h);
        const double drew = seconds();
        for (long k = 0; k < DRAWS; k++) {
            count_agreement(all, threshold, drawn[k]);
            if (drawn[k].score > leader.score) leader = drawn[k];
        }
        const double counted = seconds();
        if (leader.score > best.score) {
            polish_homography(all, threshold, agree, leader);
            best = leader;
        }
        drawing += drew - began, counting += counted - drew, polishing += seconds() - counted;
        rounds++;
        const double share = (double)best.count / (double)all.count;
        double missed = 1 - share * share * share * share, chance = 1;
        for (long k = 1; k < DRAWS; k *= 2) missed *= missed;
        for (long k = 0; k <= batch; k++) chance *= missed;
        if (chance < MISSED) break;
    }
    return best;
}

static void find(long count, float threshold, const float *rows) {
    const long room = padded(count);
    std::vector<float> all(4 * room), rest(4 * room);
    std::vector<uint8_t> agree(room);
    for (long k = 0; k < 4 * count; k++)
        all[k / count * room + k % count] = rest[k / count * room + k % count] = rows[k];
    float *x = rest.data(), *y = x + room, *u = y + room, *v = u + room;
    const Matches every = {count, &all[0], &all[room], &all[2 * room], &all[3 * room]};
    const double began = seconds();
    long left = count;
    for (int made = 0; made < MOST && left > LEAST; made++) {
        const Matches some = {left, x, y, u, v};
        Homography best = search(some, threshold, agree.data());
        if (best.count <= LEAST) break;
        const double found = seconds();
        for (int k = 0; k < FITS; k++) fit_homography(every, threshold, agree.data(), best.h);
        mark_agreement(some, APART * threshold, best.h, agree.data());
        fitting += seconds() - found;
        long kept = 0;
        for (long k = 0; k < left; k++) {
            x[kept] = x[k], y[kept] = y[k], u[kept] = u[k], v[kept] = v[k];
            kept += !agree[k];
        }
        left = kept;
    }
    whole += seconds() - began;
    pairs++;
}

int main(int, char **names) {
    FILE *file = fopen(names[1], "rb");
    long count;
    float threshold;
    while (fread(&count, sizeof count, 1, file) == 1) {
        std::vector<float> rows(4 * count);
        if (!fread(&threshold, sizeof threshold, 1, file)) return 1;
        if (fread(rows.data(), sizeof(float), rows.size(), file) != rows.size()) return 1;
        for (int k = 0; k < REPEAT; k++) find(count, threshold, rows.data());
    }
    const double us = 1e6 / pairs;
    printf("whole %.0f: drawing %.0f, counting %.0f, polishing %.0f, fitting %.0f; %.1f rounds of %ld\n",
           us * whole, us * drawing, us * counting, us * polishing, us * fitting,
           (double)rounds / pairs, DRAWS);
}
