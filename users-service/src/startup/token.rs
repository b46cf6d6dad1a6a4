//! The command `token`, which prints an access token.

use access_tokens::{AccessSettings, TokenRequest};
use std::io::Write as _;
use std::time::Duration;

/// Prints an access token.
///
/// # Errors
/// If no secret is configured, or it cannot be read.
pub fn print_token(
    access: &AccessSettings,
    subject: &str,
    scopes: &[String],
    hours: u32,
) -> anyhow::Result<()> {
    let request = TokenRequest {
        subject,
        scopes,
        lifetime: Duration::from_hours(hours.into()),
    };
    let token = access.signer()?.token(&request)?;
    writeln!(std::io::stdout(), "{token}")?;
    Ok(())
}
