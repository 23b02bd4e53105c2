// A pair's way through the warps of one level, kept on the device: nobody waits for anybody.
//
// Every slot of the ladder is three launches over all pairs: a warp, a median filter where one is
// wanted, a tile step. Each pair takes from it what it needs next and lets the rest pass:
//
//     pair 0:  warp it it . | warp it . | ...
//     pair 1:  warp it | warp it it it it | ...
//
// The last block of a pair to finish a tile step looks at the change and decides what comes next.
#pragma once

#include "common.cuh"

namespace {

enum Field { U, V, P11, P12, P21, P22, FIELDS };
enum Coefficient { A, B, C, G, COEFFICIENTS };

// As PROGRESS in flowpipe/ops/cuda_ladder.py has it.
struct Progress {
    int warps;      // left to do, this one too; 0: the pair is finished at this level
    int fresh;      // 1 where a warp has to come before more iterations
    int done;       // iterations of this warp
    int look;       // how many will be done when the change is looked at next
    int end;        // how many will be done when that block of iterations ends
    int converged;  // 1 where a look has found little enough change
    int side;       // which of both copies of the fields is the newest
    int arrived;    // blocks that have finished this launch
    int total;      // iterations of all warps
};

__device__ __forceinline__ void begin_warp(Progress &pair, const tvl1::Stop &stop) {
    pair.fresh = 1;
    pair.done = 0;
    pair.converged = 0;
    pair.look = stop.next(0, 0.0);
    pair.end = stop.end(0, pair.look);
}

// Whether the fields are to be filtered by a median before the next iteration.
__device__ __forceinline__ bool filter_due(const Progress &pair, int every) {
    return every > 0 && pair.done % every == 0;
}

// What comes after `count` more iterations, which changed the flow by changes[0 .. count - 1].
// Returns whether the pair is finished.
__device__ __forceinline__ bool advance(Progress &pair, const double *changes, int count,
                                        const tvl1::Stop &stop) {
    for (; pair.look <= pair.done + count && !pair.converged;) {
        const double change = changes[pair.look - 1 - pair.done];
        pair.converged = change <= stop.enough;
        pair.look = stop.next(pair.look, change);
    }
    pair.done += count;
    pair.total += count;
    pair.fresh = 0;
    if (pair.done < pair.end) return false;
    if (!pair.converged && pair.done < stop.most) {
        pair.end = stop.end(pair.done, pair.look);
        return false;
    }
    pair.warps -= 1;
    begin_warp(pair, stop);
    return pair.warps == 0;
}

}  // namespace
