// What is wanted of a JPEG file: shared by its two decoders, this core's and libjpeg's.
#pragma once

#include <stdint.h>

// A part of an image that has the size which is stated, and where its pixels are to be.
struct JpegPart {
    int64_t height, width, components;  // of the whole image
    int64_t planes;                     // that lie side by side in it: 2 of a flow field, else 1
    int64_t top, bottom, left, right;   // rows and columns of each plane, the ends exclusive
    uint8_t *out;                       // its first pixel; nothing is written but the part
    int64_t row_bytes, plane_bytes;     // from row to row, and from plane to plane, of `out`
};

struct JpegDecoder;

extern "C" {

// A decoder that reads nearly all files, for use by one thread; null where this CPU has none.
JpegDecoder *jpeg_decoder();

void jpeg_close(JpegDecoder *);

// False where the decoder is null or cannot read the file, or the file has another size or is damaged.
bool jpeg_decode(JpegDecoder *, const uint8_t *file, uint64_t bytes, const JpegPart &);

}  // extern "C"
