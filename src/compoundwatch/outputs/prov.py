"""The manifest's member ``prov``: the same run in the words of W3C PROV, for programs that speak it.

PROV-DM (W3C Recommendation, 30 April 2013) knows entities, activities and agents; the JSON form is that of PROV-JSON
(W3C Member Submission, 24 April 2013). Here the run is the activity, the software its agent, scenes and files of the
user are the entities it used, and the files of the result those it generated.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

NAMESPACE = "urn:compoundwatch:"


def document(
    kind: str,
    run_id: str,
    created: str,
    software: Mapping[str, str],
    scenes: Sequence[Mapping[str, Any]],
    files: Sequence[Mapping[str, Any]],
    outputs: Sequence[Mapping[str, Any]],
) -> dict[str, Any]:
    """One run as a PROV-JSON document.

    Parameters
    ----------
    kind : "watch" or "compare".
    created : when the run began, ISO 8601.
    scenes, files, outputs : the entries of the manifest.
    """
    used = [
        *({"prov:label": s["id"], "prov:type": "scene", "cw:catalog": s["catalog"]} for s in scenes),
        *({"prov:label": f["name"], "prov:type": f["role"], "cw:sha256": f["sha256"]} for f in files),
    ]
    made = [{"prov:label": o["path"], "prov:type": "result file", "cw:sha256": o["sha256"]} for o in outputs]
    inputs = {f"run:input_{k}": entity for k, entity in enumerate(used, start=1)}
    results = {f"run:output_{k}": entity for k, entity in enumerate(made, start=1)}
    return {
        "prefix": {"run": f"{NAMESPACE}{run_id}:", "cw": f"{NAMESPACE}field:"},
        "activity": {"run:run": {"prov:startTime": created, "prov:label": f"compoundwatch {kind}"}},
        "agent": {
            "run:software": {
                "prov:type": {"$": "prov:SoftwareAgent", "type": "prov:QUALIFIED_NAME"},
                "prov:label": f"compoundwatch {software.get('compoundwatch', '')}".strip(),
            }
        },
        "entity": {**inputs, **results},
        "wasAssociatedWith": {"_:a1": {"prov:activity": "run:run", "prov:agent": "run:software"}},
        "used": {
            f"_:u{k}": {"prov:activity": "run:run", "prov:entity": name} for k, name in enumerate(inputs, start=1)
        },
        "wasGeneratedBy": {
            f"_:g{k}": {"prov:entity": name, "prov:activity": "run:run"} for k, name in enumerate(results, start=1)
        },
    }
