"""What callers say, checked in one place: for the command line, for Python, for YAML files and for chapters.

Numbers have a :class:`Range`, words a list.  A value that does not fit is a :class:`~medrec.types.MedrecError` of one
line that names it, and says what would fit.
"""

from __future__ import annotations

import difflib
import math
import os
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from numbers import Real
from pathlib import Path
from typing import Annotated, Any, Literal, get_args, get_origin, get_type_hints

from medrec.types import MedrecError

LETTERS = 60
"""Of a wrong value, in a message."""


@dataclass(frozen=True)
class Range:
    """Which numbers are allowed.

    Args:
        low: the lowest one.
        high: the highest one.
        above: ``low`` itself is not allowed.
        below: ``high`` itself is not allowed.
    """

    low: float
    high: float
    above: bool = False
    below: bool = False

    def __contains__(self, value: float) -> bool:
        # Every comparison with nan is false.
        return (self.low < value if self.above else self.low <= value) and (
            value < self.high if self.below else value <= self.high
        )

    def __str__(self) -> str:
        low, high = (f"{end:.0f}" if end == int(end) else f"{end:g}" for end in (self.low, self.high))
        return f"{'above ' * self.above}{low} to {'below ' * self.below}{high}"


Share = Annotated[float, Range(0, 1)]
"""A share, a probability, a rate of pairs."""
Rate = Annotated[float, Range(0, 1, above=True)]
"""The same where something is divided by it, or nothing would be learnt at 0."""
Dropout = Annotated[float, Range(0, 1, below=True)]
"""The same where something must be left."""
Weight = Annotated[float, Range(0, 1000)]
"""A factor, as of a term of a loss."""
Scale = Annotated[float, Range(0, 1000, above=True)]
"""A factor by which something is divided."""
Penalty = Annotated[float, Range(0, 1e6, above=True)]
"""Inverse strength of a penalty."""
Width = Annotated[int, Range(1, 8192)]
"""Of a layer."""
Few = Annotated[int, Range(1, 64)]
"""Layers, heads, lists."""
Count = Annotated[int, Range(1, 100_000)]
"""How many."""
Limit = Annotated[int, Range(0, 100_000)]
"""How many, where 0 means something of its own."""
Seed = Annotated[int, Range(0, 2**32 - 1)]
"""What every generator of random numbers takes."""

USUAL: dict[str, Any] = {
    "learning_rate": Rate,
    "weight_decay": Weight,
    "epochs": Count,
    "patience": Count,
    "patience_steps": Annotated[int, Range(0, 10**9)],
    "batch_size": Count,
    "threshold": Share,
    "dropout": Dropout,
    "size": Width,
    "width": Width,
    "hidden": Width,
    "n_layers": Few,
    "n_heads": Few,
    "gin_layers": Few,
    "temperature": Scale,
    "target_ddi": Share,
}
"""Ranges of settings that many systems have, by name; what a dataclass declares itself wins."""
NUMBERS = {int: Range(-(10**9), 10**9), float: Range(-1e9, 1e9)}
"""Of settings that have neither: numbers that exist."""
_TRUTH = {"true": True, "yes": True, "1": True, "false": False, "no": False, "0": False}


def allowed(name: str, hint: Any) -> str:
    """What a setting can be, for a listing.

    Args:
        name: of the setting.
        hint: of its type, with :class:`Range` where it says one.
    """
    kind, within = _of(name, hint)
    if within is not None:
        return str(within)
    if kind in (bool, str):
        return "true, false" if kind is bool else "a name"
    return ", ".join(map(str, get_args(kind)))


def setting(where: str, name: str, value: Any, hint: Any) -> Any:
    """A value, or its text from the command line or a YAML file, as the type that a setting has.

    Args:
        where: whose setting, for messages.
        name: of the setting.
        value: of it.
        hint: of its type: a truth value, a number, or ``Literal`` words; anything else is left as it is.

    Raises:
        MedrecError: it is of another kind, or out of its range.
    """
    kind, within = _of(name, hint)
    if within is not None:
        return number(f"{where}: {name}", value, within, whole=kind is int)
    if kind is bool:
        found = _TRUTH.get(str(value).lower()) if isinstance(value, str | int) else None
        if found is None:
            raise MedrecError(f"{where}: {name} is {shown(value)}; it must be true or false.")
        return found
    if get_origin(kind) is Literal:
        words = get_args(kind)
        if not isinstance(value, str | int) or value not in words:
            hinted = near(value, words) if isinstance(value, str) else ""
            raise MedrecError(f"{where}: {name} is {shown(value)}.{hinted} It must be {' or '.join(map(repr, words))}.")
    return value


def check_settings(where: str, config: Any) -> None:
    """All settings of a dataclass, as :func:`setting` checks each.

    Raises:
        MedrecError: one of them is of another kind, or out of its range.
    """
    for name, hint in get_type_hints(type(config), include_extras=True).items():
        setting(where, name, getattr(config, name), hint)


def _of(name: str, hint: Any) -> tuple[Any, Range | None]:
    """Kind of a setting, and the range of a number."""
    if get_origin(hint) is not Annotated and hint in NUMBERS:
        usual = USUAL.get(name)
        hint = usual if usual is not None and get_args(usual)[0] is hint else Annotated[hint, NUMBERS[hint]]
    if get_origin(hint) is Annotated:
        kind, *about = get_args(hint)
        return kind, next((one for one in about if isinstance(one, Range)), NUMBERS.get(kind))
    return hint, None


def number(where: str, value: Any, within: Range, *, whole: bool) -> Any:
    """A number, or its text.

    Args:
        where: what it is, for messages.
        value: of it.
        within: what is allowed.
        whole: whether it has no fraction.

    Raises:
        MedrecError: it is none, or not in this range.
    """
    found = _whole(value) if whole else _real(value)
    if found not in within:
        kind = "a whole number" if whole else "a number"
        raise MedrecError(f"{where} is {shown(value)}; it must be {kind} from {within}.")
    return found


