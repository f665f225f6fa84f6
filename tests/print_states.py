"""Prints docs/STATES.md from the tables."""

from appliance.supervise.states import table_as_text

print("# States of the supervisor\n\nPrinted from `appliance/supervise/states.py`; a test compares.\n")
print(table_as_text())
