r"""Train the model in the package, "fashion-main", on the training part of Clothing Co-Parsing.

    python examples/train_ccp.py DATA_DIR --weights EFFICIENTNET_LITE0.npz \
        --epochs 30 --augmentation strong --out runs/ccp30
    python examples/train_bundled_model.py DATA_DIR runs/ccp30/segmenter.keras \
        --out runs/fashion-main

The first command learns what clothes look like on small, squashed photos, which is cheap; the
second goes on from there on photos in their own proportions at 480 x 320. DATA_DIR holds
``train.csv``, ``train/``, ``val.csv`` and ``val/`` in iMaterialist form. ``train.csv`` alone is
learnt from; ``val.csv`` chooses the epoch. An interrupted run goes on when the same command is
given again.
"""

import argparse
import json
from pathlib import Path

import deeplab_fashion as df
from deeplab_fashion import pretrained

SIZE = (480, 320)
# Photos are kept near their own 825 x 550, so that a zoomed crop shows true detail.
HELD_SIZE = (660, 440)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("data", type=Path, help="folder with train.csv, train/, val.csv and val/")
    parser.add_argument("start", type=Path, help="segmenter.keras that train_ccp.py wrote")
    parser.add_argument("--out", type=Path, default=Path("runs/fashion-main"), help="run folder")
    parser.add_argument("--epochs", type=int, default=12)
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
        augment=df.data.Augmentation(
            scale=(0.5, 2.0),
            rotation=15,
            brightness=0.3,
            contrast=0.3,
            saturation=0.4,
            hue=10,
            cutout=0.5,
        ),
        shuffle=True,
        seed=arguments.seed,
        resize="pad",
    )
    validation = df.data.make_dataset(
        records["val"], label_map, size=SIZE, batch_size=8, resize="pad"
    )
    result = df.fit(
        df.Segmenter.load(arguments.start).model,
        train,
        validation,
        epochs=arguments.epochs,
        loss=df.losses.Combined([df.losses.CrossEntropy(), df.losses.Dice()], weights=[1.0, 0.5]),
        learning_rate=4e-4,
        backbone_multiplier=0.3,
        warmup_epochs=0.5,
        clip_norm=5.0,
        ema_decay=0.998,
        run_dir=arguments.out,
        seed=arguments.seed,
    )

    # Scored as it will be used: from the packaged file, whose kernels are float16.
    options = {"working_size": SIZE[0]}
    path = pretrained.save(
        result.model,
        "fashion-main",
        folder=arguments.out,
        class_names=label_map.target_names,
        options=options,
    )
    model, class_names, options = pretrained.load("fashion-main", folder=arguments.out)
    segmenter = df.Segmenter(model, class_names, **options)
    confusion = segmenter.confusion(records["val"], label_map, show_progress=True)
    scores = df.scores.report(confusion, class_names)
    for name, value in scores.items():
        print(f"{name:<28}{value:8.4f}")
    about = {"best_epoch": result.best_epoch, **scores, "confusion": confusion.tolist()}
    (arguments.out / "scores.json").write_text(json.dumps(about, indent=1))
    print(f"{path} holds the model in {path.stat().st_size / 1e6:.1f} MB")


if __name__ == "__main__":
    main()
