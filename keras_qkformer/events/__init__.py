"""Recordings of event cameras: formats, frames, noise, a simulated camera."""
