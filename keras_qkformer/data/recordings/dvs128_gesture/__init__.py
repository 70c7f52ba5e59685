"""DVS128 Gesture: 11 hand gestures, recorded with an event camera."""
