//! Names of streams, and the relation of a stream to the stream of its metadata (`$$name`).

use std::sync::Arc;

const METASTREAM_PREFIX: &str = "$$";

/// A name that is not empty, not too long, and UTF-8.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct StreamName(Arc<str>);

/// Why bytes are not a name, or not a name to write to. The error names the argument but never its value.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum InvalidStreamName {
    #[error("the stream name is empty")]
    Empty,
    #[error("the stream name is longer than {} bytes", StreamName::LONGEST)]
    TooLong,
    #[error("the stream name is not UTF-8")]
    NotUtf8,
    #[error("`$all` and `$$` cannot be written to")]
    ReadOnly,
}

impl StreamName {
    /// In bytes. It is bounded because every name is a key of an index.
    pub(crate) const LONGEST: usize = 4096;

    pub(crate) fn parse(bytes: &[u8]) -> Result<Self, InvalidStreamName> {
        if bytes.is_empty() {
            return Err(InvalidStreamName::Empty);
        }
        if bytes.len() > Self::LONGEST {
            return Err(InvalidStreamName::TooLong);
        }
        let name = std::str::from_utf8(bytes).map_err(|_| InvalidStreamName::NotUtf8)?;
        Ok(Self(name.into()))
    }

    /// A name that clients may write to.
    pub(crate) fn parse_writable(bytes: &[u8]) -> Result<Self, InvalidStreamName> {
        let name = Self::parse(bytes)?;
        if matches!(name.as_str(), "$all" | METASTREAM_PREFIX) {
            return Err(InvalidStreamName::ReadOnly);
        }
        Ok(name)
    }

    /// A name that was checked before it was stored.
    pub(crate) fn stored(name: &str) -> Self {
        Self(name.into())
    }

    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether the name is reserved for the server. The metadata of a stream (`$$name`) counts like the stream.
    pub(crate) fn is_system(&self) -> bool {
        let name = self.as_str();
        let original = name.strip_prefix(METASTREAM_PREFIX);
        original.unwrap_or(name).starts_with('$')
    }

    pub(crate) fn is_metastream(&self) -> bool {
        self.0.starts_with(METASTREAM_PREFIX)
    }

    /// The stream that holds this one's metadata.
    pub(crate) fn metastream(&self) -> Self {
        Self(format!("{METASTREAM_PREFIX}{}", self.0).into())
    }

    /// The stream whose metadata this one holds.
    pub(crate) fn original(&self) -> Option<Self> {
        let name = self.0.strip_prefix(METASTREAM_PREFIX)?;
        Some(Self(name.into()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_short_utf8_and_not_empty() {
        assert_eq!(StreamName::parse(b""), Err(InvalidStreamName::Empty));
        assert_eq!(StreamName::parse(&[0xff]), Err(InvalidStreamName::NotUtf8));
        assert_eq!(
            StreamName::parse(&[b'x'; StreamName::LONGEST + 1]),
            Err(InvalidStreamName::TooLong)
        );
        assert!(StreamName::parse("a-b/é".as_bytes()).is_ok());
    }

    #[test]
    fn all_and_the_metastream_of_nothing_are_read_only() {
        for name in ["$all", "$$"] {
            assert_eq!(
                StreamName::parse_writable(name.as_bytes()),
                Err(InvalidStreamName::ReadOnly)
            );
        }
    }

    #[test]
    fn a_stream_and_its_metastream_name_each_other() {
        let stream = StreamName::stored("users-1");
        assert_eq!(stream.metastream().as_str(), "$$users-1");
        assert_eq!(stream.metastream().original(), Some(stream));
    }
}
