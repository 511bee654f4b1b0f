"""``papermill jupytext://notebooks/12_bimorec.py out.ipynb -p seed 3``: papermill reads chapters from their source.

Registered under papermill's entry point group ``papermill.io``. Papermill alone warns about an unknown parameter and
then runs the defaults; :mod:`medrec.book.papermill_engine` refuses unknown names and values of the wrong type before a
kernel starts and before anything is written.
"""

from __future__ import annotations

import warnings
from pathlib import Path

# Papermill imports this module while it is itself half imported, so that the engine is imported when it is needed.

SCHEME = "jupytext://"

# Papermill expects the names of notebooks to end in .ipynb or .json.
warnings.filterwarnings("ignore", message=r"The specified file \(jupytext://")


class JupytextHandler:
    """Reads ``jupytext://path/to/chapter.py`` as the notebook that it is the source of; it never writes."""

    @classmethod
    def read(cls, path: str) -> str:
        import nbformat

        from medrec.book.chapters import read_chapter

        # Importing it puts it in place, also where the package was installed before it had this entry point.
        from medrec.book.papermill_engine import ChapterError
        from medrec.types import MedrecError

        try:
            notebook = read_chapter(Path(path.removeprefix(SCHEME)))
        except MedrecError as error:
            raise ChapterError(str(error)) from None
        notebook.metadata["medrec"] = {**notebook.metadata.get("medrec", {}), "source": Path(path).name}
        return nbformat.writes(notebook)

    @classmethod
    def listdir(cls, path: str) -> list[str]:
        return sorted(str(file) for file in Path(path.removeprefix(SCHEME)).glob("*.py"))

    @classmethod
    def write(cls, _buf: str, path: str) -> None:
        from medrec.book.papermill_engine import ChapterError

        raise ChapterError(f"{path}: chapters are read here; write executed ones to a file ending in .ipynb.")

    @classmethod
    def pretty_path(cls, path: str) -> str:
        return path
