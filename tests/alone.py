"""What `make alone` runs in an environment that holds the wheel and its dependencies, no more.

No test tool is there, and every attempt to reach a network ends the run.
"""

import json
import socket
import subprocess
import sys
import tempfile
from pathlib import Path

import deeplab_fashion as df
from deeplab_fashion.__main__ import main

ATTEMPTS = []


def refuse_network(event, arguments):
    if event in ("socket.connect", "socket.getaddrinfo", "socket.sendto"):
        ATTEMPTS.append(arguments)
        raise PermissionError(f"{event} {arguments}")


def check(holds, what):
    if not holds:
        sys.exit(f"The wheel alone: {what}")


def the_guard_works():
    try:
        socket.create_connection(("localhost", 9))
    except PermissionError:
        ATTEMPTS.clear()
        return True
    return False


sys.addaudithook(refuse_network)
check(the_guard_works(), "the guard against networks lets one through")
check(Path(df.__file__).is_relative_to(sys.prefix), f"another package is tested: {df.__file__}")
for tool in ("pytest", "hypothesis", "onnx", "pycocotools"):
    try:
        __import__(tool)
    except ImportError:
        continue
    check(False, f"the environment is not empty, it holds {tool}")

script = Path(sys.executable).with_name("deeplab-fashion")
info = subprocess.run([script, "info", "--json"], capture_output=True, text=True, check=True)
check(json.loads(info.stdout)["version"] == df.__version__, f"`info` says {info.stdout}")

photo = df.samples.photo()
with tempfile.TemporaryDirectory() as folder:
    status = main(["segment", str(photo), "--out", folder])
    check(status == 0, f"`segment` ended with {status}")
    names = {path.name for path in Path(folder).iterdir()}
    for part in ("overlay.png", "labels.png", "regions.json"):
        check(f"{photo.stem}_{part}" in names, f"`segment` wrote no {part}, only {names}")

result = df.Segmenter.from_pretrained()(photo)
names = {region.class_name for region in result.regions}
check({"upper-body", "feet"} <= names, f"a sample photo shows {names}")
try:
    df.export.to_onnx(df.Segmenter.from_pretrained(), Path("model.onnx"))
except ImportError as error:
    check("deeplab-fashion[onnx]" in str(error), f"without the extra onnx: {error}")
else:
    check(False, "ONNX was written without the extra onnx")
check(not ATTEMPTS, f"a network was asked for: {ATTEMPTS}")
print(f"deeplab-fashion {df.__version__} alone: photo segmented, no network, nothing missing")
