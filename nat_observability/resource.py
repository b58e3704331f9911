"""The OpenTelemetry resource: the types of its attributes, and what detectors find out about this process."""

from __future__ import annotations

import os
import platform
import re
import socket
import sys
import uuid
from collections.abc import Callable, Collection, Mapping
from contextlib import suppress
from pathlib import Path

from nat_observability.version import __version__

ResourceValue = str | bool | int | float | list[str] | list[bool] | list[int] | list[float]
Resource = Mapping[str, ResourceValue]
"""The attributes of a resource, of the types that OpenTelemetry allows there."""

_ROOT = Path("/")

# Docker, containerd and CRI-O name a container by 64 hexadecimal digits, somewhere in these paths.
_CONTAINER_ID = re.compile(r"(?<![0-9a-f])[0-9a-f]{64}(?![0-9a-f])")
_CONTAINER_MOUNT = re.compile(r"/(?:containers|sandboxes|overlay-containers)/([0-9a-f]{64})/")

# https://opentelemetry.io/docs/specs/semconv/resource/host/: the values of host.arch.
_ARCHITECTURES = {
    "x86_64": "amd64",
    "amd64": "amd64",
    "aarch64": "arm64",
    "arm64": "arm64",
    "i386": "x86",
    "i686": "x86",
    "ppc64le": "ppc64",
    "s390x": "s390x",
}

_instance: tuple[int, str] | None = None


def detected(detectors: Collection[str], root: Path = _ROOT) -> dict[str, ResourceValue]:
    """
    Return what these detectors find, by the names of the OpenTelemetry conventions, and always `telemetry.sdk.*`.

    What cannot be found out is left out. It reads the file system, and connects to nothing.

    Args:
        detectors: Some of `DETECTORS`; `*` stands for all.
        root: The root of the file system.
    """
    found: dict[str, ResourceValue] = {**_SDK}
    for name in _DETECTORS if "*" in detectors else detectors:
        with suppress(OSError, ValueError):
            found.update({key: value for key, value in _DETECTORS[name](root).items() if value})
    return found


def _process(root: Path) -> dict[str, ResourceValue]:
    # Neither the arguments nor the environment: both may hold secrets.
    return {
        "process.pid": os.getpid(),
        "process.parent_pid": os.getppid(),
        "process.executable.name": os.path.basename(sys.executable),
        "process.executable.path": sys.executable,
        "process.command": sys.argv[0] if sys.argv else "",
        "process.runtime.name": sys.implementation.name,
        "process.runtime.version": ".".join(map(str, sys.implementation.version[:3])),
        "process.runtime.description": sys.version.replace("\n", ""),
    }


def _host(root: Path) -> dict[str, str]:
    found = {
        "host.name": socket.gethostname(),
        "host.arch": _ARCHITECTURES.get(platform.machine().lower(), platform.machine().lower()),
    }
    for path in ("etc/machine-id", "var/lib/dbus/machine-id"):
        with suppress(OSError):
            found["host.id"] = (root / path).read_text("utf-8").strip()
            break
    return found


def _os(root: Path) -> dict[str, str]:
    kind = platform.system().lower()
    return {
        "os.type": {"sunos": "solaris"}.get(kind, kind),
        "os.version": platform.release(),
        "os.description": platform.platform(),
    }


def _container(root: Path) -> dict[str, str]:
    with suppress(OSError):
        # The first version of control groups: the container is the last part of a group's path.
        if match := _CONTAINER_ID.search((root / "proc/self/cgroup").read_text("utf-8", "replace")):
            return {"container.id": match[0]}
    # The second one: the path says nothing, but files such as /etc/hostname are mounted from the container's folder.
    mounts = (root / "proc/self/mountinfo").read_text("utf-8", "replace")
    match = _CONTAINER_MOUNT.search(mounts)
    return {"container.id": match[1]} if match else {}


def _service_instance(root: Path) -> dict[str, str]:
    # One for each process: a forked worker is an instance of its own.
    global _instance
    if _instance is None or _instance[0] != os.getpid():
        _instance = (os.getpid(), str(uuid.uuid4()))
    return {"service.instance.id": _instance[1]}


_SDK = {
    # By the conventions, the name "opentelemetry" is for its own SDKs.
    "telemetry.sdk.name": "nat_observability",
    "telemetry.sdk.language": "python",
    "telemetry.sdk.version": __version__,
}
_DETECTORS: Mapping[str, Callable[[Path], Mapping[str, ResourceValue]]] = {
    "process": _process,
    "host": _host,
    "os": _os,
    "container": _container,
    "service_instance": _service_instance,
}

DETECTORS = (*_DETECTORS, "*")
"""The names of the detectors, and the one that stands for all."""
