// Prints AsyncAPI's diagnostics for the document named on the command line, one a line; exits 1 on an error.
import { readFileSync } from "node:fs";
import { Parser } from "@asyncapi/parser";

const { document, diagnostics } = await new Parser().parse(readFileSync(process.argv[2], "utf8"));
const errors = diagnostics.filter((diagnostic) => diagnostic.severity === 0);
for (const error of errors) console.log(`${error.path.join("/")}: ${error.message}`);
console.log(`${errors.length} errors, ${document ? document.channels().all().length : 0} channels`);
process.exit(errors.length || !document ? 1 : 0);
