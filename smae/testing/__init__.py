"""Contract tests that plug-in authors run against their own parts."""
