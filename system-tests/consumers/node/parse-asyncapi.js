// Parses the AsyncAPI document on stdin with the parser of the AsyncAPI project. Prints each error, and exits with 1 if there
// is one.
"use strict";

const { readFileSync } = require("node:fs");
const { Parser } = require("@asyncapi/parser");

// The severity of an error. Higher ones are warnings and hints.
const ERROR = 0;

async function main() {
  const { document, diagnostics } = await new Parser().parse(readFileSync(0, "utf8"));
  const errors = diagnostics.filter(({ severity }) => severity === ERROR);
  for (const { path, message } of errors) console.log(`${path.join("/")}: ${message}`);
  if (!document || errors.length > 0) process.exit(1);
  console.log(`accepted: ${document.allMessages().length} messages`);
}

main();
