"""`completion`: print a script that completes commands and files in a shell."""

from keras_qkformer.cli.argument_types import InputFile, InputFolder, OutputFile
from keras_qkformer.cli.arguments import PROGRAM

SHELLS = ("bash", "zsh", "tcsh")


def add(commands):
    """Declare the command."""
    parser = commands.add(
        "completion",
        run,
        "print a script that completes commands and files in a shell",
        f'bash > ~/.local/share/bash-completion/completions/"{PROGRAM}"',
    )
    parser.add_argument("shell", choices=SHELLS, help="your shell")
    parser.set_defaults(all_commands=commands.parser)


def run(arguments):
    """Print the script."""
    try:
        import shtab
    except ImportError as error:
        raise ImportError(
            "Completion needs its package: pip install 'keras_qkformer[completion]'"
        ) from error
    _mark_paths(arguments.all_commands, shtab)
    print(shtab.complete(arguments.all_commands, arguments.shell))


def _mark_paths(parser, shtab):
    """Tell which arguments are paths, by their types."""
    for action in parser._actions:
        if isinstance(action.type, InputFile | OutputFile):
            action.complete = shtab.FILE
        elif isinstance(action.type, InputFolder):
            action.complete = shtab.DIRECTORY
        elif isinstance(action.choices, dict):
            for below in action.choices.values():
                _mark_paths(below, shtab)
