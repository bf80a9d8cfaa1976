//! Words, literals and signs of a gate.

use crate::GateError;

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Token {
    /// As written; keywords and unquoted columns are compared without regard to case.
    Word(String),
    /// In double quotes.
    Quoted(String),
    /// In single quotes.
    Text(String),
    /// Digits, perhaps with a minus sign and a fraction.
    Number(String),
    /// `=`, `<>`, `<`, `<=`, `>`, `>=`, `(`, `)`, `,` or `.`
    Sign(&'static str),
}

/// Longer ones come first.
const SIGNS: [&str; 11] = ["<>", "!=", "<=", ">=", "=", "<", ">", "(", ")", ",", "."];

/// The tokens, each with its offset in bytes.
pub(crate) fn tokens(text: &str) -> Result<Vec<(usize, Token)>, GateError> {
    let mut tokens = Vec::new();
    let mut at = 0;
    while let Some(first) = text[at..].chars().next() {
        let rest = &text[at..];
        let (token, length) = match first {
            ' ' | '\t' | '\n' | '\r' => {
                at += 1;
                continue;
            }
            'a'..='z' | 'A'..='Z' | '_' => {
                let is_word = |letter: char| letter.is_ascii_alphanumeric() || letter == '_';
                let length = rest.find(|letter| !is_word(letter)).unwrap_or(rest.len());
                (Token::Word(rest[..length].to_owned()), length)
            }
            '\'' | '"' => {
                let Some((inner, length)) = quoted(rest, first) else {
                    return Err(GateError::new(text, at, "a quote is not closed"));
                };
                if first == '"' && inner.is_empty() {
                    return Err(GateError::new(text, at, "a name is empty"));
                }
                (if first == '"' { Token::Quoted(inner) } else { Token::Text(inner) }, length)
            }
            '0'..='9' | '-' => {
                let length = number(rest)
                    .ok_or_else(|| GateError::new(text, at, "a number is digits, perhaps with a fraction"))?;
                (Token::Number(rest[..length].to_owned()), length)
            }
            _ => {
                let sign = SIGNS.into_iter().find(|sign| rest.starts_with(sign));
                let sign = sign.ok_or_else(|| GateError::new(text, at, unknown(first)))?;
                (Token::Sign(if sign == "!=" { "<>" } else { sign }), sign.len())
            }
        };
        tokens.push((at, token));
        at += length;
    }
    Ok(tokens)
}

fn unknown(letter: char) -> String {
    match letter.is_alphabetic() {
        true => format!("a name with {letter:?} is written in double quotes"),
        false => format!("{letter:?} has no meaning here"),
    }
}

/// What stands between quotes, and the length with them. Two quotes are one; a backslash means nothing else.
fn quoted(rest: &str, quote: char) -> Option<(String, usize)> {
    let mut inner = String::new();
    let mut letters = rest.char_indices().skip(1).peekable();
    while let Some((at, letter)) = letters.next() {
        if letter == quote && letters.next_if(|(_, next)| *next == quote).is_none() {
            return Some((inner, at + 1));
        }
        inner.push(letter);
    }
    None
}

/// The length of a number. None for what looks like one and is none, such as `1e3` or `7x`.
fn number(rest: &str) -> Option<usize> {
    let digits = |text: &str| text.bytes().take_while(u8::is_ascii_digit).count();
    let sign = usize::from(rest.starts_with('-'));
    let whole = digits(&rest[sign..]);
    let mut length = sign + whole;
    if rest[length..].starts_with('.') {
        let fraction = digits(&rest[length + 1..]);
        if fraction == 0 {
            return None;
        }
        length += 1 + fraction;
    }
    let goes_on =
        rest[length..].starts_with(|letter: char| letter.is_alphanumeric() || "_.".contains(letter));
    (whole > 0 && !goes_on).then_some(length)
}
