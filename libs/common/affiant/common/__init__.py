"""What every part of Affiant shares: the events, the bus, how messages are delivered, how a service runs.

Nothing here knows a service. A thing moves here when three parts need it for the same reason.
"""
