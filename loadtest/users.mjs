// Names that no other virtual user has, in this run or any other.
import { randomUUID } from "node:crypto";

export async function newUser(context) {
  context.vars.username = `load-${randomUUID()}`;
  context.vars.newUsername = `load-${randomUUID()}`;
}
