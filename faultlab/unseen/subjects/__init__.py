"""Models in ordinary PyTorch style, each a file of its own with `build` and `inputs`, as users have them."""
