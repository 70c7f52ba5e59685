"""What surrounds an exported model: its signatures, the files for a server, checks."""
