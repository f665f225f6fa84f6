"""What tests of rules share: settings with some keys changed, and what is found about them."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from appliance.settings import rules
from appliance.settings.main import Settings

DEFAULTS = Settings()


def changed(**sections: dict[str, Any]) -> Settings:
    """Settings with some keys changed; a nested section is a dict again."""
    return _changed(DEFAULTS, sections)


def _changed(value: Any, changes: dict[str, Any]) -> Any:
    return replace(
        value, **{k: _changed(getattr(value, k), v) if isinstance(v, dict) else v for k, v in changes.items()}
    )


def found(settings: Settings) -> list[tuple[str, str, str]]:
    """Severity, what and remedy of every finding."""
    return [(finding.severity, finding.what, finding.remedy) for finding in rules.judge(settings)]


def changed_top(**keys: Any) -> Settings:
    """Settings with keys of the top level changed."""
    return replace(DEFAULTS, **keys)
