//! Searches all files for values that must not be there, in every encoding in which they could occur.

use aho_corasick::AhoCorasick;
use anyhow::Result;
use std::fs;
use std::path::{Path, PathBuf};

/// The values to search for: personal values in all their encodings, or exact texts. The search ignores case.
#[derive(Debug)]
pub struct Search {
    needles: AhoCorasick,
}

/// The result of a search.
#[derive(Debug, Default)]
pub struct Report {
    /// The files that contain one of the values.
    pub found: Vec<PathBuf>,
    /// The number of files read.
    pub searched: usize,
}

impl Search {
    /// Searches for these values, in plain text and in every encoding in which they could be written.
    pub fn for_values(values: &[String]) -> Result<Self> {
        Self::for_bytes(values.iter().flat_map(|value| all_forms(value)))
    }

    /// Searches for exactly these texts.
    pub fn for_texts(texts: &[&str]) -> Result<Self> {
        Self::for_bytes(texts.iter().map(|text| text.as_bytes().to_vec()))
    }

    fn for_bytes(needles: impl Iterator<Item = Vec<u8>>) -> Result<Self> {
        let mut builder = AhoCorasick::builder();
        let needles = builder.ascii_case_insensitive(true).build(needles)?;
        Ok(Self { needles })
    }

    /// Whether these bytes contain one of the values.
    #[must_use]
    pub fn finds_in(&self, bytes: &[u8]) -> bool {
        self.needles.is_match(bytes)
    }

    /// Searches every file below these folders.
    pub fn in_files(&self, folders: &[&Path]) -> Result<Report> {
        let mut report = Report::default();
        for folder in folders {
            for file in files(folder)? {
                // A database may delete a side file at any time, so a missing file is no error.
                let Ok(bytes) = fs::read(&file) else { continue };
                report.searched += 1;
                if self.finds_in(&bytes) {
                    report.found.push(file);
                }
            }
        }
        Ok(report)
    }
}

/// A personal value that occurs nowhere else: random letters around a space and a non-ASCII letter, so that its encoded
/// forms differ from it.
#[must_use]
pub fn canary() -> String {
    let random = || uuid::Uuid::new_v4().simple().to_string();
    format!("Kq{} éZx{}", &random()[..12], &random()[..12])
}

/// Like [`canary`], for a username, which may contain `@` but no space.
#[must_use]
pub fn canary_name() -> String {
    canary().replace(' ', "@")
}

/// The encodings of the value and of its parts between the special characters. An unknown encoding may change the special
/// characters, but it leaves the parts recognisable.
fn all_forms(value: &str) -> Vec<Vec<u8>> {
    let halves = value.split([' ', '@', 'é']).filter(|half| !half.is_empty());
    std::iter::once(value)
        .chain(halves)
        .flat_map(forms)
        .collect()
}

fn files(path: &Path) -> Result<Vec<PathBuf>> {
    if path.is_file() {
        return Ok(vec![path.to_owned()]);
    }
    let mut found = Vec::new();
    for entry in fs::read_dir(path)? {
        let entry = entry?.path();
        if entry.exists() {
            found.extend(files(&entry)?);
        }
    }
    Ok(found)
}

/// The encodings in which a value could be written.
fn forms(value: &str) -> Vec<Vec<u8>> {
    let mut forms = Vec::new();
    for value in [value.to_owned(), value.to_lowercase()] {
        let bytes = value.as_bytes();
        forms.push(bytes.to_vec());
        forms.push(hex(bytes));
        forms.push(percent_encoded(bytes, b"%20"));
        forms.push(percent_encoded(bytes, b"+"));
        forms.push(json_escaped(&value));
        forms.push(value.encode_utf16().flat_map(u16::to_le_bytes).collect());
        forms.push(value.encode_utf16().flat_map(u16::to_be_bytes).collect());
        forms.extend((0..3).map(|offset| base64_within(bytes, offset)));
        forms.push(debug_bytes(bytes));
    }
    forms
}

fn hex(bytes: &[u8]) -> Vec<u8> {
    let digits =
        |byte: &u8| [byte >> 4, byte & 15].map(|digit| b"0123456789abcdef"[usize::from(digit)]);
    bytes.iter().flat_map(digits).collect()
}

fn percent_encoded(bytes: &[u8], space: &[u8]) -> Vec<u8> {
    let encode = |byte: &u8| match byte {
        b' ' => space.to_vec(),
        byte if byte.is_ascii_alphanumeric() => vec![*byte],
        byte => format!("%{byte:02X}").into_bytes(),
    };
    bytes.iter().flat_map(encode).collect()
}

fn json_escaped(value: &str) -> Vec<u8> {
    let escape = |unit: u16| match u8::try_from(unit) {
        Ok(byte) if byte.is_ascii() => char::from(byte).to_string(),
        _ => format!("\\u{unit:04x}"),
    };
    value
        .encode_utf16()
        .map(escape)
        .collect::<String>()
        .into_bytes()
}

/// Bytes as Rust's `Debug` prints them, `75, 113, …`, without the brackets.
fn debug_bytes(bytes: &[u8]) -> Vec<u8> {
    let printed = format!("{bytes:?}");
    printed.trim_matches(['[', ']']).as_bytes().to_vec()
}

/// The base64 text of a value inside other bytes, without the characters that depend on those bytes. The value begins at
/// `offset` modulo 3.
fn base64_within(bytes: &[u8], offset: usize) -> Vec<u8> {
    use base64::prelude::{BASE64_STANDARD_NO_PAD, Engine};
    let skipped = (3 - offset) % 3;
    let whole = (bytes.len() - skipped) / 3 * 3;
    BASE64_STANDARD_NO_PAD
        .encode(&bytes[skipped..skipped + whole])
        .into_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;
    use base64::prelude::{BASE64_STANDARD, BASE64_URL_SAFE_NO_PAD, Engine};

    #[test]
    fn a_value_is_found_in_every_form() {
        let text = canary();
        let value = text.as_bytes();
        let search = Search::for_values(std::slice::from_ref(&text)).unwrap();
        for form in [
            value.to_vec(),
            text.to_uppercase().into_bytes(),
            hex(value),
            percent_encoded(value, b"+"),
            text.encode_utf16().flat_map(u16::to_le_bytes).collect(),
            BASE64_STANDARD
                .encode([b"x", value, b"yz"].concat())
                .into_bytes(),
            BASE64_URL_SAFE_NO_PAD
                .encode([b"xy", value].concat())
                .into_bytes(),
            BASE64_STANDARD.encode([value, b"z"].concat()).into_bytes(),
            format!("{value:?}").into_bytes(),
            serde_json::json!({"a": text}).to_string().into_bytes(),
        ] {
            let around = [b"before ", &form[..], b" after"].concat();
            assert!(
                search.finds_in(&around),
                "{}",
                String::from_utf8_lossy(&around)
            );
        }
    }

    #[test]
    fn another_value_is_not_found() {
        let search = Search::for_values(&[canary()]).unwrap();
        assert!(!search.finds_in(canary().as_bytes()));
    }
}
