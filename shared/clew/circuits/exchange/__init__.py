"""Attribution graphs in other projects' forms. What needs only a graph's picture is in `clew_spec.exchange`."""

from clew.circuits.exchange.circuit_tracer import read_circuit_tracer
from clew.circuits.exchange.networkx import to_networkx
from clew.circuits.exchange.neuronpedia import read_neuronpedia, write_neuronpedia

__all__ = ["read_circuit_tracer", "read_neuronpedia", "to_networkx", "write_neuronpedia"]
