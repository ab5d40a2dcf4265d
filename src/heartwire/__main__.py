"""``python -m heartwire``: the command line, where ``heartwire`` is not on the path."""

from heartwire.cli.main import main

__all__ = ["main"]

if __name__ == "__main__":
    main()