def _real(value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, str | Real):
        return math.nan
    try:
        return float(value)
    except (ValueError, OverflowError):
        return math.nan


def _whole(value: Any) -> float:
    """Whole numbers are exact, however large; nan for all other."""
    if isinstance(value, str) and re.fullmatch(r"\s*[+-]?\d{1,30}\s*", value):
        return int(value)
    found = _real(value)
    if not math.isfinite(found) or found != int(found):
        return math.nan
    return int(value) if not isinstance(value, str) else int(found)


def check_heads(name: str, width: int, n_heads: int) -> None:
    """Attention gives each head an equal share of the width.

    Raises:
        MedrecError: there is no such share.
    """
    if width % n_heads:
        raise MedrecError(f"{name} is {width}, which {n_heads} heads cannot share; it must be a multiple of {n_heads}.")


def checked_seed(value: Any, name: str = "seed") -> int:
    """A seed.

    Raises:
        MedrecError: it is none.
    """
    found: int = number(name, value, get_args(Seed)[1], whole=True)
    return found


def checked_count(name: str, value: Any, most: int = 1000) -> int:
    """How many: one or more.

    Raises:
        MedrecError: it is no such number.
    """
    found: int = number(name, value, Range(1, most), whole=True)
    return found


def checked_device(device: Any) -> str:
    """The device, where there is one.

    Raises:
        MedrecError: there is no such device at all, or none here.
    """
    word = str(device)  # PyTorch's own objects are welcome
    if not re.fullmatch(r"cpu|cuda(:\d{1,4})?", word):
        raise MedrecError(f"There is no device {shown(word)}; use cpu, cuda or cuda:0.")
    if word != "cpu":
        import torch

        here = torch.cuda.device_count() if torch.cuda.is_available() else 0
        if here == 0:
            raise MedrecError(f"No CUDA device is to be found here, so that {word} cannot be used; use cpu.")
        if int(word.partition(":")[2] or 0) >= here:
            raise MedrecError(f"There is no device {word} here; the last one is cuda:{here - 1}.")
    return word


def checked_file(name: str, value: Any) -> Path | None:
    """A file that is there; ``None`` stays.

    Raises:
        MedrecError: it is something else.
    """
    if value is None:
        return None
    if not isinstance(value, str | Path):
        raise MedrecError(f"{name} is {shown(value)}; it must be the path of a file.")
    path = Path(value).expanduser()
    if not path.is_file():
        what = "is a folder" if path.is_dir() else "does not exist"
        raise MedrecError(f"{path} {what}; {name} must be the path of a file.")
    return path


def checked_output(name: str, path: Path | None, endings: Sequence[str] = (), *, make: bool = False) -> None:
    """Refuse a file that cannot be written, before what shall be written in it is made.

    Args:
        name: of the option.
        path: of the file; ``None``: nothing is to be written.
        endings: that its name can have; none: any.
        make: folders that are missing are made.

    Raises:
        MedrecError: it cannot.
    """
    if path is None:
        return
    if endings and path.suffix not in endings:
        raise MedrecError(f"{name} {path} must be a file ending in {' or '.join(endings)}.")
    if path.is_dir():
        raise MedrecError(f"{name} {path} is a folder; give the name of a file in it.")
    folder = path.absolute().parent
    while make and not folder.exists():
        folder = folder.parent
    why = ""
    if not folder.is_dir():
        why = f"{folder} is no folder" if folder.exists() else f"there is no folder {folder}"
    elif not os.access(path if path.exists() else folder, os.W_OK):
        why = f"you may not write in {folder}"
    if why:
        raise MedrecError(f"{name} {path} cannot be written: {why}. Choose another place.")


def checked_threshold(value: Any) -> Any:
    """``"own"``, ``"tuned"``, or a probability.

    Raises:
        MedrecError: it is something else.
    """
    found = value if isinstance(value, str) and value in ("own", "tuned") else _real(value)
    if isinstance(found, float) and found not in Range(0, 1):
        raise MedrecError(f"threshold is {shown(value)}; it must be 'tuned', 'own' or a number from 0 to 1.")
    return found


def checked_mapping(name: str, value: Any) -> Mapping[str, Any]:
    """Values by name; ``None`` is none at all.

    Raises:
        MedrecError: it is something else.
    """
    if not isinstance(value, Mapping | None) or not all(isinstance(key, str) for key in value or ()):
        raise MedrecError(f"{name} is {shown(value)}; it must hold names and values, e.g. {{'epochs': 5}}.")
    return value or {}


def checked_word(what: str, value: Any, example: str) -> str:
    """A word.

    Args:
        what: it names, with its article: ``"A cohort"``.
        value: of it.
        example: of a right one.

    Raises:
        MedrecError: it is something else.
    """
    if not isinstance(value, str):
        raise MedrecError(f"{what} is named by a word, e.g. {example!r}, not by {shown(value)}.")
    return value


def shown(value: Any) -> str:
    """A wrong value in a message: one line, and not a long one."""
    text = one_line(repr(value))
    return text if len(text) <= LETTERS else f"{text[: LETTERS - 4]} ..."


def one_line(text: object) -> str:
    """Text, or what an error says, without the ends of its lines."""
    return " ".join(str(text).split())


def near(word: str, known: Iterable[Any]) -> str:
    """A suggestion for a misspelt word, or nothing."""
    close = difflib.get_close_matches(word, list(map(str, known)), n=1, cutoff=0.5)
    return f" Did you mean {close[0]!r}?" if close else ""
