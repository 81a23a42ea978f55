"""`python -m clew_lab.backup create FOLDER`, and `restore FOLDER` into an empty lab. Prints what was done as JSON."""

import argparse
import json
import sys
from pathlib import Path

from clew_lab.backup import Manifest, create, restore
from clew_lab.settings import settings
from clew_spec.errors import ClewError


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m clew_lab.backup", description=__doc__)
    parser.add_argument("command", choices=("create", "restore"))
    parser.add_argument("folder", type=Path)
    arguments = parser.parse_args()
    try:
        if arguments.command == "create":
            answer = _told(create(settings(), arguments.folder))
        else:
            restored = restore(settings(), arguments.folder)
            answer = _told(restored.manifest) | {"keys_are_good": restored.keys_are_good}
    except ClewError as error:
        print(error.problem().model_dump_json(exclude_none=True), file=sys.stderr)
        return 1
    print(json.dumps({"folder": str(arguments.folder), **answer}))
    return 0


def _told(manifest: Manifest) -> dict[str, object]:
    return {
        "rows": sum(table.rows for table in manifest.tables),
        "objects": len(manifest.objects),
        "bytes": sum({stored.sha256: stored.size for stored in manifest.objects}.values()),
        "revision": manifest.revision,
        "lost_checkpoints": [str(id) for id in manifest.lost_checkpoints],
    }


if __name__ == "__main__":
    sys.exit(main())
