// Emulator of CUDA: proves what unmodified kernels compute, not how a GPU rounds, schedules or times them.
//
// It compiles .cu files to functions for this CPU. It cannot show a GPU's approximate square roots and
// divisions, its memory model, and its limits of registers and shared memory.
//
// A CUDA thread runs on a fiber and keeps it while it waits at a barrier or shuffle; the next thread
// reuses the fiber of one that has ended. One operating system thread runs all, block after block.
// Undefined orders are shuffled: warps and blocks run in an order that changes with the seed, so a
// missing barrier shows as a result that depends on the seed. Shared memory is filled with NaN before
// each block. A barrier that not all threads reach ends the program with a message. Warps have 32
// lanes. The address sanitizer checks arrays if the tests turn it on.
#pragma once

#include <math.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <ucontext.h>

#include <deque>
#include <type_traits>
#include <utility>
#include <vector>

#define __global__
#define __device__
#define __host__
#define __forceinline__ inline __attribute__((always_inline))
#define __launch_bounds__(...)
#define __shared__ static __attribute__((section("emulated_shared")))

struct float2 { float x, y; };
struct alignas(16) float4 { float x, y, z, w; };
struct uint3 { unsigned x, y, z; };
typedef uint3 dim3;

extern char __start_emulated_shared[] __attribute__((weak, visibility("hidden")));
extern char __stop_emulated_shared[] __attribute__((weak, visibility("hidden")));

