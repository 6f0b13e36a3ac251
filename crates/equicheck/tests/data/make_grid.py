"""Write grid.json: reference values for the actions on grids.

    python make_grid.py > grid.json        (seconds)

Needs numpy, scipy, torch and escnn (escnn-atompaint 1.1, a build for current Python); equicheck is
not used. Each case holds a transformation T p = linear p + translation in coordinates (x, y, z), the
input, and what it becomes: null where undefined.

numpy    moves: rot90, flip, roll and slices, applied in turn.
escnn    quarter turns and reflections: `GeometricTensor.transform` of trivial fields, with the
         matrix that escnn itself gives, `gspace.basespace_action(g)`.
scipy    linear interpolation: `scipy.ndimage.affine_transform`, order 1, mode "constant" (open
         domain) and "grid-wrap" (periodic).
keys     cubic interpolation: the kernel u(s) of Keys 1981, equation 15, summed over all pixels of
         the grid, or of its periodic repetition.
fft      Fourier interpolation: the series of `numpy.fft.fftn` summed at the source points, and, for
         shifts, the shift theorem.

The transformation is brought to array indices here by S, with (x, y, z) = S (index - centre).
"""

from __future__ import annotations

import contextlib
import json
import sys
from importlib.metadata import version

import numpy as np
import torch
from escnn import gspaces, nn
from scipy import ndimage

RNG = np.random.default_rng(20240229)
CASES: list[dict] = []


def cells(values: np.ndarray) -> list:
    return [None if np.isnan(v) else float(v) for v in values.ravel()]


def add(source, name, domain, interpolation, linear, translation, before, after) -> None:
    CASES.append(
        {
            "source": source,
            "name": name,
            "domain": domain,
            "interpolation": interpolation,
            "shape": list(before.shape),
            "linear": np.asarray(linear, float).tolist(),
            "translation": [float(t) for t in translation],
            "input": cells(before),
            "output": cells(after),
        }
    )


def numbers(*shape) -> np.ndarray:
    return RNG.permutation(int(np.prod(shape))).reshape(shape).astype(float)


def smooth(*shape) -> np.ndarray:
    return np.round(RNG.normal(size=shape), 3)


def turn(angle: float) -> np.ndarray:
    return np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])


def turn3(axis: str, angle: float) -> np.ndarray:
    i, j = {"x": (1, 2), "y": (2, 0), "z": (0, 1)}[axis]
    m = np.eye(3)
    m[np.ix_([i, j], [i, j])] = turn(angle)
    return m


def in_indices(shape, linear, translation) -> tuple[np.ndarray, np.ndarray]:
    """Source index = matrix @ index + offset."""
    n = len(shape)
    s = np.zeros((n, n))
    for c in range(n):
        s[c, n - 1 - c] = 1 if c == 0 else -1
    centre = (np.array(shape) - 1) / 2
    back = np.linalg.inv(linear)
    matrix = np.linalg.inv(s) @ back @ s
    offset = centre - matrix @ centre - np.linalg.inv(s) @ back @ np.array(translation, float)
    return matrix, offset


def sources(shape, linear, translation) -> np.ndarray:
    matrix, offset = in_indices(shape, linear, translation)
    index = np.stack(np.meshgrid(*map(np.arange, shape), indexing="ij"), -1)
    return index @ matrix.T + offset


# ---------------------------------------------------------------------------------------------------

QUARTER = np.pi / 2


def numpy_cases() -> None:
    def exact(name, linear, translation, before, after):
        add("numpy", name, "periodic", "linear", linear, translation, before, after)
        if not np.any(translation):
            add("numpy", name, "open", "cubic", linear, translation, before, after)

    for size in (4, 5):
        image = numbers(size, size)
        for k in (1, 2, 3):
            exact(f"rot90 {k}", turn(k * QUARTER), [0, 0], image, np.rot90(image, k, (0, 1)))
        exact("flip width", [[-1, 0], [0, 1]], [0, 0], image, np.flip(image, 1))
        exact("flip height", [[1, 0], [0, -1]], [0, 0], image, np.flip(image, 0))
        exact("transpose", [[0, -1], [-1, 0]], [0, 0], image, image.T)
        rolled = np.roll(np.rot90(image, 1, (0, 1)), (-3, 2), (0, 1))
        exact("rot90, then roll", turn(QUARTER), [2, 3], image, rolled)
    image = numbers(4, 7)
    exact("half turn", -np.eye(2), [0, 0], image, np.rot90(image, 2, (0, 1)))
    exact("roll", np.eye(2), [3, -9], image, np.roll(image, (9, 3), (0, 1)))

    signal = numbers(6)
    exact("flip", [[-1]], [0], signal, np.flip(signal))
    exact("roll", [[1]], [-8], signal, np.roll(signal, -8))

    volume = numbers(3, 3, 3)
    depth, height, width = 0, 1, 2
    for axis, plane in (("x", (height, depth)), ("y", (width, depth)), ("z", (height, width))):
        after = np.rot90(volume, 1, plane)
        exact(f"rot90 about {axis}", turn3(axis, QUARTER), [0, 0, 0], volume, after)
    volume = numbers(2, 3, 4)
    exact("flip depth", np.diag([1, 1, -1]), [0, 0, 0], volume, np.flip(volume, depth))
    after = np.roll(volume, (-1, -1, 1), (depth, height, width))
    exact("roll by one along x, y and z", np.eye(3), [1, 1, 1], volume, after)

    # Open domains: what comes from outside is undefined.
    image = numbers(4, 5)
    after = np.full((4, 5), np.nan)
    after[:-1, 2:] = image[1:, :-2]
    add("numpy", "shift", "open", "linear", np.eye(2), [2, 1], image, after)
    image = numbers(5, 5)
    after = np.full((5, 5), np.nan)
    after[1:, :-3] = np.rot90(image, 1, (0, 1))[:-1, 3:]
    add("numpy", "rot90, then shift", "open", "fourier", turn(QUARTER), [-3, -1], image, after)


