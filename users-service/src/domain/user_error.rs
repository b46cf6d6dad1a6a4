//! Why a rule said no.

/// A refusal: nothing failed, and asking again gets the same answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum UserError {
    /// Nobody was ever made under this id.
    #[error("there is no such user")]
    Unknown,
    /// Somebody lives under this id already.
    #[error("the user exists already")]
    Exists,
    /// The id was given up before anybody was made under it: it is never used again.
    #[error("the registration was abandoned")]
    Abandoned,
    /// The user was deleted.
    #[error("the user was erased")]
    Erased,
    /// Somebody else lives under the username.
    #[error("the username is taken")]
    UsernameTaken,
}
