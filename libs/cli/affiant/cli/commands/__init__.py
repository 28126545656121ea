"""The commands, one module for each subject. Each parses, calls, shows; `add_to(app)` registers them."""
