"""runs - all measurements there are."""

from alternatives import Alternatives
from beside import Beside
from limits import Limits
from resources import Resources
from starts import Starts


class Runs(Alternatives, Beside, Limits, Resources, Starts):
    """Each run_* is one measurement: it starts what it needs, and returns a dict of figures."""
