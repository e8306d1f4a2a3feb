"""The masks of one photo, and every form in which they are wanted."""

import json
import re
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from deeplab_fashion import plotting
from deeplab_fashion._canvas import interpolated, taps
from deeplab_fashion._files import replacing
from deeplab_fashion.regions import Region, find_regions

__all__ = ["Segmentation"]


@dataclass(frozen=True, eq=False)
class Segmentation:
    """The masks of one photo, at its own size.

    Attributes:
        labels: The class of each pixel, shape (height, width).
        class_names: The name of each label, background first.
        confidence: Probability of the winning class at each pixel, as 0 to 255, shape
            (height, width).
        photo: The photo as RGB, upright, shape (height, width, 3).
        name: What the photo is called: its file name without its ending, or "photo".
        file_name: The photo's file name; empty where it came from no file.
        files: What `save` wrote last: "overlay", "labels", "cutout <class>", "regions" -> the file.
        info: What the masks were made from, where `Segmenter.predict_many` wrote them to a folder.
    """

    labels: NDArray[np.uint8]
    class_names: tuple[str, ...]
    confidence: NDArray[np.uint8] = field(repr=False)
    photo: NDArray[np.uint8] = field(repr=False)
    name: str = "photo"
    files: dict[str, Path] = field(default_factory=dict, repr=False)
    info: dict[str, Any] = field(default_factory=dict, repr=False)
    file_name: str = ""
    _canvas: NDArray[np.float32] | None = field(default=None, repr=False)

    @cached_property
    def probabilities(self) -> NDArray[np.float32]:
        """The probability of each class at each pixel, shape (height, width, classes).

        It is worked out when first asked for, and takes 4 bytes a pixel and class. Where no
        specks were cleaned away its largest entry is at ``labels``.

        Raises:
            ValueError: If the photo was cut into tiles without ``probabilities=True``.
        """
        if self._canvas is None:
            raise ValueError(
                "probabilities of a photo in tiles are kept only on request: "
                "call the segmenter with probabilities=True"
            )
        size = self.labels.shape
        values = np.empty((*size, len(self.class_names)), np.float32)
        for index, plane in enumerate(self._canvas):
            rows, columns = (taps(n, m) for n, m in zip(plane.shape, size, strict=True))
            values[..., index] = interpolated(plane, rows, columns)
        return values

    @cached_property
    def regions(self) -> tuple[Region, ...]:
        """The connected regions of every class but background, the largest first."""
        return find_regions(self.labels, self.class_names, confidence=self.confidence)

    @property
    def shares(self) -> dict[str, float]:
        """The share of the photo's pixels that each class takes, 0 to 1."""
        size, area = len(self.class_names), self.labels.size
        # Row by row, since bincount widens all that it is given to eight bytes.
        counts = sum(np.bincount(row, minlength=size) for row in self.labels)
        return dict(zip(self.class_names, np.divide(counts, area).tolist(), strict=True))

    def overlay(self, *, alpha: float = 0.5, legend: bool = True) -> NDArray[np.uint8]:
        """Return the photo with its classes tinted, outlined and named; see `plotting.overlay`.

        Args:
            alpha: Share of the colour in a tinted pixel, 0 to 1.
            legend: Whether to draw the legend.

        Returns:
            RGB, shape (height, width, 3).
        """
        return plotting.overlay(
            self.photo, self.labels, self.class_names, alpha=alpha, legend=legend
        )

    def cutouts(self) -> dict[str, NDArray[np.uint8]]:
        """Return each class that is present alone on a transparent ground.

        Returns:
            Class name -> RGBA of the tight box around the class, shape (height, width, 4).
        """
        found: dict[int, list[tuple[int, int, int, int]]] = {}
        for region in self.regions:
            found.setdefault(region.label, []).append(region.bbox)
        result = {}
        for label, boxes in sorted(found.items()):
            tops, lefts, bottoms, rights = zip(*boxes, strict=True)
            box = np.s_[min(tops) : max(bottoms), min(lefts) : max(rights)]
            alpha = np.where(self.labels[box] == label, 255, 0).astype(np.uint8)
            result[self.class_names[label]] = np.dstack([self.photo[box], alpha])
        return result

    def to_coco(
        self, *, image_id: int = 1, file_name: str | None = None, polygons: bool = False
    ) -> dict[str, Any]:
        """Return the regions as a COCO data set of one image, in plain JSON types.

        Args:
            image_id: The image's number.
            file_name: Its file name; when left out, the photo's own, or ``name`` where it has none.
            polygons: Whether outlines are written as polygons instead of run lengths.

        Returns:
            ``info``, ``images``, ``annotations`` (with a ``score`` each) and ``categories``; a
            category's id is its label.
        """
        height, width = self.labels.shape
        annotations = []
        for number, region in enumerate(self.regions, start=1):
            top, left, bottom, right = region.bbox
            annotations.append(
                {
                    "id": number,
                    "image_id": image_id,
                    "category_id": region.label,
                    "segmentation": region.polygons() if polygons else region.mask.to_coco(),
                    "area": region.area,
                    "bbox": [left, top, right - left, bottom - top],
                    "iscrowd": 0,
                    "score": round(region.score, 4),
                }
            )
        image = {
            "id": image_id,
            "file_name": (self.file_name or self.name) if file_name is None else file_name,
            "height": height,
            "width": width,
        }
        categories = [
            {"id": label, "name": name, "supercategory": "clothing"}
            for label, name in enumerate(self.class_names)
            if label
        ]
        return {
            "info": self.info,
            "images": [image],
            "annotations": annotations,
            "categories": categories,
        }

    def to_kaggle_rows(self, *, image_id: str | None = None) -> list[dict[str, Any]]:
        """Return the regions as rows of an iMaterialist submission.

        Args:
            image_id: The photo's id; ``name`` when left out.

        Returns:
            A row for each region, with ``ImageId``, ``EncodedPixels`` and ``ClassId``, its label;
            `annotations.write_submission` writes them.
        """
        photo = self.name if image_id is None else image_id
        return [
            {
                "ImageId": photo,
                "EncodedPixels": region.mask.to_kaggle(),
                "ClassId": region.label,
            }
            for region in self.regions
        ]

    def save(
        self, directory: str | Path, *, name: str | None = None, cutouts: bool = True
    ) -> dict[str, Path]:
        """Write the pictures and the regions; each file appears whole or not at all.

        ``<name>_overlay.png``, ``<name>_labels.png`` (pixel values are labels, shown in colour),
        ``<name>_cutout_<class>.png`` (transparent ground) and ``<name>_regions.json`` (COCO).
        Cut-outs of classes that an earlier call wrote and this one does not are removed.

        Args:
            directory: The folder; made if absent.
            name: What the file names begin with; the photo's own name when left out.
            cutouts: Whether to write a cut-out of each class.

        Returns:
            What was written; it is kept in ``files`` too.
        """
        from PIL import Image

        stem = self.name if name is None else name
        pictures = {
            "overlay": Image.fromarray(self.overlay()),
            "labels": Image.fromarray(self.labels),
        }
        pictures["labels"].putpalette(plotting.palette(len(self.class_names)).tobytes())
        if cutouts:
            for class_name, cutout in self.cutouts().items():
                pictures[f"cutout {class_name}"] = Image.fromarray(cutout)

        def path_of(kind: str) -> Path:
            suffix = re.sub(r"[^\w.-]+", "_", kind)
            return Path(directory) / f"{stem}_{suffix}.png"

        written = {kind: path_of(kind) for kind in pictures}
        for kind, picture in pictures.items():
            with replacing(written[kind]) as part:
                picture.save(part)
        for class_name in self.class_names[1:]:
            cutout_path = path_of(f"cutout {class_name}")
            if cutout_path not in written.values():
                cutout_path.unlink(missing_ok=True)
        written["regions"] = Path(directory) / f"{stem}_regions.json"
        with replacing(written["regions"]) as part:
            part.write_text(json.dumps(self.to_coco()), encoding="utf-8")
        self.files.clear()
        self.files.update(written)
        return written
