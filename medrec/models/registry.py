"""Which systems there are, by the names of the command line."""

from __future__ import annotations

import difflib
from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from typing import Any, get_type_hints

from medrec.models.base import Context, Estimator, Recommender, TrainingConfig
from medrec.models.baselines import LastVisit, LastVisitConfig, Popularity, PopularityConfig
from medrec.models.bimorec import VARIANTS as BIMOREC_VARIANTS
from medrec.models.bimorec import BiMoRec, BiMoRecConfig
from medrec.models.causalmed import VARIANTS as CAUSALMED_VARIANTS
from medrec.models.causalmed import CausalMed, CausalMedConfig
from medrec.models.cognet import VARIANTS as COGNET_VARIANTS
from medrec.models.cognet import COGNet, COGNetConfig
from medrec.models.drugrec import VARIANTS as DRUGREC_VARIANTS
from medrec.models.drugrec import DrugRec, DrugRecConfig
from medrec.models.ecc import ECC, ECCConfig
from medrec.models.gamenet import VARIANTS as GAMENET_VARIANTS
from medrec.models.gamenet import GAMENet, GAMENetConfig
from medrec.models.leap import LEAP, LEAPConfig
from medrec.models.leap import VARIANTS as LEAP_VARIANTS
from medrec.models.lr import LR, LRConfig
from medrec.models.micron import MICRON, MICRONConfig
from medrec.models.micron import VARIANTS as MICRON_VARIANTS
from medrec.models.molerec import VARIANTS as MOLEREC_VARIANTS
from medrec.models.molerec import MoleRec, MoleRecConfig
from medrec.models.retain import RETAIN, RETAINConfig
from medrec.models.retain import VARIANTS as RETAIN_VARIANTS
from medrec.models.safedrug import VARIANTS as SAFEDRUG_VARIANTS
from medrec.models.safedrug import SafeDrug, SafeDrugConfig
from medrec.types import MedrecError


@dataclass(frozen=True)
class Entry:
    """A system of the book.

    Args:
        name: on the command line and in the run store.
        label: as the paper spells it.
        cls: the estimator or network.
        config: its settings, a frozen dataclass.
        family: for ordering and colours.
        sees: what it is given, and which visits it leaves out.
        citation: key in the bibliography; empty for reference points.
        variants: switches of each variant.
    """

    name: str
    label: str
    cls: type[Estimator] | type[Recommender]
    config: type
    family: str
    sees: str
    citation: str = ""
    variants: dict[str, dict[str, Any]] = None  # type: ignore[assignment]

    @property
    def is_network(self) -> bool:
        """Whether it is trained epoch by epoch."""
        return issubclass(self.cls, Recommender)

    def configure(self, variant: str = "paper", settings: dict[str, Any] | None = None) -> Any:
        """Resolved settings of a variant.

        Args:
            variant: one of ``variants``.
            settings: fields that differ, values or their text.

        Raises:
            MedrecError: an unknown variant, an unknown field, or a value of the wrong kind.
        """
        if variant not in self.variants:
            raise MedrecError(
                f"{self.label} has no variant {variant!r}.{_hint(variant, self.variants)} "
                f"It has {', '.join(self.variants)}."
            )
        hints = get_type_hints(self.config)
        known = [f.name for f in fields(self.config)]
        chosen = dict(self.variants[variant])
        for key, value in (settings or {}).items():
            if key not in known:
                raise MedrecError(
                    f"{self.label} has no setting {key!r}.{_hint(key, known)} "
                    f"It has {', '.join(known) if known else 'none'}."
                )
            chosen[key] = _convert(f"{self.label}: {key}", value, hints[key])
        return replace(self.config(), **chosen)


def _entry(*args: Any, variants: dict[str, dict[str, Any]] | None = None, **more: Any) -> Entry:
    return Entry(*args, variants=variants or {"paper": {}}, **more)


