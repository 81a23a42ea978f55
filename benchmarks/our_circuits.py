"""Our side: one whole attribution graph a step, model and coders resident. Run as a child, see `benchmarks.line`."""

from pathlib import Path

import torch

from benchmarks.line import Line
from clew.circuits import attribute
from clew.coders import Coder, load_coder
from clew.models import load_model
from clew.reporting import Silent


def main() -> None:
    line = Line()
    asked = line.setup()
    model = load_model(Path(asked["model"]), tokenizer=False)
    coders = load_coders(Path(asked["coders"]))
    tokens_T = torch.tensor(asked["tokens"])
    resident = [parameter.sum() for parameter in model.hf.parameters()]
    resident += [weight.sum() for coder in coders.values() for weight in coder.parameters().values()]
    assert torch.stack(resident).isfinite().all()  # files are mapped: what was not read is not yet in memory
    line.ready()
    going_on = True
    while going_on:
        graph = attribute(
            model,
            coders,
            tokens_T,
            max_logits=10,
            desired_logit_prob=0.95,
            max_nodes=asked["max_nodes"],
            targets_per_sweep=512,
            dtype=torch.float32,
            report=Silent(),
        )
        going_on = line.stepped()
    line.finish({"n_active": graph.n_active, "n_selected": graph.n_selected, "n_edges": len(graph.edges)})


def load_coders(folder: Path) -> dict[int, Coder]:
    coders = [load_coder(each) for each in sorted(folder.iterdir())]
    return {coder.layer: coder for coder in coders}


if __name__ == "__main__":
    main()
