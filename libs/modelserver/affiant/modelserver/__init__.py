"""The model server: one ONNX model behind the Open Inference Protocol v2, every request numbered and logged.

It is the program inside a model's process or container, started as `python -m affiant.modelserver <config.json>`.

app          puts the server together, and takes it down without failing a request
api          HTTP in: an ASGI callable that routes, reads and answers
control      the Unix socket of the deployer: status, drain, listener
inference    the one action: number a request, predict, log, answer
audit        when a record counts as kept: `acked` or `buffered`
publisher    JetStream with group commit: what comes together travels together
wal          the local write-ahead file
connection   the connection to the bus
model        loads and runs the ONNX model
protocol     the documents of the Open Inference Protocol
tensors      JSON values to arrays and back
record       builds `prediction_logged`
"""
