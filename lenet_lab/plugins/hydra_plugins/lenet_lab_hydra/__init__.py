"""What Hydra discovers of lenet_lab: the config source of numbers and the launcher."""