ENTRIES: dict[str, Entry] = {
    entry.name: entry
    for entry in (
        _entry("popularity", "popularity", Popularity, PopularityConfig, "reference", "nothing of the patient"),
        _entry(
            "last-visit",
            "last visit",
            LastVisit,
            LastVisitConfig,
            "reference",
            "medications of the previous visit; skips first visits",
        ),
        _entry("lr", "LR", LR, LRConfig, "classical", "diagnoses and procedures of the visit itself"),
        _entry(
            "ecc", "ECC", ECC, ECCConfig, "classical", "diagnoses and procedures of the visit itself", "read2011chains"
        ),
        _entry(
            "retain",
            "RETAIN",
            RETAIN,
            RETAINConfig,
            "sequence",
            "all codes of earlier visits, none of the visit itself; skips first visits",
            "choi2016retain",
            variants=RETAIN_VARIANTS,
        ),
        _entry(
            "leap",
            "LEAP",
            LEAP,
            LEAPConfig,
            "sequence",
            "diagnoses of the visit itself",
            "zhang2017leap",
            variants=LEAP_VARIANTS,
        ),
        _entry(
            "micron",
            "MICRON",
            MICRON,
            MICRONConfig,
            "sequence",
            "diagnoses and procedures up to the visit itself, medications of the first visit; skips first visits",
            "yang2021micron",
            variants=MICRON_VARIANTS,
        ),
        _entry(
            "gamenet",
            "GAMENet",
            GAMENet,
            GAMENetConfig,
            "graph",
            "diagnoses and procedures up to the visit itself, medications of earlier visits",
            "shang2019gamenet",
            variants=GAMENET_VARIANTS,
        ),
        _entry(
            "cognet",
            "COGNet",
            COGNet,
            COGNetConfig,
            "graph",
            "diagnoses and procedures up to the visit itself, medications of earlier visits",
            "wu2022cognet",
            variants=COGNET_VARIANTS,
        ),
        _entry(
            "safedrug",
            "SafeDrug",
            SafeDrug,
            SafeDrugConfig,
            "molecule",
            "diagnoses and procedures up to the visit itself, molecules in 2D",
            "yang2021safedrug",
            variants=SAFEDRUG_VARIANTS,
        ),
        _entry(
            "molerec",
            "MoleRec",
            MoleRec,
            MoleRecConfig,
            "molecule",
            "diagnoses and procedures up to the visit itself, molecules in 2D",
            "yang2023molerec",
            variants=MOLEREC_VARIANTS,
        ),
        _entry(
            "causalmed",
            "CausalMed",
            CausalMed,
            CausalMedConfig,
            "causal",
            "diagnoses and procedures up to the visit itself, medications of earlier visits",
            "li2024causalmed",
            variants=CAUSALMED_VARIANTS,
        ),
        _entry(
            "drugrec",
            "DrugRec",
            DrugRec,
            DrugRecConfig,
            "causal",
            "titles of diagnoses, procedures and symptoms of the visit and three before, molecules",
            "sun2022drugrec",
            variants=DRUGREC_VARIANTS,
        ),
        _entry(
            "bimorec",
            "BiMoRec",
            BiMoRec,
            BiMoRecConfig,
            "molecule",
            "diagnoses and procedures of the visit, all codes of earlier visits, molecules in 2D and 3D",
            "mu2024bimorec",
            variants=BIMOREC_VARIANTS,
        ),
    )
}


def get(name: str) -> Entry:
    """A system by name; case and underscores do not matter.

    Raises:
        MedrecError: there is no such system.
    """
    key = name.lower().replace("_", "-").replace(" ", "-")
    if key not in ENTRIES:
        raise MedrecError(f"There is no system {name!r}.{_hint(key, ENTRIES)} Systems: {', '.join(ENTRIES)}.")
    return ENTRIES[key]


def _hint(word: str, known: Any) -> str:
    close = difflib.get_close_matches(word, list(known), n=1, cutoff=0.5)
    return f" Did you mean {close[0]!r}?" if close else ""


_TRUTH = {"true": True, "yes": True, "1": True, "false": False, "no": False, "0": False}


def _convert(where: str, value: Any, hint: Any) -> Any:
    """A value, or its text from the command line or a YAML file, as the type that the setting has."""
    choices = getattr(hint, "__args__", None)
    if choices:
        if value not in choices:
            raise MedrecError(f"{where} is {value!r}; it can be {' or '.join(map(repr, choices))}.")
        return value
    kinds: dict[type, Callable[[Any], Any]] = {bool: lambda v: _TRUTH[str(v).lower()], int: _integer, float: float}
    try:
        return kinds[hint](value)
    except (ValueError, KeyError, TypeError):
        raise MedrecError(f"{where} is {value!r}; it must be {_WORDS[hint]}.") from None


_WORDS = {bool: "true or false", int: "a whole number", float: "a number"}


def _integer(value: Any) -> int:
    if float(value) != int(float(value)):
        raise ValueError
    return int(float(value))


__all__ = ["ENTRIES", "Context", "Entry", "TrainingConfig", "get"]
