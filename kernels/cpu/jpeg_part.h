// Requested crop of a JPEG file, for both decoders, this core's and libjpeg's.
#pragma once

#include <stdint.h>

// Crop of an image of the stated size, and the destination of its pixels.
struct JpegPart {
    int64_t height, width, components;  // of the whole image
    int64_t planes;                     // planes side by side in it: 2 of a flow field, else 1
    int64_t top, bottom, left, right;   // rows and columns of each plane, the ends exclusive
    uint8_t *out;                       // first pixel of the crop; nothing else is written
    int64_t row_bytes, plane_bytes;     // from row to row, and from plane to plane, of `out`
};

struct JpegDecoder;

extern "C" {

// Decoder of nearly all files, for one thread; null if this CPU has none.
JpegDecoder *jpeg_decoder();

void jpeg_close(JpegDecoder *);

// Returns false if the decoder is null or does not support the file, the size differs, or it is damaged.
bool jpeg_decode(JpegDecoder *, const uint8_t *file, uint64_t bytes, const JpegPart &);

}  // extern "C"
