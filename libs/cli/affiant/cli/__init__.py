"""The `affiant` command: a thin door for people.

It talks to the services by HTTP and to the bus by NATS, and it starts and stops an installation on one machine.
What it knows of the services it knows from `affiant.common`; rules and state belong to them, never here.
"""
