"""The door for people and other services: HTTP in, one action, an answer."""
