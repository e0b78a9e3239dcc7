"""What does a diagnosis say of public datasets, how long does it take, and how much memory?

    python bench/diagnosis.py ../shared/data             the tables of docs/diagnosis.md
    python bench/diagnosis.py ../shared/data --images 100000    COCO val2017 repeated to so many images

Each dataset is read and measured in a process of its own.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from pathlib import Path

SETS = {
    "BCCD": "bccd",
    "face mask": "facemask",
    "chess": "chess",
    "DeepPCB": "deeppcb",
    "COCO val2017": "coco_val2017_boxes",
    "VOC 2007": "voc_annotations/voc2007_trainval.json",
    "VOC 2012": "voc_annotations/voc2012_trainval.json",
    "TACO": "taco/taco.json",
    "TACO unofficial": "taco/taco_unofficial.json",
}
ONE = """
import json, resource, sys, time
import numpy as np
path, anchors, images = sys.argv[1], sys.argv[2], int(sys.argv[3])
start = time.perf_counter()
import detbalance
from detbalance.data.annotations import Annotations
data = detbalance.read(path)
if images:
    times = -(-images // len(data))
    data = Annotations.from_arrays(
        classes=data.classes, sizes=np.tile(data.sizes, (times, 1)), label=np.tile(data.label, times),
        image=np.concatenate([data.image + i * len(data) for i in range(times)]), boxes=np.tile(data.boxes, (times, 1)),
    )
begun = time.perf_counter()
found = detbalance.diagnose(data, anchors=anchors)
text = found.to_json()
end = time.perf_counter()
print(json.dumps({
    "findings": {f.key: (f.value, None if f.severity is None else f.severity.name.lower()) for f in found.findings},
    "headlines": [f.key for f in found.findings if f.headline],
    "images": len(data), "boxes": len(data.boxes), "whole": end - start, "measuring": end - begun,
    "cpu": time.process_time(), "memory": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
}))
"""
MARK = {"mild": "\u00b7", "strong": "\u2022", "extreme": "**", "none": "", None: ""}


def measure(path: Path, anchors: str, images: int = 0) -> dict:
    """One dataset, in a process of its own."""
    command = [sys.executable, "-c", ONE, str(path), anchors, str(images)]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(done.stderr)
    return json.loads(done.stdout)


def cell(value: float | None, severity: str | None) -> str:
    """A number, marked by its severity."""
    if value is None:
        return "-"
    text = f"{value:.3f}".lstrip("0") if value < 1 else "1"
    return f"**{text}**" if severity == "extreme" else f"{text} {MARK[severity]}".strip()


def row(*cells: str) -> str:
    """A row of a Markdown table."""
    return f"| {' | '.join(cells)} |"


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--anchors", default="retinanet")
    parser.add_argument("--images", type=int, default=0)
    given = parser.parse_args()
    sets = {"COCO val2017": SETS["COCO val2017"]} if given.images else SETS
    found = {name: measure(given.data / path, given.anchors, given.images) for name, path in sets.items()}
    print(row("dataset", "images", "boxes", "in all, s", "of that measuring, s", "CPU, s", "peak memory, MB"))
    print(row(*["---"] * 7))
    for name, one in found.items():
        numbers = (f"{one['whole']:.2f}", f"{one['measuring']:.2f}", f"{one['cpu']:.2f}", f"{one['memory']:.0f}")
        print(row(name, f"{one['images']:,}", f"{one['boxes']:,}", *numbers))
    print()
    print(row("finding", *found))
    print(row(*["---"] * (len(found) + 1)))
    first = next(iter(found.values()))
    for key in first["findings"]:
        if first["findings"][key][0] is not None:
            name = f"**{key}**" if key in first["headlines"] else key
            print(row(name, *(cell(*one["findings"][key]) for one in found.values())))


if __name__ == "__main__":
    main()
