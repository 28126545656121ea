"""Model servers as processes of this machine, which outlive the deployer.

Each has a folder (`servers/<token>/`: config, lock, pid, log), a control socket, and the slot's listening socket,
which it inherits. A deployer that comes back finds them by their folders and is given the listening socket back.
"""
