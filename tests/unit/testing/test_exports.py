"""The tools that ship to users are exported."""

from heartwire import testing


def test_exported_names_exist() -> None:
    assert all(hasattr(testing, name) for name in testing.__all__)
    assert sorted(testing.__all__) == sorted(set(testing.__all__))
