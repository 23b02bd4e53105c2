// The operations for AVX-512 F, BW, DQ, VL; setup.py gives this file its flags.
#define ISA avx512
#include "operations.h"
