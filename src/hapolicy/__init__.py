"""hapolicy: one policy service in front of many, for Postfix.

Postfix asks, hapolicy asks on, and there is always an answer in time.
"""

__version__ = "2.0.0"
