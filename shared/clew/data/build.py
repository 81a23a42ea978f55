"""A dataset from a source of text: read, split by document, tokenise, pack, write."""

import hashlib
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from transformers import PreTrainedTokenizerBase

from clew.data.bos import bos_token_id
from clew.data.dataset import MANIFEST_FILE, DatasetManifest, Split
from clew.data.overlap import WINDOW, Passages, cut
from clew.data.packing import Packer
from clew.data.sources import Document, open_source
from clew.files import file_sha256, whole_folder
from clew.reporting import Report, Silent, StopRequested
from clew_spec.datasets import BuildDatasetSpec
from clew_spec.errors import DataError, InvalidSpec

DOCUMENTS_AT_A_TIME = 64
CHARACTERS_AT_A_TIME = 2**20


def build_dataset(
    spec: BuildDatasetSpec,
    tokenizer: PreTrainedTokenizerBase,
    *,
    tokenizer_digest: str,
    out: Path,
    import_roots: Sequence[Path] = (),
    path: Path | None = None,
    report: Report | None = None,
) -> DatasetManifest:
    """Write the dataset that `spec` describes to the folder `out`, whole or not at all.

    Documents come in an order that the seed decides and are read only as far as `max_tokens` needs; files must lie
    under one of `import_roots`, at `path` where `spec.source.path` is another's name for it. Whether a document is held
    out is decided by its content and `heldout_fraction` alone: what one dataset holds out, none with the same fraction
    or a larger one trains on. Within a dataset, no 16 tokens in a row are in both splits: paragraphs that the other
    split was first to hold are left out. The last tokens of a split that do not fill a row are dropped. Memory grows by
    the hashes in `Passages`, and by nothing else.

    Raises:
        InvalidSpec: the first token, or `max_tokens`, cannot be had with this tokenizer and context, or a path is
            outside the roots.
        DataError: the source cannot be read, or has too little text for a row in each split.
        StopRequested: the report asked to stop.
    """
    report = report or Silent()
    bos_id = bos_token_id(tokenizer, spec.bos)
    separator_id = _separator_id(tokenizer)
    # Counted in tokens of text, so that rows with their first token stay within max_tokens.
    room = spec.context - (bos_id is not None)
    n_first = int(bos_id is not None and spec.attention == "document")
    """Tokens that stand first in each document, beside those of rows."""
    budget = None if spec.max_tokens is None else spec.max_tokens // spec.context * room
    if budget == 0:
        raise InvalidSpec("max_tokens is less than one row", where="/spec/max_tokens", expected=f">= {spec.context}")

    source = open_source(spec.source, import_roots, path)
    text_digest = hashlib.sha256()
    n_tokens = n_documents = 0
    with whole_folder(out) as folder:
        train = Packer(folder, "train", context=spec.context, bos_id=bos_id, attention=spec.attention)
        heldout = Packer(folder, "heldout", context=spec.context, bos_id=bos_id, attention=spec.attention)
        packers: dict[Split, Packer] = {"train": train, "heldout": heldout}
        shared: dict[Split, int] = dict.fromkeys(packers, 0)
        passages = Passages()
        for batch in _batches(source.documents(spec.seed)):
            if report.stop_requested():
                raise StopRequested
            for document, (ids, units, headings) in zip(batch, _tokenise(tokenizer, batch), strict=True):
                if budget is not None and n_tokens >= budget:
                    break
                split: Split = "heldout" if document.draw < spec.heldout_fraction else "train"
                kept_T = cut(passages, split, ids, units, headings)
                shared[split] += len(ids) - len(kept_T)
                if not len(kept_T):
                    continue
                passages.add(split, kept_T)
                kept = [*kept_T.tolist(), separator_id][: None if budget is None else budget - n_tokens - n_first]
                packers[split].add(kept)
                text_digest.update(f"{document.name}\0{document.text}\0".encode())
                n_documents += 1
                n_tokens += len(kept) + n_first
            done, total, unit = source.progress() if budget is None else (n_tokens, budget, "tokens")
            report.progress("reading and tokenising", done, total, unit)
            if budget is not None and n_tokens >= budget:
                break
        if n_documents == 0:
            raise DataError(f"there is no text in {source.title}", where="/spec/source")
        for split, packer in packers.items():
            packer.close()
            if packer.n_rows == 0:
                raise DataError(
                    f"the {packer.split} split has {packer.dropped} tokens of text, less than one row, and "
                    f"{shared[split]} that were left out for they share {WINDOW} in a row with the other split",
                    where="/spec/source" if budget is None else "/spec/max_tokens",
                    expected=f"at least {room} tokens in each split",
                    hint="allow more tokens, a larger heldout_fraction, or texts that repeat each other less",
                )
            report.log(
                f"{packer.split}: {packer.n_rows} rows of {spec.context} tokens from {packer.n_documents} documents; "
                f"left out: {shared[split]} tokens in paragraphs that share {WINDOW} tokens in a row with the other "
                f"split, and a tail of {packer.dropped}"
            )
        names = [*train.files, *heldout.files]
        manifest = DatasetManifest(
            tokenizer_digest=tokenizer_digest,
            context=spec.context,
            bos=spec.bos,
            bos_id=bos_id,
            separator_id=separator_id,
            attention=spec.attention,
            train_tokens=train.n_rows * spec.context,
            heldout_tokens=heldout.n_rows * spec.context,
            n_documents=n_documents,
            n_heldout_documents=heldout.n_documents,
            largest_id=max(train.largest_id, heldout.largest_id),
            seed=spec.seed,
            heldout_fraction=spec.heldout_fraction,
            shared_tokens={**shared},
            source={
                **spec.source.model_dump(),
                **source.facts(),
                "text_sha256": text_digest.hexdigest(),
            },
            files={name: file_sha256(folder / name) for name in names},
        ).signed()
        (folder / MANIFEST_FILE).write_text(manifest.model_dump_json(indent=1) + "\n")
    return manifest


def _batches(documents: Iterator[Document]) -> Iterator[list[Document]]:
    """As many documents as are tokenised at once: what comes of it takes far more memory than the text."""
    batch: list[Document] = []
    characters = 0
    for document in documents:
        batch.append(document)
        characters += len(document.text)
        if len(batch) == DOCUMENTS_AT_A_TIME or characters >= CHARACTERS_AT_A_TIME:
            yield batch
            batch, characters = [], 0
    if batch:
        yield batch


def _tokenise(
    tokenizer: PreTrainedTokenizerBase, found: list[Document]
) -> Iterator[tuple[list[int], list[int], list[int]]]:
    """Of each document its token ids, the unit each is in, and the heading of each unit."""
    # Special tokens that the text speaks of are text: none of them may end a document or begin a turn.
    encoded = tokenizer(
        [document.text for document in found],
        add_special_tokens=False,
        split_special_tokens=True,
        return_attention_mask=False,
        return_offsets_mapping=True,
        verbose=False,
    )
    for document, ids, offsets in zip(found, encoded["input_ids"], encoded["offset_mapping"], strict=True):
        starts, headings = document.units()
        units = np.searchsorted(starts, [start for start, _ in offsets], side="right") - 1
        yield ids, units.tolist(), headings


def _separator_id(tokenizer: PreTrainedTokenizerBase) -> int:
    for token_id in (tokenizer.eos_token_id, tokenizer.bos_token_id):
        if token_id is not None:
            return int(token_id)
    raise DataError(
        "the tokenizer has neither an end-of-text nor a BOS token to put between documents", where="/spec/model"
    )
