"""The event log and its sinks: journald, syslog, a descriptor. Imports config and core."""
