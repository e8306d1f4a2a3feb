"""Train the model in the package, "fashion-main", on the training part of Clothing Co-Parsing.

    python examples/train_bundled_model.py DATA_DIR EFFICIENTNET_LITE0.npz --out runs/fashion-main

DATA_DIR holds ``train.csv``, ``train/``, ``val.csv`` and ``val/`` in iMaterialist form.
``train.csv`` alone is learnt from; ``val.csv`` chooses the epoch. Photos keep their proportions and
are seen at 480 x 320. An interrupted run goes on when the same command is given again.
"""

import argparse
import json
from pathlib import Path

import deeplab_fashion as df

SIZE = (480, 320)
# Photos are kept near their own 825 x 550, so that a zoomed crop shows true detail.
HELD_SIZE = (660, 440)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("data", type=Path, help="folder with train.csv, train/, val.csv and val/")
    parser.add_argument("weights", type=Path, help="ImageNet weights of EfficientNet-Lite0")
    parser.add_argument("--out", type=Path, default=Path("runs/fashion-main"), help="run folder")
    parser.add_argument("--epochs", type=int, default=36)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--precision", default="auto", choices=["auto", "float32", "bfloat16"])
    arguments = parser.parse_args()

    label_map = df.taxonomy.CCP_TO_MAIN
    records = {
        part: df.annotations.read_imaterialist(
            arguments.data / f"{part}.csv", arguments.data / part
        )
        for part in ("train", "val")
    }
    train = df.data.make_dataset(
        records["train"],
        label_map,
        size=SIZE,
        held_size=HELD_SIZE,
        batch_size=8,
        augment=df.data.Augmentation(scale=(0.5, 2.0)),
        shuffle=True,
        seed=arguments.seed,
        resize="pad",
    )
    validation = df.data.make_dataset(
        records["val"], label_map, size=SIZE, batch_size=8, resize="pad"
    )
    model = df.DeepLabV3Plus(
        num_classes=len(label_map.target_names),
        backbone="efficientnetlite0",
        weights=arguments.weights,
        decoder_filters=128,
        batch_norm_momentum=0.97,
    )
    result = df.fit(
        model,
        train,
        validation,
        epochs=arguments.epochs,
        loss=df.losses.Combined([df.losses.CrossEntropy(), df.losses.Dice()], weights=[1.0, 0.5]),
        learning_rate=1e-3,
        backbone_multiplier=0.3,
        warmup_epochs=1.0,
        clip_norm=5.0,
        ema_decay=0.998,
        precision=arguments.precision,
        run_dir=arguments.out,
        seed=arguments.seed,
    )
    segmenter = df.Segmenter(result.model, label_map.target_names, working_size=SIZE[0])
    segmenter.save(arguments.out / "fashion-main.keras")
    confusion = segmenter.confusion(records["val"], label_map, show_progress=True)
    for name, iou, f1 in zip(
        label_map.target_names,
        df.scores.iou_per_class(confusion),
        df.scores.f1_per_class(confusion),
        strict=True,
    ):
        print(f"{name:<14}{100 * iou:8.2f}{100 * f1:8.2f}")
    scores = {
        "best_epoch": result.best_epoch,
        "mean_iou": df.scores.mean_iou(confusion),
        "mean_f1": df.scores.mean_f1(confusion),
        "confusion": confusion.tolist(),
    }
    (arguments.out / "scores.json").write_text(json.dumps(scores, indent=1))
    print(f"mean IoU {100 * scores['mean_iou']:.2f} %, mean F1 {100 * scores['mean_f1']:.2f} %")


if __name__ == "__main__":
    main()
