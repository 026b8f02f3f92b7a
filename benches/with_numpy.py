"""measure.py as a program that imports numpy at its top, as its workers would."""

import numpy  # noqa: F401

from measure import main, nothing  # noqa: F401

if __name__ == "__main__":
    main()
