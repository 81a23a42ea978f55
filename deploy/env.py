"""Write the `.env` of `docker-compose.yml`, with fresh secrets that only you may read: `python3 deploy/env.py --help`.

Needs nothing but Python. A file that is there is left alone; `--add` adds what a newer version asks for.
"""

import argparse
import os
import secrets
import sys
from pathlib import Path

SECRETS = (
    "CLEW_SECRET_KEY",
    "CLEW_DB_PASSWORD",
    "CLEW_DB_PASSWORD_API",
    "CLEW_DB_PASSWORD_SCHEDULER",
    "CLEW_DB_PASSWORD_WORKER",
    "CLEW_REDIS_PASSWORD",
    "CLEW_S3_ACCESS_KEY",
    "CLEW_S3_SECRET_KEY",
    "CLEW_METRICS_TOKEN",
)
CUDA = "https://download.pytorch.org/whl/cu130"


def variables(profile: str, host: str, bind: str) -> dict[str, str]:
    """What a lab needs: hexadecimal secrets, which no URL has to escape, and where it is reached."""
    settings = {"COMPOSE_PROFILES": profile, "CLEW_HOST": host, "CLEW_BIND": bind}
    if profile == "gpu":
        settings["TORCH_INDEX"] = CUDA
    return settings | {name: secrets.token_hex(32) for name in SECRETS}


def main() -> int:
    parser = argparse.ArgumentParser(prog="python3 deploy/env.py", description=__doc__)
    parser.add_argument("--profile", choices=("cpu", "gpu"), default="cpu", help="where workers compute")
    parser.add_argument("--host", default="127.0.0.1", help="the name by which browsers find this machine")
    parser.add_argument("--bind", default="127.0.0.1", help="the address of this machine to open ports at")
    parser.add_argument("--add", action="store_true", help="add what is missing to the file that is there")
    parser.add_argument("--file", type=Path, default=Path(__file__).resolve().parents[1] / ".env")
    given = parser.parse_args()
    wanted = variables(given.profile, given.host, given.bind)
    present = given.file.read_text().splitlines() if given.add and given.file.exists() else []
    names = {line.partition("=")[0].strip() for line in present}
    lines = [*present, *(f"{name}={value}" for name, value in wanted.items() if name not in names)]
    fresh = given.file.with_name(f"{given.file.name}.new")
    fresh.unlink(missing_ok=True)
    with open(os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        file.write("".join(f"{line}\n" for line in lines))
        file.flush()
        os.fsync(file.fileno())
    try:
        if given.add:
            os.replace(fresh, given.file)
        else:
            os.link(fresh, given.file)  # which a file that is there refuses
    except FileExistsError:
        print(f"{given.file} is there already and was left alone; --add adds what is missing", file=sys.stderr)
        return 1
    finally:
        fresh.unlink(missing_ok=True)
    print(f"{given.file}: {len(lines) - len(present)} variables written; keep it, without it no key is good")
    return 0


if __name__ == "__main__":
    sys.exit(main())
