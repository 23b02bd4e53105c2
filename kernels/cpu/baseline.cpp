// The operations for any CPU of the architecture (SSE2, NEON); setup.py gives this file its flags.
#define ISA baseline
#include "operations.h"
