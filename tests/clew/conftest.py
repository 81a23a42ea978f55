"""The science on one thread: toys are too small for more, and several test processes share the cores."""

import torch

torch.set_num_threads(1)