namespace emulator {

constexpr unsigned LANES = 32;
constexpr size_t STACK_BYTES = 64 * 1024 + 13 * 64;  // odd lines: stacks share no lines of the cache

enum class State { READY, AT_SHUFFLE, AT_BARRIER, FINISHED };

// Stack that threads use one after the other.
struct Fiber {
    void *context[5];  // of __builtin_setjmp, which saves the position only
    ucontext_t first;
    std::vector<char> stack;
};

struct Thread {
    uint3 index;
    unsigned warp, lane, shuffles;
    State state;
    Fiber *fiber;  // or null before its start
};

inline Thread *current;
inline void *scheduler[5];
inline std::deque<Fiber> fibers;  // that never move
inline std::vector<Fiber *> idle;
inline std::vector<Thread> threads;  // of a block
inline std::vector<std::vector<char>> exchanged;  // by warp: values that its lanes exchange
inline void (*body)(void *);
inline void *arguments;
inline uint3 block, grid, block_size;
inline uint64_t seed = 1;

inline uint64_t random_number() {  // xorshift64*
    seed ^= seed >> 12, seed ^= seed << 25, seed ^= seed >> 27;
    return seed * 2685821657736338717ull;
}

inline std::vector<unsigned> shuffle_numbers(unsigned n) {
    std::vector<unsigned> order(n);
    for (unsigned i = 0; i < n; i++) order[i] = i;
    for (unsigned i = n; i > 1; i--) std::swap(order[i - 1], order[random_number() % i]);
    return order;
}

[[noreturn]] inline void give_up(const char *why) {
    fprintf(stderr, "emulator: %s, block (%u, %u, %u)\n", why, block.x, block.y, block.z);
    abort();
}

// The lanes of one warp, each once, in an order with random start and step.
struct Turn {
    unsigned from, to, start, step, taken;
};
inline Turn turn;

inline Thread *next_ready() {
    while (turn.taken < LANES) {
        const unsigned lane = (turn.start + turn.taken++ * turn.step) % LANES;
        if (turn.from + lane < turn.to && threads[turn.from + lane].state == State::READY)
            return &threads[turn.from + lane];
    }
    return nullptr;
}

void enter();

// Switches to the stack of the current thread, or to the scheduler if there is none. The address
// sanitizer knows one stack only, so it is kept away from these jumps.
[[noreturn, gnu::noinline, gnu::no_sanitize("address")]] inline void go() {
    if (!current) __builtin_longjmp(scheduler, 1);
    Fiber *&fiber = current->fiber;
    if (!fiber && !idle.empty()) fiber = idle.back(), idle.pop_back();
    if (fiber) __builtin_longjmp(fiber->context, 1);
    fiber = &fibers.emplace_back();
    fiber->stack.resize(STACK_BYTES);
    getcontext(&fiber->first);
    fiber->first.uc_stack.ss_sp = fiber->stack.data();
    fiber->first.uc_stack.ss_size = fiber->stack.size();
    fiber->first.uc_link = nullptr;
    makecontext(&fiber->first, enter, 0);
    setcontext(&fiber->first);
    give_up("no stack for a thread");
}

// Returns when control switches back to `here`.
[[gnu::noinline, gnu::no_sanitize("address")]] inline void leave(void **here) {
    if (!__builtin_setjmp(here)) go();
}

inline void pause(State state) {
    Fiber *fiber = current->fiber;
    current->state = state;
    current = next_ready();
    leave(fiber->context);
}

inline void enter() {
    for (;;) {
        Fiber *fiber = current->fiber;
        body(arguments);
        current->state = State::FINISHED;
        current = next_ready();
        if (current && !current->fiber) {
            current->fiber = fiber;
        } else {
            idle.push_back(fiber);
            leave(fiber->context);
        }
    }
}

// Runs the lanes of a warp until all of them are at a shuffle, at a barrier or finished.
inline void run_warp(unsigned warp) {
    const unsigned from = warp * LANES, count = threads.size();
    const unsigned to = from + LANES < count ? from + LANES : count;
    for (;;) {
        const unsigned start = random_number() % LANES, step = random_number() % LANES | 1;
        turn = {from, to, start, step, 0};
        current = next_ready();
        if (current) leave(scheduler);
        unsigned shuffling = 0, gone = 0;
        for (unsigned i = from; i < to; i++) {
            shuffling += threads[i].state == State::AT_SHUFFLE;
            gone += threads[i].state == State::FINISHED;
        }
        if (!shuffling) return;
        if (shuffling + gone != to - from) give_up("lanes of a warp part at a shuffle");
        if (gone) give_up("a shuffle of all lanes where some have returned");
        for (unsigned i = from; i < to; i++) threads[i].state = State::READY;
    }
}

inline void run_block() {
    const unsigned count = block_size.x * block_size.y * block_size.z;
    const unsigned warps = (count + LANES - 1) / LANES;
    threads.resize(count);
    if (exchanged.size() < warps) exchanged.resize(warps, std::vector<char>(2 * LANES * 8));
    if (__start_emulated_shared)
        memset(__start_emulated_shared, 0xff, __stop_emulated_shared - __start_emulated_shared);
    for (unsigned i = 0; i < count; i++)
        threads[i] = {{i % block_size.x, i / block_size.x % block_size.y,
                       i / block_size.x / block_size.y},
                      i / LANES, i % LANES, 0, State::READY, nullptr};
    for (;;) {
        for (unsigned warp : shuffle_numbers(warps)) run_warp(warp);
        unsigned waiting = 0, gone = 0;
        for (const Thread &thread : threads) {
            waiting += thread.state == State::AT_BARRIER;
            gone += thread.state == State::FINISHED;
        }
        if (gone == count) return;
        if (waiting + gone != count) give_up("threads neither wait nor finish");
        // Threads that have returned count as arrived, as they do on a GPU.
        for (Thread &thread : threads)
            if (thread.state == State::AT_BARRIER) thread.state = State::READY;
    }
}

template <class Function>
void launch(Function function, const unsigned *grid_size, const unsigned *size) {
    grid = {grid_size[0], grid_size[1], grid_size[2]};
    block_size = {size[0], size[1], size[2]};
    body = [](void *function) { (*(Function *)function)(); };
    arguments = &function;
    for (unsigned number : shuffle_numbers(grid.x * grid.y * grid.z)) {
        block = {number % grid.x, number / grid.x % grid.y, number / grid.x / grid.y};
        run_block();
    }
}

template <class... Arguments, size_t... I>
void call(void (*kernel)(Arguments...), const unsigned *grid_size, const unsigned *size,
          void **values, std::index_sequence<I...>) {
    launch([&] { kernel(*(std::remove_reference_t<Arguments> *)values[I]...); }, grid_size, size);
}

template <class... Arguments>
void call(void (*kernel)(Arguments...), const unsigned *grid_size, const unsigned *size,
          void **values) {
    call(kernel, grid_size, size, values, std::index_sequence_for<Arguments...>());
}

// Types of the parameters, one letter each, as in Python's struct module.
template <class T>
constexpr char letter() {
    return std::is_pointer_v<T>            ? 'P'
           : std::is_same_v<T, int>        ? 'i'
           : std::is_same_v<T, unsigned>   ? 'I'
           : std::is_same_v<T, float>      ? 'f'
           : std::is_same_v<T, double>     ? 'd'
           : std::is_same_v<T, long long>  ? 'q'
                                           : '?';
}

template <class... Arguments>
const char *letters(void (*)(Arguments...)) {
    static const char text[] = {letter<Arguments>()..., 0};
    return text;
}

// Each lane writes its value, waits for the others, and reads. The next values go to the other buffer,
// because some lanes may not have read yet; the values after those are written after another wait.
template <class T>
T exchange(T value, unsigned from) {
    static_assert(sizeof(T) <= 8, "shuffles take up to eight bytes");
    char *shown = exchanged[current->warp].data() + (current->shuffles++ % 2) * LANES * 8;
    memcpy(shown + current->lane * 8, &value, sizeof value);
    pause(State::AT_SHUFFLE);
    T result;
    memcpy(&result, shown + from * 8, sizeof result);
    return result;
}

}  // namespace emulator

