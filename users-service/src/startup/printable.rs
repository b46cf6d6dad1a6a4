//! Text of strangers on a terminal.

/// The text with its control characters escaped, because anybody can have written the name of a stream or of an event type.
pub(super) fn printable(text: &str) -> String {
    let mut printable = String::with_capacity(text.len());
    for character in text.chars() {
        if character.is_control() {
            printable.extend(character.escape_default());
        } else {
            printable.push(character);
        }
    }
    printable
}

#[cfg(test)]
mod tests {
    use super::printable;

    #[test]
    fn a_terminal_gets_no_control_characters_of_strangers() {
        assert_eq!(printable("Ö.v9\u{1b}[2J\n"), "Ö.v9\\u{1b}[2J\\n");
    }
}
