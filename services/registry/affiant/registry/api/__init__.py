"""HTTP in: parse, call an action, answer. `routes` are the doors, `views` what they answer."""
