"""Every exception and warning this package raises on purpose.

::

    CompoundWatchError
    ├── SettingsError       a settings file or option is wrong
    ├── AreaError           a file of areas, sites or events is wrong
    ├── CatalogError        a catalogue cannot be reached, read or trusted
    │   └── NoScene         a catalogue holds no scene of the place and time asked for
    ├── StackError          pixels cannot be read or put on one grid
    │   ├── GridMismatch    two rasters or grids that must agree do not
    │   └── AlignmentError  a sub-pixel shift cannot be measured
    ├── NetworkError        an address may not be reached, or does not answer
    ├── ContractError       an array or table breaks the contract between two stages
    ├── StoreError          the workspace cannot be read or written
    └── OutputError         a result file cannot be written

    CompoundWatchWarning
    ├── SceneSkipped        a scene was left out; the result says why
    └── FewObservations     an answer rests on few views
"""


class CompoundWatchError(Exception):
    """Root of all errors; its message is one sentence that a user can act on."""


class SettingsError(CompoundWatchError):
    """A settings file or option is wrong."""


class AreaError(CompoundWatchError):
    """A file of areas, sites or events is wrong."""


class CatalogError(CompoundWatchError):
    """A catalogue cannot be reached, read or trusted."""


class NoScene(CatalogError):  # noqa: N818
    """A catalogue holds no scene of the place and time asked for."""


class StackError(CompoundWatchError):
    """Pixels cannot be read or put on one grid."""


class GridMismatch(StackError):  # noqa: N818 - named after the fact, as the field does
    """Two rasters or grids that must agree do not."""


class AlignmentError(StackError):
    """A sub-pixel shift cannot be measured."""


class NetworkError(CompoundWatchError):
    """An address may not be reached, or does not answer."""


class ContractError(CompoundWatchError):
    """An array or table breaks the contract between two stages."""


class StoreError(CompoundWatchError):
    """The workspace cannot be read or written."""


class ClusterError(CompoundWatchError):
    """Workers of a cluster were lost, or do not run this version."""


class OutputError(CompoundWatchError):
    """A result file cannot be written."""


class CompoundWatchWarning(UserWarning):
    """Root of all warnings."""


class SceneSkipped(CompoundWatchWarning):
    """A scene was left out; the result says why."""


class FewObservations(CompoundWatchWarning):
    """An answer rests on few views."""
