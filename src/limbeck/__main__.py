"""``python -m limbeck``: the command line."""

from limbeck.cli.main import main

if __name__ == "__main__":
    main()
