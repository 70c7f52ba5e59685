"""N-Caltech101: the images of Caltech-101, recorded with an event camera."""
