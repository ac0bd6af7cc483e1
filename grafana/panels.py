"""The few kinds of panels and the colours that all dashboards are made of, in grafana-foundation-sdk's builders."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from grafana_foundation_sdk.builders import (
    bargauge,
    common,
    heatmap,
    prometheus,
    stat,
    statetimeline,
    table,
    timeseries,
)
from grafana_foundation_sdk.builders import dashboard as build
from grafana_foundation_sdk.models import common as common_model
from grafana_foundation_sdk.models import dashboard as model
from grafana_foundation_sdk.models import heatmap as heatmap_model
from grafana_foundation_sdk.models.prometheus import PromQueryFormat

from repstream.palette import EXERCISE_COLOURS

Panel = (
    timeseries.Panel | stat.Panel | table.Panel | heatmap.Panel | statetimeline.Panel | bargauge.Panel
)  # what `Dashboard.with_panel` takes

GOOD, WARNING, BAD, QUIET = "#009E73", "#E69F00", "#D55E00", "#8E8E8E"

DATASOURCE = model.DataSourceRef(type_val="prometheus", uid="${datasource}")

HEIGHT = 8


@dataclass(frozen=True)
class Query:
    """One question to Prometheus.

    Attributes
    ----------
    expr : str
        PromQL, with Grafana's variables.
    legend : str
        The series' name, ``{{label}}`` stands for a label's value.
    """

    expr: str
    legend: str = ""

    def over_time(self, ref: str) -> prometheus.Dataquery:
        """Ask for the whole time range."""
        return prometheus.Dataquery().ref_id(ref).expr(self.expr).legend_format(self.legend).range()

    def now(self, ref: str) -> prometheus.Dataquery:
        """Ask for one moment, the range's end, as rows of a table."""
        query = prometheus.Dataquery().ref_id(ref).expr(self.expr).legend_format(self.legend)
        return query.instant().format(PromQueryFormat.TABLE)

    def buckets(self, ref: str) -> prometheus.Dataquery:
        """Ask for a histogram's buckets over the time range."""
        return self.over_time(ref).format(PromQueryFormat.HEATMAP)


def thresholds(*steps: tuple[float, str], base: str = GOOD) -> build.ThresholdsConfig:
    """Colour values: `base`, and from each step's value on its colour."""
    rows = [model.Threshold(value=None, color=base), *(model.Threshold(value=v, color=c) for v, c in steps)]
    return build.ThresholdsConfig().mode(model.ThresholdsMode.ABSOLUTE).steps(rows)


# What Prometheus's answers have besides the labels asked for.
_UNWANTED = ("Time", "Value", "__name__", "instance", "job")
_FILLED = model.DynamicConfigValue("custom.cellOptions", {"type": "color-background", "mode": "basic"})
NO_THRESHOLDS = thresholds(base=QUIET)


def _colour(mode: model.FieldColorModeId, fixed: str | None = None) -> build.FieldColor:
    colour = build.FieldColor().mode(mode)
    return colour.fixed_color(fixed) if fixed else colour


def _legend(calcs: Sequence[str]) -> common.VizLegendOptions:
    legend = common.VizLegendOptions().show_legend(True).placement(common_model.LegendPlacement.BOTTOM)
    mode = common_model.LegendDisplayMode.TABLE if calcs else common_model.LegendDisplayMode.LIST
    return legend.display_mode(mode).calcs(list(calcs))


def lines(
    title: str,
    description: str,
    queries: Sequence[Query],
    unit: str,
    width: int,
    *,
    height: int = HEIGHT,
    limits: build.ThresholdsConfig | None = None,
    stacked: Literal["normal", "percent"] | None = None,
    calcs: Sequence[str] = (),
    low: float | None = 0.0,
    high: float | None = None,
) -> timeseries.Panel:
    """Values over time; `limits` are drawn as dashed lines, `low` and `high` bound the axis."""
    panel = (
        timeseries.Panel()
        .title(title)
        .description(description)
        .datasource(DATASOURCE)
        .targets([q.over_time(chr(65 + i)) for i, q in enumerate(queries)])
        .unit(unit)
        .span(width)
        .height(height)
        .legend(_legend(calcs))
        .tooltip(
            common.VizTooltipOptions()
            .mode(common_model.TooltipDisplayMode.MULTI)
            .sort(common_model.SortOrder.DESCENDING)
        )
        .line_width(2)
        .show_points(common_model.VisibilityMode.NEVER)
        .color_scheme(_colour(model.FieldColorModeId.PALETTE_CLASSIC_BY_NAME))
        .thresholds(limits or NO_THRESHOLDS)
    )
    if limits:
        panel.thresholds_style(common.GraphThresholdsStyleConfig().mode(common_model.GraphTresholdsStyleMode.DASHED))
    if stacked:
        panel.stacking(common.StackingConfig().mode(common_model.StackingMode(stacked)).group("A")).fill_opacity(60)
    if low is not None:
        panel.min(low)
    if high is not None:
        panel.max(high)
    _colour_exercises(panel)
    return panel


