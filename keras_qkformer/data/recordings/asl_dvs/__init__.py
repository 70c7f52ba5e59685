"""ASL-DVS: letters of American Sign Language, recorded with an event camera."""
