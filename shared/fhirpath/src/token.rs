//! The words of an expression.

use crate::error::ParseError;

#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Token {
    /// A name or a word that is an operator.
    Word(String),
    /// A name in backticks: never an operator.
    Quoted(String),
    /// `%resource`
    Variable(String),
    /// `$this`
    Special(String),
    Text(String),
    Number(f64),
    Sign(&'static str),
}

/// The longer ones first.
const SIGNS: [&str; 15] = ["<=", ">=", "!=", "<", ">", "=", "(", ")", ".", ",", "|", "&", "+", "{", "}"];

/// The words of a text.
pub(crate) fn tokens(text: &str) -> Result<Vec<Token>, ParseError> {
    let mut found = Vec::new();
    let mut rest = text.trim_start();
    while let Some(first) = rest.chars().next() {
        let (token, after) = match first {
            '\'' => quoted(rest, '\'').map(|(text, rest)| (Token::Text(text), rest))?,
            '`' => quoted(rest, '`').map(|(text, rest)| (Token::Quoted(text), rest))?,
            '%' | '$' => {
                let (word, after) = word(after_first(rest));
                let word = word.to_owned();
                (if first == '%' { Token::Variable(word) } else { Token::Special(word) }, after)
            }
            _ if first.is_ascii_digit() => number(rest)?,
            _ if first.is_ascii_alphabetic() || first == '_' => {
                let (word, after) = word(rest);
                (Token::Word(word.to_owned()), after)
            }
            _ => sign(rest)?,
        };
        found.push(token);
        rest = after.trim_start();
    }
    Ok(found)
}

fn after_first(text: &str) -> &str {
    let mut chars = text.chars();
    chars.next();
    chars.as_str()
}

fn word(text: &str) -> (&str, &str) {
    let end = text.find(|char: char| !(char.is_ascii_alphanumeric() || char == '_')).unwrap_or(text.len());
    text.split_at_checked(end).unwrap_or((text, ""))
}

fn number(text: &str) -> Result<(Token, &str), ParseError> {
    let end = text.find(|char: char| !char.is_ascii_digit()).unwrap_or(text.len());
    let (digits, after) = text.split_at_checked(end).unwrap_or((text, ""));
    let number = digits.parse().map_err(|_error| ParseError::Number(digits.to_owned()))?;
    Ok((Token::Number(number), after))
}

fn sign(text: &str) -> Result<(Token, &str), ParseError> {
    let found = SIGNS.iter().find_map(|sign| text.strip_prefix(sign).map(|after| (Token::Sign(sign), after)));
    found.ok_or_else(|| ParseError::Unexpected(text.chars().take(12).collect()))
}

/// A text in quotes, with FHIRPath's escapes.
fn quoted(text: &str, quote: char) -> Result<(String, &str), ParseError> {
    let mut chars = after_first(text).chars();
    let mut found = String::new();
    while let Some(char) = chars.next() {
        match char {
            '\\' => found.push(match chars.next() {
                Some('n') => '\n',
                Some('r') => '\r',
                Some('t') => '\t',
                Some('f') => '\u{c}',
                Some(char @ ('\\' | '/' | '\'' | '"' | '`')) => char,
                other => return Err(ParseError::Unexpected(format!("\\{}", other.unwrap_or(' ')))),
            }),
            _ if char == quote => return Ok((found, chars.as_str())),
            _ => found.push(char),
        }
    }
    Err(ParseError::Ended)
}
