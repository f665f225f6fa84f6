"""What keys about hooks may not say together. Pure."""

from __future__ import annotations

from collections.abc import Iterator

from appliance.settings.finding import Finding
from appliance.settings.main import Settings


def hooks(settings: Settings) -> Iterator[Finding]:
    """Hooks live on events; a program is named by its whole path, and is no file that strangers are served or sent."""
    if settings.observe.hooks and not settings.observe.events:
        keys = (("observe", "hooks"), ("observe", "events"))
        yield Finding("hooks live on events, which are off", "write events: true", keys)
    roots = (("tftp", settings.tftp.root), ("ftp", settings.ftp.root))
    for i, hook in enumerate(settings.observe.hooks):
        key, program = ("observe", "hooks", i, "run"), hook.run[0]
        if not program.startswith("/"):
            remedy = f"write where it lies, as `command -v {program}` tells"
            yield Finding(f"{program!r} is not the whole path of a program", remedy, (key,))
        for service, root in roots:
            if root != "/" and program.startswith(f"{root}/"):
                what = f"{program} lies inside {service}.root"
                yield Finding(what, f"move it out of {root}", (key, (service, "root")))
