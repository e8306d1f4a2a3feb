"""The command line: ``deeplab-fashion`` or ``python -m deeplab_fashion``."""

import argparse
import json
import logging
import math
import os
import platform
import sys
import tempfile
import warnings
from collections import Counter
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

import deeplab_fashion
from deeplab_fashion import taxonomy
from deeplab_fashion._collector import uncollected
from deeplab_fashion._files import replacing
from deeplab_fashion.errors import DeepLabFashionError

if TYPE_CHECKING:
    from deeplab_fashion.annotations import AnnotationSet
    from deeplab_fashion.inference import Segmenter
    from deeplab_fashion.taxonomy import LabelMap

__all__ = ["main"]

_BUNDLED = "fashion-main"
_LABEL_MAPS = {
    "main": taxonomy.IMATERIALIST_TO_MAIN,
    "notebook": taxonomy.IMATERIALIST_TO_MAIN_NOTEBOOK,
    "fashionpedia": taxonomy.FASHIONPEDIA_TO_MAIN,
    "ccp": taxonomy.CCP_TO_MAIN,
}
_LOSSES = {
    "cross-entropy": "CrossEntropy",
    "focal": "Focal",
    "dice": "Dice",
    "jaccard": "Jaccard",
    "tversky": "Tversky",
    "lovasz": "LovaszSoftmax",
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command.

    Args:
        arguments: What follows the program's name; those of this process when left out.

    Returns:
        0, or 1 if the work failed, with one line on standard error. Wrong usage exits with 2.

    Example:
        >>> main(["info", "--json", "--quiet"])  # doctest: +ELLIPSIS
        {"version": ...
        0
    """
    given = _parser().parse_args(arguments)
    log = logging.getLogger("deeplab_fashion")
    level = log.level
    # The commands report failures themselves, once.
    log.setLevel(logging.CRITICAL)
    try:
        with warnings.catch_warnings():
            warnings.showwarning = _warn
            status: int = given.run(given)
        sys.stdout.flush()  # while a reader that has gone can be dealt with
    except KeyboardInterrupt:
        goes_on = "fresh" in given and not given.fresh
        hint = "; the same command goes on from them" if goes_on else ""
        _complain(f"stopped; files already written are whole{hint}")
        return 1
    except BrokenPipeError:
        # The reader of our output has gone; Python must not try to flush it at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except (DeepLabFashionError, OSError, ValueError, ImportError, MemoryError) as error:
        _complain(str(error) or type(error).__name__)
        return 1
    finally:
        log.setLevel(level)
    return status


def _complain(text: str) -> None:
    line = " ".join(text.split())
    print(f"deeplab-fashion: error: {line}", file=sys.stderr)


def _warn(
    message: Warning | str,
    category: type[Warning],
    filename: str,
    lineno: int,
    file: TextIO | None = None,
    line: str | None = None,
) -> None:
    print(f"deeplab-fashion: warning: {message}", file=sys.stderr)


@contextmanager
def _heavy_imports() -> Generator[None, None, None]:
    """Hold back what TensorFlow writes to standard error while it loads, unless that fails."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    sys.stderr.flush()
    with tempfile.TemporaryFile() as chatter:
        terminal = os.dup(2)
        os.dup2(chatter.fileno(), 2)
        try:
            yield
        except Exception:
            os.dup2(terminal, 2)
            chatter.seek(0)
            os.write(2, chatter.read())
            raise
        finally:
            os.dup2(terminal, 2)
            os.close(terminal)


def _segmenter(given: argparse.Namespace) -> "Segmenter":
    with _heavy_imports(), uncollected():
        from deeplab_fashion.inference import Segmenter
    if given.model == _BUNDLED:
        return Segmenter.from_pretrained(_BUNDLED)
    return Segmenter.load(given.model)


def _segment(given: argparse.Namespace) -> int:
    segmenter = _segmenter(given)
    from deeplab_fashion.annotations import write_submission
    from deeplab_fashion.inference import photos_in

    options: dict[str, Any] = {}
    for name in ("working_size", "tile", "min_area", "precision"):
        if getattr(given, name) is not None:
            options[name] = getattr(given, name)
    if given.tta or given.scales:
        options["tta"] = given.scales or True
    if given.max_megapixels is not None:
        options["max_pixels"] = round(given.max_megapixels * 1e6)
    photos = [
        path
        for place in given.photos
        for path in (photos_in(place, leave_out=given.out) if place.is_dir() else [place])
    ]
    if not photos:
        raise ValueError(f"no photo found in {', '.join(map(str, given.photos))}")
    stream = segmenter.predict_many(
        photos,
        out=given.out,
        resume=not given.fresh,
        cutouts=not given.no_cutouts,
        show_progress=not given.quiet,
        **options,
    )
    done: list[dict[str, Any]] = []
    rows: list[dict[str, Any]] = []
    for result in stream:
        if given.kaggle:
            rows += result.to_kaggle_rows()
        shares = {name: share for name, share in result.shares.items() if share}
        done.append(
            {
                "name": result.name,
                "size": list(result.labels.shape),
                "files": {kind: str(path) for kind, path in result.files.items()},
                "shares": shares,
                "regions": [
                    {
                        "class": region.class_name,
                        "area": region.area,
                        "bbox": list(region.bbox),
                        "score": round(region.score, 4),
                    }
                    for region in result.regions
                ],
            }
        )
        if not (given.quiet or given.json):
            found = ", ".join(
                f"{name} {100 * share:.1f} %"
                for name, share in shares.items()
                if name != result.class_names[0]
            )
            print(f"{result.name}: {found or 'no clothing found'} -> {result.files['overlay']}")
    if given.kaggle:
        for regions in stream.resumed.values():
            rows += _kaggle_rows(regions)
        write_submission(given.kaggle, rows)
    if given.json:
        failed = [{"photo": f.photo, "reason": f.reason} for f in stream.failed]
        resumed = {photo: str(regions) for photo, regions in stream.resumed.items()}
        print(json.dumps({"photos": done, "failed": failed, "already_done": resumed}))
    elif stream.resumed and not given.quiet:
        count = len(stream.resumed)
        print(f"{count} already done and left as they were (--fresh does them again)")
    for failure in stream.failed:
        _complain(failure.reason)
    return 1 if stream.failed else 0


def _kaggle_rows(regions: Path) -> list[dict[str, Any]]:
    from deeplab_fashion.rle import RunLengthMask

    written = json.loads(regions.read_text(encoding="utf-8"))
    return [
        {
            "ImageId": regions.name.removesuffix("_regions.json"),
            "EncodedPixels": RunLengthMask.from_coco(region["segmentation"]),
            "ClassId": region["category_id"],
        }
        for region in written["annotations"]
    ]


def _records(
    given: argparse.Namespace, annotations: Path, images: Path
) -> "tuple[AnnotationSet, LabelMap]":
    from deeplab_fashion import annotations as reading

    form = annotations.suffix.lower()
    if form not in (".csv", ".json"):
        raise ValueError(f"annotations must be a .csv or .json file, got {annotations}")
    name = given.label_map or ("fashionpedia" if form == ".json" else "main")
    try:
        label_map = _LABEL_MAPS.get(name) or taxonomy.LabelMap.from_json(name)
    except FileNotFoundError:
        raise ValueError(
            f"--label-map must be one of {', '.join(_LABEL_MAPS)} or a JSON file, got {name}"
        ) from None
    read = reading.read_fashionpedia if form == ".json" else reading.read_imaterialist
    try:
        records = read(
            annotations,
            images,
            taxonomy=label_map.taxonomy,
            on_error="skip" if given.skip_broken else "raise",
        )
    except DeepLabFashionError as error:
        if given.label_map is None and repr(label_map.taxonomy.name) in str(error):
            raise type(error)(
                f"{error}; give categories of another data set by --label-map"
            ) from None
        raise
    for skipped in records.skipped:
        print(f"deeplab-fashion: left out: {skipped}", file=sys.stderr)
    if not records:
        raise ValueError(f"{annotations} holds no annotated photo")
    return records, label_map


def _tell_classes(records: "AnnotationSet", label_map: "LabelMap") -> None:
    counts = Counter(category_id for record in records for category_id in record.category_ids)
    found: dict[str, list[str]] = {name: [] for name in label_map.target_names}
    for category, target in zip(label_map.taxonomy, label_map.targets, strict=True):
        if counts[category.id] and target is not None:
            found[label_map.target_names[target]].append(f"{category.name} {counts[category.id]}")
    print(f"Regions of each class on {len(records)} photos, by category:")
    for name, categories in found.items():
        print(f"  {name}: {'; '.join(categories) or 'none'}")


def _train(given: argparse.Namespace) -> int:
    records, label_map = _records(given, given.annotations, given.images)
    if not (given.quiet or given.json):
        _tell_classes(records, label_map)
        sys.stdout.flush()
    if given.validation_annotations:
        learnt, held_back = (
            records,
            _records(given, given.validation_annotations, given.validation_images or given.images)[
                0
            ],
        )
    elif given.validation_share and len(records) > 1:
        from deeplab_fashion.annotations import split

        held = max(1, round(given.validation_share * len(records)))
        share = held / len(records)
        learnt, held_back = split(records, (1 - share, share), seed=given.seed)
    else:
        learnt, held_back = records, None
    with _heavy_imports(), uncollected():
        from deeplab_fashion import data, losses, models, training
        from deeplab_fashion.inference import Segmenter

    settings = {"size": given.size, "batch_size": given.batch_size, "resize": given.resize}
    train = data.make_dataset(
        learnt,
        label_map,
        augment=not given.no_augmentation,
        shuffle=True,
        seed=given.seed,
        **settings,
    )
    validation = data.make_dataset(held_back, label_map, **settings) if held_back else None
    model = models.DeepLabV3Plus(
        label_map.num_classes,
        backbone=given.backbone,
        output_stride=given.output_stride,
        weights=None if given.weights == "none" else given.weights,
    )
    result = training.fit(
        model,
        train,
        validation,
        epochs=given.epochs,
        loss=getattr(losses, _LOSSES[given.loss])(),
        learning_rate=given.learning_rate,
        run_dir=given.run_dir,
        resume=not given.fresh,
        seed=given.seed,
        progress=not given.quiet,
    )
    segmenter = Segmenter(
        result.model,
        label_map.target_names,
        working_size=given.size,
        keep_aspect=given.resize == "pad",
    )
    out = given.out or given.run_dir / "segmenter.keras"
    segmenter.save(out)
    score = None if math.isnan(result.best_score) else result.best_score
    if given.json:
        answer = {"model": str(out), "best_epoch": result.best_epoch, "mean_iou": score}
        print(json.dumps({**answer, "history": result.history}))
    elif not given.quiet:
        print(
            f"Trained on {len(learnt)} photos; the model of epoch {result.best_epoch} lies in {out}"
        )
        if score is not None:
            print(f"Mean IoU on {len(held_back or ())} validation photos: {100 * score:.1f} %")
    return 0


def _evaluate(given: argparse.Namespace) -> int:
    records, label_map = _records(given, given.annotations, given.images)
    segmenter = _segmenter(given)
    from deeplab_fashion import plotting, scores

    confusion = segmenter.confusion(
        records,
        label_map,
        show_progress=not given.quiet,
        tta=given.tta or segmenter.options.tta,
    )
    report = {
        name: None if math.isnan(value) else value
        for name, value in scores.report(confusion, segmenter.class_names).items()
    }
    answer = {
        "photos": len(records),
        "class_names": segmenter.class_names,
        "scores": report,
        "confusion": confusion.tolist(),
    }
    if given.out:
        with replacing(given.out / "scores.json") as part:
            part.write_text(json.dumps(answer, indent=1), encoding="utf-8")
        with replacing(given.out / "confusion.png") as part:
            picture = plotting.confusion_matrix_image(confusion, segmenter.class_names)
            part.write_bytes(plotting.png_bytes(picture))
    if given.json:
        print(json.dumps(answer))
        return 0
    width = max(len(name) for name in ("pixel accuracy", *segmenter.class_names)) + 2
    print(f"{'class':<{width}}{'IoU %':>8}{'F1 %':>8}")
    for name in segmenter.class_names:
        print(f"{name:<{width}}{_percent(report[f'iou/{name}'])}{_percent(report[f'f1/{name}'])}")
    print(f"{'mean':<{width}}{_percent(report['mean_iou'])}{_percent(report['mean_f1'])}")
    print(f"{'pixel accuracy':<{width}}{_percent(report['pixel_accuracy'])}")
    return 0


def _percent(value: float | None) -> str:
    return f"{'-':>8}" if value is None else f"{100 * value:8.1f}"


def _export(given: argparse.Namespace) -> int:
    if given.precision != "float32" and given.format != "litert":
        given.usage_error(f"--precision {given.precision} is for litert alone, not {given.format}")
    segmenter = _segmenter(given)
    from deeplab_fashion import export

    writers: dict[str, Callable[..., Any]] = {
        "saved-model": export.to_saved_model,
        "onnx": export.to_onnx,
        "litert": export.to_litert,
    }
    options = {"precision": given.precision} if given.format == "litert" else {}
    exported = writers[given.format](segmenter, given.out, **options)
    if given.json:
        facts = {"agreement": exported.agreement, "bytes": exported.size}
        print(json.dumps({"file": str(exported.path), **facts}))
    elif not given.quiet:
        print(
            f"{exported.path}: {exported.size / 1e6:.1f} MB, same label as the model on "
            f"{100 * exported.agreement:.2f} % of the pixels"
        )
    return 0


def _info(given: argparse.Namespace) -> int:
    facts: dict[str, Any] = {"version": deeplab_fashion.__version__}
    facts["python"] = platform.python_version()
    for package in ("tensorflow", "tensorflow-cpu", "keras", "numpy", "onnxruntime"):
        try:
            facts[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    if given.model:
        segmenter = _segmenter(given)
        facts["model"] = str(given.model)
        facts["class_names"] = list(segmenter.class_names)
        facts["parameters"] = int(segmenter.model.count_params())
        facts["working_size"] = segmenter.options.working_size
        facts["keep_aspect"] = segmenter.options.keep_aspect
    else:
        facts["class_names"] = list(taxonomy.MAIN_CLASSES)
        facts["label_maps"] = sorted(_LABEL_MAPS)
    if given.json:
        print(json.dumps(facts))
    else:
        for name, value in facts.items():
            text = ", ".join(map(str, value)) if isinstance(value, list | tuple) else value
            print(f"{name:<16}{text}")
    return 0


def _size(text: str) -> tuple[int, int]:
    try:
        sides = [int(side) for side in text.lower().split("x")]
    except ValueError:
        sides = []
    if len(sides) not in (1, 2) or min(sides) < 16:
        raise argparse.ArgumentTypeError(
            f"must be a side or HEIGHTxWIDTH of at least 16 pixels, got {text!r}"
        )
    return sides[0], sides[-1]


def _number(kind: Callable[[str], Any], low: float, high: float = math.inf) -> Callable[[str], Any]:
    def read(text: str) -> Any:
        try:
            value = kind(text)
        except ValueError:
            value = math.nan
        if not low <= value <= high or value == math.inf:
            noun = "finite number" if value == math.inf else "number"
            limit = f"at least {low}" if high == math.inf else f"{low} to {high}"
            raise argparse.ArgumentTypeError(f"must be a {noun}, {limit}, got {text!r}")
        return value

    return read


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="deeplab-fashion",
        description="Find clothing in photos, and train networks that do.",
        epilog="deeplab-fashion COMMAND --help shows a command's options and examples.",
    )
    parser.add_argument(
        "--version", action="version", version=f"deeplab-fashion {deeplab_fashion.__version__}"
    )
    commands = parser.add_subparsers(metavar="COMMAND", required=True)

    def command(
        name: str, run: Callable[[argparse.Namespace], int], help_text: str, examples: str
    ) -> argparse.ArgumentParser:
        lines = "\n".join(f"  deeplab-fashion {name} {line}" for line in examples.split("\n"))
        added = commands.add_parser(
            name,
            help=help_text,
            description=help_text[0].upper() + help_text[1:] + ".",
            epilog=f"examples:\n{lines}",
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        added.set_defaults(run=run, usage_error=added.error)
        added.add_argument("--json", action="store_true", help="answer in JSON on standard output")
        added.add_argument(
            "--quiet",
            action="store_true",
            help="no progress bar and no account of the work; what evaluate, info and --json "
            "answer is still printed",
        )
        return added

    def with_model(added: argparse.ArgumentParser) -> None:
        added.add_argument(
            "--model",
            default=_BUNDLED,
            metavar="FILE",
            help=f"a file that Segmenter.save or train wrote (default: the bundled {_BUNDLED})",
        )

    def with_annotations(added: argparse.ArgumentParser) -> None:
        added.add_argument(
            "--annotations",
            type=Path,
            required=True,
            metavar="FILE",
            help="iMaterialist's CSV, or JSON of Fashionpedia or COCO",
        )
        added.add_argument(
            "--images", type=Path, required=True, metavar="DIR", help="folder of the photos"
        )
        added.add_argument(
            "--label-map",
            metavar="NAME|FILE",
            help="from categories to classes: main, notebook, fashionpedia, ccp, or a JSON file "
            "(default: main for CSV, fashionpedia for JSON)",
        )
        added.add_argument(
            "--skip-broken", action="store_true", help="leave faulty photos out, and say so"
        )

    segment = command(
        "segment",
        _segment,
        "write the masks of photos",
        "photo.jpg\n"
        "holiday/ --out masks --tta\n"
        "scan.tif --tile 1024 --max-megapixels 400\n"
        "test/ --kaggle submission.csv --json",
    )
    segment.add_argument("photos", nargs="+", type=Path, metavar="PHOTO", help="a file or folder")
    segment.add_argument(
        "--out", type=Path, default=Path("masks"), metavar="DIR", help="(default: masks)"
    )
    with_model(segment)
    segment.add_argument(
        "--working-size",
        type=_size,
        metavar="SIZE",
        help="largest side, or HEIGHTxWIDTH, at which the network sees a photo",
    )
    segment.add_argument(
        "--tile",
        type=_number(int, 16),
        metavar="PIXELS",
        help="look at overlapping squares of this side, for small things in large photos",
    )
    segment.add_argument("--tta", action="store_true", help="average with the mirror image")
    segment.add_argument(
        "--scales",
        type=_number(float, 0.1, 10),
        nargs="+",
        metavar="SCALE",
        help="average over these scales and the mirror image, such as 0.75 1 1.25",
    )
    segment.add_argument(
        "--min-area",
        type=_number(int, 0),
        metavar="PIXELS",
        help="merge smaller specks into what surrounds them",
    )
    segment.add_argument(
        "--max-megapixels",
        type=_number(float, 0),
        metavar="N",
        help="refuse larger photos (default: 134)",
    )
    segment.add_argument(
        "--precision",
        choices=("auto", "float32", "bfloat16"),
        help="auto freezes the network first, some seconds that many photos win back "
        "(default: float32)",
    )
    segment.add_argument("--no-cutouts", action="store_true", help="write no cut-outs")
    segment.add_argument("--kaggle", type=Path, metavar="CSV", help="write a submission too")
    segment.add_argument(
        "--fresh", action="store_true", help="do photos again whose masks are already there"
    )

    train = command(
        "train",
        _train,
        "train a network on annotated photos",
        "--annotations train.csv --images train/\n"
        "--annotations instances.json --images photos/ --size 384 --epochs 12 --run-dir one",
    )
    with_annotations(train)
    train.add_argument(
        "--run-dir",
        type=Path,
        default=Path("run"),
        metavar="DIR",
        help="for the state of training, its report and the model (default: run)",
    )
    train.add_argument(
        "--out", type=Path, metavar="FILE", help="(default: segmenter.keras in the run folder)"
    )
    train.add_argument("--validation-annotations", type=Path, metavar="FILE")
    train.add_argument("--validation-images", type=Path, metavar="DIR")
    train.add_argument(
        "--validation-share",
        type=_number(float, 0, 0.9),
        default=0.1,
        metavar="SHARE",
        help="of the photos, held back where no validation annotations are given (default: 0.1)",
    )
    train.add_argument(
        "--backbone",
        default="inceptionresnetv2",
        metavar="NAME",
        help="(default: inceptionresnetv2, or that of fashion-main)",
    )
    train.add_argument(
        "--weights",
        default="imagenet",
        metavar="NAME|FILE",
        help="to start from: fashion-main, the network in this package; imagenet, a backbone that "
        "Keras downloads (default); none; or a file",
    )
    train.add_argument("--output-stride", type=int, choices=(8, 16, 32), default=16)
    train.add_argument(
        "--size",
        type=_size,
        default=(256, 256),
        metavar="SIZE",
        help="side, or HEIGHTxWIDTH, at which the network sees a photo (default: 256)",
    )
    train.add_argument(
        "--resize",
        choices=("squash", "pad"),
        default="squash",
        help="how a photo is brought to that size (default: squash)",
    )
    train.add_argument(
        "--batch-size",
        type=_number(int, 1),
        default=8,
        metavar="N",
        help="(default: %(default)s)",
    )
    train.add_argument(
        "--epochs",
        type=_number(int, 1),
        default=35,
        metavar="N",
        help="(default: %(default)s)",
    )
    train.add_argument("--loss", choices=sorted(_LOSSES), default="cross-entropy")
    train.add_argument(
        "--learning-rate",
        type=_number(float, 0),
        default=1e-3,
        metavar="RATE",
        help="(default: %(default)s)",
    )
    train.add_argument("--no-augmentation", action="store_true")
    train.add_argument("--seed", type=_number(int, 0), default=0, metavar="N")
    train.add_argument(
        "--fresh", action="store_true", help="start anew where a stopped run would go on"
    )

    evaluate = command(
        "evaluate",
        _evaluate,
        "score a model on annotated photos, at their own size",
        "--annotations val.csv --images val/ --model run/segmenter.keras\n"
        "--annotations val.csv --images val/ --label-map ccp --out report --json",
    )
    with_annotations(evaluate)
    with_model(evaluate)
    evaluate.add_argument("--tta", action="store_true", help="average with the mirror image")
    evaluate.add_argument(
        "--out", type=Path, metavar="DIR", help="write scores.json and confusion.png there"
    )

    export = command(
        "export",
        _export,
        "write a model for other runtimes, and check it against the model",
        "onnx fashion.onnx\nlitert fashion.tflite --precision int8\n"
        "saved-model served/1 --model run/segmenter.keras",
    )
    export.add_argument("format", choices=("saved-model", "onnx", "litert"))
    export.add_argument("out", type=Path, metavar="FILE", help="a folder for a SavedModel")
    with_model(export)
    export.add_argument(
        "--precision", choices=("float32", "float16", "int8"), default="float32", help="for litert"
    )

    info = command(
        "info", _info, "tell versions, classes and what a model is", "\n--model run/segmenter.keras"
    )
    info.add_argument("--model", metavar="FILE", help=f"a model to look into, or {_BUNDLED}")
    return parser


if __name__ == "__main__":
    sys.exit(main())
