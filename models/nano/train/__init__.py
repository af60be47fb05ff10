"""Training of nano: synthesizers, tasks, the model in torch. Nothing here is needed at run time."""
