"""The same facts for people and for planning: what the hosts of a fleet say, put together."""
