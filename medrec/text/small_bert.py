"""A small BERT of our own: makes ``medrec/text/weights``, the encoder ``small-bert``.

Run ``python -m medrec.text.small_bert``: minutes on one core, and on one machine the same bytes each time.  Tokenizer
and network learn from the texts of the package alone (:func:`corpus`), by masked language modelling (Devlin et al.,
NAACL 2019): 30 % of the tokens are to be found again (15 % there; texts are few here), of which 80 % are masked, 10 %
replaced and 10 % left.  Word vectors begin as what the same texts say of which tokens stand together
(:func:`word_vectors`); from random ones so few texts teach hardly more than how frequent each token is.  What
conditions *need* (``condition_needs.csv``, and the lines of treatment of ``conditions.csv``) is not among the texts:
the synthetic records are drawn from it, and a model that has read it would know their answers.

It is no medical language model: a third of a megabyte of text teaches which words go together in our tables, and no
synonym that does not stand there.
"""

from __future__ import annotations

import argparse
import shutil
import string
import time
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from heapq import heappop, heappush
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import save
from scipy import sparse
from scipy.sparse.linalg import eigsh
from torch import nn

from medrec import keys
from medrec.knowledge.classes import atc3, drug_descriptions
from medrec.knowledge.conditions import conditions, icd_titles
from medrec.progress import bar
from medrec.text.encoders import SMALL_BERT

WORDS = 3000
"""Tokens of the vocabulary."""
SIZE, LAYERS, HEADS, LONGEST = 128, 3, 4, 512
TOKENS = 1024
"""Of an optimiser step, padding included."""
SPREAD = 0.05
"""Standard deviation of fresh weights but word vectors; the usual .02 is meant for six times the width."""
EPOCHS, RATE = 24, 1e-3
"""Passes over the texts, and highest learning rate."""
MASKED, BLANKED, REPLACED = 0.3, 0.8, 0.1
SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
PROVENANCE = "PROVENANCE.md"
"""Note beside the weights; no part of the encoder's content."""


def corpus() -> list[str]:
    """Texts of the package, each once, sorted: classes, drugs, titles of codes, conditions with their symptoms."""
    texts = {f"{row['name']}. {row['description']}" for row in atc3().iter_rows(named=True)}
    texts |= {f"{row['name']}. {row['description']}" for row in drug_descriptions().iter_rows(named=True)}
    texts |= set(icd_titles()["title"])
    texts |= {f"{row['title']}: {'; '.join(row['symptoms']) or 'none'}." for row in conditions().iter_rows(named=True)}
    return sorted(texts)


# -- the tokenizer -----------------------------------------------------------------------------------------------------


def word_pieces(words: Counter[str], size: int) -> list[str]:
    """Pieces of words: letters, then the most frequent pair of neighbours made one, again and again.

    Of equally frequent pairs the first in the alphabet is taken.  The learner of the ``tokenizers`` library leaves such
    ties to the order of a hash table, and learns another vocabulary in every process.

    Args:
        words: how often each stands in the texts.
        size: pieces that are wanted; fewer where all words are whole before.

    Returns:
        Pieces; one that continues a word begins with ``##``.

    Example:
        >>> word_pieces(Counter({"gout": 5, "goat": 1}), 9)
        ['##a', '##o', '##t', '##u', 'g', 'go', '##ut', 'gout', '##at']
    """
    split = {word: [word[0], *(f"##{letter}" for letter in word[1:])] for word in words}
    found = dict.fromkeys(sorted({piece for pieces in split.values() for piece in pieces}))
    count: Counter[tuple[str, str]] = Counter()
    where: defaultdict[tuple[str, str], set[str]] = defaultdict(set)
    queue: list[tuple[int, tuple[str, str]]] = []  # most frequent first; what is no longer true is passed over

    def tell(word: str, sign: int) -> None:
        for pair in zip(split[word], split[word][1:], strict=False):
            count[pair] += sign * words[word]
            where[pair].add(word)
            heappush(queue, (-count[pair], pair))

    for word in split:
        tell(word, 1)
    while len(found) < size and queue:
        times, best = heappop(queue)
        if times == 0 or -times != count[best]:
            continue
        joined = best[0] + best[1].removeprefix("##")
        found[joined] = None
        for word in sorted(where.pop(best)):
            tell(word, -1)
            split[word] = _joined(split[word], best, joined)
            tell(word, 1)
    return list(found)


def _joined(pieces: list[str], pair: tuple[str, str], joined: str) -> list[str]:
    """The pieces of a word with every occurrence of a pair made one, from the left."""
    result: list[str] = []
    i = 0
    while i < len(pieces):
        both = tuple(pieces[i : i + 2]) == pair
        result.append(joined if both else pieces[i])
        i += 1 + both
    return result


