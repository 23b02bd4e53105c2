// Progress of a pair through the warps of one level, on the device; pairs do not wait for each other.
//
// A slot runs one step of its pair: a warp if one is due, then up to four iterations. When a pair is
// finished, its slot is assigned to the next waiting pair:
//
//     slot 0:  pair 0 w+it it it . | w+it it . | pair 3 w+it it ...
//     slot 1:  pair 1 w+it it . | pair 2 w+it it it it ...
//
// The last block of a pair to finish a step checks convergence and plans the next step.
#pragma once

#include "common.cuh"

namespace {

constexpr int NOBODY = -1;  // a slot without a pair

// Waiting pairs; the fields are those of QUEUE in flowpipe/ops/tables.py.
struct Queue {
    int left;   // pairs that are not finished
    int next;   // next waiting pair
    int pairs;  // all pairs
};

// State of one pair; the fields are those of PROGRESS in flowpipe/ops/tables.py.
struct Progress {
    int warps;      // remaining warps, the current one included; 0: finished at this level
    int fresh;      // 1 if the next step starts with a warp
    int done;       // iterations of the current warp
    int check;      // iterations at the next convergence check
    int end;        // iterations at the end of the block with that check
    int converged;  // 1 if a check found convergence
    int side;       // index of the newest of the two copies of the fields
    int arrived;    // thread blocks that have finished this step
    int total;      // iterations of all warps
};

__device__ __forceinline__ void begin_warp(Progress &pair, const tvl1::Stop &stop) {
    pair.fresh = 1;
    pair.done = 0;
    pair.converged = 0;
    pair.check = stop.next(0, 0.0);
    pair.end = stop.end(0, pair.check);
}

// Returns whether the median filter precedes the next iteration.
__device__ __forceinline__ bool filter_due(const Progress &pair, int every) {
    return every > 0 && pair.done % every == 0;
}

// Returns the number of iterations of the next step, at most `most`.
__device__ __forceinline__ int step_length(const Progress &pair, int most, int every) {
    int count = pair.end - pair.done;
    count = count < most ? count : most;
    if (every > 0) {
        const int until = every - pair.done % every;
        count = count < until ? count : until;
    }
    return count;
}

// Returns a bit mask of the iterations, of `count`, after which convergence may be checked. Checks
// start at `check`; OpenCV's CUDA code checks at every second iteration (`spaced`).
__device__ __forceinline__ unsigned mark_checks(const Progress &pair, int count, bool spaced) {
    const int next = pair.check - 1 - pair.done;
    return pair.converged || next >= count ? 0 : (spaced ? 0x55555555u : 0xffffffffu) << next;
}

// Advances a pair by `count` iterations with squared changes changes[0 .. count - 1]. Returns whether
// the pair is finished.
__device__ __forceinline__ bool advance(Progress &pair, const double *changes, int count,
                                        const tvl1::Stop &stop) {
    for (; pair.check <= pair.done + count && !pair.converged;) {
        const double change = changes[pair.check - 1 - pair.done];
        pair.converged = change <= stop.enough;
        pair.check = stop.next(pair.check, change);
    }
    pair.done += count;
    pair.total += count;
    pair.fresh = 0;
    if (pair.done < pair.end) return false;
    if (!pair.converged && pair.done < stop.most) {
        pair.end = stop.end(pair.done, pair.check);
        return false;
    }
    pair.warps -= 1;
    begin_warp(pair, stop);
    return pair.warps == 0;
}

}  // namespace
