// Gives each virtual user names that are unique over all runs.
import { randomUUID } from "node:crypto";

export async function newUser(context) {
  context.vars.username = `load-${randomUUID()}`;
  context.vars.newUsername = `load-${randomUUID()}`;
}
