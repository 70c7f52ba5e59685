"""The command line `keras-qkformer`: one file per command.

Each file has `add(commands)`, which declares the command and its arguments, and
`run(arguments)`, which calls the library. Arguments are parsed before Keras is loaded,
because they choose its backend, so `run` does its own imports.
"""
