"""CIFAR10-DVS: images of CIFAR-10 on a screen, recorded with an event camera."""
