"""Mutated and malicious files: a DataError or a counted repair; never another exception, a hang or a memory blow-up."""

import gzip
import importlib.util
import os
import resource
import signal
import subprocess
import sys
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from detbalance.data.annotations import DataError
from detbalance.data.readers import read

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def fuzz():
    spec = importlib.util.spec_from_file_location("fuzz_readers", ROOT / "bench/fuzz_readers.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_two_hundred_mutated_files(fuzz):
    pytest.importorskip("pyarrow")
    before = signal.signal(signal.SIGPROF, fuzz._alarm)
    try:
        results = [fuzz.one(seed, 10.0) for seed in range(200)]
    finally:
        signal.signal(signal.SIGPROF, before)
    outcomes = Counter(outcome for _, outcome, _ in results)
    assert not [message for _, outcome, message in results if outcome == "FAILED"]
    # If nearly all were refused, or nearly none, the mutations would test nothing.
    assert min(outcomes["read"], outcomes["repaired"], outcomes["refused"]) >= 20
    assert len({form for form, _, _ in results}) == 6


def test_the_fuzz_notices_a_reader_that_fails(fuzz, monkeypatch):
    monkeypatch.setattr(fuzz, "read", lambda *_, **__: {}["no"])
    assert fuzz.one(0, 10.0)[1] == "FAILED"


def limited(path, megabytes=300):
    """Read in a process of limited memory and time; what it prints."""
    code = (
        "import resource, sys\n"
        f"resource.setrlimit(resource.RLIMIT_DATA, ({megabytes << 20}, {megabytes << 20}))\n"
        "from detbalance.data.readers import read\n"
        "from detbalance.data.annotations import DataError\n"
        "try: print(read(sys.argv[1]))\n"
        "except DataError as error: print('DataError', error)\n"
    )
    environment = os.environ | {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
    run = subprocess.run(
        [sys.executable, "-c", code, path], capture_output=True, text=True, timeout=60, env=environment
    )
    assert run.returncode == 0, run.stderr[-500:]
    return run.stdout


def test_a_gzip_bomb(tmp_path):
    with gzip.open(tmp_path / "x.json.gz", "wb", compresslevel=1) as file:
        file.write(b'{"images": [')
        for _ in range(6):
            file.write(b" " * (1 << 24))
    assert "unpacks to over 200 times its size" in limited(tmp_path / "x.json.gz")


def test_a_parquet_bomb(tmp_path):
    pyarrow = pytest.importorskip("pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet")
    ones = pyarrow.DictionaryArray.from_arrays(pyarrow.array(np.zeros(9_000_000, np.int8)), ["x"])
    columns = dict.fromkeys(("image", "label", "x1", "y1", "x2", "y2"), ones)
    parquet.write_table(pyarrow.table(columns), tmp_path / "x.parquet")
    assert os.path.getsize(tmp_path / "x.parquet") < 400_000
    with pytest.raises(DataError, match="unpacks to over 200 times"):
        read(tmp_path / "x.parquet")


@pytest.mark.parametrize("name", ["x.json", "x.csv", "x.xml", "x.yaml"])
def test_pipes_are_not_waited_for(tmp_path, name):
    os.mkfifo(tmp_path / name)
    for place in (tmp_path / name, tmp_path):
        with pytest.raises(DataError):
            read(place)


def test_what_may_not_be_read(tmp_path):
    path = tmp_path / "x.json"
    path.write_text("{}")
    path.chmod(0)
    if os.access(path, os.R_OK):
        pytest.skip("the superuser may read everything")
    with pytest.raises(DataError):
        read(path)


NOTHING = {
    "empty": b"",
    "zeros": b"\0" * 100,
    "magic": b"\x1f\x8b",
    "gzip": b"\x1f\x8b" + b"\0" * 50,
    "jpeg": b"\xff\xd8\xff",
}


@pytest.mark.parametrize("content", NOTHING.values(), ids=NOTHING)
@pytest.mark.parametrize("name", ["x.json", "x.json.gz", "x.csv", "x.xml", "x.parquet", "data.yaml", "x"])
def test_files_of_nothing(tmp_path, content, name):
    (tmp_path / name).write_bytes(content)
    for place in (tmp_path / name, tmp_path):
        with pytest.raises(DataError) as caught:
            read(place)
        assert str(tmp_path) in str(caught.value)


@pytest.mark.parametrize("share", [0.2, 0.9])
def test_gzip_that_is_cut_off(tmp_path, share):
    packed = gzip.compress(b'{"images": [{"id": 1}], "categories": [{"id": 1, "name": "cat"}]}' + b" " * 1000)
    path = tmp_path / "x.json.gz"
    path.write_bytes(packed[: int(len(packed) * share)])
    with pytest.raises(DataError, match="damaged or cut off"):
        read(path)


def test_reading_imports_no_torch():
    code = "import sys; from detbalance.data import image_files, readers, splits; print('torch' in sys.modules)"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "False"


def test_limits_are_restored():
    """The fuzz may not leave its limits behind in the process of the tests."""
    assert resource.getrlimit(resource.RLIMIT_DATA)[0] in (
        resource.RLIM_INFINITY,
        resource.getrlimit(resource.RLIMIT_DATA)[1],
    )
    assert signal.getitimer(signal.ITIMER_PROF) == (0.0, 0.0)