def escnn_cases() -> None:
    def transform(gspace, element, before):
        field = nn.FieldType(gspace, [gspace.trivial_repr])
        tensor = nn.GeometricTensor(torch.tensor(before[None, None]), field)
        return tensor.transform(element).tensor[0, 0].numpy()

    for name, gspace in (
        ("flipRot2dOnR2(4)", gspaces.flipRot2dOnR2(4)),
        ("flipRot2dOnR2(4, axis=0)", gspaces.flipRot2dOnR2(4, axis=0.0)),
        ("flip2dOnR2()", gspaces.flip2dOnR2()),
    ):
        image = numbers(4, 4)
        for g in gspace.testing_elements:
            linear = gspace.basespace_action(g)
            add("escnn", f"{name} {g}", "open", "linear", linear, [0, 0], image, transform(gspace, g, image))
    volume = numbers(3, 3, 3)
    gspace = gspaces.octaOnR3()
    for g in gspace.testing_elements:
        linear = gspace.basespace_action(g)
        # escnn's matrices are good to single precision or so.
        assert np.allclose(linear, np.round(linear), atol=1e-6)
        after = transform(gspace, g, volume)
        add("escnn", f"octaOnR3() {g}", "open", "linear", np.round(linear), [0, 0, 0], volume, after)


def scipy_cases() -> None:
    def linear(name, domain, matrix, translation, before):
        index_matrix, offset = in_indices(before.shape, np.asarray(matrix, float), translation)
        mode = {"open": "constant", "periodic": "grid-wrap"}[domain]
        after = ndimage.affine_transform(before, index_matrix, offset, order=1, mode=mode, cval=np.nan)
        add("scipy", name, domain, "linear", matrix, translation, before, after)

    linear("turn", "open", turn(0.4), [0, 0], smooth(7, 8))
    linear("turn and shift", "open", turn(-2.1), [0.7, -1.2], smooth(7, 7))
    linear("shear and scale", "open", [[1.3, 0.4], [-0.1, 0.8]], [0.25, 0.1], smooth(6, 8))
    tumble = turn3("z", 0.3) @ turn3("x", -0.5) @ turn3("y", 0.2)
    linear("turn in space", "open", tumble, [0.1, 0.2, -0.3], smooth(4, 5, 5))
    linear("stretch", "open", [[1.7]], [0.3], smooth(9))
    linear("shift", "periodic", np.eye(2), [0.3, -1.6], smooth(5, 6))
    linear("quarter turn and shift", "periodic", turn(QUARTER), [2.3, 0.4], smooth(5, 5))
    linear("flip and shift", "periodic", np.diag([-1, 1]), [0.5, 1], smooth(4, 3))
    linear("shift", "periodic", np.eye(3), [0.3, 1.25, -0.6], smooth(3, 2, 4))
    linear("shift", "periodic", [[1]], [-7.9], smooth(6))


def keys(s: np.ndarray) -> np.ndarray:
    s = np.abs(s)
    inner = 1.5 * s**3 - 2.5 * s**2 + 1
    outer = -0.5 * s**3 + 2.5 * s**2 - 4 * s + 2
    return np.where(s <= 1, inner, np.where(s < 2, outer, 0.0))


