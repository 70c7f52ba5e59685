"""Images and events, from files to tf.data."""
