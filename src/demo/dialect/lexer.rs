//! SQL text into tokens. Knows PostgreSQL's quoting and comments; never what a statement means.

use crate::demo::error::SqlError;
use std::{iter::Peekable, str::Chars};

/// One token; white space and comments are gone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Token {
    /// A keyword or an unquoted name, as written.
    Word(String),
    /// A quoted name, with its quotes.
    Quoted(String),
    /// A string, with the quotes and doublings that SQLite reads.
    Literal(String),
    /// A number.
    Number(String),
    /// `$1` and so on, from one.
    Parameter(usize),
    /// An operator or a mark.
    Symbol(String),
}

impl Token {
    /// Whether this is the keyword or unquoted name `word`, whatever its case.
    pub(super) fn is(&self, word: &str) -> bool {
        matches!(self, Self::Word(text) if text.eq_ignore_ascii_case(word))
    }

    /// Whether this is the operator or mark `mark`.
    pub(super) fn is_mark(&self, mark: &str) -> bool {
        matches!(self, Self::Symbol(text) if text == mark)
    }

    /// A keyword or unquoted name.
    pub(super) fn word(text: &str) -> Self {
        Self::Word(text.to_owned())
    }

    /// An operator or mark.
    pub(super) fn mark(text: &str) -> Self {
        Self::Symbol(text.to_owned())
    }

    /// The name that a word or quoted name stands for.
    pub(super) fn name(&self) -> Option<String> {
        match self {
            Self::Word(text) => Some(text.to_ascii_lowercase()),
            Self::Quoted(text) => Some(unquoted(text, '"')),
            _ => None,
        }
    }

    /// The text that a literal stands for, or the text of a word or number: a setting's value.
    pub(super) fn value(&self) -> Option<String> {
        match self {
            Self::Literal(text) => Some(unquoted(text, '\'')),
            Self::Word(text) | Self::Number(text) => Some(text.clone()),
            Self::Quoted(text) => Some(unquoted(text, '"')),
            Self::Parameter(_) | Self::Symbol(_) => None,
        }
    }

    /// As SQLite reads it.
    pub(super) fn text(&self) -> String {
        match self {
            Self::Parameter(number) => format!("?{number}"),
            Self::Word(text) | Self::Quoted(text) | Self::Literal(text) | Self::Number(text) | Self::Symbol(text) => {
                text.clone()
            }
        }
    }
}

/// The statements of a text, each as its tokens; empty ones are left out.
///
/// # Errors
/// 42601 for an unfinished quote or comment, 54000 for a parameter number that is too large.
pub(super) fn statements(sql: &str) -> Result<Vec<Vec<Token>>, SqlError> {
    let mut lexer = Lexer { rest: sql.chars().peekable() };
    let mut statements = vec![Vec::new()];
    while let Some(token) = lexer.next()? {
        if token.is_mark(";") {
            statements.push(Vec::new());
        } else if let Some(last) = statements.last_mut() {
            last.push(token);
        }
    }
    statements.retain(|tokens| !tokens.is_empty());
    Ok(statements)
}

fn unquoted(text: &str, quote: char) -> String {
    let inner = text.strip_prefix(quote).and_then(|text| text.strip_suffix(quote)).unwrap_or(text);
    inner.replace(&format!("{quote}{quote}"), &quote.to_string())
}

struct Lexer<'a> {
    rest: Peekable<Chars<'a>>,
}

