"""The worker: a thin supervisor that talks to the queue, and a runner that does the science. They share no memory."""
