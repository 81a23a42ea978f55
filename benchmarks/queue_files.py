"""A large file on its way to the object store and back, against the minio SDK alone on the same store."""

import os
import tempfile
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from statistics import median
from uuid import uuid4

from minio import Minio

from benchmarks.bench import Bench
from benchmarks.queue_lab import queue_lab
from benchmarks.rows import Row
from clew.files import file_sha256
from clew_client.download import download
from clew_client.transport import Retry
from clew_lab.settings import Settings
from clew_lab.storage import Store
from clew_spec.api import ArtifactView

SIZE, PIECE, ROUNDS = 2**30, 2**20, 3
Way = Callable[[str, Path], None]
"""Brings a file to a key, or what lies under a key to a file."""


def artifact_1gb(bench: Bench) -> Row:
    """MB/s of a file of 1 GiB, up as a worker brings it and down as a user gets it; the worse of the two is held.

    Ours makes sure of the sha256 both times.
    """
    size, rounds = (2**22, 1) if bench.tiny else (SIZE, bench.repetitions(ROUNDS))
    with queue_lab() as lab, tempfile.TemporaryDirectory(prefix="clew-bench-") as folder:
        file = Path(folder) / "up"
        _fill(file, size)
        sides = {"ours": _ours(lab.settings, file_sha256(file), size), "peer": _peer(lab.settings)}
        bench.watch.expect(4 * rounds)
        found: dict[str, dict[str, list[float]]] = {"up": {"ours": [], "peer": []}, "down": {"ours": [], "peer": []}}
        store = Store.of(lab.settings)
        for _ in range(rounds):
            for side, (up, down) in sides.items():
                key, back = f"bench/{uuid4()}", Path(folder) / "down"
                found["up"][side].append(_rate(up, key, file, size))
                found["down"][side].append(_rate(down, key, back, size))
                assert back.stat().st_size == size
                store.delete(key)
                back.unlink()
                bench.watch.stepped()
                bench.watch.stepped()
    ratios = {way: median(rates["ours"]) / median(rates["peer"]) for way, rates in found.items()}
    held = min(ratios, key=lambda way: ratios[way])
    both = ", ".join(f"{way} {median(found[way]['ours']):.0f} to {median(found[way]['peer']):.0f}" for way in found)
    return Row.of(
        "queue/artifact-1gb",
        found[held]["ours"],
        found[held]["peer"],
        op=">=",
        target=0.8,
        unit=f"MB/s {held}",
        peer_name="the minio SDK alone",
        note=f"MB/s, ours to peer: {both}",
    )


def _ours(settings: Settings, digest: str, size: int) -> tuple[Way, Way]:
    store = Store.of(settings)
    store.create_bucket()

    def up(key: str, file: Path) -> None:
        store.put(key, file, digest)

    def down(key: str, file: Path) -> None:
        artifact = ArtifactView(
            id=uuid4(),
            job_id=uuid4(),
            name=key,
            sha256=digest,
            size=size,
            media_type="application/octet-stream",
            created_at=datetime.now(UTC),
            url=store.link(key),
        )
        download(artifact, file, Retry())

    return up, down


def _peer(settings: Settings) -> tuple[Way, Way]:
    client = Minio(
        settings.s3_endpoint,
        settings.s3_access_key.get_secret_value(),
        settings.s3_secret_key.get_secret_value(),
        secure=settings.s3_secure,
    )

    def up(key: str, file: Path) -> None:
        client.fput_object(bucket_name=settings.s3_bucket, object_name=key, file_path=str(file))

    def down(key: str, file: Path) -> None:
        client.fget_object(bucket_name=settings.s3_bucket, object_name=key, file_path=str(file))

    return up, down


def _rate(way: Way, key: str, file: Path, size: int) -> float:
    began = time.perf_counter()
    way(key, file)
    return size / 1e6 / (time.perf_counter() - began)


def _fill(file: Path, size: int) -> None:
    with file.open("wb") as opened:
        for _ in range(size // PIECE):
            opened.write(os.urandom(PIECE))
