//! What a caller may be allowed to do with users.

/// To read users and lists of them.
pub const READ: &str = "users:read";
/// To create and change users.
pub const WRITE: &str = "users:write";
/// To delete users.
pub const ERASE: &str = "users:erase";
/// To look after parked streams and held users.
pub const ADMIN: &str = "users:admin";