def number(
    title: str,
    description: str,
    query: Query,
    unit: str,
    width: int,
    *,
    limits: build.ThresholdsConfig | None = None,
    decimals: int | None = None,
    link: str | None = None,
    name: bool = False,
    trend: bool = True,
) -> stat.Panel:
    """One figure, its colour and its recent course; with `name` the series' name instead; `link` is a dashboard."""
    panel = (
        stat.Panel()
        .title(title)
        .description(description)
        .datasource(DATASOURCE)
        .targets([query.over_time("A")])
        .unit(unit)
        .span(width)
        .height(4)
        .reduce_options(common.ReduceDataOptions().calcs(["lastNotNull"]).values(False).fields(""))
        .graph_mode(common_model.BigValueGraphMode.AREA if trend else common_model.BigValueGraphMode.NONE)
        .color_mode(common_model.BigValueColorMode.VALUE)
        .text_mode(common_model.BigValueTextMode.NAME if name else common_model.BigValueTextMode.VALUE)
        .color_scheme(_colour(model.FieldColorModeId.THRESHOLDS))
        .thresholds(limits or NO_THRESHOLDS)
        .no_value("–")
    )
    if decimals is not None:
        panel.decimals(decimals)
    if link:
        target = f"/d/{link}?${{__url_time_range}}"
        panel.links([build.DashboardLink("Look closer").type(model.DashboardLinkType.LINK).url(target)])
    return panel


def bars(
    title: str,
    description: str,
    query: Query,
    unit: str,
    width: int,
    *,
    height: int = HEIGHT,
    limits: build.ThresholdsConfig | None = None,
    high: float | None = None,
) -> bargauge.Panel:
    """One horizontal bar for each series, of its newest value."""
    panel = (
        bargauge.Panel()
        .title(title)
        .description(description)
        .datasource(DATASOURCE)
        .targets([query.over_time("A")])
        .unit(unit)
        .span(width)
        .height(height)
        .min(0)
        .reduce_options(common.ReduceDataOptions().calcs(["lastNotNull"]).values(False).fields(""))
        .orientation(common_model.VizOrientation.HORIZONTAL)
        .display_mode(common_model.BarGaugeDisplayMode.BASIC)
        .value_mode(common_model.BarGaugeValueMode.TEXT)
        .color_scheme(_colour(model.FieldColorModeId.THRESHOLDS))
        .thresholds(limits or NO_THRESHOLDS)
        .no_value("–")
    )
    if high is not None:
        panel.max(high)
    _colour_exercises(panel)
    return panel


def states(
    title: str,
    description: str,
    query: Query,
    width: int,
    *,
    height: int = HEIGHT,
    limits: build.ThresholdsConfig | None = None,
    texts: dict[str, tuple[str, str]] | None = None,
    unit: str = "none",
) -> statetimeline.Panel:
    """One row for each series and its states over time, coloured by `limits` or by `texts` (value: text, colour)."""
    panel = (
        statetimeline.Panel()
        .title(title)
        .description(description)
        .datasource(DATASOURCE)
        .targets([query.over_time("A")])
        .unit(unit)
        .span(width)
        .height(height)
        .merge_values(True)
        .show_value(common_model.VisibilityMode.AUTO)
        .row_height(0.85)
        .fill_opacity(80)
        .legend(common.VizLegendOptions().show_legend(False).display_mode(common_model.LegendDisplayMode.HIDDEN))
        .color_scheme(_colour(model.FieldColorModeId.THRESHOLDS))
        .thresholds(limits or NO_THRESHOLDS)
        .no_value("–")
    )
    if texts:
        shown = {v: model.ValueMappingResult(text=t, color=c, index=i) for i, (v, (t, c)) in enumerate(texts.items())}
        panel.mappings([model.ValueMap(options=shown)])
    return panel


