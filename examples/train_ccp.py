"""Train on Clothing Co-Parsing and measure what was learnt, at the photos' own size.

    python examples/train_ccp.py DATA_DIR --weights EFFICIENTNET_LITE0.npz --out runs/ccp

DATA_DIR holds ``train.csv``, ``train/``, ``val.csv`` and ``val/`` in iMaterialist form. The
network sees photos squashed to 256 x 256; ``train.csv`` alone is learnt from, and ``val.csv``
chooses the epoch. An interrupted run goes on when the same command is given again.
"""

import argparse
import json
from pathlib import Path

import deeplab_fashion as df

SIZE = (256, 256)
# Photos are kept larger than the network sees them, so that a zoomed crop shows true detail.
HELD_SIZE = (448, 320)
# A dozen epochs see too little to overfit 700 photos; longer trainings need more variety.
AUGMENTATIONS = {
    "light": df.data.Augmentation(scale=(0.6, 1.6)),
    "strong": df.data.Augmentation(
        scale=(0.5, 2.0),
        rotation=15,
        brightness=0.3,
        contrast=0.3,
        saturation=0.4,
        hue=10,
        cutout=0.5,
    ),
}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("data", type=Path, help="folder with train.csv, train/, val.csv and val/")
    parser.add_argument("--weights", type=Path, help="ImageNet weights of EfficientNet-Lite0")
    parser.add_argument("--out", type=Path, default=Path("runs/ccp"), help="run folder")
    parser.add_argument("--epochs", type=int, default=12)
    parser.add_argument("--augmentation", choices=AUGMENTATIONS, default="light")
    parser.add_argument("--seed", type=int, default=0)
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
        augment=AUGMENTATIONS[arguments.augmentation],
        shuffle=True,
        seed=arguments.seed,
    )
    validation = df.data.make_dataset(records["val"], label_map, size=SIZE, batch_size=8)
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
        run_dir=arguments.out,
        seed=arguments.seed,
    )

    segmenter = df.Segmenter(
        result.model, label_map.target_names, working_size=SIZE, keep_aspect=False
    )
    segmenter.save(arguments.out / "segmenter.keras")
    confusion = segmenter.confusion(records["val"], label_map, show_progress=True)
    iou = df.scores.iou_per_class(confusion)
    f1 = df.scores.f1_per_class(confusion)
    print(f"{'class':<14}{'IoU %':>8}{'F1 %':>8}")
    for name, *values in zip(label_map.target_names, 100 * iou, 100 * f1, strict=True):
        print(f"{name:<14}{values[0]:8.2f}{values[1]:8.2f}")
    print(f"{'mean':<14}{100 * iou.mean():8.2f}{100 * f1.mean():8.2f}")
    scores = {
        "epochs": arguments.epochs,
        "seed": arguments.seed,
        "confusion": confusion.tolist(),
        "mean_iou": df.scores.mean_iou(confusion),
        "mean_f1": df.scores.mean_f1(confusion),
    }
    (arguments.out / "scores.json").write_text(json.dumps(scores, indent=1))
    pictures = arguments.out / "pictures"
    pictures.mkdir(exist_ok=True)
    (pictures / "confusion.png").write_bytes(
        df.plotting.png_bytes(df.plotting.confusion_matrix_image(confusion, label_map.target_names))
    )
    for record in records["val"][:8]:
        overlay = segmenter(record.path).overlay()
        (pictures / f"{record.image_id}.png").write_bytes(df.plotting.png_bytes(overlay))
    print(f"report, pictures and model lie in {arguments.out}")


if __name__ == "__main__":
    main()
