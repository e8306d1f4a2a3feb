"""Segment a folder of photos on all machines of a Ray cluster, and write their masks as RLE rows.

    pip install "deeplab-fashion[ray]"
    python examples/predict_with_ray.py PHOTOS --out masks.csv --workers 2

Each worker loads the model once and then takes photo after photo. Photos that cannot be read are
named at the end, and the exit status is then 1. On one machine this starts Ray by itself; with
RAY_ADDRESS set, it joins that cluster, on all of whose machines the photos must lie at the same
path.
"""

import argparse
import sys
from pathlib import Path
from typing import Any

import deeplab_fashion as df
from deeplab_fashion.errors import ImageError

ENDINGS = {".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif", ".tiff"}


class Masks:
    """What a worker keeps: the segmenter."""

    def __init__(self, model: str | None) -> None:
        """Load the model, in the worker's own process."""
        if model is None:
            self.segmenter = df.Segmenter.from_pretrained("fashion-main")
        else:
            self.segmenter = df.Segmenter.load(model)

    def __call__(self, row: dict[str, Any]) -> list[dict[str, Any]]:
        """Return a row for each region of a photo, or one that says what is wrong with it."""
        path = Path(row["item"])
        try:
            rows = self.segmenter(path).to_kaggle_rows(image_id=path.stem)
        except ImageError as error:
            rows = [{"ImageId": path.stem, "EncodedPixels": "", "ClassId": -1, "error": str(error)}]
        return [{"error": "", **row} for row in rows]


def main() -> int:
    """Segment the photos and write the file."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("photos", type=Path, help="folder of photos")
    parser.add_argument("--out", type=Path, default=Path("masks.csv"))
    parser.add_argument("--model", help="a segmenter that was saved; the bundled one by default")
    parser.add_argument("--workers", type=int, default=2)
    arguments = parser.parse_args()
    import ray  # an extra, so that --help works without it

    photos = sorted(p for p in arguments.photos.resolve().rglob("*") if p.suffix.lower() in ENDINGS)
    if not photos:
        parser.error(f"{arguments.photos} holds no photos")
    paths = [str(path) for path in photos]
    dataset = ray.data.from_items(paths, override_num_blocks=len(paths))
    masks = dataset.flat_map(
        Masks,
        fn_constructor_args=(arguments.model,),
        compute=ray.data.ActorPoolStrategy(size=arguments.workers),
    )
    rows = sorted(masks.iter_rows(), key=lambda row: (row["ImageId"], row["ClassId"]))
    df.annotations.write_submission(arguments.out, [row for row in rows if not row["error"]])
    broken = [row["error"] for row in rows if row["error"]]
    for error in broken:
        print(error, file=sys.stderr)
    print(f"{len(rows) - len(broken)} masks of {len(photos) - len(broken)} photos: {arguments.out}")
    return 1 if broken else 0


if __name__ == "__main__":
    sys.exit(main())