#define threadIdx (emulator::current->index)
#define blockIdx (emulator::block)
#define gridDim (emulator::grid)
#define blockDim (emulator::block_size)

inline void __syncthreads() { emulator::pause(emulator::State::AT_BARRIER); }
inline void __threadfence() {}

template <class T>
T __shfl_up_sync(unsigned, T value, unsigned by) {
    const unsigned lane = emulator::current->lane;
    return emulator::exchange(value, lane < by ? lane : lane - by);
}
template <class T>
T __shfl_down_sync(unsigned, T value, unsigned by) {
    const unsigned lane = emulator::current->lane;
    return emulator::exchange(value, lane + by >= emulator::LANES ? lane : lane + by);
}
template <class T>
T __shfl_xor_sync(unsigned, T value, unsigned mask) {
    return emulator::exchange(value, emulator::current->lane ^ mask);
}
template <class T>
T atomicAdd(T *place, T value) {
    const T before = *place;
    *place = before + value;
    return before;
}
template <class T>
T atomicMax(T *place, T value) {
    const T before = *place;
    *place = value > before ? value : before;
    return before;
}
template <class T>
T atomicSub(T *place, T value) {
    return atomicAdd(place, (T)-value);
}

inline unsigned __float_as_uint(float value) {
    unsigned bits;
    memcpy(&bits, &value, sizeof bits);
    return bits;
}
inline float __uint_as_float(unsigned bits) {
    float value;
    memcpy(&value, &bits, sizeof value);
    return value;
}
inline int __popcll(unsigned long long bits) { return __builtin_popcountll(bits); }
inline float __fsqrt_rn(float value) { return __builtin_sqrtf(value); }

// Entry point of the tests: NAME is a kernel of the file that was included before this line.
#define EMULATED(NAME)                                                                        \
    extern "C" __attribute__((visibility("default"))) const char *letters_##NAME() {          \
        return emulator::letters(NAME);                                                       \
    }                                                                                         \
    extern "C" __attribute__((visibility("default"))) void launch_##NAME(                     \
        const unsigned *grid, const unsigned *size, void **values, uint64_t seed) {           \
        emulator::seed = seed;                                                                \
        emulator::call(NAME, grid, size, values);                                             \
    }
