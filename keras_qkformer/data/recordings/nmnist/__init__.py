"""N-MNIST: the digits of MNIST, recorded with an event camera."""
