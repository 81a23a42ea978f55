"""A dataset from a source of text: read, split by document, tokenise, pack, write."""

import hashlib
from itertools import islice
from pathlib import Path

from transformers import PreTrainedTokenizerBase

from clew.data.bos import bos_token_id
from clew.data.dataset import MANIFEST_FILE, DatasetManifest
from clew.data.packing import Packer
from clew.data.pydoc import documents, find_package
from clew.files import file_sha256, whole_folder
from clew.reporting import Report, Silent, StopRequested
from clew_spec.datasets import BuildDatasetSpec
from clew_spec.errors import DataError, InvalidSpec

FILES_AT_A_TIME = 16


def build_dataset(
    spec: BuildDatasetSpec,
    tokenizer: PreTrainedTokenizerBase,
    *,
    tokenizer_digest: str,
    out: Path,
    report: Report | None = None,
) -> DatasetManifest:
    """Write the dataset that `spec` describes to the folder `out`, whole or not at all.

    Documents come in an order that the seed decides and are read only as far as `max_tokens` needs. Every document, and
    every docstring, is in one split only. The last tokens of a split that do not fill a row are dropped.

    Raises:
        InvalidSpec: the first token, or `max_tokens`, cannot be had with this tokenizer and context.
        DataError: a package is not installed, or there is too little text for a row in each split.
        StopRequested: the report asked to stop.
    """
    report = report or Silent()
    bos_id = bos_token_id(tokenizer, spec.bos)
    separator_id = _separator_id(tokenizer)
    packages = [
        find_package(name, where=f"/spec/source/packages/{number}") for number, name in enumerate(spec.source.packages)
    ]
    n_files = sum(len(package.files) for package in packages)
    # Counted in tokens of text, so that rows with their first token stay within max_tokens.
    room = spec.context - (bos_id is not None)
    budget = None if spec.max_tokens is None else spec.max_tokens // spec.context * room
    if budget == 0:
        raise InvalidSpec("max_tokens is less than one row", where="/spec/max_tokens", expected=f">= {spec.context}")

    text_digest = hashlib.sha256()
    n_tokens = n_documents = files_read = 0
    with whole_folder(out) as folder:
        train = Packer(folder, "train", context=spec.context, bos_id=bos_id)
        heldout = Packer(folder, "heldout", context=spec.context, bos_id=bos_id)
        files = documents(packages, spec.seed)
        while (budget is None or n_tokens < budget) and (batch := list(islice(files, FILES_AT_A_TIME))):
            if report.stop_requested():
                raise StopRequested
            files_read += len(batch)
            found = [document for documents_of_file, _ in batch for document in documents_of_file]
            texts = [document.text for document in found]
            for document, ids in zip(found, _tokenise(tokenizer, texts), strict=True):
                if budget is not None and n_tokens >= budget:
                    break
                ids = [*ids, separator_id][: None if budget is None else budget - n_tokens]
                (heldout if _is_held_out(n_documents, spec.heldout_fraction) else train).add(ids)
                text_digest.update(f"{document.name}\0{document.text}\0".encode())
                n_documents += 1
                n_tokens += len(ids)
            if budget is None:
                report.progress("reading and tokenising", files_read, n_files, "files")
            else:
                report.progress("reading and tokenising", n_tokens, budget, "tokens")
        for packer in (train, heldout):
            packer.close()
            if packer.n_rows == 0:
                raise DataError(
                    f"the {packer.split} split has {packer.dropped} tokens of text, less than one row",
                    where="/spec/max_tokens",
                    expected=f"at least {room} tokens in each split",
                    hint="allow more tokens, or a larger heldout_fraction",
                )
            report.log(
                f"{packer.split}: {packer.n_rows} rows of {spec.context} tokens from {packer.n_documents} documents; "
                f"a tail of {packer.dropped} tokens dropped"
            )
        names = [*train.files, *heldout.files]
        manifest = DatasetManifest(
            tokenizer_digest=tokenizer_digest,
            context=spec.context,
            bos=spec.bos,
            bos_id=bos_id,
            separator_id=separator_id,
            train_tokens=train.n_rows * spec.context,
            heldout_tokens=heldout.n_rows * spec.context,
            n_documents=n_documents,
            n_heldout_documents=heldout.n_documents,
            largest_id=max(train.largest_id, heldout.largest_id),
            seed=spec.seed,
            heldout_fraction=spec.heldout_fraction,
            source={
                **spec.source.model_dump(),
                "versions": {package.name: package.version for package in packages},
                "files_read": files_read,
                "text_sha256": text_digest.hexdigest(),
            },
            files={name: file_sha256(folder / name) for name in names},
        ).signed()
        (folder / MANIFEST_FILE).write_text(manifest.model_dump_json(indent=1) + "\n")
    return manifest


def _is_held_out(number: int, fraction: float) -> bool:
    """Spreads the held-out documents evenly over the (already shuffled) sequence, at exactly their share."""
    return int((number + 1) * fraction + 0.5) > int(number * fraction + 0.5)


def _tokenise(tokenizer: PreTrainedTokenizerBase, texts: list[str]) -> list[list[int]]:
    if not texts:
        return []
    # Special tokens that the text speaks of are text: none of them may end a document or begin a turn.
    encoded = tokenizer(
        texts, add_special_tokens=False, split_special_tokens=True, return_attention_mask=False, verbose=False
    )
    return list(encoded["input_ids"])


def _separator_id(tokenizer: PreTrainedTokenizerBase) -> int:
    for token_id in (tokenizer.eos_token_id, tokenizer.bos_token_id):
        if token_id is not None:
            return int(token_id)
    raise DataError(
        "the tokenizer has neither an end-of-text nor a BOS token to put between documents", where="/spec/model"
    )
