"""The science on one thread: toys are too small for more, and several test processes share the cores."""

import torch
from transformers.utils import logging

torch.set_num_threads(1)
logging.disable_progress_bar()
