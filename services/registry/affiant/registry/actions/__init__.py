"""What the registry can do, whoever asks.

`registration` makes versions, `lifecycle` changes what may be changed of them, `lookup` answers questions,
`deployments` keeps what the deployer says. An `Order` says who wants something and why.
"""
