"""What the packages promise to type checkers of those who use them."""

import subprocess
import sys
from pathlib import Path

USE = """
from pathlib import Path

from clew.files import inside_roots
from clew_client import Lab
from clew_spec.models import ImportModelSpec

with Lab("http://127.0.0.1:1", "key") as lab:
    spec = ImportModelSpec(name="m", path="/models/m")
    reveal_type(lab.submit(spec).wait().name)
    lab.jobs(user=1)
reveal_type(inside_roots(Path("a"), [], where="/a"))
"""


def test_a_strict_checker_sees_the_types_outside_this_tree(tmp_path: Path) -> None:
    (tmp_path / "use.py").write_text(USE)
    words = [sys.executable, "-m", "mypy", "--strict", "--cache-dir", str(tmp_path / "cache"), "use.py"]
    said = subprocess.run(words, cwd=tmp_path, capture_output=True, text=True, check=False, timeout=280).stdout
    faults = [line.partition(" ")[2] for line in said.splitlines() if line.startswith("use.py")]
    assert faults == [
        'note: Revealed type is "str"',
        'error: Argument "user" to "jobs" of "Lab" has incompatible type "int"; expected "str | None"  [arg-type]',
        'note: Revealed type is "pathlib.Path"',
    ], said