def tokenizer(texts: Sequence[str]) -> Any:
    """WordPiece in small letters, learnt from the texts; every word of Latin letters and digits has pieces."""
    from transformers import BertTokenizer

    backend = BertTokenizer().backend_tokenizer
    words = Counter(
        word
        for text in texts
        for word, _ in backend.pre_tokenizer.pre_tokenize_str(backend.normalizer.normalize_str(text))
    )
    letters = [*string.ascii_lowercase, *string.digits]
    basis = [*SPECIAL, *string.punctuation, *letters, *(f"##{letter}" for letter in letters)]
    # Letters that the texts hold are among both, so that a few more pieces are asked for than there is room.
    pieces = dict.fromkeys([*basis, *word_pieces(words, WORDS)])
    vocab = {piece: i for i, piece in enumerate(list(pieces)[:WORDS])}
    return BertTokenizer(vocab=vocab, model_max_length=LONGEST)


def word_vectors(tokens: Sequence[Sequence[int]], n_words: int) -> NDArray[np.float32]:
    r"""Directions of tokens by the texts in which they stand together, ``(n_words, d)``, of length 1.

    .. math:: \max\Big(0, \ln \frac{n_{ab}\, n}{n_a\, n_b}\Big) \approx v_a \cdot v_b

    with :math:`n_a` of :math:`n` texts holding token :math:`a`, and :math:`n_{ab}` both: positive mutual information,
    and its largest eigenvalues (Levy and Goldberg, NeurIPS 2014).  A token without company is 0.

    Args:
        tokens: of each text.
        n_words: tokens of the vocabulary.
    """
    text = np.repeat(np.arange(len(tokens)), [len(ids) for ids in tokens])
    held = sparse.csr_matrix((np.ones(len(text)), (text, np.concatenate(tokens))), (len(tokens), n_words))
    held.data[:] = 1
    both, alone = (held.T @ held).tocoo(), held.sum(0).A1
    shared = np.log(both.data * len(tokens) / (alone[both.row] * alone[both.col]))
    kept = (both.row != both.col) & (shared > 0)
    information = sparse.csr_matrix((shared[kept], (both.row[kept], both.col[kept])), both.shape)
    values, vectors = eigsh(information, SIZE, v0=np.ones(n_words), which="LA")
    vectors = vectors * np.sqrt(values.clip(min=0))
    length = np.linalg.norm(vectors, axis=1, keepdims=True)
    return np.where(length > 1e-6, vectors / length.clip(min=1e-6), 0).astype(np.float32)


# -- masked language modelling -----------------------------------------------------------------------------------------


def batches(tokens: Sequence[Sequence[int]], rng: np.random.Generator) -> Iterator[NDArray[np.int64]]:
    """Texts of like length together, padded behind, in random order.

    Args:
        tokens: of each text.
        rng: of the order.

    Yields:
        ``(n, L)`` with at most :data:`TOKENS` entries, or one text.
    """
    order = sorted(rng.permutation(len(tokens)).tolist(), key=lambda i: len(tokens[i]))
    groups: list[list[int]] = [[]]
    for i in order:
        if groups[-1] and (len(groups[-1]) + 1) * len(tokens[i]) > TOKENS:
            groups.append([])
        groups[-1].append(i)
    for g in rng.permutation(len(groups)):
        rows = [tokens[i] for i in groups[g]]
        found = np.full((len(rows), max(map(len, rows))), SPECIAL.index("[PAD]"), dtype=np.int64)
        for row, text in zip(found, rows, strict=True):
            row[: len(text)] = text
        yield found


def masked(
    ids: NDArray[np.int64], n_words: int, rng: np.random.Generator
) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """What is read, and where tokens are to be found again; padding and marks never are.

    Args:
        ids: tokens, of any shape.
        n_words: tokens of the vocabulary.
        rng: of the draw.
    """
    asked = (rng.random(ids.shape) < MASKED) & (ids >= len(SPECIAL))
    how = rng.random(ids.shape)
    read = np.where(asked & (how < BLANKED), SPECIAL.index("[MASK]"), ids)
    other = rng.integers(len(SPECIAL), n_words, ids.shape)
    return np.where(asked & (how >= 1 - REPLACED), other, read), asked


