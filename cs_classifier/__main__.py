"""``python -m cs_classifier``."""

from cs_classifier.cli import main

if __name__ == "__main__":
    main()
