//! The text of a command: `{"command":"CreateUser","data":{…}}`, the same in plain and in sealed messages.

use super::not_a_command::{NotACommand, Unacceptable};
use crate::command::envelope::{Command, CommandKind};
use crate::domain::{NameField, UserId};
use crate::user_body;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use serde_json::{Map, Value};
use web::Fields;

pub(super) const CREATE: &str = "CreateUser";
pub(super) const PATCH: &str = "PatchUser";
pub(super) const DELETE: &str = "DeleteUser";

/// A command and its data. The data is not parsed yet, so that each of its errors can be listed.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct CommandText {
    command: String,
    data: Box<RawValue>,
}

impl CommandText {
    /// The text of a command. `None` only if it does not serialize.
    pub(super) fn of(command: &Command) -> Option<Self> {
        let name = match command.kind() {
            CommandKind::Create => CREATE,
            CommandKind::Patch => PATCH,
            CommandKind::Delete => DELETE,
        };
        let mut data = Map::new();
        if let Command::Patch(user, _) | Command::Delete(user) = command {
            data.insert("id".to_owned(), user.to_string().into());
        }
        let names = command.names().into_iter().flatten();
        for (field, name) in NameField::ALL.into_iter().zip(names) {
            if let Some(name) = name {
                let name = Value::from(name.reveal().as_str());
                data.insert(field.as_str().to_owned(), name);
            }
        }
        Some(Self {
            command: name.to_owned(),
            data: serde_json::value::to_raw_value(&data).ok()?,
        })
    }

    /// Parses a plain message.
    pub(super) fn parse(bytes: &[u8]) -> Result<Self, NotACommand> {
        serde_json::from_slice(bytes).map_err(|_| NotACommand::Malformed)
    }

    /// The command, and the id that its sender has chosen for a new user.
    pub(super) fn command(&self) -> Result<(Command, Option<UserId>), Unacceptable> {
        match self.command.as_str() {
            CREATE => {
                let (id, profile) = user_body::new_user_with_id(self.fields()?)?;
                Ok((Command::Create(profile), id))
            }
            PATCH => {
                let (id, changes) = user_body::changes_with_id(self.fields()?)?;
                Ok((Command::Patch(id, changes), None))
            }
            DELETE => {
                let id = user_body::only_id(self.fields()?)?;
                Ok((Command::Delete(id), None))
            }
            _ => Err(NotACommand::Unknown.into()),
        }
    }

    fn fields(&self) -> Result<Fields, NotACommand> {
        let fields = Fields::parse(self.data.get().as_bytes());
        let fields = fields.map_err(|_| NotACommand::Malformed)?;
        Ok(fields.hiding_unknown_names())
    }
}

#[cfg(test)]
mod tests {
    use super::CommandText;
    use crate::command::envelope::Command;
    use crate::domain::{Changes, FamilyName, GivenName, Profile, UserId, Username};
    use proptest::prelude::*;

    fn read(bytes: &[u8]) -> Option<(Command, Option<UserId>)> {
        CommandText::parse(bytes).ok()?.command().ok()
    }

    #[test]
    fn a_command_is_read_as_it_was_written() {
        let profile = Profile {
            username: Username::parse("ada").unwrap(),
            given_name: GivenName::parse("Ada \"\\ é").unwrap(),
            family_name: FamilyName::parse("Lovelace").unwrap(),
        };
        let changes = Changes {
            family_name: Some(profile.family_name.clone()),
            ..Changes::default()
        };
        for command in [
            Command::Create(profile),
            Command::Patch(UserId::new(7), changes),
            Command::Patch(UserId::new(7), Changes::default()),
            Command::Delete(UserId::new(u64::MAX / 2)),
        ] {
            let text = CommandText::of(&command).unwrap();
            let text = serde_json::to_vec(&text).unwrap();
            assert_eq!(read(&text), Some((command, None)));
        }
    }

    proptest! {
        #[test]
        fn whatever_comes_is_read_or_refused(
            bytes in prop::collection::vec(any::<u8>(), 0..200),
            data in "[\\[\\]{}\":, a-z0-9\\\\u]{0,80}",
            depth in 0..20_000_usize,
        ) {
            let _ = read(&bytes);
            for command in ["CreateUser", "PatchUser", "DeleteUser"] {
                for data in [&data, &format!("{{{data}}}"), &"[".repeat(depth)] {
                    let text = format!(r#"{{"command":"{command}","data":{data}}}"#);
                    let _ = read(text.as_bytes());
                }
            }
        }
    }
}
