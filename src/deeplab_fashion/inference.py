"""Any photo in, masks at its own size out."""

import hashlib
import json
import logging
import operator
import stat
import zipfile
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from numbers import Real
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Self, TypedDict, Unpack, get_args

import keras
import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from deeplab_fashion import _canvas, photos
from deeplab_fashion._collector import uncollected
from deeplab_fashion._files import replacing
from deeplab_fashion._progress import progress
from deeplab_fashion.errors import CheckpointError, ImageError
from deeplab_fashion.fast_path import Precision, compile_inference, with_constants
from deeplab_fashion.regions import remove_specks
from deeplab_fashion.scores import confusion_matrix
from deeplab_fashion.segmentation import Segmentation

if TYPE_CHECKING:
    from deeplab_fashion.annotations import ImageAnnotation
    from deeplab_fashion.taxonomy import LabelMap

__all__ = [
    "FailedPhoto",
    "Options",
    "PredictionStream",
    "Segmentation",
    "Segmenter",
    "photos_in",
]

_LOG = logging.getLogger("deeplab_fashion")
_SETTINGS = "deeplab_fashion.json"
_SMALLEST_SIDE = 16
_LARGEST_CONSTANT = 30_000  # values; keeps the peak of memory where it is without constants
_LEAST = 1e-30  # lost in any probability but 0
_PADDING = 127  # the grey that training puts around a photo
_TTA_RULE = "tta must be True, False or scales of 0.1 to 10"
_SUFFIXES = {".bmp", ".gif", ".jfif", ".jpeg", ".jpg", ".jp2", ".png", ".tif", ".tiff", ".webp"}


class _OptionValues(TypedDict, total=False):
    working_size: int | tuple[int, int]
    keep_aspect: bool
    tile: int | None
    overlap: float
    tta: bool | Sequence[float]
    min_area: int
    max_pixels: int
    precision: Precision


@dataclass(frozen=True, kw_only=True)
class Options:
    """How a photo is shown to the network and what becomes of its answer.

    Args:
        working_size: Size at which the network sees a photo, or a tile of it: the largest side,
            or (height, width).
        keep_aspect: Whether the photo keeps its proportions within ``working_size``; else it is
            stretched to it.
        tile: Side of the square pieces, in pixels of the photo, that are each seen at
            ``working_size``; None shows the whole photo at once. A tile as large as
            ``working_size`` works at the photo's own resolution.
        overlap: Share of a tile that its neighbour sees too, at least 0 and below 1; their
            answers fade into each other there.
        tta: Test-time augmentation: True averages over the photo and its mirror image; a
            sequence such as (0.75, 1.0, 1.25) over both at each of these scales.
        min_area: Pixels of the smallest connected piece that stays; smaller ones take the label
            around them.
        max_pixels: Largest photo that is accepted. Raise it for larger ones that you trust.
        precision: "float32"; "bfloat16"; or "auto", which takes bfloat16 where the processor
            calculates in it and at least 99.5 % of the labels stay. The last two first freeze the
            network (see `compile_inference`), which takes seconds and makes every photo after it
            faster: they are for many photos.

    Raises:
        TypeError: If a value is of another type.
        ValueError: If a value lies outside its range.

    Example:
        >>> Options(working_size=256, tta=True).tile is None
        True
    """

    working_size: int | tuple[int, int] = 512
    keep_aspect: bool = True
    tile: int | None = None
    overlap: float = 0.25
    tta: bool | Sequence[float] = False
    min_area: int = 0
    max_pixels: int = photos.MAX_PIXELS
    precision: Precision = "float32"

    def __post_init__(self) -> None:
        # Plain numbers alone can be written to a file; numpy's are turned into them.
        plain: dict[str, Any] = {}
        rule = "working_size must be a side or (height, width), in whole pixels"
        if isinstance(self.working_size, Sequence) and not isinstance(self.working_size, str):
            plain["working_size"] = tuple(whole_number(side, rule) for side in self.working_size)
        else:
            plain["working_size"] = whole_number(self.working_size, rule)
        if self.tile is not None:
            plain["tile"] = whole_number(self.tile, "tile must be None or a whole number of pixels")
        if not isinstance(self.overlap, Real):
            raise TypeError(f"overlap must be a number, got {self.overlap!r}")
        plain["overlap"] = float(self.overlap)
        plain["tta"] = _plain_tta(self.tta)
        for name in ("min_area", "max_pixels"):
            plain[name] = whole_number(
                getattr(self, name), f"{name} must be a whole number of pixels"
            )
        for name, value in plain.items():
            object.__setattr__(self, name, value)

        if len(self.frame) != 2 or min(self.frame) < _SMALLEST_SIDE:
            raise ValueError(
                f"working_size must be a side or (height, width) of at least {_SMALLEST_SIDE}, "
                f"got {self.working_size}"
            )
        if self.tile is not None and self.tile < _SMALLEST_SIDE:
            raise ValueError(f"tile must be None or at least {_SMALLEST_SIDE}, got {self.tile}")
        if not 0 <= self.overlap < 1:
            raise ValueError(f"overlap must be at least 0 and below 1, got {self.overlap}")
        if not self.scales or not all(0.1 <= scale <= 10 for scale in self.scales):
            raise ValueError(f"{_TTA_RULE}, got {self.tta}")
        if self.precision not in get_args(Precision):
            raise ValueError(
                f"precision must be one of {get_args(Precision)}, got {self.precision!r}"
            )
        for name in ("min_area", "max_pixels"):
            if getattr(self, name) < 0:
                raise ValueError(f"{name} must be at least 0, got {getattr(self, name)}")

    @property
    def frame(self) -> tuple[int, int]:
        """``working_size`` as (height, width)."""
        size = self.working_size
        return (size, size) if isinstance(size, int) else size

    @property
    def scales(self) -> tuple[float, ...]:
        """The scales that are averaged over."""
        return (1.0,) if isinstance(self.tta, bool) else tuple(self.tta)


