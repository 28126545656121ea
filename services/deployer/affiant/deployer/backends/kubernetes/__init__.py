"""Model servers as workloads of a Kubernetes cluster.

`cluster` speaks to the API server, `mirror` keeps what it says, `election` finds the one deployer that acts;
`manifests`, `drift`, `reading` and `shares` are pure: what should be there, how it differs, what it means.
"""
