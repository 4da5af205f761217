"""Data flows one way: the import contracts of pyproject.toml hold."""

from importlinter.cli import EXIT_STATUS_SUCCESS, lint_imports

from . import source


def test_import_contracts(capsys: object, monkeypatch: object) -> None:
    """import-linter finds no broken contract."""
    monkeypatch.chdir(source.REPOSITORY)  # type: ignore[attr-defined]
    status = lint_imports(config_filename="pyproject.toml", no_cache=True)
    report = capsys.readouterr().out  # type: ignore[attr-defined]
    assert status == EXIT_STATUS_SUCCESS, report