@dataclass(frozen=True)
class FailedPhoto:
    """A photo that could not be segmented, and why."""

    photo: str
    reason: str


class PredictionStream(Iterator[Segmentation]):
    """What `Segmenter.predict_many` returns: one segmentation after another, as they are asked for.

    Attributes:
        failed: The photos that could not be segmented so far, each with its reason.
        resumed: The photos that were left alone because their result was already there, each with
            its regions file.
        total: How many photos there are in all.
    """

    def __init__(self, total: int) -> None:
        self.failed: list[FailedPhoto] = []
        self.resumed: dict[str, Path] = {}
        self.total = total
        self._results: Iterator[Segmentation] = iter(())

    def __next__(self) -> Segmentation:
        return next(self._results)


@dataclass(frozen=True)
class _View:
    """A photo and how the network sees it: in windows of one size on a canvas."""

    photo: NDArray[np.uint8]
    name: str
    file_name: str
    canvas: _canvas.Size
    window: _canvas.Size

    @property
    def whole(self) -> bool:
        return self.window == self.canvas

    def resized(self, corner: tuple[int, int], size: _canvas.Size) -> NDArray[np.uint8]:
        """Return the window at this corner of the canvas, at another size."""
        (top, left), (height, width) = corner, self.window
        down, across = (
            side / drawn for side, drawn in zip(self.photo.shape, self.canvas, strict=False)
        )
        box = (top * down, left * across, (top + height) * down, (left + width) * across)
        return _canvas.resized(self.photo, box, size)


def whole_number(value: Any, rule: str) -> int:
    """Return a whole number of any type as an int; a TypeError states the rule otherwise."""
    try:
        return operator.index(value)
    except TypeError:
        raise TypeError(f"{rule}, got {value!r}") from None


def _plain_tta(tta: Any) -> bool | tuple[float, ...]:
    if isinstance(tta, bool | np.bool_):
        return bool(tta)
    if isinstance(tta, str) or not isinstance(tta, Iterable):
        raise TypeError(f"{_TTA_RULE}, got {tta!r}")
    scales = tuple(tta)
    if not all(isinstance(scale, Real) for scale in scales):
        raise TypeError(f"{_TTA_RULE}, got {tta!r}")
    return tuple(float(scale) for scale in scales)


