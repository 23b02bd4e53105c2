// JPEG decoder for x86 with AVX2 and BMI2, for which setup.py has flags; absent elsewhere.
#include "jpeg_part.h"

#if defined(__AVX2__) && defined(__BMI2__)

#include "jpeg.h"

struct JpegDecoder : Decoder {};

extern "C" {

JpegDecoder *jpeg_decoder() {
    const char *isa = getenv("FLOWPIPE_ISA");  // as for the core
    if (isa && !strcmp(isa, "baseline")) return nullptr;
    __builtin_cpu_init();
    if (!__builtin_cpu_supports("avx2") || !__builtin_cpu_supports("bmi2")) return nullptr;
    return static_cast<JpegDecoder *>(calloc(1, sizeof(JpegDecoder)));
}

void jpeg_close(JpegDecoder *decoder) {
    if (decoder) decoder->release();
    free(decoder);
}

bool jpeg_decode(JpegDecoder *decoder, const uint8_t *file, uint64_t bytes, const JpegPart &part) {
    return decoder && decoder->decode(file, bytes, part);
}

}  // extern "C"

#else

extern "C" {

JpegDecoder *jpeg_decoder() { return nullptr; }
void jpeg_close(JpegDecoder *) {}
bool jpeg_decode(JpegDecoder *, const uint8_t *, uint64_t, const JpegPart &) { return false; }

}  // extern "C"

#endif
