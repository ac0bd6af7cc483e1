"""Write the dashboards that Grafana reads: ``python -m grafana.generate`` (or ``make dashboards``).

Each dashboard is one of the modules beside this one; here is what they share: variables, links between
them, annotations for alarms, refresh and time range. A test holds that what is committed is what this writes.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from grafana_foundation_sdk.builders import dashboard as build
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.models import dashboard as model

from grafana import classification, drift, live, pipeline
from grafana.panels import BAD, DATASOURCE, WARNING, Panel

FOLDER = Path(__file__).resolve().parent / "dashboards"
TAG = "repstream"


@dataclass(frozen=True)
class Page:
    """One dashboard: its address, its name, what it answers, its panels and the variables that they use."""

    uid: str
    title: str
    description: str
    panels: Callable[[], Iterator[Panel | str]]
    variables: tuple[str, ...] = ()


PAGES = (
    Page("repstream-live", "Live predictions", "What is predicted now, how soon, for how many?", live.panels, ("label", "predictor")),
    Page("repstream-data-drift", "Data drift", "Do the samples still look like what the model was made from?", drift.data_drift, ("feature",)),
    Page("repstream-target-drift", "Target drift", "Are the same exercises predicted, and as surely, as in the reference?", drift.target_drift, ("label",)),
    Page("repstream-classification", "Classification performance", "How often is the model right, and where does it err?", classification.panels, ("label",)),
    Page("repstream-pipeline", "Pipeline health", "Do the services run, keep up, and account for every sample?", pipeline.panels, ("instance",)),
)  # fmt: skip

_ANY_SERVICE = "repstream_packets_produced_total|repstream_packets_consumed_total|repstream_monitor_passes_total"
VARIABLES = {
    "label": ("label", "Exercise", "label_values(repstream_predictions_total, label)"),
    "feature": ("feature", "Feature", "label_values(repstream_feature_drift_score, feature)"),
    "predictor": ("instance", "Predictor", "label_values(repstream_packets_consumed_total, instance)"),
    "instance": ("instance", "Instance", f'label_values({{__name__=~"{_ANY_SERVICE}"}}, instance)'),
}


def variable(key: str) -> build.QueryVariable:
    """Build a choice of any number of a label's values; at first all of them."""
    name, title, query = VARIABLES[key]
    everything = model.VariableOption(selected=True, text=["All"], value=["$__all"])
    return (
        build.QueryVariable(name)
        .label(title)
        .datasource(DATASOURCE)
        .query({"query": query, "refId": "A"})
        .refresh(model.VariableRefresh.ON_TIME_RANGE_CHANGED)
        .sort(model.VariableSort.ALPHABETICAL_ASC)
        .multi(True)
        .include_all(True)
        .all_value(".*")
        .current(everything)
    )


class Annotation(model.AnnotationQuery):
    """Stretches of time for which a query has an answer, with what Prometheus's data source adds to the schema."""

    def __init__(self, name: str, expr: str, colour: str, title: str, text: str) -> None:
        super().__init__(name=name, datasource=DATASOURCE, icon_color=colour, expr=expr)
        self._more = {"titleFormat": title, "textFormat": text, "tagKeys": "severity", "step": "5s"}

    def to_json(self) -> dict[str, object]:
        """Return what the schema has, and the rest."""
        return super().to_json() | self._more


def alarm_marks() -> list[model.AnnotationQuery]:
    """Mark on every panel when alarms of the monitor were open and alerts of Prometheus fired."""
    return [
        Annotation(
            "Alarms", "sum by (cause, scope) (repstream_drift_alarms_open) > 0", BAD, "{{cause}}", "scope: {{scope}}"
        ),
        Annotation(
            "Alerts",
            'max by (alertname, severity) (ALERTS{alertstate="firing", alertname!="DriftAlarm"})',
            WARNING,
            "{{alertname}}",
            "{{severity}}",
        ),
    ]


def dashboard(page: Page) -> model.Dashboard:
    """Build one dashboard."""
    built = (
        build.Dashboard(page.title)
        .uid(page.uid)
        .description(page.description)
        .tags([TAG])
        .readonly()
        .timezone("browser")
        .tooltip(model.DashboardCursorSync.CROSSHAIR)
        .refresh("5s")
        .time("now-15m", "now")
        .with_variable(build.DatasourceVariable("datasource").label("Prometheus").type("prometheus"))
        .link(
            build.DashboardLink("Repstream")
            .type(model.DashboardLinkType.DASHBOARDS)
            .tags([TAG])
            .as_dropdown(False)
            .keep_time(True)
            .include_vars(False)
        )
    )
    for key in page.variables:
        built.with_variable(variable(key))
    n = 0
    for panel in page.panels():
        if isinstance(panel, str):
            built.with_row(build.Row(panel))
        else:
            n += 1
            built.with_panel(panel.id(n))
    finished = built.build()
    finished.annotations = model.AnnotationContainer(list_val=alarm_marks())
    return finished


def generate() -> dict[str, str]:
    """Return each dashboard's file name and its text."""
    return {
        f"{page.uid}.json": json.dumps(dashboard(page), cls=JSONEncoder, indent=1, ensure_ascii=False, sort_keys=True)
        + "\n"
        for page in PAGES
    }


def main() -> None:
    """Write all dashboards, and remove what no page writes any more."""
    files = generate()
    for old in FOLDER.glob("*.json"):
        if old.name not in files:
            old.unlink()
    for name, text in files.items():
        (FOLDER / name).write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
