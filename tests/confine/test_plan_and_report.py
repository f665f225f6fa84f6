"""The order of confinement, and what a report says about its level."""

from __future__ import annotations

import pytest

from appliance.confine.plan import AS_ROOT, AS_USER, Spec, Step, steps
from appliance.confine.report import FULL, USER, Layer, Report


def test_the_order_depends_only_on_who_starts() -> None:
    assert steps(root=True) is AS_ROOT
    assert steps(root=False) is AS_USER


@pytest.mark.parametrize("order", [AS_ROOT, AS_USER])
def test_the_bounding_set_goes_before_the_capabilities_that_allow_it_and_seccomp_is_last(
    order: tuple[Step, ...],
) -> None:
    assert order.index(Step.BOUNDING) < order.index(Step.CAPABILITIES)
    assert order.index(Step.JAIL) < order.index(Step.CAPABILITIES)
    assert order.index(Step.NO_NEW_PRIVS) < order.index(Step.LANDLOCK) < order.index(Step.SECCOMP)
    assert order[-1] is Step.SECCOMP


def test_the_death_signal_is_set_after_the_uid_changed_because_that_clears_it() -> None:
    assert AS_ROOT.index(Step.IDENTITY) < AS_ROOT.index(Step.DEATH_SIGNAL)


def test_a_spec_comes_back_from_its_plain_form() -> None:
    plain = {"jail": "/j", "promise": "ftp", "uid": 1, "gid": 2, "writes": False, "bind_tcp": [5, 6], "nofile": 9,
             "fsize": -1, "parent": 3, "required": True}  # fmt: skip
    assert Spec.from_plain(plain).bind_tcp == (5, 6)
    assert Spec.from_plain({**plain, "bind_tcp": None}).bind_tcp is None
    with pytest.raises(TypeError):
        Spec.from_plain({**plain, "more": 1})


@pytest.mark.parametrize(("layers", "level"), [(FULL, "full"), (USER, "user"), (FULL & ~Layer.SECCOMP, "partial")])
def test_the_level_follows_from_the_layers(layers: Layer, level: str) -> None:
    assert Report(layers, 7, 60).level == level


def test_what_is_missing_is_named() -> None:
    assert Report(FULL, 0, 1).missing() == ()
    assert Report(FULL & ~Layer.SECCOMP, 0, 1).missing() == ("system call filter (seccomp)",)
    assert Report(Layer(0), 0, 0).missing() == (
        "jail (chroot)",
        "user namespace",
        "no capabilities",
        "no_new_privs",
        "system call filter (seccomp)",
    )


@pytest.mark.parametrize(
    ("layers", "jail"),
    [(Layer.CHROOT, "chroot"), (Layer.CHROOT | Layer.USER_NAMESPACE, "userns"), (Layer(0), "none")],
)
def test_the_plain_form_names_the_kind_of_jail(layers: Layer, jail: str) -> None:
    assert Report(layers, 0, 0).plain()["jail"] == jail
