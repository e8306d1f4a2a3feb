"""Put beside the page `try_it` what it runs: the network, onnxruntime-web and sample photos.

``npm ci`` must have fetched onnxruntime-web into this folder.
"""

import gzip
import importlib.util
import json
import shutil
from pathlib import Path

import deeplab_fashion as df

DOCS = Path(__file__).parent
TARGET = DOCS / "_static" / "try_it"
NPM = DOCS / "node_modules" / "onnxruntime-web" / "dist"
SAMPLES = (2, 3, 5)


def main() -> None:
    """Write the files, and ``about.json``, which tells the page of them."""
    package = Path(df.__file__).parent
    photos = [df.samples.photo(index) for index in SAMPLES]
    # The npm package holds no licence texts; the Python package, from the same sources, does.
    runtime = Path(importlib.util.find_spec("onnxruntime").origin).parent
    wasm = NPM / "ort-wasm-simd-threaded.wasm"
    for folder, sources in {
        "onnxruntime": [
            wasm,
            NPM / "ort.wasm.bundle.min.mjs",
            *(runtime / name for name in ("LICENSE", "ThirdPartyNotices.txt")),
        ],
        "model": [package / "pretrained" / name for name in ("LICENSE", "NOTICE")],
        "samples": [*photos, *(package / "samples" / name for name in ("LICENSE", "NOTICE"))],
    }.items():
        (TARGET / folder).mkdir(exist_ok=True)
        for source in sources:
            shutil.copy(source, TARGET / folder)

    segmenter = df.Segmenter.from_pretrained("fashion-main")
    model = TARGET / "model" / "fashion-main.onnx"
    df.export.to_onnx(segmenter, model, check_photos=photos[:1])

    colours = df.plotting.palette(len(segmenter.class_names)).tolist()
    about = {
        "classes": [
            {"name": name, "colour": colour}
            for name, colour in zip(segmenter.class_names, colours, strict=True)
        ],
        "working_size": segmenter.options.frame,
        "runtime": packed(TARGET / "onnxruntime" / wasm.name),
        "model": packed(model),
        "samples": [f"samples/{photo.name}" for photo in photos],
    }
    (TARGET / "about.json").write_text(json.dumps(about, indent=1))


def packed(file: Path) -> dict[str, str | int]:
    """Replace a file by its gzip form; return where that lies and how long it is."""
    target = file.with_name(file.name + ".gz")
    target.write_bytes(gzip.compress(file.read_bytes(), mtime=0))
    file.unlink()
    return {"path": target.relative_to(TARGET).as_posix(), "bytes": target.stat().st_size}


if __name__ == "__main__":
    main()
