// Reads {"schemas": {name: schema}, "values": [[name, value]]} from stdin, and prints the errors of each value in a line of JSON.
"use strict";

const { readFileSync } = require("node:fs");
const Ajv = require("ajv").default;
const addFormats = require("ajv-formats").default;

const ajv = addFormats(new Ajv({ allErrors: true }));
const { schemas, values } = JSON.parse(readFileSync(0, "utf8"));

for (const [name, value] of values) {
  const validate = ajv.getSchema(name) ?? ajv.addSchema(schemas[name], name).getSchema(name);
  validate(value);
  console.log(JSON.stringify((validate.errors ?? []).map((error) => `${error.instancePath} ${error.message}`)));
}
