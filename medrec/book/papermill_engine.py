"""Papermill's standard engine, with one addition: a chapter's parameters are checked before anything happens."""

from __future__ import annotations

from typing import Any

import click
from papermill.engines import NBClientEngine
from papermill.exceptions import PapermillException

from medrec.book.chapters import check_parameters, parameters_of
from medrec.types import MedrecError


class ChapterError(click.ClickException, PapermillException):
    """A mistake of the user: papermill's command prints it as one line, other callers see papermill's exception."""


class CheckedEngine(NBClientEngine):
    """Refuses unknown parameters, and values of the wrong type, of notebooks that came from a chapter's source."""

    @classmethod
    def execute_notebook(cls, nb: Any, kernel_name: str, *args: Any, **kwargs: Any) -> Any:
        if "medrec" in nb.metadata:
            given = nb.metadata.papermill.get("parameters", {})
            try:
                for name, value in check_parameters(parameters_of(nb), given).items():
                    # Papermill has written the values into the notebook, so that a converted one comes too late.
                    if isinstance(given[name], str) and value != given[name]:
                        raise MedrecError(
                            f"Parameter {name} came as the text {given[name]!r}. Papermill's -r gives every value as "
                            f"text: write -p {name} {given[name]}."
                        )
            except MedrecError as error:
                raise ChapterError(str(error)) from None
        return super().execute_notebook(nb, kernel_name, *args, **kwargs)
