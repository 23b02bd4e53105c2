// CPU -> which of the compiled instruction sets it can run. The only file with no pixels in it.
#include <string.h>

#define EXPORTED __attribute__((visibility("default")))

extern "C" {

// Raised together with ABI in flowpipe/ops/cpu.py whenever an exported signature changes.
EXPORTED int flowpipe_abi() { return 5; }

// Instruction sets in this library, slowest first.
EXPORTED const char *flowpipe_isas() {
#if defined(__x86_64__)
    return "baseline avx2 avx512";
#else
    return "baseline";
#endif
}

// Asks the CPU and the operating system, which must save the wider registers.
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
