"""supervise.addresses: the last good address is kept, and what fails is a problem of `status`."""

from __future__ import annotations

from appliance.supervise.addresses import FAILING, Addresses


def test_workers_are_told_of_changes_only() -> None:
    table = Addresses()
    assert table.learn("a", "192.0.2.1")
    assert not table.learn("a", "192.0.2.1")
    assert table.learn("a", "192.0.2.2")
    assert table.known == {"a": "192.0.2.2"}


def test_the_last_good_address_is_kept_and_the_failure_is_a_problem() -> None:
    table = Addresses()
    table.learn("a", "192.0.2.1")
    assert not table.learn("a", FAILING)
    assert table.known == {"a": "192.0.2.1"}
    (problem,) = table.problems(["a"])
    assert "still told 192.0.2.1" in problem.what
    table.learn("a", "192.0.2.1")
    assert table.problems(["a"]) == []


def test_a_name_without_any_address_is_a_problem() -> None:
    (problem,) = Addresses().problems(["a"])
    assert "no address of a yet" in problem.what


def test_names_that_the_configuration_has_no_longer_are_forgotten() -> None:
    table = Addresses()
    table.learn("a", "192.0.2.1")
    table.learn("b", "192.0.2.2")
    table.learn("b", FAILING)
    table.keep(["a"])
    assert table.known == {"a": "192.0.2.1"}
    assert len(table.problems(["b"])) == 1
