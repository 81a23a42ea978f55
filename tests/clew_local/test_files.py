"""Small files of a lab."""

import subprocess
import sys
from functools import partial
from pathlib import Path

from tests.support.waiting import until

from clew_local.files import bound_log

WRITES = "import sys\nfor line in sys.stdin: print(line, end='', flush=True)"


def is_of(path: Path, size: int) -> bool:
    return path.stat().st_size == size


def test_a_log_is_bounded_while_its_writer_goes_on(tmp_path: Path) -> None:
    log, previous = tmp_path / "api.log", tmp_path / "api.log.1"
    bound_log(log, most=10)
    assert not log.exists()
    with open(log, "ab") as output:
        writer = subprocess.Popen([sys.executable, "-c", WRITES], stdin=subprocess.PIPE, stdout=output, text=True)
    assert writer.stdin is not None
    try:
        for word, size in (("first", 11), ("second", 23), ("third", 11)):
            writer.stdin.write(f"{word} line\n")
            writer.stdin.flush()
            until(partial(is_of, log, size), f"{word} is written")
            bound_log(log, most=11)
        assert log.read_text() == "third line\n", "not beyond the limit yet, and not after a gap"
        assert previous.read_text() == "first line\nsecond line\n"
    finally:
        writer.kill()
        writer.wait()
