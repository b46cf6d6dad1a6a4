//! The JSON of a user: in answers of the command side and the query side, and in commands.

use crate::domain::{Changes, FamilyName, GivenName, NameField, Profile, UserId, Username};
use serde::Serialize;
use web::{Fields, Problem};

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

/// Reads the names of a new user.
///
/// # Errors
/// 422 with every wrong, missing and unknown member.
pub(crate) fn new_user(mut body: Fields) -> Result<Profile, Problem> {
    let username = body.required(NameField::Username.as_str(), Username::parse);
    let given_name = body.required(NameField::GivenName.as_str(), GivenName::parse);
    let family_name = body.required(NameField::FamilyName.as_str(), FamilyName::parse);
    let profile = || {
        Some(Profile {
            username: username?,
            given_name: given_name?,
            family_name: family_name?,
        })
    };
    body.finish(profile())
}

/// Reads the merge patch of this user. A client may change the answer of a `GET` and send it back, so the user's own id is
/// allowed. No name can be removed, so `null` is refused.
///
/// # Errors
/// 422 with every wrong and unknown member.
pub(crate) fn changes(mut body: Fields, user: UserId) -> Result<Changes, Problem> {
    body.optional("id", |id| match id.parse::<UserId>() {
        Ok(id) if id == user => Ok(()),
        Ok(_) | Err(_) => Err("must be the id in the path"),
    });
    let changes = Changes {
        username: body.optional(NameField::Username.as_str(), Username::parse),
        given_name: body.optional(NameField::GivenName.as_str(), GivenName::parse),
        family_name: body.optional(NameField::FamilyName.as_str(), FamilyName::parse),
    };
    body.finish(Some(changes))
}
