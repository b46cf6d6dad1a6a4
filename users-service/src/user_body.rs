//! The JSON of a user in answers, shared by the command side and the query side.

use crate::domain::UserId;
use serde::Serialize;

#[derive(Serialize)]
pub(crate) struct UserBody<'a> {
    id: String,
    username: &'a str,
    given_name: &'a str,
    family_name: &'a str,
}

impl<'a> UserBody<'a> {
    /// Takes the names in the order of [`NameField::ALL`](crate::domain::NameField::ALL).
    pub(crate) fn new(id: UserId, [username, given_name, family_name]: [&'a str; 3]) -> Self {
        Self {
            id: id.to_string(),
            username,
            given_name,
            family_name,
        }
    }
}