def photos_in(folder: str | Path, *, leave_out: str | Path | None = None) -> list[Path]:
    """Return the photos in a folder and the folders below it, by name.

    Args:
        folder: A folder.
        leave_out: A folder of results, whose pictures are no photos even if it lies in ``folder``.

    Returns:
        Paths of files whose ending is that of a photo; hidden files are left out.

    Raises:
        ImageError: If there is no such folder.
        ValueError: If ``leave_out`` is ``folder`` itself.

    Example:
        >>> len(photos_in(df.samples.photo(0).parent))
        12
    """
    root = Path(folder)
    if not root.is_dir():
        raise ImageError(f"folder {root} does not exist")
    results = None if leave_out is None else Path(leave_out).resolve()
    if results == root.resolve():
        raise ValueError(f"results must go to another folder than the photos, got {root} for both")
    inside = results is not None and results.is_relative_to(root.resolve())
    return sorted(
        path
        for path in root.rglob("*")
        if path.suffix.lower() in _SUFFIXES
        and not path.name.startswith(".")
        and path.is_file()
        and not (inside and path.resolve().is_relative_to(str(results)))
    )


class Segmenter:
    """A segmentation network made ready for any photo.

    The network's weights are taken as they are at the first photo; after more training, make
    another segmenter.

    Args:
        model: A Keras model, functional or sequential with known shapes: RGB in [0, 255] of shape
            (batch, height, width, 3) to the scores of 2 to 256 classes at the same height and
            width, (batch, height, width, classes). They are logits, or probabilities if its last
            layer is a softmax or sigmoid. Height and width may be fixed or free. Of several
            outputs by name the one called "logits" is taken.
        class_names: The name of each class, background first.
        **options: See `Options`. A model of fixed size brings its own ``working_size``.

    Raises:
        TypeError: If ``class_names`` is a single text, or an option is of another type.
        ValueError: If the model is of another kind, its output does not fit the names, or an
            option is out of range.

    Example:
        >>> paint = keras.Sequential([keras.Input((None, None, 3)), keras.layers.Conv2D(2, 1)])
        >>> paint.set_weights([np.array([[[[0, 1], [0, 0], [0, 0]]]]), np.array([100, 0])])
        >>> segmenter = Segmenter(paint, ("background", "red"))
        >>> photo = np.zeros((20, 30, 3), np.uint8)
        >>> photo[:, 10:] = 255, 0, 0
        >>> [(region.class_name, region.bbox) for region in segmenter(photo).regions]
        [('red', (0, 10, 20, 30))]
    """

    def __init__(
        self, model: keras.Model, class_names: Sequence[str], **options: Unpack[_OptionValues]
    ) -> None:
        if isinstance(class_names, str):
            raise TypeError(f"class_names must be several names, got the text {class_names!r}")
        names = tuple(str(name) for name in class_names)
        model = checked_network(model)
        shape_in, shape_out = model.input_shape, model.output_shape
        if shape_out[3] != len(names):
            raise ValueError(
                f"class_names must name each class of the model, whose output is {shape_out}, "
                f"got {len(names)}: {names}"
            )
        if not 2 <= len(names) <= 256 or len(set(names)) < len(names):
            raise ValueError(f"class_names must be 2 to 256 different names, got {names}")
        self.model = model
        self.class_names = names
        self._fixed_size = None if None in shape_in[1:3] else (int(shape_in[1]), int(shape_in[2]))
        if self._fixed_size is not None:
            options.setdefault("working_size", self._fixed_size)
        self.options: Options = Options(**options)
        if self._fixed_size is not None and any(
            side > most for side, most in zip(self.options.frame, self._fixed_size, strict=True)
        ):
            raise ValueError(
                f"working_size must fit the model's fixed size {self._fixed_size}, "
                f"got {self.options.working_size}"
            )
        self._functions: dict[Precision, Callable[[NDArray[np.uint8]], Any]] = {}

    @classmethod
    def from_pretrained(cls, name: str = "fashion-main", **options: Unpack[_OptionValues]) -> Self:
        """Load a model that comes with the package; no network is used.

        Args:
            name: The model's name.
            **options: Options that differ from the model's own; see `Options`.

        Returns:
            The segmenter.

        Raises:
            ValueError: If there is no such model.
            CheckpointError: If its file is damaged.
        """
        from deeplab_fashion import pretrained

        model, class_names, settings = pretrained.load(name)
        merged: dict[str, Any] = {**settings, **options}
        return cls(model, class_names, **merged)

    @classmethod
    def load(cls, path: str | Path, **options: Unpack[_OptionValues]) -> Self:
        """Load a segmenter that `save` wrote.

        Args:
            path: The file.
            **options: Options that differ from the saved ones; see `Options`.

        Returns:
            The segmenter.

        Raises:
            CheckpointError: If the file is missing, damaged, or holds no class names.
        """
        from deeplab_fashion import backbones, layers  # noqa: F401 - registers their classes

        source = Path(path)
        if not source.is_file():
            raise CheckpointError(
                f"model {source} is a folder; name the file in it, such as segmenter.keras"
                if source.is_dir()
                else f"model {source} does not exist"
            )
        if not zipfile.is_zipfile(source):
            raise CheckpointError(
                f"model {source} must be a .keras file that Segmenter.save or train wrote"
            )
        try:
            with zipfile.ZipFile(source) as archive:
                broken = archive.testzip()
                if broken is not None:
                    raise CheckpointError(f"model {source} is damaged in its part {broken}")
                if _SETTINGS not in archive.namelist():
                    raise CheckpointError(
                        f"model {source} was not written by Segmenter.save: it names no classes. "
                        "Use Segmenter(keras.models.load_model(path), class_names)"
                    )
                settings = json.loads(archive.read(_SETTINGS))
            model: Any = keras.models.load_model(source, compile=False)
            merged: dict[str, Any] = {**settings["options"], **options}
            return cls(model, settings["class_names"], **merged)
        except CheckpointError:
            raise
        except (zipfile.BadZipFile, OSError, KeyError, TypeError, ValueError) as error:
            raise CheckpointError(f"model {source} cannot be loaded: {error}") from error

    def save(self, path: str | Path) -> None:
        """Write the model, its class names and its options to one file, whole or not at all.

        The file is also an ordinary Keras file, which `keras.models.load_model` opens.

        Args:
            path: The file; its name must end in ``.keras``.

        Raises:
            ValueError: If the name has another ending.
        """
        if Path(path).suffix != ".keras":
            raise ValueError(f"path must end in .keras, got {path}")
        settings = {"class_names": self.class_names, "options": asdict(self.options)}
        with replacing(path) as part:
            self.model.save(part)
            with zipfile.ZipFile(part, "a") as archive:
                archive.writestr(_SETTINGS, json.dumps(settings, indent=1))

    def __call__(
        self, image: Any, *, probabilities: bool = False, **options: Unpack[_OptionValues]
    ) -> Segmentation:
        """Segment one photo.

        Args:
            image: A path, a PIL image, or a uint8 array: grey (height, width), RGB
                (height, width, 3) or RGBA (height, width, 4). Any size.
            probabilities: Whether the probabilities of a photo in tiles are kept; those of a
                photo seen whole always are.
            **options: Options that differ from the segmenter's own; see `Options`.

        Returns:
            The masks, at the photo's own size.

        Raises:
            ImageError: If the photo is missing, unreadable, empty or larger than ``max_pixels``.
            TypeError: If ``image`` or an option is of another type.
            ValueError: If an option is out of range, or the model's answer is of another size
                than the photo that it was shown.
        """
        chosen = replace(self.options, **options)
        return self._segment(self._view(image, chosen), chosen, probabilities=probabilities)

    def predict_many(
        self,
        images: Any,
        *,
        out: str | Path | None = None,
        on_error: Literal["skip", "raise"] = "skip",
        resume: bool = True,
        cutouts: bool = True,
        batch_size: int = 1,
        probabilities: bool = False,
        show_progress: bool = False,
        **options: Unpack[_OptionValues],
    ) -> PredictionStream:
        """Segment many photos as they are asked for, never reading more than a batch of them.

        Args:
            images: A folder, photos as `__call__` takes them, or an array of several, shape
                (photos, height, width, channels). They are listed at the start and the list is
                held: paths cost nothing, arrays stay in memory.
            out: Folder to which each photo's files are written; see `Segmentation.save`.
            on_error: "skip" goes on after a photo that cannot be segmented, logs it as a warning
                and lists it in the stream's ``failed``; "raise" stops.
            resume: Whether files whose result already lies in ``out``, made from the same file by
                the same model and options, with cut-outs or without, are left alone.
            cutouts: Whether cut-outs of each class are written too.
            batch_size: Up to how many photos that follow each other go through the network
                together: those of one size, seen whole. It pays on a GPU.
            probabilities: Whether the probabilities of photos in tiles are kept; see `__call__`.
            show_progress: Whether a progress bar is drawn on standard error.
            **options: Options that differ from the segmenter's own; see `Options`.

        Returns:
            The segmentations, worked out as they are asked for.

        Raises:
            ImageError: If the folder does not exist.
            TypeError: If ``images`` is a single photo, or an option is of another type.
            ValueError: If an option is out of range, or ``out`` is the folder of the photos.

        Example:
            >>> paint = keras.Sequential([keras.Input((None, None, 3)), keras.layers.Conv2D(2, 1)])
            >>> stream = Segmenter(paint, ("background", "coat")).predict_many(["missing.jpg"])
            >>> [result.labels.shape for result in stream], stream.failed[0].reason
            ([], 'photo missing.jpg does not exist')
        """
        if on_error not in ("skip", "raise"):
            raise ValueError(f"on_error must be 'skip' or 'raise', got {on_error!r}")
        if batch_size < 1:
            raise ValueError(f"batch_size must be at least 1, got {batch_size}")
        chosen = replace(self.options, **options)
        if _is_one_photo(images):
            raise TypeError(
                "images must be a folder or several photos; for one photo call the segmenter "
                f"itself, got {_described(images)}"
            )
        single = isinstance(images, str | Path)
        todo = photos_in(images, leave_out=out) if single else list(images)
        names = _file_names(todo)
        stream = PredictionStream(len(todo))

        def leave_out(image: Any, name: str, error: Exception) -> None:
            if on_error == "raise":
                raise error
            label = str(image) if isinstance(image, str | Path) else name
            stream.failed.append(FailedPhoto(label, str(error)))
            _LOG.warning("left out: %s", error)

        def finished(batch: list[tuple[Any, _View, dict[str, Any]]]) -> Iterator[Segmentation]:
            views = [view for _, view, _ in batch]
            whole = [None] * len(batch) if len(batch) < 2 else self._answer(views, chosen)
            for (image, view, info), planes in zip(batch, whole, strict=True):
                try:
                    result = self._segment(view, chosen, probabilities=probabilities, planes=planes)
                except (ValueError, MemoryError) as error:
                    leave_out(image, view.name, error)
                    continue
                result = replace(result, info=info)
                if out is not None:
                    result.save(out, cutouts=cutouts)
                yield result
            batch.clear()

        def results() -> Iterator[Segmentation]:
            batch: list[tuple[Any, _View, dict[str, Any]]] = []
            for image, name in progress(
                zip(todo, names, strict=True), "segmenting", total=len(todo), show=show_progress
            ):
                info = {} if out is None else self._made_from(image, chosen, cutouts)
                if info and resume and out is not None:
                    written = Path(out) / f"{name}_regions.json"
                    pictures = [Path(out) / f"{name}_{kind}.png" for kind in ("overlay", "labels")]
                    if _info_of(written) == info and all(path.is_file() for path in pictures):
                        stream.resumed[str(image)] = written
                        continue
                try:
                    view = replace(self._view(image, chosen), name=name)
                except (ImageError, TypeError, ValueError, MemoryError) as error:
                    leave_out(image, name, error)
                    continue
                if batch and not (view.whole and view.window == batch[0][1].window):
                    yield from finished(batch)
                batch.append((image, view, info))
                if len(batch) == batch_size or not view.whole:
                    yield from finished(batch)
            yield from finished(batch)

        stream._results = results()
        return stream

    def confusion(
        self,
        records: "Sequence[ImageAnnotation]",
        label_map: "LabelMap",
        *,
        show_progress: bool = False,
        **options: Unpack[_OptionValues],
    ) -> NDArray[np.int64]:
        """Count right and wrong pixels of annotated photos at their own size.

        Args:
            records: Annotated photos.
            label_map: From their categories to this segmenter's classes.
            show_progress: Whether a progress bar is drawn on standard error.
            **options: Options that differ from the segmenter's own; see `Options`.

        Returns:
            Confusion matrix over all photos, shape (classes, classes), rows are truth; see
            `scores`.

        Raises:
            ImageError: If a photo cannot be read or has another size than its annotation.
            ValueError: If the label map has other classes.
        """
        if tuple(label_map.target_names) != self.class_names:
            raise ValueError(
                f"label_map must lead to the classes {self.class_names}, "
                f"but leads to {tuple(label_map.target_names)}"
            )
        total = np.zeros((len(self.class_names),) * 2, np.int64)
        for record in progress(records, "evaluating", total=len(records), show=show_progress):
            labels = self(record.path, **options).labels
            if labels.shape != tuple(record.size):
                raise ImageError(
                    f"image {record.image_id}: photo {record.path} has size {labels.shape}, "
                    f"but its annotation is for {tuple(record.size)}"
                )
            total += confusion_matrix(record.to_labels(label_map), labels, len(self.class_names))
        return total

    def _made_from(self, image: Any, options: Options, cutouts: bool) -> dict[str, Any]:
        """Name the file, model and options behind a result; empty where the photo is no file."""
        if not isinstance(image, str | Path):
            return {}
        try:
            facts = Path(image).stat()
        except (OSError, ValueError):
            return {}  # to read it will tell why
        if not stat.S_ISREG(facts.st_mode):
            return {}
        made_from = {
            "photo": Path(image).name,
            "bytes": facts.st_size,
            "modified": facts.st_mtime_ns,
            "model": self._fingerprint,
            "options": asdict(options),
            "cutouts": cutouts,
        }
        plain: dict[str, Any] = json.loads(json.dumps(made_from))
        return plain

    @cached_property
    def _fingerprint(self) -> str:
        digest = hashlib.sha256(repr((self.model.to_json(), self.class_names)).encode())
        for weights in self.model.get_weights():
            digest.update(np.asarray(weights).tobytes())
        return digest.hexdigest()

    def _view(self, image: Any, options: Options) -> "_View":
        """Read a photo and plan how it is seen."""
        photo, file_name = photo_of(image, options.max_pixels)
        canvas, window = _canvas.plan(
            (photo.shape[0], photo.shape[1]),
            options.frame,
            keep_aspect=options.keep_aspect,
            tile=options.tile,
            smallest=1 if self._fixed_size else _SMALLEST_SIDE,
        )
        return _View(photo, Path(file_name).stem or "photo", file_name, canvas, window)

    def _segment(
        self,
        view: "_View",
        options: Options,
        *,
        probabilities: bool = False,
        planes: NDArray[np.float32] | None = None,
    ) -> Segmentation:
        """Return the masks of a photo, whose answer is ``planes`` if it is known already."""
        size = (view.photo.shape[0], view.photo.shape[1])

        def look(top: int, left: int) -> NDArray[np.float32]:
            return self._answer([view], options, (top, left))[0] if planes is None else planes

        labels, confidence, kept = _canvas.label(
            _canvas.bands(view.canvas, view.window, len(self.class_names), options.overlap, look),
            view.canvas,
            size,
            keep=probabilities or view.whole,
        )
        if options.min_area > 1:
            labels = remove_specks(labels, options.min_area)
        return Segmentation(
            labels,
            self.class_names,
            confidence,
            view.photo,
            view.name,
            file_name=view.file_name,
            _canvas=kept,
        )

    def _answer(
        self, views: "Sequence[_View]", options: Options, corner: tuple[int, int] = (0, 0)
    ) -> NDArray[np.float32]:
        """Return the probabilities of one window of each photo, shape (photos, classes, *window).

        The windows are all of one size; ``corner`` is their top and left on the canvas.
        """
        window = views[0].window
        answers = []
        for scale in options.scales:
            inner = window
            if scale != 1:
                height, width = (max(_SMALLEST_SIDE, round(side * scale)) for side in window)
                inner = height, width
            batch = np.stack([view.resized(corner, inner) for view in views])
            if options.tta is not False:
                batch = np.concatenate([batch, batch[:, :, ::-1]])
            planes = self._forward(batch, options.precision)
            if options.tta is not False:
                mirrored = planes[len(views) :, ..., ::-1]
                planes = np.float32(0.5) * (planes[: len(views)] + mirrored)
            if inner != window:
                rows, columns = (_canvas.taps(n, m) for n, m in zip(inner, window, strict=True))
                planes = np.array(
                    [[_canvas.interpolated(p, rows, columns) for p in answer] for answer in planes],
                    np.float32,
                )
            answers.append(planes)
        mean_of_scales: NDArray[np.float32] = np.stack(answers).mean(axis=0, dtype=np.float32)
        return mean_of_scales

    def _forward(self, batch: NDArray[np.uint8], precision: Precision) -> NDArray[np.float32]:
        """Return probabilities (batch, classes, height, width) of photos of any size."""
        if precision not in self._functions:
            with uncollected():
                self._functions[precision] = self._function(precision)
        planes = self._functions[precision]
        height, width = size = batch.shape[1:3]
        if self._fixed_size in (None, size):
            return _of_size(planes(batch), size)
        room = [most - side for most, side in zip(self._fixed_size, size, strict=True)]
        if min(room) < 0:
            raise ValueError(
                f"tta scales must fit the model's fixed size {self._fixed_size}, got {size}"
            )
        top, left = room[0] // 2, room[1] // 2
        framed = np.full((len(batch), *self._fixed_size, 3), _PADDING, np.uint8)
        framed[:, top : top + height, left : left + width] = batch
        answer = _of_size(planes(framed), self._fixed_size)
        return answer[:, :, top : top + height, left : left + width]

    def _function(self, precision: Precision) -> Callable[[NDArray[np.uint8]], Any]:
        """Return the held function from photos (batch, height, width, 3) to probabilities."""
        to_probabilities = probabilities_of(self.model)

        def planes(scores: tf.Tensor) -> tf.Tensor:
            return tf.transpose(to_probabilities(scores), (0, 3, 1, 2))

        if precision != "float32":
            return compile_inference(
                self.model, precision=precision, input_dtype="uint8", then=planes
            )

        def answer(photo: tf.Tensor) -> tf.Tensor:
            scores = self.model(tf.cast(photo, tf.float32), training=False)
            return planes(tf.cast(scores, tf.float32))

        held = tf.function(
            with_constants(self.model, answer, largest=_LARGEST_CONSTANT),
            input_signature=[tf.TensorSpec((None, *self.model.input_shape[1:]), tf.uint8)],
            autograph=False,
        ).get_concrete_function()
        return lambda batch: held(tf.constant(batch))


