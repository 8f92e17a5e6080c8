"""The order of the steps, the clock and the random seed: the only folder that knows all stages.

Every name here is one thing a user can ask for, and `compoundwatch.cli` gives each a command. A name is loaded when it
is first used, so that checking a file of sites does not wait for the libraries that read imagery.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from compoundwatch.pipeline.alerting import alerted_text, read_alerts, send_alerts
    from compoundwatch.pipeline.comparing import CompareResult, compare, describe_compare
    from compoundwatch.pipeline.demonstrating import demo, demo_truth, simulate
    from compoundwatch.pipeline.describing import describe, list_detectors, list_sensors, result_files, summary
    from compoundwatch.pipeline.explaining import describe_explanation, explain, explanation_text
    from compoundwatch.pipeline.inputs import read_area, read_settings
    from compoundwatch.pipeline.picturing import ChipsResult, chips
    from compoundwatch.pipeline.publishing import describe_published, publish, published_text
    from compoundwatch.pipeline.recounting import describe_history, history, history_text
    from compoundwatch.pipeline.reporting import report
    from compoundwatch.pipeline.serving import serve
    from compoundwatch.pipeline.summarising import describe_summary, summarise, summary_text
    from compoundwatch.pipeline.verifying import bundle, describe_verification, verification_text, verified, verify
    from compoundwatch.pipeline.watching import watch

__all__ = [
    "ChipsResult",
    "CompareResult",
    "alerted_text",
    "bundle",
    "chips",
    "compare",
    "demo",
    "demo_truth",
    "describe",
    "describe_compare",
    "describe_explanation",
    "describe_history",
    "describe_published",
    "describe_summary",
    "describe_verification",
    "explain",
    "explanation_text",
    "history",
    "history_text",
    "list_detectors",
    "list_sensors",
    "publish",
    "published_text",
    "read_alerts",
    "read_area",
    "read_settings",
    "report",
    "result_files",
    "send_alerts",
    "serve",
    "simulate",
    "summarise",
    "summary",
    "summary_text",
    "verification_text",
    "verified",
    "verify",
    "watch",
]

_HOMES = {
    "alerting": ("alerted_text", "read_alerts", "send_alerts"),
    "comparing": ("CompareResult", "compare", "describe_compare"),
    "demonstrating": ("demo", "demo_truth", "simulate"),
    "describing": ("describe", "list_detectors", "list_sensors", "result_files", "summary"),
    "explaining": ("describe_explanation", "explain", "explanation_text"),
    "recounting": ("describe_history", "history", "history_text"),
    "inputs": ("read_area", "read_settings"),
    "picturing": ("ChipsResult", "chips"),
    "publishing": ("describe_published", "publish", "published_text"),
    "reporting": ("report",),
    "serving": ("serve",),
    "summarising": ("describe_summary", "summarise", "summary_text"),
    "verifying": ("bundle", "describe_verification", "verification_text", "verified", "verify"),
    "watching": ("watch",),
}


def __getattr__(name: str) -> Any:
    for home, names in _HOMES.items():
        if name in names:
            return getattr(import_module(f"compoundwatch.pipeline.{home}"), name)
    raise AttributeError(f"module 'compoundwatch.pipeline' has no attribute '{name}'")
