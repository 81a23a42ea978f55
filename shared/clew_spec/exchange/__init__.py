"""Graphs as other programs and people take them: Neuronpedia's JSON, networkx, a drawing. A picture is enough."""
