"""The kept results of this checkout: all of them whole, none without a provenance."""

from medrec import paths
from medrec.lab import kept

RESULTS = list(kept.all_kept())


def test_no_table_stands_without_its_provenance():
    tables = {found.folder / f"{name}.csv" for found in RESULTS for name in found.tables}
    assert tables == set(paths.results_dir().rglob("*.csv"))


def test_every_table_is_as_it_was_written_and_every_folder_where_it_belongs():
    for found in RESULTS:
        for name in found.tables:
            assert found.table(name).width > 1
        assert found.folder == paths.results_dir() / found.name
        assert found.source != "credentialed"


def test_rows_that_are_not_current_say_what_to_type():
    for found in RESULTS:
        assert found.provenance["command"].split()[0] in ("medrec", "python")
        assert (found.status == "current") == (found.note == "")