def train(epochs: int = EPOCHS, seed: int = 0) -> tuple[Any, Any, list[float]]:
    """Encoder, tokenizer, and mean loss of each epoch.

    A text begins at a random place of those that the encoder has, so that all of them are learnt though no text is as
    long.

    Args:
        epochs: passes over the texts.
        seed: of weights, masks, places and order.
    """
    from transformers import BertConfig, BertModel

    torch.manual_seed(seed)
    rng = np.random.default_rng(seed)
    reader = tokenizer(corpus())
    tokens = reader(corpus())["input_ids"]
    config = BertConfig(
        vocab_size=len(reader),
        hidden_size=SIZE,
        num_hidden_layers=LAYERS,
        num_attention_heads=HEADS,
        intermediate_size=4 * SIZE,
        max_position_embeddings=LONGEST,
        pad_token_id=SPECIAL.index("[PAD]"),
        initializer_range=SPREAD,
        # Other masks in every epoch are noise enough, and dropout takes a third of the time.
        hidden_dropout_prob=0.0,
        attention_probs_dropout_prob=0.0,
    )
    encoder = BertModel(config, add_pooling_layer=False).train()
    vectors = encoder.embeddings.word_embeddings.weight
    with torch.no_grad():
        vectors.copy_(torch.from_numpy(word_vectors(tokens, len(reader))))
    head = nn.Sequential(nn.Linear(SIZE, SIZE), nn.GELU(), nn.LayerNorm(SIZE))
    base = nn.Parameter(torch.zeros(len(reader)))
    parameters = [*encoder.parameters(), *head.parameters(), base]
    optimiser = torch.optim.AdamW(parameters, lr=RATE, weight_decay=0.01)
    shuffle = np.random.default_rng([seed, 1])  # of its own, so that the steps can be counted before
    steps = sum(1 for _ in range(epochs) for _ in batches(tokens, shuffle))
    shuffle = np.random.default_rng([seed, 1])
    # A tenth of the way up, then down to nothing.
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, RATE, total_steps=steps, pct_start=0.1)
    losses = []
    for _ in bar(range(epochs), desc="small BERT", unit="epoch"):
        each = []
        for ids in batches(tokens, shuffle):
            read, asked = (torch.from_numpy(part) for part in masked(ids, len(reader), rng))
            if not asked.any():  # a few short texts
                continue
            start = torch.from_numpy(rng.integers(0, LONGEST - ids.shape[1] + 1, (len(ids), 1)))
            place, real = start + torch.arange(ids.shape[1]), torch.from_numpy((ids > 0).astype(np.int64))
            states = encoder(input_ids=read, attention_mask=real, position_ids=place).last_hidden_state
            # Input and output share their word vectors.
            logits = head(states[asked]) @ vectors.T + base
            loss = nn.functional.cross_entropy(logits, torch.from_numpy(ids)[asked])
            optimiser.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(parameters, 1.0)
            optimiser.step()
            schedule.step()
            each.append(float(loss.detach()))
        losses.append(float(np.mean(each)))
    return encoder.eval(), reader, losses


def write(folder: Path, encoder: Any, reader: Any) -> None:
    """Weights in half precision, and tokenizer, as :mod:`medrec.text.encoders` reads them."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    encoder.config.save_pretrained(folder)
    reader.save_pretrained(folder)
    state = {name: value.half().contiguous() for name, value in encoder.state_dict().items()}
    (folder / "model.safetensors").write_bytes(save(state, metadata={"format": "pt"}))


def note(folder: Path, epochs: int, losses: Sequence[float], seconds: float) -> str:
    """Where the weights come from, in Markdown."""
    texts = corpus()
    files = [path for path in sorted(folder.iterdir()) if path.name != PROVENANCE]
    lines = [
        "# Where these weights come from",
        "",
        f"A BERT of {LAYERS} layers of {SIZE}, made by `python -m medrec.text.small_bert` from the tables of "
        "`medrec/knowledge` alone: names and descriptions of classes and drugs, titles of codes, conditions with their "
        "symptoms. No patient's record and no foreign weight is in it; same licence as the package.",
        "",
        f"* texts: {len(texts)}, {sum(map(len, texts))} characters, digest `{keys.digest(texts)}`",
        f"* epochs: {epochs}; cross-entropy of masked tokens: first {losses[0]:.3f}, last {losses[-1]:.3f}",
        f"* made in {seconds:.0f} s of one core, torch {torch.__version__}, transformers {version('transformers')}",
        *(f"* `{path.name}`: {path.stat().st_size} bytes, digest `{keys.file_digest(path)}`" for path in files),
    ]
    return "\n".join(lines) + "\n"


def main(arguments: Sequence[str] | None = None) -> None:
    """Train, and put everything where the package finds it."""
    parser = argparse.ArgumentParser(prog="python -m medrec.text.small_bert", description="Make the small BERT.")
    parser.add_argument("--epochs", type=int, default=EPOCHS)
    parser.add_argument("--out", type=Path, default=SMALL_BERT)
    chosen = parser.parse_args(arguments)
    torch.set_num_threads(1)
    start = time.process_time()
    encoder, reader, losses = train(chosen.epochs)
    write(chosen.out, encoder, reader)
    text = note(chosen.out, chosen.epochs, losses, time.process_time() - start)
    (chosen.out / PROVENANCE).write_text(text, encoding="utf-8")
    print(text)


if __name__ == "__main__":
    main()