impl Lexer<'_> {
    fn next(&mut self) -> Result<Option<Token>, SqlError> {
        self.skip_blank()?;
        let Some(&first) = self.rest.peek() else {
            return Ok(None);
        };
        let token = match first {
            '\'' => Token::Literal(self.quoted('\'', false)?),
            '"' => Token::Quoted(self.quoted('"', false)?),
            '$' => self.dollar()?,
            _ if first.is_ascii_digit() => Token::Number(self.number()),
            _ if first == '_' || first.is_alphabetic() => self.word()?,
            _ => self.symbol(),
        };
        Ok(Some(token))
    }

    fn skip_blank(&mut self) -> Result<(), SqlError> {
        loop {
            self.take_while(|char| char.is_whitespace() || char == '\0');
            let mut ahead = self.rest.clone();
            match (ahead.next(), ahead.next()) {
                (Some('-'), Some('-')) => {
                    self.take_while(|char| char != '\n');
                }
                (Some('/'), Some('*')) => self.skip_comment()?,
                _ => return Ok(()),
            }
        }
    }

    /// PostgreSQL's comments nest.
    fn skip_comment(&mut self) -> Result<(), SqlError> {
        let mut depth = 0_usize;
        let mut before = ' ';
        for char in self.rest.by_ref() {
            match (before, char) {
                ('/', '*') => depth += 1,
                ('*', '/') => depth = depth.saturating_sub(1),
                _ => {
                    before = char;
                    continue;
                }
            }
            before = ' ';
            if depth == 0 {
                return Ok(());
            }
        }
        Err(SqlError::new("42601", "unterminated /* comment"))
    }

    fn take_while(&mut self, keep: impl Fn(char) -> bool) -> String {
        let mut taken = String::new();
        while let Some(char) = self.rest.next_if(|char| keep(*char)) {
            taken.push(char);
        }
        taken
    }

    /// From quote to quote; with `escapes`, backslashes mean what they mean in `E'…'`. SQLite knows
    /// doubled quotes only, so that is what comes out.
    fn quoted(&mut self, quote: char, escapes: bool) -> Result<String, SqlError> {
        let mut text = String::from(quote);
        self.rest.next();
        while let Some(next) = self.rest.next() {
            let char = match next {
                '\\' if escapes => match self.escaped() {
                    Some(char) => char,
                    None => break,
                },
                _ if next == quote && self.rest.next_if_eq(&quote).is_none() => {
                    text.push(quote);
                    return Ok(text);
                }
                _ => next,
            };
            text.push(char);
            if char == quote {
                text.push(quote);
            }
        }
        Err(SqlError::new("42601", "unterminated quoted string"))
    }

    fn escaped(&mut self) -> Option<char> {
        Some(match self.rest.next()? {
            'n' => '\n',
            't' => '\t',
            'r' => '\r',
            'b' => '\u{8}',
            'f' => '\u{c}',
            other => other,
        })
    }

    /// `$1`, or `$tag$ … $tag$`.
    fn dollar(&mut self) -> Result<Token, SqlError> {
        self.rest.next();
        let digits = self.take_while(|char| char.is_ascii_digit());
        if !digits.is_empty() {
            return match digits.parse() {
                Ok(number @ 1..=PARAMETERS_MAX) => Ok(Token::Parameter(number)),
                _ => Err(SqlError::new("54000", format!("there is no parameter ${digits}"))),
            };
        }
        let tag = self.take_while(|char| char == '_' || char.is_alphanumeric());
        if self.rest.next_if_eq(&'$').is_none() {
            return Err(SqlError::new("42601", "syntax error at or near \"$\""));
        }
        let end = format!("${tag}$");
        let mut text = String::new();
        for char in self.rest.by_ref() {
            text.push(char);
            if text.ends_with(&end) {
                text.truncate(text.len().saturating_sub(end.len()));
                return Ok(Token::Literal(format!("'{}'", text.replace('\'', "''"))));
            }
        }
        Err(SqlError::new("42601", "unterminated dollar-quoted string"))
    }

    fn number(&mut self) -> String {
        let mut text = self.take_while(|char| char.is_ascii_alphanumeric() || char == '.' || char == '_');
        if text.ends_with(['e', 'E'])
            && let Some(sign) = self.rest.next_if(|char| matches!(char, '+' | '-'))
        {
            text.push(sign);
            text += &self.take_while(|char| char.is_ascii_digit());
        }
        text
    }

    fn word(&mut self) -> Result<Token, SqlError> {
        let text = self.take_while(|char| char == '_' || char == '$' || char.is_alphanumeric());
        match (text.as_str(), self.rest.peek()) {
            ("e" | "E", Some('\'')) => Ok(Token::Literal(self.quoted('\'', true)?)),
            ("x" | "X", Some('\'')) => Ok(Token::Literal(format!("x{}", self.quoted('\'', false)?))),
            _ => Ok(Token::Word(text)),
        }
    }

    fn symbol(&mut self) -> Token {
        let ahead: String = self.rest.clone().take(3).collect();
        let known = OPERATORS.iter().find(|operator| ahead.starts_with(**operator));
        let length = known.map_or(1, |operator| operator.chars().count());
        Token::Symbol(self.rest.by_ref().take(length).collect())
    }
}

/// PostgreSQL's own bound, and within SQLite's.
const PARAMETERS_MAX: usize = 32_766;

/// Longer ones first.
const OPERATORS: [&str; 14] = ["!~~", "!~*", "->>", "::", "<=", ">=", "<>", "!=", "||", "->", "!~", "~*", "~~", "<<"];

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(sql: &str) -> Vec<String> {
        statements(sql).unwrap().concat().iter().map(Token::text).collect()
    }

    #[test]
    fn quotes_comments_and_dollars_are_read_as_postgresql_reads_them() {
        let sql = "SELECT 'it''s', E'a\\'b\\n', $tag$don't;$tag$, \"A\"\"b\" -- ;\n /* ; /* ; */ */ , $12";

        let read = texts(sql);

        let expected = ["SELECT", "'it''s'", ",", "'a''b\n'", ",", "'don''t;'", ",", "\"A\"\"b\"", ",", "?12"];
        assert_eq!(read, expected);
    }

    #[test]
    fn statements_end_at_semicolons_and_empty_ones_vanish() {
        assert_eq!(statements(";; SELECT 1; ;SELECT ';'").unwrap().len(), 2);
    }

    #[test]
    fn what_is_not_finished_is_a_syntax_error() {
        for sql in ["'abc", "\"abc", "/* abc", "$$abc", "$x", "E'abc\\"] {
            assert_eq!(statements(sql).unwrap_err().code(), "42601", "{sql}");
        }
        assert_eq!(statements("$0").unwrap_err().code(), "54000");
    }
}
