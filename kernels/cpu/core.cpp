// CPU -> compiled instruction sets that it supports.
#include <string.h>

#define EXPORTED __attribute__((visibility("default")))

extern "C" {

// Version of the exported signatures; raise it together with ABI in flowpipe/ops/cpu.py.
EXPORTED int flowpipe_abi() { return 5; }

// Instruction sets in this library, slowest first.
EXPORTED const char *flowpipe_isas() {
#if defined(__x86_64__)
    return "baseline avx2 avx512";
#else
    return "baseline";
#endif
}

// Tests the CPU, and the operating system, which must save the wider registers.
EXPORTED int flowpipe_supports(const char *isa) {
    if (!strcmp(isa, "baseline")) return 1;
#if defined(__x86_64__)
    __builtin_cpu_init();
    if (!strcmp(isa, "avx2"))
        return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
    if (!strcmp(isa, "avx512"))
        return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
               __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl");
#endif
    return 0;
}

EXPORTED const char *flowpipe_compiler() { return __VERSION__; }

}  // extern "C"
