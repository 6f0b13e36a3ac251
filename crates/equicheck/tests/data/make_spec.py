"""Write spec/: files of arrays and pictures as other people's software writes them, and what is in them.

    python make_spec.py        (a second)

Needs numpy, ml_dtypes, safetensors and Pillow; equicheck is not used. spec/expected.json says for each file and key:
dtype, shape and values (row-major; real and imaginary part of complex numbers one after the other). Pictures are as
Pillow reads them, channels first. Files under "refused" hold what no tensor can, or are damaged on purpose.
"""

from __future__ import annotations

import io
import json
import zipfile
from importlib.metadata import version
from pathlib import Path

import ml_dtypes
import numpy as np
import PIL.Image
import safetensors.numpy

FOLDER = Path(__file__).parent / "spec"
RNG = np.random.default_rng(21)
EXPECTED: dict[str, dict[str, object]] = {}


def expect(file: str, key: str, array: np.ndarray, dtype: str | None = None) -> None:
    values = np.ascontiguousarray(array)
    if values.dtype.kind == "c":
        flat = np.stack([values.real, values.imag], -1).astype(np.float64)
    else:
        flat = values.astype(np.float64)
    # Below 2^53 whole numbers are exact in JSON.
    EXPECTED.setdefault(file, {})[key] = {
        "dtype": dtype or array.dtype.newbyteorder("=").name,
        "shape": list(array.shape),
        "values": [float(v) for v in flat.ravel()],
    }


def save(file: str, arrays: dict[str, np.ndarray], *, compressed: bool = False, **dtypes: str) -> None:
    (np.savez_compressed if compressed else np.savez)(FOLDER / file, **arrays)
    for key, array in arrays.items():
        expect(file, key, array, dtypes.get(key))


def arrays() -> None:
    real = RNG.normal(size=(2, 3))
    plain = {
        "float16": real.astype(np.float16),
        "float32": real.astype(np.float32),
        "float64": real,
        "big": real.astype(">f8"),
        "fortran": np.asfortranarray(RNG.normal(size=(2, 3, 4))),
        "complex64": (real + 1j * real[::-1]).astype(np.complex64),
        "complex128": real + 1j * real[::-1],
        "big_complex": (real + 1j * real[::-1]).astype(">c16"),
        "bool": real > 0,
        "int8": np.array([-128, 127], np.int8),
        "int16": np.array([[-32768], [32767]], ">i2"),
        "int32": np.array([-(2**31), 2**31 - 1], np.int32),
        "int64": np.array([-(2**53), 2**53], np.int64),
        "uint8": np.array([0, 255], np.uint8),
        "uint16": np.array([0, 65535], np.uint16),
        "uint32": np.array([0, 2**32 - 1], ">u4"),
        "uint64": np.array([0, 2**53], np.uint64),
        "number": np.array(2.5),
        "empty": np.zeros((0, 3), np.float32),
    }
    save("arrays.npz", plain, uint16="int32", uint32="int64", uint64="int64")
    nodes = 5
    edges = np.array([[0, 1, 1, 2, 3, 4], [1, 0, 2, 1, 4, 3]], np.int64)
    save(
        "packed.npz",
        {"pos": RNG.normal(size=(3, nodes, 3)).astype(np.float32), "edge_index": edges},
        compressed=True,
    )
    for k in range(3):
        save(f"sample_{k}.npz", {"pos": RNG.normal(size=(4 + k, 3)).astype(np.float32)})
    np.save(FOLDER / "single.npy", real)
    expect("single.npy", "", real)
    with (FOLDER / "version_2.npy").open("wb") as file:
        np.lib.format.write_array(file, plain["fortran"], version=(2, 0))
    expect("version_2.npy", "", plain["fortran"])


def tensors() -> None:
    real = RNG.normal(size=(2, 3))
    given = {
        "float16": real.astype(np.float16),
        "bfloat16": real.astype(ml_dtypes.bfloat16),
        "float32": real.astype(np.float32),
        "float64": real,
        "int64": np.array([-(2**53), 2**53], np.int64),
        "uint16": np.array([0, 65535], np.uint16),
        "uint8": np.array([[0], [255]], np.uint8),
        "bool": real > 0,
    }
    safetensors.numpy.save_file(given, FOLDER / "tensors.safetensors")
    for key, array in given.items():
        expect("tensors.safetensors", key, array, "int32" if key == "uint16" else None)


def pictures() -> None:
    def picture(name: str, image: PIL.Image.Image, mode: str | None = None) -> None:
        image.save(FOLDER / name)
        read = np.asarray(PIL.Image.open(FOLDER / name).convert(mode) if mode else PIL.Image.open(FOLDER / name))
        pixels = read[None] if read.ndim == 2 else read.transpose(2, 0, 1)
        largest = 65535 if pixels.max() > 255 else 255
        expect(name, "raw", pixels, "int32")
        expect(name, "", (pixels / largest).astype(np.float32))

    def draw(*shape: int) -> np.ndarray:
        return RNG.integers(0, 256, size=shape, dtype=np.uint8)

    picture("gray.png", PIL.Image.fromarray(draw(4, 5)))
    picture("gray_alpha.png", PIL.Image.fromarray(draw(4, 5, 2), "LA"))
    picture("rgb.png", PIL.Image.fromarray(draw(4, 5, 3)))
    picture("rgba.png", PIL.Image.fromarray(draw(4, 5, 4)))
    picture("palette.png", PIL.Image.fromarray(draw(4, 5, 3)).quantize(7), "RGB")
    picture("bits.png", PIL.Image.fromarray(draw(4, 5)).convert("1"), "L")
    picture("gray_16.png", PIL.Image.fromarray(RNG.integers(0, 65536, size=(4, 5), dtype=np.uint16)))


def refused() -> None:
    np.savez(FOLDER / "objects.npz", x=np.array([{}, []], dtype=object))
    np.save(FOLDER / "records.npy", np.zeros(2, [("a", "<f4"), ("b", "<i8")]))
    np.save(FOLDER / "words.npy", np.array(["a", "bc"]))
    np.savez(FOLDER / "too_large.npz", x=np.array([2**63], np.uint64))
    # An array of three numbers with 20 MB of zeros behind it, and the same with sizes that keep silent about them.
    member = io.BytesIO()
    np.lib.format.write_array(member, np.zeros(3))
    honest = len(member.getvalue())
    for name, lies in (("bomb.npz", False), ("lying_bomb.npz", True)):
        buffer = io.BytesIO()
        with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr(zipfile.ZipInfo("x.npy"), member.getvalue() + bytes(20_000_000), zipfile.ZIP_DEFLATED)
        data = buffer.getvalue()
        if lies:
            true = (honest + 20_000_000).to_bytes(4, "little")
            assert data.count(true) == 2
            data = data.replace(true, honest.to_bytes(4, "little"))
        (FOLDER / name).write_bytes(data)


FOLDER.mkdir(exist_ok=True)
arrays()
tensors()
pictures()
refused()
EXPECTED["versions"] = {name: version(name) for name in ("numpy", "ml_dtypes", "safetensors", "pillow")}
(FOLDER / "expected.json").write_text(json.dumps(EXPECTED, indent=1) + "\n")
