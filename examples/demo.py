"""The whole way, once, on the photos in the package: train, score, segment.

    python examples/demo.py --out demo_output

Starts from the bundled model, trains it for a few steps on ten annotated sample photos, scores it
on the two others and writes the masks of one. Takes a few minutes on two cores, needs no network.
"""

import argparse
import json
from pathlib import Path

import deeplab_fashion as df

SIZE = (480, 320)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, default=Path("demo_output"), help="output folder")
    parser.add_argument("--epochs", type=int, default=4)
    arguments = parser.parse_args()
    out: Path = arguments.out
    out.mkdir(parents=True, exist_ok=True)

    label_map = df.taxonomy.CCP_TO_MAIN
    records = df.samples.load()
    print(f"read {len(records)} annotated photos; two of them are kept for scoring")
    held_back, learnt_from = records[:2], records[2:]
    train = df.data.make_dataset(
        learnt_from, label_map, size=SIZE, batch_size=2, resize="pad", augment=True, shuffle=True
    )
    validation = df.data.make_dataset(held_back, label_map, size=SIZE, batch_size=2, resize="pad")
    model = df.DeepLabV3Plus(weights="fashion-main")
    result = df.fit(model, train, validation, epochs=arguments.epochs, learning_rate=1e-5)

    segmenter = df.Segmenter(result.model, label_map.target_names, working_size=SIZE[0])
    confusion = segmenter.confusion(held_back, label_map)
    scores = {
        "photos": [record.image_id for record in held_back],
        "mean_iou": df.scores.mean_iou(confusion),
        "mean_f1": df.scores.mean_f1(confusion),
        "iou": dict(
            zip(label_map.target_names, df.scores.iou_per_class(confusion).tolist(), strict=True)
        ),
    }
    (out / "scores.json").write_text(json.dumps(scores, indent=1))
    segmenter.save(out / "segmenter.keras")
    segmentation = segmenter(held_back[0].path)
    segmentation.save(out)
    print(f"mean IoU {scores['mean_iou']:.3f}, mean F1 {scores['mean_f1']:.3f} on two photos")
    print(f"overlay, masks, scores and the model lie in {out.resolve()}:")
    for path in sorted(out.rglob("*")):
        if path.is_file():
            print(f"  {path.relative_to(out)}")


if __name__ == "__main__":
    main()
