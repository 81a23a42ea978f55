"""What the coders learn from: docstrings, and sentences with two years, but no noun or year of the last test."""

import json
import random
from collections.abc import Iterator
from itertools import cycle, islice, product
from pathlib import Path

from clew.data import Dataset, build_dataset
from clew.data.sources import open_source
from clew.files import whole_folder
from clew.models.importing import tokenizer_digest
from clew.models.model import load_tokenizer
from clew_spec.datasets import BuildDatasetSpec, JsonlSource, PydocSource
from studies.greater_than.prompts import Context

SENTENCES = (
    "The {noun} lasted from the year {start} to the year {end}.",
    "The {noun} began in {start} and ended in {end}.",
    "There was a {noun} from {start} until {end}.",
    "From {start} to {end} they spoke of little but the {noun}.",
    "After the {noun} of {start} came the {other} of {end}.",
    "Between {start} and {end} nobody remembered the {noun}.",
    "The {noun} ({start}-{end}) is told of in the next chapter.",
    "In {start} there was no {noun} yet, and in {end} there was one no more.",
)
NOUNS_OF_SENTENCES = """
alliance ban battle boom boycott captivity career colony conference conflict construction crisis debate
decline depression discussion dispute drought education effort empire epidemic era exhibition exile expedition
experiment famine festival fight friendship hunt illness investigation journey lease marriage migration
mission occupation operation outbreak pandemic partnership peace persecution plague program project pursuit
regime reign renovation residence restoration revolution rule search service strike survey tour treaty trial
"""
NOUNS = NOUNS_OF_SENTENCES.split()
HELD_OUT_NOUNS = ("war", "siege", "voyage", "struggle", "campaign", "dynasty", "rebellion", "embargo")
"""In no sentence that coders learn from."""
HELD_OUT_ONES = (3, 6)
"""Last digits of no year that coders learn from."""
CENTURIES = (14, 15, 16, 17, 18)
N_SENTENCES, N_DOCSTRINGS, LONGEST = 4_000, 100, 2_000
"""About a quarter of the tokens is of docstrings, each cut at `LONGEST` characters."""
CONTEXT = 256


def finding_contexts() -> list[Context]:
    """Prompts by which features are chosen: words of the sentences."""
    nouns = ("project", "treaty", "famine", "reign", "exhibition", "marriage", "plague", "trial")
    return [Context(noun, century, 4) for noun, century in product(nouns, CENTURIES[1::2])]


def confirming_contexts() -> list[Context]:
    """Prompts on which they are tried out: nouns and years that no coder learnt from."""
    ones = dict(zip(HELD_OUT_NOUNS, cycle(HELD_OUT_ONES), strict=False))
    return [Context(noun, century, ones[noun]) for noun, century in product(HELD_OUT_NOUNS, CENTURIES[1::2])]


def sentences(n: int, seed: int = 0) -> Iterator[str]:
    """`n` sentences in which the end comes 1 to about 80 years after the start."""
    draw = random.Random(seed)  # noqa: S311 text, no secret
    for _ in range(n):
        start = end = draw.randrange(CENTURIES[0] * 100, (CENTURIES[-1] + 1) * 100)
        while start % 10 in HELD_OUT_ONES:
            start = draw.randrange(CENTURIES[0] * 100, (CENTURIES[-1] + 1) * 100)
        while end <= start or end % 10 in HELD_OUT_ONES:
            end = start + 1 + int(draw.expovariate(1 / 20))
        noun, other = draw.sample(NOUNS, 2)
        yield draw.choice(SENTENCES).format(noun=noun, other=other, start=start, end=end)


def prepare_dataset(model_folder: Path, folder: Path) -> Dataset:
    """Half docstrings, half sentences, below `folder`."""
    if not folder.exists():
        with whole_folder(folder) as made:
            documents = islice(open_source(PydocSource(), []).documents(0), N_DOCSTRINGS)
            texts = [document.text[:LONGEST] for document in documents] + list(sentences(N_SENTENCES))
            random.Random(0).shuffle(texts)  # noqa: S311
            file = made / "text.jsonl"
            file.write_text("".join(json.dumps({"text": text}) + "\n" for text in texts))
            spec = BuildDatasetSpec(
                name="years", model="smollm2-135m", source=JsonlSource(path=str(file)), context=CONTEXT
            )
            build_dataset(
                spec,
                load_tokenizer(model_folder),
                tokenizer_digest=tokenizer_digest(model_folder),
                out=made / "dataset",
                import_roots=[made],
            )
    return Dataset.open(folder / "dataset")
