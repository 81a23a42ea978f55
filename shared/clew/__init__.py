"""The science of Clew: models, data, coders, training, evaluation, circuits. Knows nothing of servers."""
