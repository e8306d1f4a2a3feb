"""Score a model on annotated photos at their own size, with 95 % intervals over the photos.

    python benchmarks/quality.py ANNOTATIONS.csv PHOTOS/ --out benchmarks/results/quality.md

Scores the bundled model unless ``--model`` names a file of ``Segmenter.save``. The annotations are
CCP's tags in iMaterialist form. With ``--pictures`` the worst and the best photos are drawn.
"""

import argparse
from functools import partial
from pathlib import Path

import numpy as np

import deeplab_fashion as df
from deeplab_fashion import scores


def row(name: str, matrices: np.ndarray, kind: str) -> str:
    cells = []
    for per_class, mean in (
        (scores.iou_per_class, scores.mean_iou),
        (scores.f1_per_class, scores.mean_f1),
    ):
        score = mean if kind == "mean" else partial(_one, per_class, int(kind))
        interval = scores.bootstrap_interval(matrices, score)
        cells.append(
            f"{100 * interval.estimate:.2f} | {100 * interval.low:.1f} to {100 * interval.high:.1f}"
        )
    return f"| {name} | {' | '.join(cells)} |"


def _one(per_class, index: int, confusion: np.ndarray) -> float:
    return float(per_class(confusion)[index])


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("annotations", type=Path)
    parser.add_argument("photos", type=Path)
    parser.add_argument("--model", type=Path, help="a file of Segmenter.save")
    parser.add_argument("--out", type=Path, help="write the table there too")
    parser.add_argument("--pictures", type=Path, help="folder for overlays of worst and best")
    arguments = parser.parse_args()

    if arguments.model:
        segmenter = df.Segmenter.load(arguments.model)
    else:
        segmenter = df.Segmenter.from_pretrained("fashion-main")
    label_map = df.taxonomy.CCP_TO_MAIN
    records = df.annotations.read_imaterialist(arguments.annotations, arguments.photos)
    matrices = np.stack([segmenter.confusion([record], label_map) for record in records])
    each = scores.image_statistics(matrices)
    lines = [
        f"{len(records)} photos, no test-time augmentation; intervals over 1,000 draws of photos.",
        "",
        "| class | IoU % | 95 % | F1 % | 95 % |",
        "|---|---|---|---|---|",
        *(row(name, matrices, str(i)) for i, name in enumerate(segmenter.class_names)),
        row("**mean**", matrices, "mean"),
        "",
        f"Pixel accuracy {100 * scores.pixel_accuracy(matrices.sum(axis=0)):.2f} %. Mean IoU of "
        f"single photos: {100 * each.mean:.1f} % on average, {100 * each.worst_decile:.1f} % in "
        "the worst tenth.",
    ]
    print("\n".join(lines))
    if arguments.out:
        arguments.out.write_text("\n".join(lines) + "\n")
    if arguments.pictures:
        arguments.pictures.mkdir(parents=True, exist_ok=True)
        order = np.argsort(each.values)
        for name, chosen in (("worst", order[:6]), ("best", order[-3:])):
            for index in chosen:
                overlay = segmenter(records[int(index)].path).overlay()
                file = arguments.pictures / f"{name}-{records[int(index)].image_id}.png"
                file.write_bytes(df.plotting.png_bytes(overlay))


if __name__ == "__main__":
    main()
