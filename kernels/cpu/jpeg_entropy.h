// Entropy-coded bits of a baseline JPEG file -> coefficients of its blocks (ITU T.81, annex F).
//
// A table lookup takes some nine cycles, and the next one depends on it. An entry therefore holds two
// symbols if both codes fit its index, and their number of bits, values included; the values are
// extracted afterwards.
#pragma once

#include <stdint.h>
#include <string.h>

namespace {

constexpr int INDEX_BITS = 11;   // bits of an index into a table
constexpr int AFTER_END = 128;   // advance at the end of a block, longer than any run
constexpr int POSITIONS = 256;   // beyond the reach of any two symbols

// Position of each coefficient of a block by its order in the file; coefficients beyond the block go
// to a position after it.
struct Order {
    uint8_t at[POSITIONS];
};

constexpr Order natural_order() {
    Order order = {};
    int row = 0, column = 0;
    for (int k = 0; k < POSITIONS; k++) {
        order.at[k] = k < 64 ? 8 * row + column : 64;
        if ((row + column) % 2 == 0) {
            if (column == 7) row++;
            else if (row == 0) column++;
            else row--, column++;
        } else {
            if (row == 7) column++;
            else if (column == 0) row++;
            else row++, column--;
        }
    }
    return order;
}

constexpr Order ORDER = natural_order();

// One or two symbols: bits of their codes and values together, and their advance in the block; the same
// of the first alone; bits of the value of the first, and of the last.
struct Entry {
    uint8_t bits, moves, first_bits, first_moves, first_size, size;
    uint8_t code;  // bits of the first code; 0 if it is longer than INDEX_BITS
    uint8_t unused;
};

// Huffman table.
struct Table {
    Entry entries[1 << INDEX_BITS];
    uint32_t ends[17];     // by length: end of the codes of at most that length, as 16 bits
    int32_t firsts[17];    // by length: what to add to a code to get the number of its symbol
    uint8_t symbols[256];
    bool there;
};

inline Entry entry_of(int length, int symbol) {
    const uint8_t size = symbol & 15, run = symbol >> 4, bits = length + size;
    const uint8_t moves = size ? run + 1 : run == 15 ? 16 : AFTER_END;
    return {bits, moves, bits, moves, size, size, (uint8_t)length, 0};
}

// Add a second symbol to entries where it fits.
inline void pair_up(Table &table) {
    for (int k = 0; k < 1 << INDEX_BITS; k++) {
        Entry &first = table.entries[k];
        if (!first.code || first.first_moves == AFTER_END || first.first_bits >= INDEX_BITS) continue;
        const Entry &second = table.entries[(k << first.first_bits) & ((1 << INDEX_BITS) - 1)];
        if (!second.code || first.first_bits + second.code > INDEX_BITS) continue;
        first.bits = first.first_bits + second.first_bits;
        first.moves = first.first_moves + second.first_moves;
        first.size = second.first_size;
    }
}

// Build a table from a DHT segment; false if it is not of a baseline file.
inline bool make_table(const uint8_t counts[16], const uint8_t *symbols, bool of_dc, Table &table) {
    uint32_t code = 0;
    int number = 0;
    table.there = false;
    memset(table.entries, 0, sizeof table.entries);
    for (int length = 1; length <= 16; length++) {
        table.firsts[length] = number - (int)code;
        for (int k = 0; k < counts[length - 1]; k++, number++, code++) {
            const int symbol = table.symbols[number] = symbols[number];
            if (of_dc ? symbol > 11 : (symbol & 15) > 10) return false;
            if (code + 1 >= 1u << length) return false;  // a code of ones only is reserved
            if (length > INDEX_BITS) continue;
            Entry *entry = table.entries + (code << (INDEX_BITS - length));
            for (int rest = 0; rest < 1 << (INDEX_BITS - length); rest++)
                entry[rest] = entry_of(length, symbol);
        }
        table.ends[length] = code << (16 - length);
        code <<= 1;
    }
    if (!of_dc) pair_up(table);
    return table.there = true;
}

// Unread bits, the next one first.
struct Bits {
    uint64_t window;
    int count;   // bits in the window
    bool wrong;  // an invalid code or block was read
    const uint8_t *next;

    explicit Bits(const uint8_t *from) : window(0), count(0), wrong(false), next(from) {}

    // At least 56 bits, enough for two lookups: with its value a DC symbol has up to 27 bits, an AC
    // symbol up to 26, and two in one entry have up to 21.
    void fill() {
        uint64_t more;
        memcpy(&more, next, 8);
        window |= __builtin_bswap64(more) >> count;
        next += (63 - count) >> 3;
        count |= 56;
    }

    void drop(int bits) {
        window <<= bits;
        count -= bits;
    }

    // Returns the next symbols without consuming their bits.
    Entry symbols(const Table &table) {
        const Entry entry = table.entries[window >> (64 - INDEX_BITS)];
        if (__builtin_expect(entry.code, 1)) return entry;
        const uint32_t code = window >> 48;
        for (int length = INDEX_BITS + 1; length <= 16; length++)
            if (code < table.ends[length])
                return entry_of(
                    length, table.symbols[(code >> (16 - length)) + table.firsts[length]]);
        wrong = true;
        return entry_of(1, 0);
    }

    // Returns the value whose `size` bits end `end` bits from here; negative if its first bit is 0.
    int value(int end, int size) const {
        const int32_t bits = (window >> (-end & 63)) & ((1u << size) - 1);
        return bits + (((bits >> ((size - 1) & 31) & 1) - 1) & (1 - (1 << size)));
    }
};

// Decode one block to its coefficients times `steps`; with KEEP false only its DC, which the next block
// needs. Returns the position of its end, AFTER_END if it has only the DC. The AC of `block` (65 values)
// must be 0 before.
template <bool KEEP>
inline int read_block(Bits &from, const Table &dc, const Table &ac, const int16_t *steps, int &last,
                      int16_t *block) {
    Bits bits = from;  // in registers
    int k = 0;
    auto read_symbols = [&]() __attribute__((always_inline)) {
        const Entry entry = bits.symbols(ac);
        const int first = k + entry.first_moves;
        k += entry.moves;
        if (KEEP) {
            block[ORDER.at[first]] =
                bits.value(entry.first_bits, entry.first_size) * steps[first];
            block[ORDER.at[k]] = bits.value(entry.bits, entry.size) * steps[k];
        }
        if (__builtin_expect(first == 63 && k > 63, 0)) {  // the second symbol is not of this block
            bits.drop(entry.first_bits);
            k = 63;
            return false;
        }
        bits.drop(entry.bits);
        return k < 63;
    };
    bits.fill();
    const Entry entry = bits.symbols(dc);
    last = (int)((unsigned)last + (unsigned)bits.value(entry.bits, entry.size));
    bits.drop(entry.bits);
    if (KEEP) block[0] = (unsigned)last * steps[0];
    if (read_symbols()) do bits.fill();
        while (read_symbols() && read_symbols());
    bits.wrong |= k > 63 && (k < AFTER_END || k > AFTER_END + 62);
    from = bits;
    return k;
}

}  // namespace
