"""Fetch the open demo databases from PhysioNet, checked against PhysioNet's own checksums.

``checksums.csv`` beside this module lists the tables that the readers use; its sums are those of ``SHA256SUMS.txt`` of
each release. The three demos are under the Open Data Commons Open Database License v1.0, which is fetched with them:

* Johnson, Pollard, Mark (2019): MIMIC-III Clinical Database Demo 1.4, https://doi.org/10.13026/C2HM2Q
* Johnson et al. (2023): MIMIC-IV Clinical Database Demo 2.2, https://doi.org/10.13026/dp1f-ex47
* Johnson et al. (2021): eICU Collaborative Research Database Demo 2.0.1, https://doi.org/10.13026/4mxk-na84
* with each: Goldberger et al. (2000): PhysioBank, PhysioToolkit, and PhysioNet. Circulation 101(23), e215-e220
"""

from __future__ import annotations

import hashlib
import http.client
import os
import urllib.error
import urllib.request
from pathlib import Path

import polars as pl
from tqdm import tqdm

from medrec.paths import PACKAGE, data_dir
from medrec.types import MedrecError

BASE_URL = "https://physionet.org/files"
RELEASES = {"mimic3-demo": "mimiciii-demo/1.4", "mimic4-demo": "mimic-iv-demo/2.2", "eicu-demo": "eicu-crd-demo/2.0.1"}
CHUNK = 1 << 16
TIMEOUT = 60
"""Seconds without a byte before a connection counts as dead."""


def fetch(name: str, dest: Path | None = None, base_url: str = BASE_URL) -> Path:
    """Download one demo database.

    Files arrive in a hidden folder beside ``dest``, each is checked, and the folder takes its name when all are there.
    A download that broke off goes on from where it stopped.

    Args:
        name: ``mimic3-demo``, ``mimic4-demo`` or ``eicu-demo``.
        dest: where the folder is to lie; None: ``<data_dir>/<name>``.
        base_url: where PhysioNet's ``files`` are served.

    Returns:
        ``dest``. Where it exists and is complete, nothing is downloaded.

    Raises:
        MedrecError: no such demo, ``dest`` holds something else, the network fails, or a checksum does not fit.
    """
    if name not in RELEASES:
        raise MedrecError(
            f"{name!r} cannot be fetched; open databases are {', '.join(RELEASES)}. "
            "Credentialed tables come from PhysioNet after training: see `medrec data import`."
        )
    dest = data_dir() / name if dest is None else Path(dest)
    files = pl.read_csv(PACKAGE / "data" / "checksums.csv", glob=False).filter(pl.col("dataset") == name)
    expected = dict(zip(files["path"], files["sha256"], strict=True))
    if dest.exists():
        missing = [path for path, digest in expected.items() if not _is_sound(dest / path, digest)]
        if missing:
            raise MedrecError(f"{dest} is there already, but {missing[0]} in it is missing or changed. Move it away.")
        return dest
    arriving = dest.parent / f".{dest.name}-arriving"
    with tqdm(total=len(expected), desc=name, unit="file", disable=None) as progress:
        for path, digest in expected.items():
            _download(f"{base_url.rstrip('/')}/{RELEASES[name]}/{path}", arriving / path, digest)
            progress.update()
    try:
        os.replace(arriving, dest)
    except OSError as error:
        raise MedrecError(f"Cannot move {arriving} to {dest}: {error.strerror}. Choose another folder.") from error
    return dest


def _download(url: str, target: Path, digest: str) -> None:
    """One file, from where an earlier try left off."""
    if _is_sound(target, digest):
        return
    part = target.with_name(target.name + ".part")
    try:
        part.parent.mkdir(parents=True, exist_ok=True)
        have = part.stat().st_size if part.exists() else 0
        request = urllib.request.Request(url, headers={"Range": f"bytes={have}-"} if have else {})
        try:
            reply = urllib.request.urlopen(request, timeout=TIMEOUT)
        except urllib.error.HTTPError as error:
            if error.code != 416:  # nothing beyond what we have: it is whole, or another file
                raise
            reply = None
        if reply is not None:
            with reply, part.open("ab" if reply.status == 206 else "wb") as file:
                rest = reply.length
                size = None if rest is None else file.tell() + rest
                with tqdm(
                    total=size,
                    initial=file.tell(),
                    desc=target.name,
                    unit="B",
                    unit_scale=True,
                    leave=False,
                    disable=None,
                ) as bar:
                    while chunk := reply.read(CHUNK):
                        file.write(chunk)
                        bar.update(len(chunk))
            if size is not None and part.stat().st_size < size:
                raise MedrecError(
                    f"The connection broke while fetching {url}. Run the same command again: it goes on there."
                )
    except urllib.error.HTTPError as error:
        raise MedrecError(f"{url} answers {error.code} {error.reason}. Check the address, or try later.") from error
    except (urllib.error.URLError, http.client.HTTPException, ConnectionError, TimeoutError) as error:
        reason = getattr(error, "reason", None) or error or type(error).__name__
        raise MedrecError(
            f"{url} cannot be fetched: {reason}. Check the network and run the same command again; "
            "what has arrived is kept."
        ) from error
    except OSError as error:
        raise MedrecError(
            f"Cannot write {part}: {error.strerror}. Free space or choose another folder; what has arrived is kept."
        ) from error
    if not _is_sound(part, digest):
        part.unlink()
        raise MedrecError(
            f"{url} arrived, but its SHA-256 is not the one that PhysioNet lists for it. It was deleted; fetch again."
        )
    os.replace(part, target)


def _is_sound(path: Path, digest: str) -> bool:
    """Whether the file is there with that SHA-256."""
    if not path.is_file():
        return False
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest() == digest
