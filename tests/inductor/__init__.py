"""`torch.compile` on our Triton back end."""
