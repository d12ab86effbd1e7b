"""The command `flexbench`, also as `python -m flexbench`."""

from __future__ import annotations

import sys

from ._shadows import COMMAND, find_shadow


def main() -> None:
    """Run the command line. Exit with code 2 and one line if a file of the user's shadows one of our modules."""
    if problem := find_shadow(COMMAND):
        print(f"Error: {problem}", file=sys.stderr)
        sys.exit(2)
    from cli import main as command

    command(prog_name="flexbench")


if __name__ == "__main__":
    main()