def _of_size(answer: Any, size: _canvas.Size) -> NDArray[np.float32]:
    planes = np.asarray(answer, np.float32)
    if planes.shape[2:] != tuple(size):
        raise ValueError(other_size(tuple(size), planes.shape[2:]))
    return planes


def other_size(shown: tuple[Any, ...], given: tuple[Any, ...]) -> str:
    return (
        f"model must answer at the size of its input, but answers to {shown} with {given}; "
        "resize its scores, as layers.ResizeToMatch does"
    )


def checked_network(model: keras.Model) -> keras.Model:
    """Return the model, without its auxiliary head, if it is of a kind that segments photos."""
    output = getattr(model, "output", None)
    if isinstance(output, dict) and "logits" in output:
        model = keras.Model(model.input, output["logits"])
    try:
        shape_in, shape_out = model.input_shape, model.output_shape
    except AttributeError:
        raise ValueError(
            "model must be a functional or sequential Keras model whose shapes are known, got "
            f"{type(model).__name__}; build one from it: image = keras.Input((None, None, 3)), "
            "keras.Model(image, model(image))"
        ) from None
    if not isinstance(shape_in, tuple) or len(shape_in) != 4 or shape_in[3] != 3:
        raise ValueError(f"model must take (batch, height, width, 3), but takes {shape_in}")
    if not isinstance(shape_out, tuple) or len(shape_out) != 4 or (shape_out[3] or 0) < 2:
        raise ValueError(
            "model must give (batch, height, width, classes) with at least 2 classes, "
            f"but gives {shape_out}"
        )
    for shown, given in zip(shape_in[1:3], shape_out[1:3], strict=True):
        if None not in (shown, given) and shown != given:
            raise ValueError(other_size(shape_in[1:3], shape_out[1:3]))
    return model


