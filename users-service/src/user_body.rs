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
    let profile = profile(&mut body);
    body.finish(profile)
}

/// Reads the names of a new user, and the id if the sender has chosen one.
///
/// # Errors
/// 422 with every wrong, missing and unknown member.
pub(crate) fn new_user_with_id(mut body: Fields) -> Result<(Option<UserId>, Profile), Problem> {
    let id = body.optional_text_or_number(ID, |id| user_id(&id));
    let profile = profile(&mut body);
    body.finish(profile.map(|profile| (id, profile)))
}

/// Reads the merge patch of this user. A client may change the answer of a `GET` and send it back, so the user's own id is
/// allowed. No name can be removed, so `null` is refused.
///
/// # Errors
/// 422 with every wrong and unknown member.
pub(crate) fn changes(mut body: Fields, user: UserId) -> Result<Changes, Problem> {
    body.optional(ID, |id| match id.parse::<UserId>() {
        Ok(id) if id == user => Ok(()),
        Ok(_) | Err(_) => Err("must be the id in the path"),
    });
    let changes = changed_names(&mut body);
    body.finish(Some(changes))
}

/// Reads the merge patch of the user whose id it has.
///
/// # Errors
/// 422 with every wrong, missing and unknown member.
pub(crate) fn changes_with_id(mut body: Fields) -> Result<(UserId, Changes), Problem> {
    let id = body.required_text_or_number(ID, |id| user_id(&id));
    let changes = changed_names(&mut body);
    body.finish(id.map(|id| (id, changes)))
}

/// Reads an id, and nothing else.
///
/// # Errors
/// 422 with every wrong, missing and unknown member.
pub(crate) fn only_id(mut body: Fields) -> Result<UserId, Problem> {
    let id = body.required_text_or_number(ID, |id| user_id(&id));
    body.finish(id)
}

/// The name of the member with the user's id.
const ID: &str = "id";
/// The greatest id of a user. (The id service issues no greater ones.)
const MAX_ID: u64 = i64::MAX.unsigned_abs();

fn user_id(text: &str) -> Result<UserId, &'static str> {
    let id: Option<UserId> = text.parse().ok();
    let id = id.filter(|id| (1..=MAX_ID).contains(&id.number()));
    id.ok_or("must be a positive whole number below 2^63, without leading zeros")
}

fn profile(body: &mut Fields) -> Option<Profile> {
    let username = body.required(NameField::Username.as_str(), Username::parse);
    let given_name = body.required(NameField::GivenName.as_str(), GivenName::parse);
    let family_name = body.required(NameField::FamilyName.as_str(), FamilyName::parse);
    Some(Profile {
        username: username?,
        given_name: given_name?,
        family_name: family_name?,
    })
}

fn changed_names(body: &mut Fields) -> Changes {
    Changes {
        username: body.optional(NameField::Username.as_str(), Username::parse),
        given_name: body.optional(NameField::GivenName.as_str(), GivenName::parse),
        family_name: body.optional(NameField::FamilyName.as_str(), FamilyName::parse),
    }
}
