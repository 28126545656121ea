"""The rules of deployment: values, steps, and the plan that leads from one to the other. No I/O; time is given."""
