"""``python -m compoundwatch`` is the same as the command ``compoundwatch``."""

from compoundwatch.cli import main

if __name__ == "__main__":
    main()
