"""Molecules in the generator: a similarity for the ``structure`` knob, and two planted effects.

Class-level by design: for the ``structure`` knob a class is the drugs that ``products.csv`` lists for it, and has a
fragment to the share of them that have it. Nothing here looks at an embedding of any system.

**Planted structure.** Some acute conditions *ask* for a building block, a BRICS fragment that a few classes share. From
the stay with the condition on, each stay gets most of the classes that have it, and for this need no others: the
fragment decides. A system that knows molecules can learn one preference for a fragment; one that does not must learn
every (condition, class) pair apart. The need outlasts the condition, because some systems look at molecules through
earlier stays alone: what a stay asks by its own codes, they answer without molecules.

**Planted shape.** The pool are two classes whose drugs, tretinoin (D10A) and isotretinoin (D10B), are one and the same
graph and differ in one double bond, hence in length: 14.3 against 13.5 Å across the conformers, asphericity .75 against
.65 (:data:`EXTENDED`, :data:`COMPACT`). Half of the asking conditions want the extended one, half the compact one.
Atom and bond features that leave out stereochemistry cannot tell the two classes apart.
"""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from medrec.data.synthetic.products import products
from medrec.knowledge.drugs import drugs

FRAGMENTS = {
    "carboxylic acid": "C(=O)[OX2H1]",
    "sulfonamide": "S(=O)(=O)[NX3]",
    "tertiary amine": "[NX3;H0]([CX4])([CX4])[CX4]",
    "phenol": "c[OX2H]",
    "aryl halide": "c[F,Cl,Br,I]",
    "ester": "C(=O)O[CX4]",
    "amide": "[NX3]C(=O)[#6]",
    "azole": "[nr5]",
    "azine": "[nr6]",
    "steroid": "[#6]1~[#6]~[#6]~[#6]2~[#6](~[#6]~1)~[#6]~[#6]~[#6]1~[#6]~2~[#6]~[#6]~[#6]2~[#6]~[#6]~[#6]~[#6]~1~2",
    "beta-lactam": "O=C1CCN1",
    "aryl ether": "cO[CX4]",
}
"""Name → SMARTS."""

ASKED = {
    "propyl": "[8*]CCC",
    "ethyl": "[8*]CC",
    "acetic acid": "[8*]CC(=O)O",
    "piperazine": "[5*]N1CCN([5*])CC1",
}
"""Building blocks that conditions ask for under ``control="structure"``, each in six or seven of about 150 classes.

Blocks that dozens of classes share would not do: a need cannot be met by dozens of classes at once, and where a few of
them meet it, it is no longer the block that decides.
"""

ASKING_ONE_IN = {"structure": 5, "shape": 3}
"""Of the acute conditions, one in so many asks."""

EXTENDED, COMPACT = ("D10A", "tretinoin"), ("D10B", "isotretinoin")
"""Classes and drugs of ``control="shape"``."""

PLANTED = "planted"
"""First word in the names of planted needs."""

P_PLANTED = 0.6
"""As ``condition_needs.csv`` counts; the generator sharpens it to about .8."""


@cache
def _smiles() -> dict[str, str]:
    known = drugs().filter(pl.col("smiles").fill_null("") != "")
    return dict(known.select("name", "smiles").iter_rows())


@cache
def fragments_of_classes(classes: tuple[str, ...]) -> NDArray[np.float64]:
    """Share of each class's drugs that have each fragment, ``(M, F)``; NaN where no drug has a structure."""
    from rdkit import Chem

    patterns = [Chem.MolFromSmarts(smarts) for smarts in FRAGMENTS.values()]
    rows = np.full((len(classes), len(patterns)), np.nan)
    names = dict(products().group_by("atc3").agg(pl.col("drug").unique().sort()).iter_rows())
    for i, code in enumerate(classes):
        molecules = [Chem.MolFromSmiles(_smiles()[name]) for name in names.get(code, []) if name in _smiles()]
        if molecules:
            rows[i] = [np.mean([m.HasSubstructMatch(pattern) for m in molecules]) for pattern in patterns]
    return rows


def building_blocks(classes: tuple[str, ...]) -> dict[str, set[str]]:
    """Names of :data:`ASKED` that the drugs which systems are shown for a class have, by class."""
    from medrec.chem.molecules import build

    molecules = build(classes)
    column = {name: molecules.fragments.index(fragment) for name, fragment in ASKED.items()}
    return {
        code: {name for name, s in column.items() if molecules.fragment_mask[m, s]} for m, code in enumerate(classes)
    }


def similarity(classes: tuple[str, ...]) -> NDArray[np.float64]:
    """Correlation matrix ``(M, M)`` of preferences: classes are alike in fragments and by ATC level-2 group."""
    share = fragments_of_classes(classes)
    fragments = np.nan_to_num(share - np.nanmean(share, axis=0))
    fragments /= np.maximum(np.linalg.norm(fragments, axis=1, keepdims=True), 1e-9)
    groups = np.array([code[:3] for code in classes])
    together = (groups[:, None] == groups[None, :]).astype(float)
    own = np.eye(len(classes))
    matrix = 0.6 * fragments @ fragments.T + 0.25 * together + 0.15 * own
    scale = np.sqrt(np.diag(matrix))
    scaled: NDArray[np.float64] = matrix / scale[:, None] / scale[None, :]
    return scaled


def plant(need_table: pl.DataFrame, condition_table: pl.DataFrame, control: str) -> tuple[pl.DataFrame, dict[str, Any]]:
    """Add planted needs to the table of needs.

    Args:
        need_table: as :func:`medrec.knowledge.conditions.needs` gives it.
        condition_table: as :func:`medrec.knowledge.conditions.conditions` gives it.
        control: ``structure`` or ``shape``.

    Returns:
        The table with rows added, and where to look: ``asks`` (condition id → what it asks for), ``answers`` (what is
        asked for → classes that have it), ``molecules`` (class → the drugs that stand for it, where restricted).
    """
    acute = condition_table.filter((pl.col("kind") == "acute") & (pl.col("prevalence") != "rare"))["id"].to_list()
    asking = acute[:: ASKING_ONE_IN[control]]
    molecules: dict[str, list[str]] = {}
    if control == "structure":
        have = building_blocks(tuple(sorted(need_table["option"].unique())))
        answers = {name: [code for code, own in have.items() if name in own] for name in ASKED}
        asks = {condition: list(ASKED)[i % len(ASKED)] for i, condition in enumerate(asking)}
        needs = [
            (c, f"{PLANTED} {f} {i}", P_PLANTED, [code]) for c, f in asks.items() for i, code in enumerate(answers[f])
        ]
    else:
        answers = {"extended": [EXTENDED[0]], "compact": [COMPACT[0]]}
        molecules = {code: [drug] for code, drug in (EXTENDED, COMPACT)}
        asks = {condition: ("extended", "compact")[i % 2] for i, condition in enumerate(asking)}
        needs = [(c, f"{PLANTED} {wanted}", P_PLANTED, answers[wanted]) for c, wanted in asks.items()]
    rows = [
        {"condition": c, "need": name, "probability": p, "severe": False, "option": code, "weight": 1 / len(codes)}
        for c, name, p, codes in needs
        for code in codes
    ]
    planted = {"control": control, "asks": asks, "answers": answers, "molecules": molecules}
    return pl.concat([need_table, pl.DataFrame(rows)], how="vertical_relaxed"), planted
