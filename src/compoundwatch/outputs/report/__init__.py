"""report.html: one file that works without a network, on a phone and on paper, in English and in Khmer."""

from compoundwatch.outputs.report.page import Told, write_report

__all__ = ["Told", "write_report"]
