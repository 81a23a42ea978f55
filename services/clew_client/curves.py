"""A job's curves, as a table."""

from typing import TYPE_CHECKING

from clew_spec.api import MetricSeries
from clew_spec.exchange.networkx import missing

if TYPE_CHECKING:
    import pandas


WHOLE_CURVE = 20_000
"""Points of a curve that the lab tells at once, at most."""


class Curves(list[MetricSeries]):
    """Each a series of steps and values."""

    def frame(self) -> "pandas.DataFrame":
        """A row a step, a column a curve; NaN where a curve has no value there. Raises Unavailable without pandas."""
        try:
            import pandas
        except ImportError as error:
            raise missing("pandas") from error
        columns = {curve.name: pandas.Series(curve.values, index=curve.steps, dtype="float64") for curve in self}
        table = pandas.DataFrame(columns).sort_index()
        table.index.name = "step"
        return table
