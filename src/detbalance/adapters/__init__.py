"""How a recipe gets into a torchvision detector. The only place that knows torchvision internals."""
