"""The other services, by HTTP, as far as the explainer needs them: the registry's artifacts, the auditor's records."""