def probabilities_of(model: keras.Model) -> Callable[[tf.Tensor], tf.Tensor]:
    """Return the function from a model's float32 output to probabilities that sum to 1."""
    last = model
    while isinstance(last, keras.Model):
        last = last.layers[-1]
    activation = getattr(last, "activation", None)
    if activation is keras.activations.softmax or isinstance(last, keras.layers.Softmax):
        return lambda scores: scores
    if activation is keras.activations.sigmoid:
        # Where every class underflows to 0, all are equally likely.
        return lambda scores: (
            (scores + _LEAST) / tf.reduce_sum(scores + _LEAST, axis=-1, keepdims=True)
        )
    return lambda scores: tf.nn.softmax(scores)


def _info_of(regions: Path) -> Any:
    """Return the ``info`` of a written regions file, or None where there is no whole one."""
    try:
        return json.loads(regions.read_text(encoding="utf-8")).get("info")
    except (OSError, ValueError, AttributeError):
        return None


def photo_of(image: Any, max_pixels: int) -> tuple[NDArray[np.uint8], str]:
    """Return any photo as RGB (height, width, 3), and its file name, "" where it has none."""
    if isinstance(image, str | Path):
        return photos.read(image, max_pixels=max_pixels), Path(image).name
    if isinstance(image, np.ndarray):
        if image.dtype != np.uint8:
            raise TypeError(f"a photo as an array must be uint8, 0 to 255, got {image.dtype}")
        if image.ndim == 4:
            raise ValueError(
                f"a photo must be (height, width, 3), got {image.shape}; "
                "use predict_many for several"
            )
        if image.ndim not in (2, 3) or (image.ndim == 3 and image.shape[2] not in (1, 3, 4)):
            raise ValueError(
                "a photo must be (height, width), (height, width, 3) or (height, width, 4), "
                f"got {image.shape}"
            )
        _check_pixels(image.shape[0] * image.shape[1], max_pixels)
        if image.ndim == 3 and image.shape[2] == 3:
            return image, ""
        from PIL import Image

        grey = image[..., 0] if image.ndim == 3 and image.shape[2] == 1 else image
        return photos.from_pil(Image.fromarray(grey)), ""
    if _is_pil(image):
        _check_pixels(image.width * image.height, max_pixels)
        file_name = Path(getattr(image, "filename", "") or "").name
        try:
            return photos.from_pil(image), file_name
        except ImageError:
            raise
        except photos.DAMAGE as error:
            raise ImageError(f"photo {file_name or 'given'} is damaged: {error}") from None
    raise TypeError(
        f"a photo must be a path, a PIL image or a uint8 array, got {type(image).__name__}"
    )


