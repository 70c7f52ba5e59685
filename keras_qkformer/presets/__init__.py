"""Presets as data: importing them needs neither Keras nor a backend."""
