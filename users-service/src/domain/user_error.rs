//! The reasons why a rule refuses a command.

/// A refusal. Nothing failed, so the same command is refused again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, thiserror::Error)]
pub enum UserError {
    /// No user was ever created under this id.
    #[error("there is no such user")]
    Unknown,
    /// A user with this id already exists.
    #[error("the user already exists")]
    Exists,
    /// The id was abandoned before a user was created under it. It is never used again.
    #[error("the registration was abandoned")]
    Abandoned,
    /// The user was deleted.
    #[error("the user was erased")]
    Erased,
    /// Another user has the username.
    #[error("the username is taken")]
    UsernameTaken,
}
