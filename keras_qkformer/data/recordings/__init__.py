"""Recordings of event cameras as examples: sources, builders, augmentation."""
