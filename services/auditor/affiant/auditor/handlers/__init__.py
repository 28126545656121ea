"""The door for events: pulls them off the bus in batches, has them recorded, and only then acks them.

FastStream serves every other subscription of Affiant; here the rate matters, and each message is acked for itself.
"""
