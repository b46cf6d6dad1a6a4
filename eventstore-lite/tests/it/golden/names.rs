//! Names for values that differ between runs (`<p1>`, `<id1>`, `<created>` …). A name is bound to a value at its
//! first appearance, and stands for that value from then on.

use std::collections::BTreeMap;

#[derive(Clone, Debug, Default)]
pub(crate) struct Names {
    values: BTreeMap<String, String>,
}

impl Names {
    /// Whether the text matches the pattern. Binds the names in it.
    pub(crate) fn matches(&mut self, pattern: &str, text: &str) -> bool {
        let Some((literal, name, rest)) = split_at_name(pattern) else {
            return pattern == text;
        };
        let Some(text) = text.strip_prefix(literal) else {
            return false;
        };
        let next_literal = split_at_name(rest).map_or(rest, |(literal, _, _)| literal);
        let end = if next_literal.is_empty() {
            Some(text.len())
        } else {
            text.find(next_literal)
        };
        end.is_some_and(|end| self.is(name, &text[..end]) && self.matches(rest, &text[end..]))
    }

    fn is(&mut self, name: &str, value: &str) -> bool {
        match name.trim_end_matches(|c: char| c.is_ascii_digit()) {
            "varies" => true,
            "created" => value.parse::<u64>().is_ok_and(|ticks| ticks > 0),
            "subscription" | "time" => !value.is_empty(),
            "p" => value.parse::<u64>().is_ok() && self.is_bound(name, value),
            _ => self.is_bound(name, value),
        }
    }

    /// Each name has one value, and each value has one name.
    fn is_bound(&mut self, name: &str, value: &str) -> bool {
        if let Some(bound) = self.values.get(name) {
            return bound == value;
        }
        let kind = name.trim_end_matches(|c: char| c.is_ascii_digit());
        let taken = |(other, known): (&String, &String)| other.starts_with(kind) && known == value;
        let new = !self.values.iter().any(taken);
        self.values.insert(name.to_owned(), value.to_owned());
        new
    }

    /// Replaces the names in a text to be sent by their values. `<p1>+1` is the next position.
    pub(crate) fn fill_in(&self, text: &str) -> String {
        let Some((literal, name, rest)) = split_at_name(text) else {
            return text.to_owned();
        };
        let Some(value) = self.values.get(name) else {
            return text.to_owned();
        };
        if let (Some(Ok(more)), Ok(value)) = (
            rest.strip_prefix('+').map(str::parse::<u64>),
            value.parse::<u64>(),
        ) {
            return format!("{literal}{}", value + more);
        }
        format!("{literal}{value}{}", self.fill_in(rest))
    }

    /// The first two names that are not in this order, if any.
    pub(crate) fn first_not_ascending(&self, order: &[String]) -> Option<String> {
        let value = |name: &String| -> Option<u64> {
            self.values.get(name.trim_matches(['<', '>']))?.parse().ok()
        };
        order.windows(2).find_map(|pair| {
            let (low, high) = (value(&pair[0]), value(&pair[1]));
            (low.is_none() || high.is_none() || low >= high)
                .then(|| format!("{} = {low:?} before {} = {high:?}", pair[0], pair[1]))
        })
    }
}

/// The text before the first name, the name, and the text after it.
fn split_at_name(text: &str) -> Option<(&str, &str, &str)> {
    let mut from = 0;
    loop {
        let start = from + text[from..].find('<')?;
        let end = start + text[start..].find('>')?;
        let name = &text[start + 1..end];
        let letters = name.trim_end_matches(|c: char| c.is_ascii_digit());
        if ["p", "id", "created", "subscription", "time", "varies"].contains(&letters) {
            return Some((&text[..start], name, &text[end + 1..]));
        }
        from = start + 1;
    }
}
