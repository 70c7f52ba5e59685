"""DVS-Lip: spoken words, recorded with an event camera."""
