"""Draw the picture of the README: packaged photos beside their masks.

python examples/readme_picture.py docs/_static/segmented.jpg
"""

import argparse
from pathlib import Path

import numpy as np
from PIL import Image

import deeplab_fashion as df
from deeplab_fashion import photos

PHOTOS = (10, 2, 5)
SIZE = (420, 280)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("out", type=Path, help="the JPEG file to write")
    arguments = parser.parse_args()
    segmenter = df.Segmenter.from_pretrained("fashion-main")
    pictures = []
    for index in PHOTOS:
        path = df.samples.photo(index)
        pictures += [photos.read(path), segmenter(path).overlay()]
    row = np.hstack([photos.resize(picture, SIZE) for picture in pictures])
    Image.fromarray(row).save(arguments.out, quality=88)


if __name__ == "__main__":
    main()
