//! Queues without a bound, which grow until the memory is used up.

use proc_macro2::{Delimiter, TokenStream, TokenTree};

/// The names of channels without a bound, and of their ends.
const UNBOUNDED: [&str; 4] = [
    "unbounded_channel",
    "unbounded",
    "UnboundedSender",
    "UnboundedReceiver",
];

/// The names in these tokens that stand for a channel without a bound: one of [`UNBOUNDED`], or `mpsc::channel()` without a
/// number.
pub(super) fn unbounded(tokens: TokenStream) -> Vec<String> {
    let tokens: Vec<_> = tokens.into_iter().collect();
    let mut found = Vec::new();
    for (index, token) in tokens.iter().enumerate() {
        match token {
            TokenTree::Group(group) => found.extend(unbounded(group.stream())),
            TokenTree::Ident(ident) => {
                let name = ident.to_string();
                let (before, after) = tokens.split_at(index);
                let is_channel = name == "channel" && is_of_mpsc(before);
                if UNBOUNDED.contains(&name.as_str()) || is_channel && has_no_argument(after) {
                    found.push(name);
                }
            }
            TokenTree::Punct(_) | TokenTree::Literal(_) => {}
        }
    }
    found
}

/// Whether these tokens end in `mpsc::`.
fn is_of_mpsc(before: &[TokenTree]) -> bool {
    let last = before.iter().rev().nth(2);
    last.is_some_and(|last| last.to_string() == "mpsc")
}

/// Whether the function that these tokens begin with is called without an argument. Its type arguments are skipped.
fn has_no_argument(after: &[TokenTree]) -> bool {
    let mut depth = 0;
    for token in after {
        match token {
            TokenTree::Punct(punct) if punct.as_char() == '<' => depth += 1,
            TokenTree::Punct(punct) if punct.as_char() == '>' => depth -= 1,
            TokenTree::Group(group) if depth == 0 => {
                return group.delimiter() == Delimiter::Parenthesis && group.stream().is_empty();
            }
            TokenTree::Group(_)
            | TokenTree::Ident(_)
            | TokenTree::Punct(_)
            | TokenTree::Literal(_) => {}
        }
    }
    false
}