def keys_cases() -> None:
    def cubic(name, domain, matrix, translation, before):
        points = sources(before.shape, np.asarray(matrix, float), translation)
        after = np.empty(before.shape)
        for pixel in np.ndindex(before.shape):
            factors = []
            inside = True
            for at, size in zip(points[pixel], before.shape):
                if domain == "periodic":
                    at = at % size
                    factors.append(sum(keys(at - np.arange(size) - k * size) for k in range(-3, 4)))
                else:
                    inside &= np.floor(at) - 1 >= 0 and np.floor(at) + 2 <= size - 1
                    factors.append(keys(at - np.arange(size)))
            value = before
            for factor in factors:
                value = np.tensordot(factor, value, (0, 0))
            after[pixel] = value if inside else np.nan
        add("keys", name, domain, "cubic", matrix, translation, before, after)

    cubic("turn", "open", turn(0.4), [0.03, 0.07], smooth(8, 9))
    cubic("turn in space", "open", turn3("z", 0.3) @ turn3("x", -0.5), [0.1, 0.2, -0.3], smooth(6, 5, 6))
    cubic("stretch", "open", [[1.7]], [0.3], smooth(9))
    cubic("shift", "periodic", np.eye(2), [0.3, -1.6], smooth(5, 6))
    cubic("quarter turn and shift", "periodic", turn(-QUARTER), [2.3, 0.4], smooth(5, 5))
    cubic("shift on a tiny torus", "periodic", np.eye(3), [0.3, 1.25, -0.6], smooth(3, 2, 1))


def fft_cases() -> None:
    def series(points: np.ndarray, before: np.ndarray) -> np.ndarray:
        coefficients = np.fft.fftn(before) / before.size
        after = np.empty(before.shape)
        for pixel in np.ndindex(before.shape):
            value = coefficients
            for at, size in zip(points[pixel], before.shape):
                k = np.fft.fftfreq(size, 1 / size)
                wave = np.exp(2j * np.pi * k * at / size)
                if size % 2 == 0:
                    wave[size // 2] = np.cos(np.pi * at)
                value = np.tensordot(wave, value, (0, 0))
            assert abs(value.imag) < 1e-12
            after[pixel] = value.real
        return after

    def fourier(name, domain, matrix, translation, before):
        points = sources(before.shape, np.asarray(matrix, float), translation)
        after = series(points, before)
        if domain == "open":
            centre = (np.array(before.shape) - 1) / 2
            box = np.all((points >= 0) & (points <= 2 * centre), -1)
            disc = np.sum((points - centre) ** 2, -1) <= min(centre) ** 2
            lattice = np.array_equal(np.round(matrix), np.asarray(matrix))
            after[~(box if lattice else disc)] = np.nan
        add("fft", name, domain, "fourier", matrix, translation, before, after)

    for shape in ((5, 7), (6, 8), (5, 4)):
        before = smooth(*shape)
        shift = np.array([0.3, -1.6])
        fourier(f"shift {shape}", "periodic", np.eye(2), shift, before)
        # The shift theorem: the index moves by (-y, x).
        spectrum = np.fft.fft2(before)
        for axis, (size, by) in enumerate(zip(shape, (-shift[1], shift[0]))):
            k = np.fft.fftfreq(size, 1 / size)
            wave = np.exp(-2j * np.pi * k * by / size)
            if size % 2 == 0:
                wave[size // 2] = np.cos(np.pi * by)
            spectrum = spectrum * wave.reshape([-1 if a == axis else 1 for a in range(2)])
        theorem = np.fft.ifft2(spectrum)
        last = np.array(CASES[-1]["output"]).reshape(shape)
        assert np.allclose(theorem, last, atol=1e-13), np.abs(theorem - last).max()
        add("fft", f"shift theorem {shape}", "periodic", "fourier", np.eye(2), shift, before, theorem.real)
    quarter = np.array([[0.0, -1.0], [1.0, 0.0]])
    fourier("quarter turn and shift", "periodic", quarter, [2.3, 0.4], smooth(5, 5))
    fourier("quarter turn and shift along x", "periodic", quarter, [2.3, 1], smooth(6, 6))
    fourier("flip and shift", "periodic", np.diag([-1.0, 1.0]), [0.5, 1], smooth(4, 3))
    cycle = np.array([[0.0, 0, 1], [1, 0, 0], [0, 1, 0]])
    fourier("turn about (1, 1, 1) and shift", "periodic", cycle, [0.3, 1.25, -0.6], smooth(3, 3, 3))
    fourier("shift", "open", np.eye(2), [1.25, -0.5], smooth(5, 6))
    fourier("turn", "open", turn(0.4), [0.1, 0.2], smooth(6, 7))
    fourier("stretch", "open", [[1.7]], [0.3], smooth(9))


# escnn prints what it is doing.
with contextlib.redirect_stdout(sys.stderr):
    numpy_cases()
    escnn_cases()
    scipy_cases()
    keys_cases()
    fft_cases()
json.dump(
    {
        "versions": {name: version(name) for name in ("numpy", "scipy", "torch", "escnn-atompaint")},
        "cases": CASES,
    },
    sys.stdout,
    separators=(",", ":"),
)
