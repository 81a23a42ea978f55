"""What stands first in every row and prompt."""

from transformers import PreTrainedTokenizerBase

from clew_spec.errors import InvalidSpec


def bos_token_id(tokenizer: PreTrainedTokenizerBase, bos: str, *, where: str = "/spec/bos") -> int | None:
    """The id that the rule `bos` puts first: None for `none`, the tokenizer's own for `bos`, else that token's.

    Raises:
        InvalidSpec: the tokenizer has no such token, or the text is more than one token.
    """
    if bos == "none":
        return None
    if bos == "bos":
        if tokenizer.bos_token_id is None:
            raise InvalidSpec("the tokenizer has no BOS token", where=where, expected="`none` or a token's text")
        return int(tokenizer.bos_token_id)
    vocabulary = tokenizer.get_vocab()
    if bos in vocabulary:
        return int(vocabulary[bos])
    ids = tokenizer.encode(bos, add_special_tokens=False)
    if len(ids) != 1 or ids[0] == tokenizer.unk_token_id:
        raise InvalidSpec(
            f"{bos!r} is not one token of this tokenizer", where=where, expected="`none`, `bos` or a token's text"
        )
    return int(ids[0])
