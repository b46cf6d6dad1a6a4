// Gives each virtual user usernames that are unique across all runs.
import { randomUUID } from "node:crypto";

export async function newUser(context) {
  context.vars.username = `load-${randomUUID()}`;
  context.vars.newUsername = `load-${randomUUID()}`;
}
