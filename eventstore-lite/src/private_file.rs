//! Reads files with secrets, if their permissions protect them.

use std::fs::File;
use std::io::Read as _;
use std::path::Path;

use anyhow::{Context, Result, ensure};

/// The text of a file that only its owner and its group can read, and only its owner can write.
pub(crate) fn read(path: &Path) -> Result<String> {
    let name = path.display();
    let mut file = File::open(path).with_context(|| format!("opening {name}"))?;
    let metadata = file.metadata()?;
    ensure!(
        is_private(&metadata),
        "{name} can be read by everybody or written by its group: chmod 640 {name}"
    );
    let mut text = String::new();
    file.read_to_string(&mut text)
        .with_context(|| format!("reading {name}"))?;
    Ok(text)
}

#[cfg(unix)]
fn is_private(metadata: &std::fs::Metadata) -> bool {
    use std::os::unix::fs::PermissionsExt as _;
    metadata.permissions().mode() & 0o027 == 0
}

#[cfg(not(unix))]
fn is_private(_: &std::fs::Metadata) -> bool {
    true
}

#[cfg(all(test, unix))]
mod tests {
    use std::fs::{Permissions, set_permissions};
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn a_secret_that_others_can_read_is_refused() {
        let file = tempfile::NamedTempFile::new().unwrap();
        for (mode, is_private) in [(0o600, true), (0o440, true), (0o644, false), (0o660, false)] {
            set_permissions(file.path(), Permissions::from_mode(mode)).unwrap();
            assert_eq!(read(file.path()).is_ok(), is_private, "{mode:o}");
        }
    }
}
