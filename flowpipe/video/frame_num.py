"""H.264 picture units in decoding order -> number of missing pictures between them.

H.264 numbers its reference pictures (``frame_num``, Rec. ITU-T H.264, 7.4.3). A jump shows that the
file lost some, in containers with and without timestamps. FFmpeg's decoder silently fills such a
gap with copies.
"""

from __future__ import annotations

SEQUENCE_PARAMETERS, PICTURE_PARAMETERS, IDR = 7, 8, 5
SLICES = (1, 2, IDR)
HIGH_PROFILES = (44, 83, 86, 100, 110, 118, 122, 128, 134, 135, 138, 139, 244)
"""Profiles whose sequence parameters have fields for chroma format and scaling lists."""
SLICE_BYTES = 24
"""Length of a slice header up to ``frame_num``, with emulation prevention bytes."""
PARAMETER_BYTES = 1024


class BitReader:
    """Reader of bits, most significant first; EOFError at the end.

    Parameters
    ----------
    content : bytes
        Unit of H.264, with emulation prevention bytes.
    """

    def __init__(self, content: bytes) -> None:
        content = content.replace(b"\0\0\3", b"\0\0")  # emulation prevention, 7.4.1
        self._value, self._left = int.from_bytes(content, "big"), 8 * len(content)

    def take(self, count: int) -> int:
        """Read an unsigned number.

        Parameters
        ----------
        count : int
            Number of bits.

        Returns
        -------
        int
            The number.

        Raises
        ------
        EOFError
            If fewer bits are left.
        """
        if count > self._left:
            raise EOFError
        self._left -= count
        return self._value >> self._left & ((1 << count) - 1)

    def exp_golomb(self) -> int:
        """Return the next ue(v), 9.1."""
        zeros = 0
        while not self.take(1):
            zeros += 1
        return (1 << zeros) - 1 + self.take(zeros)

    def signed_exp_golomb(self) -> int:
        """Return the next se(v), 9.1.1."""
        code = self.exp_golomb()
        return (code + 1) // 2 if code % 2 else -(code // 2)


class FrameNumbers:
    """Follows the frame numbers of one stream."""

    def __init__(self) -> None:
        self._sequences: dict[int, tuple[int, bool, bool]] = {}
        """(bits of a frame number, whether colour planes are separate, whether gaps are allowed),
        by id."""
        self._sequence_of: dict[int, int] = {}
        """Id of the sequence parameter set by that of the picture parameter set."""
        self._reference: int | None = None
        self._previous: tuple[int, bool] = 0, True
        self._unread = 0

    def learn(self, unit: bytes) -> None:
        """Take a parameter set; ignore it if it cannot be read.

        Parameters
        ----------
        unit : bytes
            Parameter set of H.264.
        """
        bits = BitReader(unit[1:PARAMETER_BYTES])
        try:
            if unit[0] & 0x1F == SEQUENCE_PARAMETERS:
                number, sequence = _read_sequence(bits)
                self._sequences[number] = sequence
            elif unit[0] & 0x1F == PICTURE_PARAMETERS:
                number = bits.exp_golomb()
                self._sequence_of[number] = bits.exp_golomb()
        except EOFError:
            return

    def count_missing(self, unit: bytes, *, is_key: bool) -> int:
        """Take the first slice of the next picture.

        Parameters
        ----------
        unit : bytes
            The slice.
        is_key : bool
            True if decoding can begin here, so that a jump may be a cut.

        Returns
        -------
        int
            Number of reference pictures missing before it, without those whose slices could not be
            read.
        """
        kind, is_reference = unit[0] & 0x1F, bool(unit[0] & 0x60)
        try:
            number, size, gaps_allowed = self._read_slice(unit)
        except (EOFError, KeyError):
            self._unread += 1
            return 0
        reference, (previous, was_reference) = self._reference, self._previous
        self._previous = number, is_reference
        if is_reference or kind == IDR:
            self._reference = number
        unread, self._unread = self._unread, 0
        if reference is None or is_key or kind == IDR or gaps_allowed or number == reference:
            return 0
        # memory_management_control_operation 5 resets the count; some encoders count all pictures
        if number < 2 or (not was_reference and number == (previous + 1) % size):
            return 0
        return max(0, (number - reference - 1) % size - unread)

    def _read_slice(self, unit: bytes) -> tuple[int, int, bool]:
        """Return the frame number, its modulus, and whether gaps are allowed; 7.3.3."""
        bits = BitReader(unit[1:SLICE_BYTES])
        bits.exp_golomb(), bits.exp_golomb()  # first_mb_in_slice, slice_type
        length, planes, gaps_allowed = self._sequences[self._sequence_of[bits.exp_golomb()]]
        bits.take(2 * planes)
        return bits.take(length), 1 << length, gaps_allowed


def _read_sequence(bits: BitReader) -> tuple[int, tuple[int, bool, bool]]:
    """Return the id of a sequence parameter set and its values in `FrameNumbers`; 7.3.2.1.1."""
    profile = bits.take(8)
    bits.take(16)
    number, planes = bits.exp_golomb(), False
    if profile in HIGH_PROFILES:
        chroma = bits.exp_golomb()
        planes = chroma == 3 and bool(bits.take(1))
        bits.exp_golomb(), bits.exp_golomb(), bits.take(1)
        if bits.take(1):
            for which in range(12 if chroma == 3 else 8):
                if bits.take(1):
                    _skip_scaling_list(bits, 16 if which < 6 else 64)
    length = bits.exp_golomb() + 4
    order = bits.exp_golomb()
    if order == 0:
        bits.exp_golomb()
    elif order == 1:
        bits.take(1), bits.signed_exp_golomb(), bits.signed_exp_golomb()
        for _ in range(min(bits.exp_golomb(), 255)):
            bits.signed_exp_golomb()
    bits.exp_golomb()
    if length > 16:
        raise EOFError
    return number, (length, planes, bool(bits.take(1)))


def _skip_scaling_list(bits: BitReader, size: int) -> None:
    last = following = 8
    for _ in range(size):
        if following:
            following = (last + bits.signed_exp_golomb()) % 256
        last = following or last
