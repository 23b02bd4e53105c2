"""Arguments of kernels have the declared types, whatever numbers a caller passes."""

from __future__ import annotations

import numpy as np
import pytest
from emulated import emulated_ops
from synth import translated_pair

from flowpipe.flow.pair import pair_flow, pair_params
from flowpipe.flow.tvl1 import TVL1Params
from flowpipe.ops.cuda.kernels import SOURCES

LETTERS = {"int32": "i", "uint32": "I", "float32": "f", "float64": "d", "int64": "q"}
KERNELS = [name for names in SOURCES.values() for name in names]


@pytest.fixture
def cuda():
    return emulated_ops()


@pytest.mark.parametrize("name", KERNELS)
def test_parameters_are_those_that_the_compiler_sees(name, cuda):
    parameters = cuda.kernels.parameters(name)
    letters = ["P" if p.is_array else LETTERS[np.dtype(p.number).name] for p in parameters]
    assert "".join(letters) == cuda.kernels.function(name).letters


SETTINGS = {"tau": 0.2, "lambda_": 0.2, "theta": 0.25, "epsilon": 0.02, "warps": 1, "iterations": 8}


@pytest.mark.parametrize("kind", [np.float64, np.float32, np.longdouble])
@pytest.mark.parametrize("build", [lambda **settings: pair_params("tvl1", settings), TVL1Params])
def test_numbers_of_numpy_give_the_flow_of_numbers_of_python(kind, build, cuda):
    images = [image.astype(np.uint8) for image in translated_pair(34, 40, 0.7, -0.4, seed=3)]
    plain = {name: float(kind(value)) for name, value in SETTINGS.items()}
    plain |= {name: SETTINGS[name] for name in ("warps", "iterations")}
    theirs = {name: kind(value) for name, value in plain.items()}
    theirs |= {"warps": np.int64(1), "iterations": np.uint16(8), "strict_stop": np.bool_(False)}
    wanted, got = (pair_flow(*images, build(**made), cuda) for made in (plain, theirs))
    np.testing.assert_array_equal(got, wanted)
    assert np.abs(wanted).max() > 0


def test_arguments_of_another_type_are_refused(cuda):
    kernels = cuda.kernels
    with cuda.batch_launches():
        gray, wide = cuda.to_device(np.zeros(4, np.uint8)), cuda.empty(4)
        kernels.over_values("widen", 1, 4, gray, wide, np.int64(4))
        with pytest.raises(TypeError, match="values of widen is int32, got 4.5"):
            kernels.over_values("widen", 1, 4, gray, wide, 4.5)
        with pytest.raises(TypeError, match="out of widen is an array of float32, got uint8"):
            kernels.over_values("widen", 1, 4, gray, gray, 4)
        with pytest.raises(TypeError, match="gray of widen is an array of uint8, got int"):
            kernels.over_values("widen", 1, 4, 4, wide, 4)
        with pytest.raises(TypeError, match="widen takes 3 arguments, got 2"):
            kernels.over_values("widen", 1, 4, gray, wide)


def test_the_stand_in_refuses_numbers_that_a_driver_would_misread(cuda):
    """CuPy passes 8 bytes for Python's numbers; the driver reads the first four of them."""
    function = cuda.kernels.function("widen")
    with cuda.batch_launches():
        gray, wide = cuda.to_device(np.zeros(4, np.uint8)), cuda.empty(4)
        for count in (4, np.int64(4), np.float64(4)):
            with pytest.raises(AssertionError, match="widen, argument 2"):
                function((1, 1, 1), (4, 1, 1), (gray, wide, count))
