"""Number the nodes of a graph in topological order: tokens; learned positions; for each layer biases, errors, features;
then the bias of the final norm and the unembedding, and logits."""

from dataclasses import dataclass

import torch
from torch import Tensor

from clew.circuits.graph import NodeKind, Nodes
from clew.circuits.replacement import Replacement
from clew.circuits.targets import Direction, LogitTargets


@dataclass(frozen=True)
class Columns:
    """Node indices of one layer. The index after the last node stands for nobody: empty slots, biases of zero."""

    biases_T: Tensor
    errors_T: Tensor
    features_TS: Tensor


def number_nodes(
    tokens_T: Tensor,
    embed_TD: Tensor,
    position_TD: Tensor | None,
    layers: list[Replacement],
    logits: LogitTargets,
    dtype: torch.dtype,
) -> tuple[Nodes, list[Columns]]:
    """All nodes, and for each layer who is where. Everything that is active is a node."""
    table, columns = _Table(), []
    every_T = torch.arange(len(tokens_T))
    table.add(NodeKind.TOKEN, -1, every_T, embed_TD.norm(dim=-1), token_ids=tokens_T)
    if position_TD is not None:
        table.add(NodeKind.POSITION, -1, every_T, position_TD.norm(dim=-1))
    for layer, here in enumerate(layers):
        norm_T = here.bias_TD.norm(dim=-1).cpu()
        biases_T = torch.full_like(every_T, -1)
        biases_T[norm_T > 0] = table.add(NodeKind.BIAS, layer, every_T[norm_T > 0], norm_T[norm_T > 0])
        errors_T = table.add(NodeKind.ERROR, layer, every_T, here.error_TD.norm(dim=-1))
        z_TS = here.z_TS.cpu()
        position, slot = z_TS.nonzero(as_tuple=True)
        features_TS = torch.full(z_TS.shape, -1)
        features_TS[position, slot] = table.add(
            NodeKind.FEATURE, layer, position, z_TS[position, slot], features=here.ids_TS.cpu()[position, slot]
        )
        columns.append(Columns(biases_T, errors_T, features_TS))
    if logits.biases_N is not None:
        table.add(NodeKind.BIAS, len(layers), torch.tensor([-1]), logits.biases_N.norm()[None])
    token_ids = [-1 if isinstance(target, Direction) else target.token_id for target in logits.targets]
    last_N = torch.full((len(token_ids),), len(tokens_T) - 1)
    table.add(NodeKind.LOGIT, len(layers), last_N, logits.values_N, token_ids=torch.tensor(token_ids))

    for here_columns in columns:
        for numbers in (here_columns.biases_T, here_columns.features_TS):
            numbers[numbers < 0] = table.size
    return table.nodes(dtype), columns


class _Table:
    """Nodes in the order in which they are added."""

    def __init__(self) -> None:
        self.size = 0
        self._parts: list[tuple[Tensor, ...]] = []

    def add(
        self,
        kind: NodeKind,
        layer: int,
        positions: Tensor,
        values: Tensor,
        *,
        features: Tensor | None = None,
        token_ids: Tensor | None = None,
    ) -> Tensor:
        """Their indices."""
        n = len(positions)
        none = torch.full((n,), -1)
        self._parts.append(
            (
                torch.full((n,), int(kind), dtype=torch.uint8),
                torch.full((n,), layer, dtype=torch.int32),
                positions.int(),
                (none if features is None else features).int(),
                (none if token_ids is None else token_ids).int(),
                values.cpu().double(),
            )
        )
        first, self.size = self.size, self.size + n
        return torch.arange(first, self.size)

    def nodes(self, dtype: torch.dtype) -> Nodes:
        kind, layer, position, feature, token_id, value = (torch.cat(part) for part in zip(*self._parts, strict=True))
        return Nodes(kind, layer, position, feature, token_id, value.to(dtype))
