"""What operators see: the log lines, and listeners side by side."""

from runengine_server.adapters.telemetry.line_writer import LineWriter
from runengine_server.adapters.telemetry.log_observer import LogObserver
from runengine_server.adapters.telemetry.logging_setup import LogFormat, logging_to
from runengine_server.adapters.telemetry.observer_group import ObserverGroup

__all__ = ["LineWriter", "LogFormat", "LogObserver", "ObserverGroup", "logging_to"]
