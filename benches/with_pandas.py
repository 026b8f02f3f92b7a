"""measure.py as a program that imports pandas at its top, as its workers would."""

import pandas  # noqa: F401

from measure import main, nothing  # noqa: F401

if __name__ == "__main__":
    main()
