// The operations for AVX2 and FMA; setup.py gives this file its flags.
#define ISA avx2
#include "operations.h"