def _is_pil(image: Any) -> bool:
    return hasattr(image, "mode") and hasattr(image, "getexif")


def _is_one_photo(images: Any) -> bool:
    if isinstance(images, np.ndarray):  # of pixels, not of paths
        return images.ndim < 4 and images.dtype.kind not in "OSU"
    return _is_pil(images)


def _described(image: Any) -> str:
    if isinstance(image, np.ndarray):
        return f"an array of shape {image.shape}"
    return f"a PIL image of {image.width} x {image.height} pixels"


def _check_pixels(count: int, max_pixels: int) -> None:
    if count == 0:
        raise ImageError("a photo must have at least one pixel")
    if count > max_pixels:
        raise ImageError(
            f"the photo has {count} pixels, more than max_pixels, {max_pixels}; "
            "raise max_pixels for a photo that you trust"
        )


def _file_names(images: Sequence[Any]) -> list[str]:
    """Return what each photo's files are called: its stem, or as much more as tells them apart."""
    names = [""] * len(images)
    for attempt in range(4):
        taken = Counter(name.casefold() for name in names)
        for index, image in enumerate(images):
            if names[index] and taken[names[index].casefold()] == 1:
                continue
            path = Path(image) if isinstance(image, str | Path) else Path(f"photo_{index:05d}")
            parts = [part for part in path.parts if part not in (path.anchor, "..")]
            names[index] = (
                path.stem,
                path.name,
                "_".join(parts),
                f"{'_'.join(parts)}_{index:05d}",
            )[attempt]
    return names