def density(
    title: str,
    description: str,
    query: prometheus.Dataquery,
    unit: str,
    width: int,
    *,
    height: int,
    scheme: str,
    low: float | None = None,
    high: float | None = None,
    axis_unit: str = "none",
) -> heatmap.Panel:
    """Rows over time, coloured by value: a histogram's buckets, or one row for each series."""
    colour = (
        heatmap.HeatmapColorOptions().mode(heatmap_model.HeatmapColorMode.SCHEME).scheme(scheme).steps(64).exponent(0.5)
    )
    if low is not None:
        colour.min(low)
    if high is not None:
        colour.max(high)
    return (
        heatmap.Panel()
        .title(title)
        .description(description)
        .datasource(DATASOURCE)
        .targets([query])
        .span(width)
        .height(height)
        .calculate(False)
        .color(colour)
        .cell_values(heatmap.CellValues().unit(unit))
        .y_axis(heatmap.YAxisConfig().unit(axis_unit).axis_placement(common_model.AxisPlacement.LEFT))
        .cell_gap(0)
        .scale_distribution(common.ScaleDistributionConfig().type(common_model.ScaleDistribution.LINEAR))
        .show_legend()
        .show_tooltip()
    )


def rows(
    title: str,
    description: str,
    queries: Sequence[Query],
    width: int,
    *,
    height: int = HEIGHT,
    columns: dict[str, str],
    unit: str = "none",
    decimals: int = 2,
    limits: build.ThresholdsConfig | None = None,
    sort_by: str | None = None,
    fill: str | None = None,
) -> table.Panel:
    """Newest values as a table.

    Parameters
    ----------
    columns : dict of str to str
        Labels and values that are shown and their headings, in that order; values are ``Value`` of a single
        query, else ``Value #A``, ``Value #B``, …
    sort_by : str, optional
        The heading of a column, largest first.
    fill : str, optional
        The heading of the columns, as a pattern, whose cells are coloured by `limits`.
    """
    panel = (
        table.Panel()
        .show_header(True)
        .title(title)
        .description(description)
        .datasource(DATASOURCE)
        .targets([q.now(chr(65 + i)) for i, q in enumerate(queries)])
        .span(width)
        .height(height)
        .unit(unit)
        .decimals(decimals)
        .color_scheme(_colour(model.FieldColorModeId.THRESHOLDS))
        .thresholds(limits or NO_THRESHOLDS)
        .no_value("–")
    )
    if len(queries) > 1:
        panel.with_transformation(model.DataTransformerConfig("merge", options={}))
    panel.with_transformation(
        model.DataTransformerConfig(
            "organize",
            options={
                "excludeByName": {name: True for name in _UNWANTED if name not in columns},
                "indexByName": {name: i for i, name in enumerate(columns)},
                "renameByName": columns,
            },
        )
    )
    if fill:
        panel.override_by_regexp(fill, [_FILLED])
    if sort_by:
        panel.sort_by([common.TableSortByFieldState().display_name(sort_by).desc(True)])
    return panel


def matrix(
    title: str, description: str, query: Query, width: int, *, rows: str, columns: str, unit: str, height: int = HEIGHT
) -> table.Panel:
    """Newest values, 0–1, by two labels: the values of `rows` go down, those of `columns` across."""
    by = {"rowField": rows, "columnField": columns, "valueField": "Value", "emptyValue": "null"}
    return (
        table.Panel()
        .show_header(True)
        .title(title)
        .description(description)
        .datasource(DATASOURCE)
        .targets([query.now("A")])
        .span(width)
        .height(height)
        .unit(unit)
        .decimals(0)
        .min(0)
        .max(1)
        .color_scheme(_colour(model.FieldColorModeId.CONTINUOUS_BLUES))
        .with_transformation(model.DataTransformerConfig("groupingToMatrix", options=by))
        .override_by_field_type("number", [_FILLED])
        .no_value("–")
    )


def _colour_exercises(panel: timeseries.Panel | bargauge.Panel) -> None:
    for label, colour in EXERCISE_COLOURS.items():
        fixed = {"mode": "fixed", "fixedColor": colour}
        panel.override_by_name(label, [model.DynamicConfigValue("color", fixed)])
