// A pair's way through the warps of one level, kept on the device: nobody waits for anybody.
//
// Every slot takes a step of its pair: a warp first where one is due, then up to four iterations.
// When a pair is finished, the next one that waits takes over its slot:
//
//     slot 0:  pair 0 w+it it it . | w+it it . | pair 3 w+it it ...
//     slot 1:  pair 1 w+it it . | pair 2 w+it it it it ...
//
// The last block of a pair to finish a step looks at the change and decides what comes next.
#pragma once

#include "common.cuh"

namespace {

constexpr int NOBODY = -1;  // a slot without a pair

// As QUEUE in flowpipe/ops/cuda/schedule.py has it.
struct Queue {
    int left;   // pairs that are not finished
    int next;   // the pair that takes over the next slot
    int pairs;
};

// As PROGRESS in flowpipe/ops/cuda/schedule.py has it.
struct Progress {
    int warps;      // left to do, this one too; 0: the pair is finished at this level
    int fresh;      // 1 where a warp has to come before more iterations
    int done;       // iterations of this warp
    int look;       // how many will be done when the change is looked at next
    int end;        // how many will be done when that block of iterations ends
    int converged;  // 1 where a look has found little enough change
    int side;       // which of both copies of the fields is the newest
    int arrived;    // blocks that have finished this step
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

// How many iterations the next step has, at most `most`.
__device__ __forceinline__ int step_length(const Progress &pair, int most, int every) {
    int count = pair.end - pair.done;
    count = count < most ? count : most;
    if (every > 0) {
        const int until = every - pair.done % every;
        count = count < until ? count : until;
    }
    return count;
}

// Those of `count` iterations after which the change is looked at, a bit each. Looks may come from
// the next one on: OpenCV's CUDA code looks at every second iteration.
__device__ __forceinline__ unsigned looked_at(const Progress &pair, int count, bool spaced) {
    const int next = pair.look - 1 - pair.done;
    return pair.converged || next >= count ? 0 : (spaced ? 0x55555555u : 0xffffffffu) << next;
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
