// Publish a prediction that was made elsewhere, so that Affiant records it like its own.
//
//   npm ci
//   node publish.js --nats nats://127.0.0.1:4222 --user outside --password-file ~/.affiant/secrets/nats/outside
//
// What is sent is a CloudEvent in binary form: the attributes are headers, the body is the data alone. (The Python
// example shows the structured form; Affiant reads both.) The data follow
// docs/contracts/schemas/affiant.outside.prediction_logged.v1.json.

import { randomUUID } from "node:crypto";
import { readFileSync } from "node:fs";
import { homedir } from "node:os";
import { parseArgs } from "node:util";
import { jetstream } from "@nats-io/jetstream";
import { connect, headers } from "@nats-io/transport-node";

const TYPE = "affiant.outside.prediction_logged.v1";

const { values: options } = parseArgs({
  options: {
    nats: { type: "string", default: "nats://127.0.0.1:4222" },
    user: { type: "string", default: "outside" },
    "password-file": { type: "string" },
    model: { type: "string", default: "scorecard" },
    id: { type: "string" }, // send a decision again: the same id
  },
});
if (!options["password-file"]) {
  console.error("--password-file is needed");
  process.exit(2);
}

const id = options.id ?? randomUUID();

// One decision as your system made it: what went in, what came out.
const prediction = {
  prediction_id: id,
  model: options.model, // lower-case letters, digits and dashes
  version: null, // your own numbering goes into `parameters`: only registered models have versions here
  digest: "", // sha256:<hex> of the model's file, where you know it
  received_at: new Date().toISOString(),
  status: "answered", // or "failed", with `error`
  // Tensors as in the Open Inference Protocol: `data` is flat, its length the product of `shape`.
  inputs: [
    { name: "income", datatype: "FP64", shape: [1, 1], data: [58.0] },
    { name: "purpose", datatype: "BYTES", shape: [1, 1], data: ["house"] },
  ],
  outputs: [
    { name: "label", datatype: "BYTES", shape: [1], data: ["approved"] },
    { name: "probabilities", datatype: "FP64", shape: [1, 2], data: [0.81, 0.19] },
  ],
  context: [{ name: "sex", datatype: "BYTES", shape: [1, 1], data: ["m"] }], // the model never sees it
  labels: ["approved"], // one entry for each row
  scores: [0.81], // the probability of the favourable decision
  adverse: [false],
  parameters: { system: "web-shop" },
};

const event = headers();
event.set("ce-specversion", "1.0");
event.set("ce-id", id); // what a duplicate is known by: the same decision must always have the same one
event.set("ce-source", "urn:example:web-shop");
event.set("ce-type", TYPE);
event.set("ce-time", new Date().toISOString());
event.set("content-type", "application/json");

const connection = await connect({
  servers: options.nats,
  user: options.user,
  pass: readFileSync(options["password-file"].replace(/^~/, homedir()), "utf8").trim(),
  inboxPrefix: `_INBOX_${options.user}`, // a user may read its own answers only
}).catch((error) => {
  console.error(`not published: ${error.message}`);
  process.exit(1);
});

try {
  // The answer comes when the bus has it on its disk. Without one, send it again with the same id.
  const acked = await jetstream(connection).publish(
    `${TYPE}.${options.model}`,
    JSON.stringify(prediction),
    { headers: event, msgID: id, timeout: 10_000 },
  );
  console.log(JSON.stringify({ id, stream: acked.stream, sequence: acked.seq, duplicate: acked.duplicate }));
} catch (error) {
  console.error(`not published: ${error.message}`);
  process.exitCode = 1;
} finally {
  await connection.close();
}
